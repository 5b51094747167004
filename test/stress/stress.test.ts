import t from 'tap'

import type { StoreName } from './open-store.ts'
import { fleet, heapMargin, soak } from './parts.ts'
import { storeServers } from './servers.ts'

// Choices only: what the processes make of them is never the same.
const seed = Date.now() % 100_000

// Each has a server and processes of its own, and waits more than it works.
t.jobs = 2

/**
 * How long to soak: where nothing else differs, the second server need not be under water for as
 * long.
 */
const soaking: Record<StoreName, number> = { Redis: 15, PostgreSQL: 5 }

for (const [name, { skip }] of Object.entries(storeServers) as [
  StoreName,
  (typeof storeServers)[StoreName]
][]) {
  t.test(
    `P1, P2, P3 and P4 hold in what several processes do at once, while processes are killed and answers lost (${name})`,
    { skip, buffered: true },
    async (t) => {
      const stress = fleet(name, 'processes killed, answers lost', seed)
      t.teardown(() => stress.close())
      await stress.start()
      await stress.load(6)
      const { violations, undecided, ...tally } = stress.tally
      t.same(violations, [], `seed ${seed}`)
      t.equal(undecided, 0)
      t.ok(tally.histories > 10)
      t.comment(`${stress.on}, seed ${seed}: ${JSON.stringify(tally)}`)
    }
  )

  t.test(
    `P1, P2, P3 and P4 hold, no heap grows and no rejection goes unhandled, while the server is killed, frozen and cut off (${name})`,
    { skip, buffered: true },
    async (t) => {
      const stress = fleet(name, 'soak: server killed, frozen, cut off', seed)
      t.teardown(() => stress.close())
      await stress.start()
      const heaps = await soak(stress, soaking[name])
      const { violations, undecided, ...tally } = stress.tally
      t.same(violations, [], `seed ${seed}`)
      t.equal(undecided, 0)
      // After a few seconds, code is still being compiled: a small leak is for the long run to
      // find.
      for (const { before, after } of heaps)
        t.ok(after - before < 2 * heapMargin, `a heap of ${before} bytes is now ${after}`)
      t.comment(`${stress.on}, seed ${seed}: ${JSON.stringify(tally)}, ${JSON.stringify(heaps)}`)
    }
  )
}

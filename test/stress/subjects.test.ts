import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'

import { startCluster } from '../helpers/redis.ts'
import { copyBuilt, plant, subjectMutantsOver } from '../races/mutants.ts'
import type { StoreName } from './open-store.ts'
import { storeServers } from './servers.ts'
import { check, type Action, type Answer, type Recorded } from './subject-history.ts'
import { SubjectStress, type SubjectSettings, type SubjectTally } from './subject-stress.ts'

// Choices only: what the processes make of them is never the same.
const seed = Date.now() % 100_000

// Each has a server and processes of its own, and waits more than it works.
t.jobs = 2

/** More ends than this are to be seen. */
const leastEnds = 5

async function load(
  t: Test,
  store: StoreName,
  seconds: number,
  rest: Pick<SubjectSettings, 'lib' | 'nodes'> = {}
): Promise<SubjectTally> {
  const stress = new SubjectStress({
    store,
    seed,
    killEvery: 1500,
    harmEvery: 150,
    ...rest
  })
  t.teardown(() => stress.close())
  await stress.start()
  // However busy the machine is, some ends are to be seen.
  const { tally } = stress
  for (let times = 0; times < 5; times += 1) {
    await stress.load(seconds)
    if (tally.ends > leastEnds || tally.violations.length > 0) break
  }
  return tally
}

for (const name of ['Redis', 'PostgreSQL'] as const) {
  const { skip } = storeServers[name]
  t.test(
    `P11 holds in what people do on several devices, while processes are killed and answers lost (${name})`,
    { skip, buffered: true },
    async (t) => {
      const { violations, ...tally } = await load(t, name, 5)
      t.same(violations, [], `seed ${seed}`)
      t.ok(tally.ends > leastEnds)
      t.comment(`seed ${seed}: ${JSON.stringify(tally)}`)
    }
  )
}

t.test(
  'P11 holds in what people do on several devices, while processes are killed (a cluster of Redis)',
  { skip: storeServers.Redis.skip, buffered: true },
  async (t) => {
    const { ports: nodes } = await startCluster(t)
    const { violations, ...tally } = await load(t, 'Redis', 4, { nodes })
    t.same(violations, [], `seed ${seed}`)
    t.ok(tally.ends > leastEnds)
    t.comment(`seed ${seed}: ${JSON.stringify(tally)}`)
  }
)

/** What people see soon. */
const seen: ReadonlySet<string> = new Set([
  'the check of the stamp',
  'the new stamp of an end of all',
  'the check that none was added'
])

for (const [name, mutant] of subjectMutantsOver('redis').filter(([name]) => seen.has(name))) {
  t.test(
    `without ${name}, what people do on several devices shows that P11 is broken`,
    { skip: storeServers.Redis.skip, buffered: true },
    async (t) => {
      const folder = copyBuilt(t, ['lib', 'types'])
      plant(t, folder, mutant)
      const { violations, ...tally } = await load(t, 'Redis', 60, {
        lib: pathToFileURL(`${folder}/lib/`).href
      })
      t.match(violations[0], /^P11/)
      t.comment(`${JSON.stringify(tally)}\n${violations[0]}`)
    }
  )
}

t.test('the checker of P11 tells what is allowed from what is not', async (t) => {
  let time = 0
  const record = (action: Action, answer: Answer, handle = ''): Recorded => {
    const order = { action, subject: 'ada', handle, pause: 0 }
    return { order, answer, sentAt: (time += 10), answeredAt: (time += 10) }
  }
  const who = (handle: string, checkedFrom: number): Recorded =>
    record('who', { subject: 'ada', handle, checkedFrom })
  const cases: ReadonlyArray<readonly [string, boolean, readonly Recorded[]]> = [
    ['after an end of all', false, [record('end all', { calledAt: 5 }), who('one', 3)]],
    ['signed in since', true, [record('end all', { calledAt: 5 }), who('one', 7)]],
    ['before it', true, [who('one', 3), record('end all', { calledAt: 5 })]],
    [
      'spared',
      true,
      [record('end others', { calledAt: 5, handle: 'one', checkedFrom: 3 }), who('one', 3)]
    ],
    [
      'not spared',
      false,
      [record('end others', { calledAt: 5, handle: 'one', checkedFrom: 3 }), who('two', 3)]
    ],
    ['ended by its handle', false, [record('end one', { calledAt: 5 }, 'one'), who('one', 7)]],
    ['too many', false, [record('list', { listed: ['1', '2', '3', '4', '5'] })]],
    [
      'listed after an end of all',
      false,
      [who('one', 3), record('end all', { calledAt: 5 }), record('list', { listed: ['one'] })]
    ]
  ]
  for (const [name, isAllowed, history] of cases) {
    t.equal(check(history) === undefined, isAllowed, name)
  }
})

import t from 'tap'

import { backends } from '../helpers/backends.ts'
import { explorePhase, title, type Phase } from './explore.ts'
import { loadLib } from './world.ts'

/** What is explored to the end on a real server: on Redis, where a fresh store costs nothing. */
const phases: readonly (Phase & { readonly all: number })[] = [
  { requests: 1, processes: 'one', faults: 1, noChains: true, all: 421 },
  { requests: 2, processes: 'one each', faults: 0, noChains: true, all: 12141 }
]

const lib = await loadLib()
for (const { name, skip, open } of backends.filter(({ name }) => name === 'RedisStore')) {
  for (const phase of phases) {
    t.test(
      `P1, P2, P3, P4 and P5 hold in every interleaving, on ${name}: ${title(phase)}`,
      { skip },
      async (t) => {
        const { interleavings, counterexample, seconds } = await explorePhase(lib, {
          ...phase,
          open
        })
        t.equal(counterexample, undefined)
        t.equal(interleavings, phase.all, `${interleavings} in ${seconds.toFixed(0)} s`)
      }
    )
  }
}

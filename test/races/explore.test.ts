import t from 'tap'

import { explorePhase, title, type Phase } from './explore.ts'
import { loadLib } from './world.ts'

/** What `npm run races` explores to the end is bounded here where it takes long. */
const phases: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 2, processes: 'one', faults: 0 },
  { requests: 2, processes: 'one each', faults: 0 },
  { requests: 2, processes: 'one each', faults: 1, limit: 100 },
  { requests: 3, processes: 'one each', faults: 0, limit: 100 }
]

const lib = await loadLib()
for (const phase of phases) {
  t.test(`P1, P2, P3, P4 and P5 hold in every interleaving explored: ${title(phase)}`, async (t) => {
    const { interleavings, counterexample } = await explorePhase(lib, phase)
    t.equal(counterexample, undefined)
    t.ok(interleavings > 100)
    t.comment(`${interleavings} interleavings`)
  })
}

import t from 'tap'

import { moving } from '../helpers/backends.ts'
import { explorePhase, title, type Phase } from './explore.ts'
import { accidents, loadLib } from './world.ts'

/** What `npm run races` explores to the end is bounded here where it takes long. */
const all: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 1, processes: 'one each', faults: 1, fates: accidents },
  { requests: 2, processes: 'one', faults: 0, limit: 15 },
  { requests: 2, processes: 'one each', faults: 0, limit: 20 },
  { requests: 2, processes: 'one each', faults: 1, limit: 8 },
  { requests: 2, processes: 'one each', faults: 1, fates: accidents, onlyMoves: true, limit: 12 },
  { requests: 3, processes: 'one', faults: 0, limit: 2 },
  { requests: 3, processes: 'one each', faults: 0, limit: 2 }
]
/** One that moves a session in one step has fewer calls, and so fewer orders. */
const stores = [
  { name: 'MemoryStore', open: undefined, phases: all },
  { ...moving, phases: all.slice(0, 4) }
]

const lib = await loadLib()
for (const { name, open, phases } of stores) {
  for (const phase of phases) {
    t.test(
      `P1, P2, P3, P4 and P5 hold in every interleaving explored: ${title(phase)} (${name})`,
      async (t) => {
        const { interleavings, counterexample } = await explorePhase(lib, {
          ...phase,
          ...(open && { open })
        })
        t.equal(counterexample, undefined)
        t.ok(interleavings > 100)
        t.comment(`${interleavings} interleavings`)
      }
    )
  }
}

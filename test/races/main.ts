// npm run races: explores every interleaving of up to three concurrent requests, on the code of
// lib, and prints what it did.
import { explorePhase, title, type Phase } from './explore.ts'
import { accidents, loadLib } from './world.ts'

const phases: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 0 },
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 1, processes: 'one each', faults: 1, fates: accidents },
  { requests: 2, processes: 'one', faults: 0 },
  { requests: 2, processes: 'one each', faults: 0 },
  { requests: 2, processes: 'one', faults: 1 },
  { requests: 2, processes: 'one each', faults: 1 },
  { requests: 2, processes: 'one each', faults: 1, fates: accidents, onlyMoves: true },
  { requests: 3, processes: 'one', faults: 0 },
  { requests: 3, processes: 'one each', faults: 0 }
]

const lib = await loadLib()
const isTerminal = process.stdout.isTTY
let total = 0
for (const phase of phases) {
  console.log(`\n${title(phase)}`)
  let shown = 0
  const found = await explorePhase(lib, phase, (done, of) => {
    const percent = Math.floor((done / of) * 100)
    if (isTerminal) process.stdout.write(`\r  ${percent} %`)
    else if (percent >= shown + 20) console.log(`  ${(shown = percent)} %`)
  })
  const line = `${found.programs} programs, ${found.interleavings} interleavings, ${found.states} states, ${found.seconds.toFixed(1)} s`
  console.log(
    `${isTerminal ? '\r' : ''}  ${line}: ${found.counterexample === undefined ? 'the promises hold' : 'BROKEN'}`
  )
  total += found.interleavings
  if (found.counterexample !== undefined) {
    console.error(`\n${found.counterexample}`)
    process.exit(1)
  }
}
console.log(`\n${total} interleavings explored to the end; P1 to P5 hold in all of them.`)

// npm run races: explores every interleaving of up to three concurrent requests, on the code of
// lib, and prints what it did. Of three requests of a subject it is the first of each program.
import { explorePhase, title, type Finding, type Phase } from './explore.ts'
import {
  explorePhase as exploreSubjects,
  title as subjectTitle,
  type Phase as SubjectPhase
} from './subjects/explore.ts'
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

const events = [undefined, 'lose', 'expire'] as const
const limits = ['refuse', 'end-oldest'] as const

/** Those of the sessions of a subject. */
const ofSubjects: readonly SubjectPhase[] = (['anonymous', 'signed in', 'moved'] as const).flatMap(
  (start): SubjectPhase[] => [
    { requests: 1, start, faults: 1, events, limits: [undefined, ...limits] },
    { requests: 1, start, faults: 1, fates: accidents, events, limits: [undefined, ...limits] },
    { requests: 2, start, faults: 0, events },
    { requests: 2, start, faults: 0, limits },
    { requests: 2, start, faults: 1 },
    { requests: 2, start, faults: 1, fates: accidents },
    { requests: 3, start, faults: 0, limit: 300 }
  ]
)

const lib = await loadLib()
const isTerminal = process.stdout.isTTY
let total = 0

/** Explores a phase, and prints how far it is and what it has found. */
async function run(
  heading: string,
  explore: (progress: (done: number, of: number) => void) => Promise<Found>
): Promise<void> {
  console.log(`\n${heading}`)
  let shown = 0
  const found = await explore((done, of) => {
    const percent = Math.floor((done / of) * 100)
    if (isTerminal) process.stdout.write(`\r  ${percent} %`)
    else if (percent >= shown + 20) console.log(`  ${(shown = percent)} %`)
  })
  const { programs, interleavings, states, seconds, counterexample } = found
  const line = [
    `${programs} programs`,
    `${interleavings} interleavings`,
    ...(states === undefined ? [] : [`${states} states`]),
    `${seconds.toFixed(1)} s`
  ].join(', ')
  const verdict = counterexample === undefined ? 'the promises hold' : 'BROKEN'
  console.log(`${isTerminal ? '\r' : ''}  ${line}: ${verdict}`)
  total += interleavings
  if (counterexample === undefined) return
  console.error(`\n${counterexample}`)
  process.exit(1)
}

type Found = Omit<Finding, 'states'> & { readonly states?: number }

for (const phase of phases) {
  await run(title(phase), (progress) => explorePhase(lib, phase, progress))
}
for (const phase of ofSubjects) {
  await run(subjectTitle(phase), (progress) => exploreSubjects(lib, phase, progress))
}
console.log(`\n${total} interleavings explored; P1 to P5 and P11 hold in all of them.`)

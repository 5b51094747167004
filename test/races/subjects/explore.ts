import { DepthFirst } from '../explore.ts'
import type { Lib } from '../world.ts'
import { programsOf, type Choice, type Program } from './program.ts'
import { brokenBy } from './promises.ts'
import { runOnce, type Run, type Setting } from './world.ts'

/** A part of the exploration. */
export interface Phase extends Setting, Choice {
  /** The most interleavings of each program. */
  readonly limit?: number
}

/** What a phase found. */
export interface Finding {
  readonly programs: number
  readonly interleavings: number
  readonly seconds: number
  readonly counterexample: string | undefined
}

/** Explores every program of a phase; stops at the first counterexample. */
export async function explorePhase(
  lib: Lib,
  phase: Phase,
  progress: (done: number, of: number) => void = () => {}
): Promise<Finding> {
  const started = performance.now()
  const all = [...programsOf(phase)]
  let interleavings = 0
  let counterexample: string | undefined
  for (const [done, program] of all.entries()) {
    progress(done, all.length)
    const found = await explore(lib, program, phase)
    interleavings += found.interleavings
    ;({ counterexample } = found)
    if (counterexample !== undefined) break
  }
  const seconds = (performance.now() - started) / 1000
  return { programs: all.length, interleavings, seconds, counterexample }
}

/** Runs a program in every interleaving there is, or in the first so many. */
async function explore(
  lib: Lib,
  program: Program,
  phase: Phase
): Promise<Pick<Finding, 'interleavings' | 'counterexample'>> {
  const { limit = Infinity, faults, fates } = phase
  const trouble = { faults, isUnknown: fates !== undefined }
  let interleavings = 0
  for (let prefix: number[] | undefined = []; prefix !== undefined && interleavings < limit;) {
    const schedule = new DepthFirst(prefix)
    const run = await runOnce(lib, program, phase, schedule)
    interleavings += 1
    const why = brokenBy(program, trouble, run)
    if (why !== undefined) {
      return { interleavings, counterexample: describe(program, run, why) }
    }
    prefix = schedule.next()
  }
  return { interleavings, counterexample: undefined }
}

/** A phase as a person reads it. */
export function title({ requests, start, faults, fates, limits, events }: Phase): string {
  const befalls =
    fates === undefined
      ? 'failing or losing its answer'
      : 'running out of time, losing its process, or taking effect late'
  return [
    `${requests === 1 ? '1 request' : `${requests} concurrent requests`} of a session that `,
    { anonymous: 'is nobody’s', 'signed in': 'is signed in', moved: 'has moved' }[start],
    faults === 0 ? '' : `, ${faults} store call ${befalls}`,
    limits === undefined ? '' : ', of as many as there may be',
    events === undefined ? '' : ', and the list may be lost, or all expire'
  ].join('')
}

/** A counterexample as a person reads it. */
function describe(program: Program, run: Run, why: string): string {
  const { requests, start, whenFull } = program
  return [
    why,
    `  the first session: ${start}${whenFull === undefined ? '' : `; when there are two: ${whenFull}`}`,
    ...requests.map(
      ({ steps, who }, index) =>
        `  request ${index}: ${steps.join(', ')} (${who}) → ${run.outcomes[index]?.telling}`
    ),
    `  what happened: ${run.trace.join(', ')}`,
    `  found: ${JSON.stringify(run.found.map(({ origin, data }) => [origin, data]))}`
  ].join('\n')
}

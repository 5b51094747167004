import { allowedResults } from './model.ts'
import { canonical, type Program, type Step } from './program.ts'
import { runOnce, type Lib, type Run, type Setting } from './world.ts'

/** What an exploration found. */
export interface Exploration {
  readonly interleavings: number
  /** Different results. */
  readonly states: number
  /** The first run that broke a promise. */
  readonly counterexample: { readonly program: Program, readonly run: Run, readonly why: string } | undefined
}

/** Runs a program in every interleaving there is, at the granularity of store calls, and holds each run to the model. */
export async function explore(lib: Lib, program: Program, setting: Setting): Promise<Exploration> {
  const allowed = allowedResults(program, setting.faults)
  const states = new Set<string>()
  let interleavings = 0
  for (let prefix: number[] | undefined = []; prefix !== undefined;) {
    const run: Run = await runOnce(lib, program, setting, prefix)
    interleavings += 1
    const state = canonical(run.result)
    states.add(state)
    const why = run.violation ?? (allowed.has(state) ? undefined : 'no order of the requests\' steps comes to this')
    if (why !== undefined) return { interleavings, states: states.size, counterexample: { program, run, why } }
    prefix = nextPrefix(run)
  }
  return { interleavings, states: states.size, counterexample: undefined }
}

/** Depth first: the last choice that has an alternative left takes it. */
function nextPrefix({ choices }: Run): number[] | undefined {
  const last = choices.findLastIndex(({ taken, of }) => taken + 1 < of)
  return last === -1 ? undefined : [...choices.slice(0, last).map(({ taken }) => taken), (choices[last]?.taken ?? 0) + 1]
}

/** The steps to explore, each as a request of its own. */
export const singleSteps: readonly Step[] = [
  'read', 'write a', 'write b', 'delete a', 'update', 'touch', 'save', 'destroy', 'regenerate', 'regenerate, keeping a'
]

/** A request that does one step; a save has something to save. */
function requestOf(step: Step): readonly Step[] {
  return step === 'save' ? ['write b', 'save'] : [step]
}

/** Every program of so many concurrent requests of one step each, with and without the sessions expiring meanwhile. */
export function * programs(requests: number): Generator<Program> {
  for (const steps of combinations(requests, 0)) {
    for (const expire of [false, true]) yield { requests: steps.map(requestOf), expire }
  }
}

function * combinations(count: number, from: number): Generator<Step[]> {
  if (count === 0) {
    yield []
    return
  }
  for (const [index, step] of singleSteps.entries()) {
    if (index < from) continue
    for (const rest of combinations(count - 1, index)) yield [step, ...rest]
  }
}

/** A counterexample as a person reads it. */
export function describe({ program, run, why }: NonNullable<Exploration['counterexample']>): string {
  return [
    why,
    ...program.requests.map((steps, index) => `  request ${index}: ${steps.join(', ')} → ${run.result.told[index]}`),
    `  store:     ${run.trace.join(', ')}`,
    `  session:   ${JSON.stringify(run.result.session)}; begun: ${JSON.stringify(run.result.begun)}`
  ].join('\n')
}

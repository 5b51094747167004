import { allowedResults } from './model.ts'
import { canonical, type Program, type Request, type Step } from './program.ts'
import { runOnce, type Fate, type Lib, type Move, type Run, type Schedule, type Setting } from './world.ts'

/** What an exploration found. */
interface Exploration {
  readonly interleavings: number
  /** Different results. */
  readonly states: number
  /** The first run that broke a promise. */
  readonly counterexample: { readonly program: Program, readonly run: Run, readonly why: string } | undefined
}

/** Runs a program in every interleaving there is, or in the first so many, at the granularity of store calls, and holds each run to the model. */
async function explore(lib: Lib, program: Program, setting: Setting, limit = Infinity): Promise<Exploration> {
  const allowed = allowedResults(program, setting.faults)
  const states = new Set<string>()
  let interleavings = 0
  for (let prefix: number[] | undefined = []; prefix !== undefined && interleavings < limit;) {
    const schedule = new DepthFirst(prefix)
    const run: Run = await runOnce(lib, program, setting, schedule)
    interleavings += 1
    const state = canonical(run.result)
    states.add(state)
    const why = run.violation ?? (allowed.has(state) ? undefined : unexplained)
    if (why !== undefined) return { interleavings, states: states.size, counterexample: { program, run, why } }
    prefix = schedule.next()
  }
  return { interleavings, states: states.size, counterexample: undefined }
}

/** Why a run is wrong that broke no promise on the way. */
export const unexplained = 'no order of the steps of these requests comes to this'

/** A schedule among all: goes the way that it is told, and from there on takes the first move each time. */
class DepthFirst implements Schedule {
  readonly #prefix: readonly number[]
  readonly #taken: number[] = []
  readonly #possible: number[] = []
  readonly #moves: Move[] = []

  constructor(prefix: readonly number[]) {
    this.#prefix = prefix
  }

  add(move: Move): void {
    this.#moves.push(move)
  }

  /** Each fate of a waiting move is a way to go. */
  async take(fates: (move: Move) => readonly Fate[]): Promise<boolean> {
    const ways = this.#moves.flatMap((move) => fates(move).map((fate) => ({ move, fate })))
    if (ways.length === 0) return false
    const index = this.#prefix[this.#taken.length] ?? 0
    const { move, fate } = ways[index]
    this.#taken.push(index)
    this.#possible.push(ways.length)
    this.#moves.splice(this.#moves.indexOf(move), 1)
    await move.make(fate)
    return true
  }

  /** The way to the next schedule: the last choice that has an alternative left takes it. Undefined: that was the last. */
  next(): number[] | undefined {
    const last = this.#taken.findLastIndex((index, place) => index + 1 < (this.#possible[place]))
    return last === -1 ? undefined : [...this.#taken.slice(0, last), this.#taken[last] + 1]
  }
}

/** A part of the exploration. */
export interface Phase extends Setting {
  readonly requests: number
  /** The most interleavings of each program. */
  readonly limit?: number
}

/** What a phase found. */
export interface Finding {
  readonly programs: number
  readonly interleavings: number
  readonly states: number
  readonly seconds: number
  readonly counterexample: string | undefined
}

/** Explores every program of a phase; stops at the first counterexample. */
export async function explorePhase(lib: Lib, phase: Phase, progress: (done: number, of: number) => void = () => {}): Promise<Finding> {
  const started = performance.now()
  const all = [...programs(phase.requests)]
  let interleavings = 0
  let states = 0
  let counterexample
  for (const [done, program] of all.entries()) {
    progress(done, all.length)
    const found = await explore(lib, program, phase, phase.limit)
    interleavings += found.interleavings
    states += found.states
    if (found.counterexample !== undefined) {
      counterexample = describe(found.counterexample)
      break
    }
  }
  return { programs: all.length, interleavings, states, seconds: (performance.now() - started) / 1000, counterexample }
}

/** A phase as a person reads it. */
export function title({ requests, processes, faults }: Phase): string {
  const whose = requests === 1 ? '1 request' : `${requests} concurrent requests, ${processes === 'one' ? 'in one process' : 'each in a process of its own'}`
  return `${whose}${faults === 0 ? '' : `, ${faults} store call failing or losing its answer`}`
}

/** The steps to explore, each as a request of its own. */
const singleSteps: readonly Step[] = [
  'read', 'write a', 'write b', 'delete a', 'update', 'touch', 'save', 'destroy', 'regenerate', 'regenerate, keeping a'
]

/** A request that does one step; a save has something to save. */
function requestOf(step: Step): Request {
  return { transport: 'cookie', steps: step === 'save' ? ['write b', 'save'] : [step] }
}

/** Every program of so many concurrent requests of one step each, with and without the sessions expiring meanwhile. */
function * programs(requests: number): Generator<Program> {
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
function describe({ program, run, why }: NonNullable<Exploration['counterexample']>): string {
  return [
    why,
    ...program.requests.map(({ steps, transport }, index) => `  request ${index}: ${steps.join(', ')} (${transport}) → ${run.result.told[index]}`),
    `  store:     ${run.trace.join(', ')}`,
    `  session:   ${JSON.stringify(run.result.session)}; begun: ${JSON.stringify(run.result.begun)}`
  ].join('\n')
}

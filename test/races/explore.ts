import { allowedResults } from './model.ts'
import { canonical, type Program, type Request, type Result, type Step } from './program.ts'
import {
  runOnce,
  type Fate,
  type Lib,
  type Move,
  type Run,
  type Schedule,
  type Setting
} from './world.ts'

/** What an exploration found. */
interface Exploration {
  readonly interleavings: number
  /** Different results. */
  readonly states: number
  /** The first run that broke a promise. */
  readonly counterexample:
    | { readonly program: Program; readonly run: Run; readonly why: string }
    | undefined
}

/**
 * Runs a program in every interleaving there is, or in the first so many, at the granularity of
 * store calls, and holds each run to the model.
 */
async function explore(
  lib: Lib,
  program: Program,
  setting: Setting,
  limit = Infinity
): Promise<Exploration> {
  const allowed = allowedResults(program, setting.faults)
  const states = new Set<string>()
  let interleavings = 0
  for (let prefix: number[] | undefined = []; prefix !== undefined && interleavings < limit;) {
    const schedule = new DepthFirst(prefix)
    const run: Run = await runOnce(lib, program, setting, schedule)
    interleavings += 1
    const state = canonical(run.result)
    states.add(state)
    const why =
      run.violation ??
      (allowed.has(state) || isSharedFault(program, setting, run.result) ? undefined : unexplained)
    if (why !== undefined)
      return { interleavings, states: states.size, counterexample: { program, run, why } }
    prefix = schedule.next()
  }
  return { interleavings, states: states.size, counterexample: undefined }
}

/**
 * Whether a fault explains a result that befell several requests: those of one process that wait
 * for each other share their calls. There are many such results, so it is asked of one at a time.
 */
export function isSharedFault(program: Program, setting: Setting, result: Result): boolean {
  if (setting.processes !== 'one' || setting.faults === 0) return false
  const failed = result.told.filter((telling) => telling === 'failed').length
  return (
    failed > setting.faults && allowedResults(program, failed, result.told).has(canonical(result))
  )
}

/** Why a run is wrong that broke no promise on the way. */
export const unexplained = 'no order of the steps of these requests comes to this'

/**
 * A schedule among all: goes the way that it is told, and from there on takes the first move each
 * time.
 */
export class DepthFirst implements Schedule {
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

  /**
   * The way to the next schedule: the last choice that has an alternative left takes it. Undefined:
   * that was the last.
   */
  next(): number[] | undefined {
    const last = this.#taken.findLastIndex((index, place) => index + 1 < this.#possible[place])
    return last === -1 ? undefined : [...this.#taken.slice(0, last), this.#taken[last] + 1]
  }
}

/** A part of the exploration. */
export interface Phase extends Setting {
  readonly requests: number
  /** The most interleavings of each program. */
  readonly limit?: number
  /** Only programs of requests that move the session, end it, or meet what it left. */
  readonly onlyMoves?: boolean
  /** Without the requests that move the session more than once, or go on after a move. */
  readonly noChains?: boolean
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
export async function explorePhase(
  lib: Lib,
  phase: Phase,
  progress: (done: number, of: number) => void = () => {}
): Promise<Finding> {
  const started = performance.now()
  const all = [...programs(phase)]
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
  return {
    programs: all.length,
    interleavings,
    states,
    seconds: (performance.now() - started) / 1000,
    counterexample
  }
}

/** A phase as a person reads it. */
export function title({ requests, processes, faults, fates, onlyMoves }: Phase): string {
  const whose =
    requests === 1
      ? '1 request'
      : `${requests} concurrent requests, ${processes === 'one' ? 'in one process' : 'each in a process of its own'}`
  const befalls =
    fates === undefined
      ? 'failing or losing its answer'
      : 'running out of time, losing its process, or taking effect late'
  return `${whose}${onlyMoves === true ? ' about a move' : ''}${faults === 0 ? '' : `, ${faults} store call ${befalls}`}`
}

/** The steps to explore, each as a request of its own. */
const singleSteps: readonly Step[] = [
  'read',
  'write a',
  'write b',
  'delete a',
  'update',
  'touch',
  'save',
  'destroy',
  'regenerate',
  'regenerate, keeping a'
]

/** A request that does one step; a save has something to save. */
function requestOf(step: Step): Request {
  return { transport: 'cookie', steps: step === 'save' ? ['write b', 'save'] : [step] }
}

const end: Request = { transport: 'none', steps: ['end'] }
const plain: readonly Request[] = [...singleSteps.map(requestOf), end]

/** Requests that move the session more than once, or go on after the move. */
const chains: readonly Request[] = [
  { transport: 'cookie', steps: ['regenerate, keeping a', 'save', 'write b'] },
  { transport: 'cookie', steps: ['regenerate, keeping a', 'save', 'regenerate'] },
  { transport: 'cookie', steps: ['regenerate', 'save', 'destroy'] },
  { transport: 'cookie', steps: ['regenerate', 'save', 'destroy'], isOld: true }
]

/** Requests that come with an id that the session had before. */
const late: readonly Request[] = (
  ['write a', 'touch', 'update', 'destroy', 'regenerate', 'regenerate, keeping a'] as const
)
  .map(requestOf)
  .concat(end)
  .map((request) => ({ ...request, isOld: true }))

const moving: ReadonlySet<Step> = new Set<Step>([
  'destroy',
  'end',
  'regenerate',
  'regenerate, keeping a'
])
const isChain = (request: Request): boolean => chains.includes(request)
const isAboutMoves = ({ steps }: Request): boolean => steps.some((step) => moving.has(step))
const isMove = ({ steps }: Request): boolean =>
  steps.some((step) => step === 'regenerate' || step === 'regenerate, keeping a')

/**
 * Every program of so many concurrent requests, with and without the sessions expiring meanwhile.
 * Some are too long for all of it: there is one chain at most; and among three requests there is
 * none, and of those that come late only what ends the session or moves it.
 */
function* programs({ requests, onlyMoves = false, noChains = false }: Phase): Generator<Program> {
  const isFew = requests < 3
  const here = isFew && !noChains ? [...plain, ...chains] : plain
  const before = isFew ? late : late.filter(isAboutMoves)
  for (const group of combinations([...here, ...before], requests)) {
    if (group.filter(isChain).length > 1) continue
    const hasMoved = group.some(({ isOld }) => isOld === true)
    if (onlyMoves && !group.some(isMove) && !(hasMoved && group.some(isAboutMoves))) continue
    for (const expire of [false, true]) yield { requests: group, expire, hasMoved }
  }
}

function* combinations(of: readonly Request[], count: number, from = 0): Generator<Request[]> {
  if (count === 0) {
    yield []
    return
  }
  for (const [index, request] of of.entries()) {
    if (index < from) continue
    for (const rest of combinations(of, count - 1, index)) yield [request, ...rest]
  }
}

/** A counterexample as a person reads it. */
function describe({ program, run, why }: NonNullable<Exploration['counterexample']>): string {
  return [
    why,
    ...program.requests.map(
      ({ steps, transport, isOld }, index) =>
        `  request ${index}: ${steps.join(', ')} (${transport}${isOld === true ? ', old id' : ''}) → ${run.result.told[index]}`
    ),
    `  store:     ${run.trace.join(', ')}`,
    `  session:   ${JSON.stringify(run.result.session)}; begun: ${JSON.stringify(run.result.begun)}`
  ].join('\n')
}

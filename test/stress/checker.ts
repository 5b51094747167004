import { begin, outcomes, type Progress, type State } from '../races/model.ts'
import { inOrder, type Data } from '../races/program.ts'
import { phaseName, type History, type Phase, type Recorded } from './history.ts'

/**
 * Whether a recorded history is one that the promises allow: whether each phase of each request can be given an instant between its
 * invocation and its return, such that the model, taking the phases in that order, comes to all that was seen and told (Herlihy and
 * Wing, 1990). The search is that of Wing and Gong (1993), with Lowe's memory (2017) of where it has been before.
 */
export interface Verdict {
  readonly outcome: 'allowed' | 'violated' | 'undecided'
  /** States that were gone through. */
  readonly states: number
}

/** A request in the search: how many phases have taken effect, how far it is in the model, what is stored of the session it began. */
interface Place {
  readonly taken: number
  readonly progress: Progress | undefined
  readonly own: Data | undefined
}

interface Node {
  readonly session: Data | null
  readonly places: readonly Place[]
}

const unbegun: Place = { taken: 0, progress: undefined, own: undefined }

/** @param most the states to go through before giving up */
export function check(history: History, most = 200_000): Verdict {
  const requests = history.requests.filter(({ phases }) => phases.length > 0).toSorted((one, other) => one.phases[0].invoked - other.phases[0].invoked)
  const seen = new Set<string>()
  const pending: Node[] = [{ session: history.initial, places: requests.map(() => unbegun) }]
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    const key = keyOf(node)
    if (seen.has(key)) continue
    seen.add(key)
    if (seen.size > most) return { outcome: 'undecided', states: seen.size }
    // Whatever takes effect next was invoked before the first return that is still to come.
    const { places } = node
    const waiting = requests.map(({ phases }, index): Phase | undefined => phases[places[index].taken])
    const horizon = waiting.reduce((first, phase) => Math.min(first, phase?.returned ?? Infinity), Infinity)
    if (horizon === Infinity) return { outcome: 'allowed', states: seen.size }
    const candidates: number[] = []
    for (const [index, phase] of waiting.entries()) {
      if (phase !== undefined && phase.invoked <= horizon) candidates.push(index)
    }
    // The last one pushed is tried first: who returned first probably went first, and who never returned never went.
    candidates.sort((one, other) => (waiting[other] as Phase).returned - (waiting[one] as Phase).returned)
    for (const index of candidates) pending.push(...effects(node, index, requests[index]))
  }
  return { outcome: 'violated', states: seen.size }
}

function keyOf({ session, places }: Node): string {
  const taken = places.map(({ taken, progress, own }) => progress === undefined ? taken : `${taken} ${JSON.stringify(progress)} ${JSON.stringify(own)}`)
  return `${inOrder(session)} ${taken.join(' ')}`
}

/** What the next phase of a request may make of a state, as far as that agrees with what was seen. */
function effects({ session, places }: Node, index: number, request: Recorded): Node[] {
  const { taken, progress = begin(request.number, request.transport, request.carriesId), own } = places[index]
  // Its handler has thrown: nothing more came.
  if (progress.told !== undefined) return []
  const { returned, saw } = request.phases[taken]
  const isLast = taken === request.phases.length - 1
  const state: State = { session, begun: own === undefined ? {} : { 0: own }, requests: [progress], expired: true, faults: request.faulty ? 1 : 0 }
  const nodes: Node[] = []
  for (const after of outcomes(state, 0, request.steps)) {
    const [reached] = after.requests
    if (returned !== Infinity) {
      if (reached.told !== (isLast ? request.told : undefined)) continue
      if (saw !== undefined && inOrder(reached.mine) !== inOrder(saw)) continue
    }
    const place = isLast ? { ...unbegun, taken: taken + 1 } : { taken: taken + 1, progress: reached, own: after.begun[0] }
    nodes.push({ session: after.session, places: places.with(index, place) })
  }
  return nodes
}

/** The smallest part of a violating history that the model cannot explain, as a person reads it. */
export function explain(history: History): string {
  const cut = shortest(history)
  const [essential, loose] = weaken(cut)
  const name = (request: Recorded): string => `#${request.number} (${request.transport}: ${request.steps.join(', ')})`
  const start = Math.min(...history.requests.flatMap(({ phases }) => phases.map(({ invoked }) => invoked)))
  const at = (instant: number): string => (instant === Infinity ? '?' : (instant - start).toFixed(1)).padStart(8)
  const lines = essential.flatMap((request) => request.phases.map((phase, place) => {
    const isLast = place === request.phases.length - 1
    const seen = phase.saw === undefined ? '' : `, holds ${inOrder(phase.saw)}`
    const end = phase.returned === Infinity ? `, outcome unknown${request.unknown === undefined ? '' : ` (${request.unknown})`}` : isLast && request.told !== undefined ? `, tells ${request.told}` : ''
    return { invoked: phase.invoked, text: `${at(phase.invoked)} ${at(phase.returned)}  #${request.number} on server ${request.server}: ${phaseName(request, place)}${seen}${end}` }
  }))
  return [
    `No order of these explains what was seen under ${history.id.slice(0, 8)}…, which held ${inOrder(history.initial)} at the start:`,
    `${'ms from'.padStart(8)} ${'to'.padStart(8)}`,
    ...lines.toSorted((one, other) => one.invoked - other.invoked).map(({ text }) => text),
    ...loose.length === 0 ? [] : [`whatever came of these: ${loose.map(name).join('; ')}`]
  ].join('\n')
}

function isViolated(history: History): boolean {
  return check(history, 5000).outcome === 'violated'
}

/** The history up to the first instant by which it is wrong: what had not returned by then may or may not have happened. */
function shortest(history: History): History {
  const instants = history.requests.flatMap(({ phases }) => phases.map(({ returned }) => returned)).filter((returned) => returned !== Infinity).toSorted((one, other) => one - other)
  let [low, high] = [0, instants.length - 1]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (isViolated(until(history, instants[middle]))) high = middle
    else low = middle + 1
  }
  return instants.length === 0 ? history : until(history, instants[low])
}

function until(history: History, end: number): History {
  const requests = history.requests.map((request) => {
    const phases = request.phases.filter(({ invoked }) => invoked <= end).map((phase) => phase.returned <= end ? phase : unseen(phase))
    return { ...request, phases, told: phases.length === request.phases.length && phases.at(-1)?.returned !== Infinity ? request.told : undefined }
  })
  return { ...history, requests: requests.filter(({ phases }) => phases.length > 0) }
}

function unseen({ invoked }: Phase): Phase {
  return { invoked, returned: Infinity, saw: undefined }
}

/**
 * Takes each request's outcome for unknown, one after the other, where the history stays wrong without it. That can only make a history
 * easier to explain, so what is left is wrong by itself.
 */
function weaken(history: History): readonly [essential: readonly Recorded[], loose: readonly Recorded[]] {
  let { requests } = history
  const loose = new Set<number>()
  for (const { number } of requests) {
    const weaker = requests.map((request) => request.number === number ? { ...request, phases: request.phases.map(unseen), told: undefined } : request)
    if (!isViolated({ ...history, requests: weaker })) continue
    requests = weaker
    loose.add(number)
  }
  // One that only reads changes nothing for the others, whatever came of it.
  const reads = ({ steps }: Recorded): boolean => steps.every((step) => step === 'read' || step === 'touch')
  return [requests.filter(({ number }) => !loose.has(number)), requests.filter((request) => loose.has(request.number) && !reads(request))]
}

import { begin, outcomes, type Progress, type State } from '../races/model.ts'
import { inOrder, type Data } from '../races/program.ts'
import { phaseName, type History, type Phase, type Recorded } from './history.ts'

/**
 * Whether a recorded history is one that the promises allow: whether each phase of each request can
 * be given an instant between its invocation and its return, such that the model, taking the phases
 * in that order, comes to all that was seen and told (Herlihy and Wing, 1990). The search is that
 * of Wing and Gong (1993), with Lowe's memory (2017) of where it has been before.
 */
export interface Verdict {
  readonly outcome: 'allowed' | 'violated' | 'undecided'
  /** States that were gone through. */
  readonly states: number
}

/** A request in the search: how many phases have taken effect, and how far it is in the model. */
interface Place {
  readonly taken: number
  readonly progress: Progress | undefined
  /**
   * Whether the phase has taken effect, and what the handler saw of it is yet to be: writes that
   * wait for each other in a process are stored together, and each sees those behind it too.
   */
  readonly isSeeing?: boolean
}

/** A session: that of the history, or one that a request began. */
interface Slot {
  readonly data: Data | null
  /** In which slot it has gone on. Null: it has not moved. */
  readonly movedTo: number | null
}

interface Node {
  /** That of the history, then each request's own. */
  readonly slots: readonly Slot[]
  readonly places: readonly Place[]
}

/** What a request is in a history. */
interface Part {
  readonly request: Recorded
  /** The slot of the session whose id it carries. */
  readonly carried: number
  /** The slot of its own session. */
  readonly own: number
  /** Whether others carry the id of its own session. */
  readonly isCarried: boolean
}

const unbegun: Place = { taken: 0, progress: undefined }
const nothing: Slot = { data: null, movedTo: null }
/** Where a session has gone that has ended there. */
const nowhere = -1

/** @param most the states to go through before giving up */
export function check(history: History, most = 200_000): Verdict {
  const requests = history.requests
    .filter(({ phases }) => phases.length > 0)
    .toSorted((one, other) => one.phases[0].invoked - other.phases[0].invoked)
  const slotOf = (number: number | undefined): number =>
    number === undefined ? 0 : 1 + requests.findIndex((request) => request.number === number)
  const parts = requests.map((request, index): Part => {
    const carried = slotOf(request.under)
    const isCarried = requests.some(({ under }) => under === request.number)
    return { request, carried, own: 1 + index, isCarried }
  })
  const seen = new Set<string>()
  const pending: Node[] = [
    {
      slots: [{ data: history.initial, movedTo: null }, ...requests.map(() => nothing)],
      places: requests.map(() => unbegun)
    }
  ]
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    const key = keyOf(node)
    if (seen.has(key)) continue
    seen.add(key)
    if (seen.size > most) return { outcome: 'undecided', states: seen.size }
    // Whatever takes effect next was invoked before the first return that is still to come.
    const { places } = node
    const waiting = requests.map(
      ({ phases }, index): Phase | undefined => phases[places[index].taken]
    )
    const horizon = waiting.reduce(
      (first, phase) => Math.min(first, phase?.returned ?? Infinity),
      Infinity
    )
    if (horizon === Infinity) return { outcome: 'allowed', states: seen.size }
    const candidates: number[] = []
    for (const [index, phase] of waiting.entries()) {
      if (phase !== undefined && phase.invoked <= horizon) candidates.push(index)
    }
    // The last one pushed is tried first: who returned first probably went first, and who never
    // returned never went.
    candidates.sort(
      (one, other) => (waiting[other] as Phase).returned - (waiting[one] as Phase).returned
    )
    for (const index of candidates) pending.push(...effects(node, index, parts[index]))
  }
  return { outcome: 'violated', states: seen.size }
}

function keyOf({ slots, places }: Node): string {
  const held = slots.map(({ data, movedTo }) =>
    data === null && movedTo === null ? '' : `${inOrder(data)} ${movedTo}`
  )
  const taken = places.map(({ taken, progress, isSeeing = false }) =>
    progress === undefined ? taken : `${taken}${isSeeing ? '!' : ''} ${JSON.stringify(progress)}`
  )
  return `${held.join(';')} ${taken.join(' ')}`
}

/**
 * What the next phase of a request may make of a state, as far as that agrees with what was seen.
 */
function effects({ slots, places }: Node, index: number, part: Part): Node[] {
  const { request, carried, own, isCarried } = part
  const { taken, progress = begin(request.number, request.transport, request.carriesId) } =
    places[index]
  // Its handler has thrown: nothing more came.
  if (progress.told !== undefined) return []
  const { returned, saw } = request.phases[taken]
  if (places[index].isSeeing === true) return seeing({ slots, places }, index, part)
  const isLast = taken === request.phases.length - 1
  // In the model this request is the first; and the second is who has the session to which that
  // which it carries has come, over however many ids.
  let { movedTo: last } = slots[carried]
  for (let next = last; next !== null; next = slots[next]?.movedTo ?? null) last = next
  const isElsewhere = last !== null && last !== own
  const here = last === null ? null : 0
  const elsewhere = isElsewhere ? slots[last as number]?.data : undefined
  const state: State = {
    session: slots[carried].data,
    movedTo: isElsewhere ? 1 : here,
    hasTrace: false,
    begun: {
      ...(slots[own].data === null ? undefined : { 0: slots[own].data }),
      ...(elsewhere ? { 1: elsewhere } : undefined)
    },
    requests: [progress],
    expired: true,
    faults: request.faulty ? 1 : 0
  }
  const step = request.steps[progress.at]
  const isStored = last === null && (step === 'update' || step === 'save')
  const nodes: Node[] = []
  for (const after of outcomes(state, 0, request.steps)) {
    const [reached] = after.requests
    let place: Place = { taken: taken + 1, progress: isLast ? undefined : reached }
    if (returned !== Infinity) {
      if (reached.told !== (isLast ? request.told : undefined)) continue
      if (saw !== undefined && inOrder(reached.mine) !== inOrder(saw)) {
        if (!isStored) continue
        place = { taken, progress: reached, isSeeing: true }
      }
    }
    const changed = [...slots]
    const set = (slot: number, change: Partial<Slot>): void => {
      if (slot in changed) changed[slot] = { ...changed[slot], ...change }
    }
    set(carried, { data: after.session })
    if (isElsewhere) set(last as number, { data: after.begun[1] ?? null })
    if (after.movedTo === 0) set(carried, { movedTo: own })
    if (after.movedTo === nowhere) set(carried, { movedTo: nowhere })
    // What a request leaves behind matters if others carry its id, or if an end may lead to it.
    const isNeeded = !isLast || isCarried || changed[carried].movedTo === own
    set(own, { data: isNeeded ? (after.begun[0] ?? null) : null })
    nodes.push({ slots: changed, places: places.with(index, place) })
  }
  return nodes
}

/** What the handler sees of a phase that was stored with others: what is stored by then. */
function seeing({ slots, places }: Node, index: number, { request, carried }: Part): Node[] {
  const { taken, progress } = places[index] as Place & { progress: Progress }
  const stored = slots[carried].data
  if (stored === null || progress.on !== 'the session') return []
  const { base, mine } = progress
  const changed = Object.entries({ ...base, ...mine }).filter(([key]) => base[key] !== mine[key])
  const now: Record<string, unknown> = { ...stored }
  for (const [key] of changed) {
    if (key in mine) now[key] = mine[key]
    else delete now[key]
  }
  if (inOrder(now) !== inOrder(request.phases[taken].saw as Data)) return []
  const place = { taken: taken + 1, progress: { ...progress, base: stored, mine: now } }
  return [{ slots, places: places.with(index, place) }]
}

/** The smallest part of a violating history that the model cannot explain, as a person reads it. */
export function explain(history: History): string {
  const cut = shortest(history)
  const [essential, loose] = weaken(cut)
  const under = ({ under: from }: Recorded): string =>
    from === undefined ? '' : ` under the id of #${from}`
  const name = (request: Recorded): string =>
    `#${request.number}${under(request)} (${request.transport}: ${request.steps.join(', ')})`
  const start = Math.min(
    ...history.requests.flatMap(({ phases }) => phases.map(({ invoked }) => invoked))
  )
  const at = (instant: number): string =>
    (instant === Infinity ? '?' : (instant - start).toFixed(1)).padStart(8)
  const lines = essential.flatMap((request) =>
    request.phases.map((phase, place) => {
      const isLast = place === request.phases.length - 1
      const seen = phase.saw === undefined ? '' : `, holds ${inOrder(phase.saw)}`
      let end = ''
      if (phase.returned === Infinity)
        end = `, outcome unknown${request.unknown === undefined ? '' : ` (${request.unknown})`}`
      else if (isLast && request.told !== undefined) end = `, tells ${request.told}`
      return {
        invoked: phase.invoked,
        text: `${at(phase.invoked)} ${at(phase.returned)}  #${request.number}${under(request)} on server ${request.server}: ${phaseName(request, place)}${seen}${end}`
      }
    })
  )
  return [
    `No order of these explains what was seen under ${history.id.slice(0, 8)}…, which held ${inOrder(history.initial)} at the start:`,
    `${'ms from'.padStart(8)} ${'to'.padStart(8)}`,
    ...lines.toSorted((one, other) => one.invoked - other.invoked).map(({ text }) => text),
    ...(loose.length === 0 ? [] : [`whatever came of these: ${loose.map(name).join('; ')}`])
  ].join('\n')
}

function isViolated(history: History): boolean {
  return check(history, 5000).outcome === 'violated'
}

/**
 * The history up to the first instant by which it is wrong: what had not returned by then may or
 * may not have happened.
 */
function shortest(history: History): History {
  const instants = history.requests
    .flatMap(({ phases }) => phases.map(({ returned }) => returned))
    .filter((returned) => returned !== Infinity)
    .toSorted((one, other) => one - other)
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
    const phases = request.phases
      .filter(({ invoked }) => invoked <= end)
      .map((phase) => (phase.returned <= end ? phase : unseen(phase)))
    return {
      ...request,
      phases,
      told:
        phases.length === request.phases.length && phases.at(-1)?.returned !== Infinity
          ? request.told
          : undefined
    }
  })
  return { ...history, requests: requests.filter(({ phases }) => phases.length > 0) }
}

function unseen({ invoked }: Phase): Phase {
  return { invoked, returned: Infinity, saw: undefined }
}

/**
 * Takes each request's outcome for unknown, one after the other, where the history stays wrong
 * without it. That can only make a history easier to explain, so what is left is wrong by itself.
 */
function weaken(
  history: History
): readonly [essential: readonly Recorded[], loose: readonly Recorded[]] {
  let { requests } = history
  const loose = new Set<number>()
  for (const { number } of requests) {
    const weaker = requests.map((request) =>
      request.number === number
        ? { ...request, phases: request.phases.map(unseen), told: undefined }
        : request
    )
    if (!isViolated({ ...history, requests: weaker })) continue
    requests = weaker
    loose.add(number)
  }
  // One that only reads changes nothing for the others, whatever came of it.
  const reads = ({ steps }: Recorded): boolean =>
    steps.every((step) => step === 'read' || step === 'touch')
  return [
    requests.filter(({ number }) => !loose.has(number)),
    requests.filter((request) => loose.has(request.number) && !reads(request))
  ]
}

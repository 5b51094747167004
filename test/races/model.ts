import {
  canonical,
  initialData,
  inOrder,
  isPlain,
  mark,
  type Data,
  type Program,
  type Request,
  type Step
} from './program.ts'

/**
 * The promises as a program small enough to be seen to be right. Each step of a request takes
 * effect at one instant, and there is no store that could fall between. All orders of all steps are
 * tried; what real requests come to must be among what these come to.
 */

/** How far a request is. */
export interface Progress {
  /** What it puts under a key. */
  readonly mark: string
  /** The next step; -1: not resolved yet. */
  at: number
  /** `moved`: the session had moved when the request asked for it. */
  on: 'the session' | 'its own' | 'none' | 'moved' | 'a dead one'
  /** What `regenerate()` goes on from, until the session is next stored. */
  from: Departure | undefined
  /** Data as read or as last written, and as the request has it now. */
  base: Data
  mine: Data
  /** A record that this request created is in the store. */
  created: boolean
  inHeader: boolean
  /** It has the id that the session had before it moved. */
  isOld: boolean
  /** It has failed, and what it failed in may take effect yet. */
  isLate: boolean
  /** Whether it may begin a session that nothing is in. */
  mayBegin: boolean
  owed: boolean
  removed: boolean
  destroyed: boolean
  /** It has begun anew where the session had moved: before it came, or while it ran. */
  isAnew: false | 'late' | 'in time'
  /** It was to keep a, which it does not see. */
  misses: boolean
  isCommitting: boolean
  told: string | undefined
}

/** A stored session that a request goes on from, with what it had made of it. */
interface Departure {
  readonly on: 'the session' | 'its own'
  readonly base: Data
  readonly mine: Data
  readonly keep: readonly string[]
}

/** What a session has gone on as that has ended: nobody's. */
const nowhere = -1

/** What there is at an instant. */
export interface State {
  session: Data | null
  /** Whose own session the one session has gone on as. Null: it has not moved. */
  movedTo: number | null
  /** Whether an id that the session had before leads to it. */
  hasTrace: boolean
  begun: Record<string, Data>
  requests: Progress[]
  expired: boolean
  /** How many store calls may still fail. */
  faults: number
}

/**
 * All results that the promises allow, with at most so many faults of the store.
 *
 * @param told only those in which the requests told their clients this: far fewer to go through
 */
export function allowedResults(
  program: Program,
  faults: number,
  told?: readonly string[]
): Set<string> {
  const results = new Set<string>()
  const seen = new Set<string>()
  const pending: State[] = [
    {
      session: initialData,
      movedTo: null,
      hasTrace: program.hasMoved === true,
      begun: {},
      requests: program.requests.map(({ transport, isOld }, index) => ({
        ...begin(index, transport),
        isOld: isOld === true
      })),
      expired: !program.expire,
      faults
    }
  ]
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    if (!state.expired) {
      const nothing = { session: null, movedTo: null, hasTrace: false, begun: {} }
      pending.push({ ...state, ...nothing, expired: true })
    }
    for (const [index, request] of state.requests.entries()) {
      if (request.told !== undefined && !request.isLate) continue
      const { steps } = program.requests[index]
      const next = request.isLate ? [late(state, index, steps)] : outcomes(state, index, steps)
      if (state.faults > 0 && !request.isLate) next.push(failed(state, index))
      for (const outcome of next) {
        const telling = outcome.requests[index]?.told
        if (told !== undefined && telling !== undefined && telling !== told[index]) continue
        const key = JSON.stringify(outcome)
        if (!seen.has(key)) {
          seen.add(key)
          pending.push(outcome)
        }
      }
    }
    if (state.expired && state.requests.every(({ told }) => told !== undefined)) {
      results.add(
        canonical({
          told: state.requests.map(({ told }) => told as string),
          session: state.session,
          begun: Object.values(state.begun)
        })
      )
    }
  }
  return results
}

/** A request fails, and what it fails in may take effect later, or never. */
function failed(state: State, index: number): State {
  const next = copy(state)
  next.faults -= 1
  Object.assign(next.requests[index], { told: 'failed', isLate: true })
  return next
}

/** What a request has failed in takes effect after all. */
function late(state: State, index: number, steps: readonly Step[]): State {
  const next = copy(state)
  const request = next.requests[index]
  Object.assign(request, { told: undefined, isLate: false })
  take(next, index, steps)
  request.told = 'failed'
  return next
}

/** A request that is yet to be resolved. */
export function begin(number: number, transport: Request['transport'], carriesId = true): Progress {
  const inHeader = transport === 'header'
  return {
    mark: mark(number),
    // Who has no session has none to resolve.
    at: transport === 'none' ? 0 : -1,
    on: 'none',
    from: undefined,
    base: {},
    mine: {},
    created: false,
    inHeader,
    isOld: false,
    isLate: false,
    mayBegin: inHeader || !carriesId,
    owed: false,
    removed: false,
    destroyed: false,
    isAnew: false,
    misses: false,
    isCommitting: false,
    told: undefined
  }
}

/**
 * What the next step of a request may lead to: its effect; if a store call may fail, also what that
 * may make of it.
 */
export function outcomes(state: State, index: number, steps: readonly Step[]): State[] {
  const variant = (faults: number, change: (state: State, request: Progress) => void): State => {
    const next = copy(state)
    next.faults -= faults
    change(next, next.requests[index])
    return next
  }
  const all = [
    variant(0, (next) => {
      take(next, index, steps)
    })
  ]
  if (state.faults === 0) return all
  // The fault is made good; or it fails the request, with the effect or without it.
  all.push(
    variant(1, (next) => {
      take(next, index, steps)
    })
  )
  all.push(
    variant(1, (next, failing) => {
      take(next, index, steps)
      failing.told = 'failed'
    })
  )
  all.push(
    variant(1, (_next, failing) => {
      failing.told = 'failed'
    })
  )
  if (steps[state.requests[index].at] === 'end') {
    // As below: a removal whose answer is lost is made again.
    all.push(
      variant(1, (next, ending) => {
        take(next, index, steps)
        ending.told = 'ended'
      })
    )
    return all
  }
  // It took effect, the answer was lost, and before the request could ask, the session ended. A
  // commit drops what it has, unless it moves the session.
  const request = state.requests[index]
  const drops = request.at === steps.length && request.from === undefined
  const unheard = drops ? 'nothing' : 'gone'
  all.push(
    variant(1, (next, late) => {
      take(next, index, steps)
      late.told = unheard
    })
  )
  const step = steps[request.at]
  if (request.at === steps.length && request.on !== 'none' && !isChanged(request)) {
    // A touch that fails does not fail the request.
    all.push(
      variant(1, (_next, touching) => {
        touching.told = 'nothing'
      })
    )
  } else if (step === 'save' && touches(request)) {
    // Nor does it fail save().
    all.push(
      variant(1, (_next, saving) => {
        saving.at += 1
        passPlainSteps(saving, steps)
      })
    )
  } else if (step === 'destroy') {
    // A removal whose answer is lost is made again, and finds nothing: the session has ended, by
    // this request or by another.
    all.push(
      variant(1, (next, removing) => {
        const isOfCookie = whereOf(removing) === 'the session' && !removing.inHeader
        const { mayBegin } = removing
        take(next, index, steps)
        removing.removed ||= isOfCookie
        removing.mayBegin = mayBegin
      })
    )
  }
  if (request.on === 'none' && (request.at === steps.length || stores(step))) {
    // The new session is stored, and its id is known to nobody.
    const { mine, from } = request
    const orphan = step === 'update' ? { ...mine, n: Number(mine['n'] ?? 0) + 1 } : mine
    for (const telling of ['failed', ...(from === undefined ? [] : ['gone']), undefined]) {
      all.push(
        variant(1, (next, beginning) => {
          next.begun[`orphan of ${index}`] = orphan
          if (telling === undefined) take(next, index, steps)
          else beginning.told = telling
        })
      )
    }
  }
  return all
}

function stores(step: Step | undefined): boolean {
  return step === 'update' || step === 'save'
}

/** Data is never changed in place, so it need not be copied. */
function copy(state: State): State {
  return {
    ...state,
    begun: { ...state.begun },
    requests: state.requests.map((request) => ({ ...request }))
  }
}

function take(state: State, index: number, steps: readonly Step[]): void {
  const request = state.requests[index]
  if (request.at === -1) {
    if (request.isOld) {
      if (state.hasTrace) request.on = 'moved'
    } else if (state.session !== null)
      Object.assign(request, {
        on: 'the session',
        base: state.session,
        mine: state.session,
        mayBegin: true
      })
    else if (state.movedTo !== null) request.on = 'moved'
    request.at = 0
    passPlainSteps(request, steps)
    return
  }
  const step = steps[request.at]
  if (step === undefined) {
    request.isCommitting = true
    commit(state, request, index)
    return
  }
  request.at += 1
  if (step === 'end') {
    request.on = request.isOld ? 'moved' : 'the session'
    request.told = goesOnAs(state) === undefined ? 'nothing' : 'ended'
    remove(state, request, index)
  } else if (request.on === 'moved' && stores(step)) {
    request.told = 'gone'
  } else if (step === 'update') {
    if (!store(state, request, index, (data) => ({ ...data, n: Number(data['n'] ?? 0) + 1 })))
      request.told = 'gone'
  } else if (step === 'save') {
    const needless =
      request.on === 'none'
        ? request.destroyed && Object.keys(request.mine).length === 0
        : !isChanged(request)
    if (
      needless
        ? touches(request) && live(state, request, index) === undefined
        : !store(state, request, index, (data) => data)
    ) {
      Object.assign(request, { on: 'a dead one', told: 'gone' })
    }
  } else if (step === 'destroy') {
    remove(state, request, index)
    Object.assign(request, {
      on: 'none',
      from: undefined,
      base: {},
      mine: {},
      destroyed: true,
      isAnew: false,
      misses: false,
      created: false,
      owed: false
    })
  } else {
    const keep = step === 'regenerate' ? [] : ['a']
    request.misses = keep.length > 0 && (request.misses || request.on === 'moved')
    request.isAnew ||= request.on === 'moved' && 'late'
    // Nothing happens to what is stored before it is next stored.
    const { on, base, mine } = request
    const from =
      on === 'the session' || on === 'its own'
        ? { on, base, mine, keep }
        : request.from && { ...request.from, keep: request.from.keep.filter(isIn(keep)) }
    Object.assign(request, {
      on: 'none',
      from,
      base: {},
      mine: pick(mine, keep),
      destroyed: false,
      created: false,
      owed: false
    })
  }
  if (request.told === undefined) passPlainSteps(request, steps)
}

/** What touches the request alone takes no instant of its own. */
function passPlainSteps(request: Progress, steps: readonly Step[]): void {
  for (; request.at < steps.length && isPlain(steps[request.at]); request.at += 1) {
    const step = steps[request.at]
    if (step === 'write a') request.mine = { ...request.mine, a: request.mark }
    else if (step === 'write b') request.mine = { ...request.mine, b: request.mark }
    else if (step === 'delete a')
      request.mine = Object.fromEntries(Object.entries(request.mine).filter(([key]) => key !== 'a'))
    else if (step === 'touch') request.owed ||= request.on === 'the session' || request.created
  }
}

function commit(state: State, request: Progress, index: number): void {
  const empty = Object.keys(request.mine).length === 0
  if (request.isAnew === 'late' && request.on === 'none' && request.from === undefined && empty) {
    // Who begins anew with nothing logs out.
    remove(state, request, index)
    request.told = request.removed ? 'clear' : 'nothing'
    return
  }
  if (request.on === 'moved') {
    request.told = 'nothing'
  } else if (request.on === 'none') {
    if (empty && (request.destroyed || !request.mayBegin)) {
      if (request.from !== undefined) remove(state, request, index)
      request.told = request.removed ? 'clear' : 'nothing'
    } else request.told = store(state, request, index, (data) => data) ? 'its own' : 'gone'
  } else if (isChanged(request)) {
    request.told = store(state, request, index, (data) => data) ? request.on : 'nothing'
  } else {
    request.told =
      request.owed && live(state, request, index) !== undefined ? request.on : 'nothing'
  }
}

/**
 * Whether save() has nothing to store, and has the store confirm that the session is live: it is to
 * go out.
 */
function touches(request: Progress): boolean {
  return request.on !== 'none' && request.owed && !isChanged(request)
}

function isChanged(request: Progress): boolean {
  return inOrder(request.mine) !== inOrder(request.base)
}

function live(state: State, { on }: Pick<Progress, 'on'>, index: number): Data | undefined {
  return on === 'the session' ? (state.session ?? undefined) : state.begun[index]
}

/** Which session an end by the request is about. */
function whereOf({ on, from, isAnew }: Progress): Progress['on'] {
  return from?.on ?? (isAnew !== false && on === 'none' ? 'moved' : on)
}

/** What the one session holds, or what it has gone on as, if that lives. */
function goesOnAs({ session, movedTo, begun }: State): Data | undefined {
  if (session !== null) return session
  return movedTo === null ? undefined : begun[movedTo]
}

function isIn(keys: readonly string[]): (key: string) => boolean {
  return (key) => keys.includes(key)
}

function pick(data: Data, keys: readonly string[]): Data {
  return Object.fromEntries(Object.entries(data).filter(([key]) => keys.includes(key)))
}

/** Changes over what is stored; a delete wins. */
function changesOver(request: Pick<Progress, 'base' | 'mine'>, stored: Data): Data {
  const data: Record<string, unknown> = { ...stored }
  for (const key of new Set([...Object.keys(request.base), ...Object.keys(request.mine)])) {
    if (!(key in request.mine)) delete data[key]
    else if (request.mine[key] !== request.base[key] && !(key in request.base && !(key in stored)))
      data[key] = request.mine[key]
  }
  return data
}

function store(
  state: State,
  request: Progress,
  index: number,
  change: (data: Data) => Data
): boolean {
  if (request.on === 'none') {
    if (request.misses && 'a' in (goesOnAs(state) ?? {}) && !('a' in request.mine)) {
      request.on = 'a dead one'
      return false
    }
    const data = request.from === undefined ? request.mine : move(state, request, index)
    if (data === undefined) {
      request.on = 'a dead one'
      return false
    }
    request.on = 'its own'
    request.from = undefined
    request.created = true
    state.begun[index] = change(data)
  } else {
    const stored = live(state, request, index)
    if (stored === undefined) {
      request.on = 'a dead one'
      return false
    }
    const data = change(changesOver(request, stored))
    if (request.on === 'the session') state.session = data
    else state.begun[index] = data
  }
  request.base = request.mine = live(state, request, index) as Data
  request.owed = true
  return true
}

/** Whether the request begins a session with nothing in it, at its end. */
function isLogout({ isCommitting, mine }: Progress): boolean {
  return isCommitting && Object.keys(mine).length === 0
}

/**
 * Has a session go on from another, which is over with it. Returns what it holds; undefined if the
 * other has ended, or has moved with something that was to be kept.
 */
function move(state: State, request: Progress, index: number): Data | undefined {
  const from = request.from as Departure
  const stored = live(state, from, index)
  if (stored === undefined) {
    const one = from.on === 'the session' ? goesOnAs(state) : undefined
    if (one === undefined || isLogout(request)) return undefined
    const left = Object.keys(pick(one, from.keep)).some((key) => !(key in request.mine))
    if (left || Object.keys(pick(from.mine, from.keep)).length > 0) return undefined
    request.isAnew = 'in time'
    return request.mine
  }
  const shown = pick(from.mine, from.keep)
  const kept = pick(changesOver(from, stored), from.keep)
  if (from.on === 'the session') {
    state.session = null
    state.movedTo = index
  } else {
    delete state.begun[index]
  }
  if (from.on === 'the session' && !request.inHeader) request.removed = true
  return changesOver({ base: shown, mine: request.mine }, kept)
}

function remove(state: State, request: Progress, index: number): void {
  const on = whereOf(request)
  if (on === 'none' || on === 'a dead one') return
  const { isAnew, inHeader } = request
  const isOfItsOwn = on === 'its own'
  // Who has begun anew ends what the session has gone on as, too.
  const isOfTheSession = !isOfItsOwn || isAnew !== false
  const one = isOfTheSession ? goesOnAs(state) : undefined
  const own = isOfItsOwn ? live(state, { on }, index) : undefined
  if ((on === 'the session' || isAnew === 'in time') && one !== undefined && !inHeader) {
    request.removed = true
  }
  // Who finds nothing to remove may be late: the browser may hold a newer cookie, which an empty
  // session must not replace.
  request.mayBegin &&= inHeader || (one ?? own) !== undefined
  if (isOfTheSession) {
    if (state.session !== null || state.movedTo === null) state.session = null
    else delete state.begun[state.movedTo]
  }
  if (isOfItsOwn) {
    delete state.begun[index]
    // What the request begins next is another session.
    if (state.movedTo === index) state.movedTo = nowhere
  }
}

import { canonical, initialData, inOrder, isPlain, mark, type Data, type Program, type Request, type Step } from './program.ts'

/**
 * The promises as a program small enough to be seen to be right. Each step of a request takes effect at one instant, and there is no
 * store that could fall between. All orders of all steps are tried; what real requests come to must be among what these come to.
 */

/** How far a request is. */
export interface Progress {
  /** What it puts under a key. */
  readonly mark: string
  /** The next step; -1: not resolved yet. */
  at: number
  on: 'the session' | 'its own' | 'none' | 'a dead one'
  /** Data as read or as last written, and as the request has it now. */
  base: Data
  mine: Data
  /** A record that this request created is in the store. */
  created: boolean
  inHeader: boolean
  /** Whether it may begin a session that nothing is in. */
  mayBegin: boolean
  owed: boolean
  removed: boolean
  destroyed: boolean
  told: string | undefined
}

/** What there is at an instant. */
export interface State {
  session: Data | null
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
export function allowedResults(program: Program, faults: number, told?: readonly string[]): Set<string> {
  const results = new Set<string>()
  const seen = new Set<string>()
  const pending: State[] = [{
    session: initialData,
    begun: {},
    requests: program.requests.map(({ transport }, index) => begin(index, transport)),
    expired: !program.expire,
    faults
  }]
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    const before = pending.length
    if (!state.expired) pending.push({ ...state, expired: true, session: null, begun: {} })
    for (const [index, request] of state.requests.entries()) {
      if (request.told !== undefined) continue
      for (const outcome of outcomes(state, index, program.requests[index]?.steps ?? [])) {
        const telling = outcome.requests[index]?.told
        if (told !== undefined && telling !== undefined && telling !== told[index]) continue
        const key = JSON.stringify(outcome)
        if (!seen.has(key)) {
          seen.add(key)
          pending.push(outcome)
        }
      }
    }
    if (pending.length === before && state.requests.every(({ told }) => told !== undefined)) {
      results.add(canonical({ told: state.requests.map(({ told }) => told as string), session: state.session, begun: Object.values(state.begun) }))
    }
  }
  return results
}

/** A request that is yet to be resolved. */
export function begin(number: number, transport: Request['transport'], carriesId = true): Progress {
  const inHeader = transport === 'header'
  return {
    mark: mark(number), at: -1, on: 'none', base: {}, mine: {}, created: false, inHeader, mayBegin: inHeader || !carriesId, owed: false, removed: false, destroyed: false, told: undefined
  }
}

/** What the next step of a request may lead to: its effect; if a store call may fail, also what that may make of it. */
export function outcomes(state: State, index: number, steps: readonly Step[]): State[] {
  const variant = (faults: number, change: (state: State, request: Progress) => void): State => {
    const next = copy(state)
    next.faults -= faults
    change(next, next.requests[index])
    return next
  }
  const all = [variant(0, (next) => { take(next, index, steps) })]
  if (state.faults === 0) return all
  // The fault is made good; or it fails the request, with the effect or without it.
  all.push(variant(1, (next) => { take(next, index, steps) }))
  all.push(variant(1, (next, failing) => { take(next, index, steps); failing.told = 'failed' }))
  all.push(variant(1, (_next, failing) => { failing.told = 'failed' }))
  // It took effect, the answer was lost, and before the request could ask, the session ended.
  const request = state.requests[index]
  const unheard = request.at === steps.length ? 'nothing' : 'gone'
  all.push(variant(1, (next, late) => { take(next, index, steps); late.told = unheard }))
  const step = steps[request.at]
  if (request.at === steps.length && request.on !== 'none' && !isChanged(request)) {
    // A touch that fails does not fail the request.
    all.push(variant(1, (_next, touching) => { touching.told = 'nothing' }))
  } else if (step === 'save' && touches(request)) {
    // Nor does it fail save().
    all.push(variant(1, (_next, saving) => {
      saving.at += 1
      passPlainSteps(saving, steps)
    }))
  } else if (step === 'destroy' || step === 'regenerate' || step === 'regenerate, keeping a') {
    // A removal whose answer is lost is made again, and finds nothing: as if another request had made it.
    all.push(variant(1, (next, removing) => {
      if (removing.on !== 'none' && live(next, removing, index) !== undefined) bury(next, removing, index)
      take(next, index, steps)
    }))
  }
  return all
}

/** Data is never changed in place, so it need not be copied. */
function copy(state: State): State {
  return { ...state, begun: { ...state.begun }, requests: state.requests.map((request) => ({ ...request })) }
}

function take(state: State, index: number, steps: readonly Step[]): void {
  const request = state.requests[index]
  if (request.at === -1) {
    if (state.session !== null) Object.assign(request, { on: 'the session', base: state.session, mine: state.session })
    request.at = 0
    passPlainSteps(request, steps)
    return
  }
  const step = steps[request.at]
  if (step === undefined) {
    commit(state, request, index)
    return
  }
  request.at += 1
  if (step === 'update') {
    if (!store(state, request, index, (data) => ({ ...data, n: Number(data['n'] ?? 0) + 1 }))) request.told = 'gone'
  } else if (step === 'save') {
    const needless = request.on === 'none' ? request.destroyed && Object.keys(request.mine).length === 0 : !isChanged(request)
    if (needless ? touches(request) && live(state, request, index) === undefined : !store(state, request, index, (data) => data)) {
      Object.assign(request, { on: 'a dead one', told: 'gone' })
    }
  } else if (step === 'destroy') {
    remove(state, request, index)
    Object.assign(request, { on: 'none', base: {}, mine: {}, destroyed: true, created: false, owed: false })
  } else {
    const keep = step === 'regenerate' ? [] : ['a']
    const hadRecord = request.on !== 'none'
    const claimed = remove(state, request, index)
    if (hadRecord && claimed === undefined && keep.some((key) => key in request.mine)) {
      request.told = 'gone'
      return
    }
    const kept = claimed === undefined ? (hadRecord ? {} : request.mine) : changesOver(request, claimed)
    const mine = Object.fromEntries(Object.entries(kept).filter(([key]) => keep.includes(key)))
    Object.assign(request, { on: 'none', base: {}, mine, destroyed: false, created: false, owed: false })
  }
  if (request.told === undefined) passPlainSteps(request, steps)
}

/** What touches the request alone takes no instant of its own. */
function passPlainSteps(request: Progress, steps: readonly Step[]): void {
  for (; request.at < steps.length && isPlain(steps[request.at]); request.at += 1) {
    const step = steps[request.at]
    if (step === 'write a') request.mine = { ...request.mine, a: request.mark }
    else if (step === 'write b') request.mine = { ...request.mine, b: request.mark }
    else if (step === 'delete a') request.mine = Object.fromEntries(Object.entries(request.mine).filter(([key]) => key !== 'a'))
    else if (step === 'touch') request.owed ||= request.on === 'the session' || request.created
  }
}

function commit(state: State, request: Progress, index: number): void {
  const empty = Object.keys(request.mine).length === 0
  if (request.on === 'none') {
    if (empty && (request.destroyed || !request.mayBegin)) request.told = request.removed ? 'clear' : 'nothing'
    else {
      store(state, request, index, (data) => data)
      request.told = 'its own'
    }
  } else if (isChanged(request)) {
    request.told = store(state, request, index, (data) => data) ? request.on : 'nothing'
  } else {
    request.told = request.owed && live(state, request, index) !== undefined ? request.on : 'nothing'
  }
}

/** Whether save() has nothing to store, and has the store confirm that the session is live: it is to go out. */
function touches(request: Progress): boolean {
  return request.on !== 'none' && request.owed && !isChanged(request)
}

function isChanged(request: Progress): boolean {
  return inOrder(request.mine) !== inOrder(request.base)
}

function live(state: State, request: Progress, index: number): Data | undefined {
  return request.on === 'the session' ? state.session ?? undefined : state.begun[index]
}

/** This request's changes over what is stored; a delete wins. */
function changesOver(request: Progress, stored: Data): Data {
  const data: Record<string, unknown> = { ...stored }
  for (const key of new Set([...Object.keys(request.base), ...Object.keys(request.mine)])) {
    if (!(key in request.mine)) delete data[key]
    else if (request.mine[key] !== request.base[key] && !(key in request.base && !(key in stored))) data[key] = request.mine[key]
  }
  return data
}

function store(state: State, request: Progress, index: number, change: (data: Data) => Data): boolean {
  if (request.on === 'none') {
    request.on = 'its own'
    request.created = true
    state.begun[index] = change(request.mine)
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

function remove(state: State, request: Progress, index: number): Data | undefined {
  if (request.on === 'none') return undefined
  const stored = live(state, request, index)
  if (request.on === 'the session' && stored !== undefined && !request.inHeader) request.removed = true
  // Who finds nothing to remove may be late: the browser may hold a newer cookie, which an empty session must not replace.
  request.mayBegin = request.inHeader || (stored !== undefined && (request.mayBegin || request.on === 'the session'))
  bury(state, request, index)
  return stored
}

function bury(state: State, request: Progress, index: number): void {
  if (request.on === 'the session') state.session = null
  else delete state.begun[index]
}

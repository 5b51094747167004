import { SessionError } from '../errors.ts'
import { rejected } from '../events.ts'
import type { PresentedId, SessionClient } from './client.ts'
import { tagIn } from './id.ts'
import { find, type Entry } from './find.ts'
import { endsSoon, isLive } from './lifetime.ts'
import type { SessionContext } from './operations.ts'
import { decode, RequestSession } from './request-session.ts'
import { SessionState } from './state.ts'
import { withStore, type StoreClient } from './store-client.ts'
import { isOfCookie, touch } from './touch.ts'
import { isTrace } from './trace.ts'
import { andThen } from './waiting.ts'
import type { MaybePromise, SessionRecord } from '../../types/store.ts'

/** What one of several ids leads to. */
export interface FoundSession {
  readonly id: string
  readonly entry: Entry
  /** Whether it may be a session that goes on under this id. */
  readonly mayLive: boolean
}

/** Finds what several ids lead to. @throws the failure of the store */
export function findAll(
  { config }: SessionContext,
  ids: readonly string[]
): MaybePromise<readonly FoundSession[]> {
  return withStore(config, (store) => {
    const search = (index: number, found: readonly FoundSession[]): ReturnType<typeof findAll> => {
      const id = ids[index]
      if (id === undefined) return found
      return andThen(find(store, config.publicIds.get(id)), (entry) => {
        if (entry === undefined) return search(index + 1, found)
        const mayLive = entry === 'unreadable' || (!isTrace(entry) && isLiveHere(entry, config))
        return search(index + 1, [...found, { id, entry, mayLive }])
      })
    }
    return search(0, [])
  })
}

/** Turns what a request presents into its session. @throws the failure of the store */
export function loadSession(
  context: SessionContext,
  presented: PresentedId,
  client: SessionClient
): MaybePromise<RequestSession> {
  const { config } = context
  const state = new SessionState(config, presented)
  const session = new RequestSession(context, presented, state, client)
  const { id, transport } = presented
  if (id === undefined) {
    if (transport !== undefined) state.rejectPresentedId()
    return session
  }
  return withStore(config, (store) =>
    andThen(presented.found ?? find(store, state.identity.publicId), (entry) =>
      andThen(take(context, { state, presented, store, client }, entry), () => session)
    )
  )
}

/** A request whose session is being loaded. */
interface Loading {
  readonly state: SessionState
  readonly presented: PresentedId
  readonly store: StoreClient
  readonly client: SessionClient
}

/** Takes what the presented id leads to. @param isAgain for it was gone when it was used */
function take(
  context: SessionContext,
  loading: Loading,
  entry: Entry | undefined,
  isAgain = false
): MaybePromise<void> {
  const { config } = context
  const { state, presented } = loading
  if (entry !== undefined) {
    if (entry !== 'unreadable') state.identity.hasRecord(entry.version)
    state.moving.lead(state.identity, entry)
  }
  if (entry === 'unreadable') return state.markUnreadable()
  if (isTrace(entry)) {
    publishUnknown(context, state, presented, undefined)
    state.meetTrace(entry) // mutant: late
  } else if (entry === undefined) {
    const { id, transport } = presented
    const isAdopted =
      transport === 'header' &&
      tagIn(id as string) === undefined &&
      config.adoptUnknownIds(id as string)
    if (isAdopted) return state.identity.adopt()
    publishUnknown(context, state, presented, undefined)
    state.rejectPresentedId()
  } else {
    const now = config.clock.now()
    if (!isLive(entry, now, config.lifetimes)) {
      publishUnknown(context, state, presented, entry)
      state.rejectPresentedId()
      state.moving.meetExpired(entry)
      return
    }
    state.load(entry)
    const mayEnd = presented.isUse && !isAgain && endsSoon(entry, now, config.lifetimes)
    if (mayEnd) return useNow(context, loading)
  }
}

function isLiveHere(
  record: SessionRecord,
  { clock, lifetimes }: SessionContext['config']
): boolean {
  return isLive(record, clock.now(), lifetimes)
}

/**
 * Moves the expiry of a session that would end before its request does. A failure is logged, and
 * the request goes on: the session is live.
 */
function useNow(context: SessionContext, loading: Loading): MaybePromise<void> {
  const { state, store, client } = loading
  const tools = { ...context, store, log: client.log, isCookieSent: false, isSuccess: false }
  return andThen(touch(state, tools), (outcome) => {
    if (outcome === 'gone') {
      return andThen(find(store, state.identity.publicId), (entry) =>
        take(context, loading, entry, true)
      )
    }
    // By the end of the request the browser's cookie may have run out.
    if (isOfCookie(state)) state.use.requestTouch()
  })
}

/**
 * Finds the session that is stored under a public id.
 *
 * @throws HOLDFAST_DATA_UNDECODABLE, the failure of the store
 */
export function findSession(
  context: SessionContext,
  publicId: string
): MaybePromise<RequestSession | undefined> {
  const { config } = context
  return withStore(config, (store) =>
    andThen(store.get(publicId), (record) => {
      if (record === undefined || isTrace(record)) return undefined
      if (!isLiveHere(record, config)) return undefined
      const state = new SessionState(config, nothingPresented, publicId)
      state.load(record)
      if (decode(state, config) === undefined) throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
      return new RequestSession(context, nothingPresented, state)
    })
  )
}

/** Begins a session without a request. */
export function beginSession(context: SessionContext): RequestSession {
  const state = new SessionState(context.config, nothingPresented)
  return new RequestSession(context, nothingPresented, state)
}

const nothingPresented: PresentedId = Object.freeze({
  id: undefined,
  transport: undefined,
  cookieId: undefined,
  mustRenew: false,
  isUse: true,
  found: undefined,
  former: undefined
})

function publishUnknown(
  { config: { sessionName } }: SessionContext,
  { identity }: SessionState,
  { transport }: PresentedId,
  record: SessionRecord | undefined
): void {
  if (!rejected.hasSubscribers || transport === undefined) return
  const reason = record === undefined ? 'unknown' : 'expired'
  rejected.publish({ sessionName, transport, reason, session: identity.handle })
}

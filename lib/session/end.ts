import { SessionError } from '../errors.ts'
import { destroyed } from '../events.ts'
import type { SessionConfig } from './config.ts'
import { keepBoth, keepNothing, keepsNothing, pick, type Keep } from './keep.ts'
import { belongTo, loginOf } from './login.ts'
import type { Missed } from './moving.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'
import { isTrace } from './trace.ts'
import { handleOf } from '../subject-key.ts'
import type { SessionTrace } from '../../types/store.ts'

/** Ends a session. What its handler writes afterwards begins a new one. */
export async function destroySession(
  store: StoreClient,
  state: SessionState,
  config: SessionConfig
): Promise<void> {
  const held = state.data.read()
  await endSession(store, state, config)
  state.startOver('destroyed')
  config.ends.ended(state)
  state.data.remove(held)
}

/**
 * Ends what the store has of a session: what the presented id has led to, wherever that is now,
 * what this request has stored, and the former sessions whose cookies it brings.
 */
export async function endSession(
  store: StoreClient,
  state: SessionState,
  config: SessionConfig
): Promise<void> {
  const { stored } = state
  const { led } = state.moving
  const { former } = state.cookie
  const carriedOver = former === undefined ? [] : await former.end(store)
  const all = [led, stored?.publicId === led?.publicId ? undefined : stored]
  let isRemoved = false
  for (const each of all) {
    if (each === undefined) continue
    if (!(await endAt(store, config, each.publicId))) continue
    isRemoved = true
    if (each !== led || !led.isLate) state.recordRemoved(each)
  }
  for (const key of carriedOver) await endAt(store, config, key)
  if (former !== undefined) await former.remove(store)
  if (!isRemoved && (led ?? stored) !== undefined) state.markGone()
}

/** Ends the session that `regenerate()` has departed from, unless another request has moved it. */
export async function endDeparture(
  store: StoreClient,
  state: SessionState,
  config: SessionConfig
): Promise<void> {
  const { departure } = state.moving
  if (departure === undefined) return
  if (await endAt(store, config, departure.publicId, false)) state.recordRemoved(departure)
}

/**
 * Ends the session that is stored under a key, or that a trace there leads to. A trace stays: who
 * meets it later must be led there too.
 *
 * @param follows whether to go where a trace leads
 * @returns whether there was one. True if the answer was lost: then it has ended in any case
 */
export async function endAt(
  store: StoreClient,
  { sessionName, former }: SessionConfig,
  key: string,
  follows = true
): Promise<boolean> {
  let next: string | undefined = key
  while (next !== undefined) {
    const session: string = next
    if (former !== undefined) await former.endWith(store, session)
    const ended = await store.delete(session)
    if (isTrace(ended) && !follows) return false
    next = isTrace(ended) ? ended.successor : undefined // mutant: follow
    if (next !== undefined) continue
    if (ended === undefined && !store.isRetried) return false
    publishDestroyed(sessionName, session, typeof ended === 'object' ? ended.version : undefined)
  }
  return true
}

/** Tells of an end. @param version that of the record, if it could be read */
function publishDestroyed(sessionName: string, key: string, version: string | undefined): void {
  if (!destroyed.hasSubscribers) return
  destroyed.publish({ sessionName, session: version === undefined ? key : handleOf(key, version) })
}

/**
 * Has a session go on with some of its data under a new id. It moves when it is next stored: until
 * then nothing has happened, and an end of it by another request is one.
 *
 * @throws HOLDFAST_SESSION_GONE the session has ended, or has moved with what is to be kept
 */
export function regenerateSession(state: SessionState, config: SessionConfig, keep: Keep): void {
  const { codec } = config
  const { status, record, stored, createdAt } = state
  const { lineage, signIn } = state.identity
  const login = loginOf(state)
  const { led, departure, trace, expired } = state.moving
  if (status === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
  if (status === 'unreadable' && !keepsNothing(keep)) {
    throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
  }
  const snapshot = state.data.snapshot()
  const kept = keepsNothing(keep) ? '' : codec.stringify(pick(codec.parse(snapshot.text), keep))
  // It will have to be stored: find out before anything is dropped.
  codec.assertFits(kept)
  if (departure !== undefined) {
    state.depart({ ...departure, keep: keepBoth(departure.keep, keep) })
  } else if (stored !== undefined) {
    const { id, publicId, handle } = stored
    const isUnseen = status === 'unreadable'
    state.depart({ id, publicId, handle, record, isUnseen, mine: snapshot.text, keep })
  } else if (led !== undefined && expired !== undefined) {
    const { id, publicId, handle } = led
    state.depart({
      id,
      publicId,
      handle,
      record: expired,
      isUnseen: true,
      mine: snapshot.text,
      keep
    })
  } else {
    // A second click on a login begins anew: it has read nothing that it could bring back.
    const missed = state.moving.missed ?? (trace && missedOf(trace, status === 'moved', keep))
    state.startOver('regenerated')
    if (missed) state.moving.miss(missed.successor, keepBoth(missed.keep, keep))
  }
  state.data.attributes = snapshot.attributes
  state.data.former = snapshot.former
  // All of it: who is signed in stays so. A part of it goes on as nobody's.
  if (keep.keys === 'all' && login !== undefined && lineage !== undefined) {
    belongTo(state, config, login, { lineage, signIn })
  }
  if (keep.lifetime) state.keepLifetime(createdAt, snapshot.maxAge)
  if (kept !== '') state.data.rebase(kept, snapshot)
  else if (snapshot.text !== '') state.data.remove(state.data.read())
}

/** What a request misses that has met a trace. One that is not recent has lost the reply. */
function missedOf({ successor }: SessionTrace, isRecent: boolean, keep: Keep): Missed {
  return { successor, keep: isRecent ? keep : keepNothing }
}

import type { Log } from './client.ts'
import type { SessionConfig } from './config.ts'
import { isCookieDue, moveNotes, readNotes, tolerance, writeNotes } from './notes.ts'
import { cookieUse, nextExpiry, nextTimeout, type IdleTimeout, type Lifetimes } from './lifetime.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'
import { nextVersion } from './version.ts'
import { andThen, isPromise } from './waiting.ts'
import type { Writer } from './write.ts'
import type { MaybePromise, SessionRecord } from '../../types/store.ts'

/** What a session is stored and touched with. */
export interface Tools {
  readonly config: SessionConfig
  readonly store: StoreClient
  readonly writer: Writer
  /** Undefined: the session is that of no request. */
  readonly log: Log | undefined
  /** Whether a reply is going to send the cookie to the browser that has it. */
  readonly isCookieSent: boolean
  /** Whether a reply waits for this that is no error. */
  readonly isSuccess: boolean
}

/** Whether the browser that sent the request has the session's cookie, or is to get it. */
export function isOfCookie({ cookie, identity }: SessionState): boolean {
  return identity.isNew || cookie.isOf(identity.id)
}

/**
 * Whether to move the expiry, and with it the cookie's: it was asked for, or one of them moves far
 * enough to be worth a write.
 */
export function isTouchDue(state: SessionState, config: SessionConfig): boolean {
  const { record } = state
  if (record === undefined) return false
  if (state.use.isTouchRequested || config.touchAfter === 0) return true
  const now = config.clock.now()
  const { timeout, expiresAt } = afterTouch(state, record, config.lifetimes, now)
  const use = cookieUse(timeout, config.touchAfter, now)
  return (
    expiresAt - record.expiresAt >= use.leastGain ||
    isOtherDefault(record, timeout, use.now) ||
    (isOfCookie(state) && isCookieDue(record, expiresAt, use))
  )
}

/** Moves the expiry, by which the store confirms that the session is live. Logs a failure. */
export function touch(
  state: SessionState,
  tools: Tools
): MaybePromise<'touched' | 'gone' | 'failed'> {
  const fail = (err: unknown): 'failed' => {
    // A client that does not hold this id yet would lose the session by a reply without it.
    if (!state.identity.isPresented) throw err
    tools.log?.warn({ err, session: state.identity.handle }, 'the session could not be touched')
    return 'failed'
  }
  try {
    const touched = send(state, state.record as SessionRecord, tools)
    return isPromise(touched) ? touched.catch(fail) : touched
  } catch (error) {
    return fail(error)
  }
}

/** Moves the expiry, and notes what that means for the cookie. */
function send(
  state: SessionState,
  record: SessionRecord,
  tools: Tools
): MaybePromise<'touched' | 'gone'> {
  const { config, store } = tools
  const now = config.clock.now()
  const next = afterTouch(state, record, config.lifetimes, now)
  const { expiresAt } = next
  const noted = withNotes(record, next, tools, now)
  const key = state.identity.publicId
  const move = (): MaybePromise<'touched' | 'gone'> =>
    andThen(store.touch(key, expiresAt), (liveUntil) => {
      const isLive = liveUntil !== undefined // mutant: liveness check
      if (!isLive) {
        state.markGone()
        return 'gone'
      }
      state.recordTouched({ ...record, expiresAt: liveUntil })
      return 'touched'
    })
  if (noted === undefined) return move()
  const finish = (isWritten: boolean): MaybePromise<'touched' | 'gone'> => {
    // Another request has written: its notes are as good, and the cookie is due again if not.
    if (!isWritten) return move()
    state.recordTouched(noted)
    return 'touched'
  }
  // The record as it is, with other notes: there is nothing to merge.
  return andThen(store.update(key, noted, record.version), finish)
}

/** Returns the record with its notes of the cookie, and its timeout. Undefined: it has them. */
function withNotes(
  record: SessionRecord,
  { timeout, expiresAt }: AfterTouch,
  { config, isCookieSent }: Tools,
  now: number
): SessionRecord | undefined {
  const use = cookieUse(timeout, config.touchAfter, now)
  const { heldFor, attributes, login, former } = readNotes(record)
  const isNews = isCookieSent
    ? heldFor === undefined || isCookieDue(record, expiresAt, use)
    : expiresAt - record.expiresAt >= tolerance
  const isOther = isOtherDefault(record, timeout, use.now)
  if (!isNews && !isOther) return undefined
  const moved = moveNotes(record, expiresAt, isCookieSent, use)
  const { notes: before, ...rest } = record
  const notes = writeNotes({ ...moved, attributes, login, former })
  if (notes === before && !isOther) return undefined
  return {
    ...rest,
    expiresAt,
    version: nextVersion(record.version),
    ...timeout,
    ...(notes === undefined ? undefined : { notes })
  }
}

/** What a record has after a touch. */
interface AfterTouch {
  readonly timeout: IdleTimeout
  readonly expiresAt: number
}

/** What the record has if this request touches it. */
function afterTouch(
  { use: { isUse } }: SessionState,
  record: SessionRecord,
  lifetimes: Lifetimes,
  now: number
): AfterTouch {
  const timeout = nextTimeout(record, record.maxAge, isUse, lifetimes)
  return { timeout, expiresAt: nextExpiry(record, timeout, isUse, { now, lifetimes }) }
}

/**
 * Whether a record is to say that the option has another value now. One of version 0.1.0 says
 * nothing of it: then its expiry tells, if it is further than the option allows.
 */
function isOtherDefault(
  { defaultMaxAge: before, expiresAt }: SessionRecord,
  { defaultMaxAge: next }: IdleTimeout,
  now: number
): boolean {
  if (next === undefined) return false
  return before === undefined ? expiresAt > now + next * 1000 + tolerance : before !== next
}

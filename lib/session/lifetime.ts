import type { SessionRecord } from '../../types/store.ts'

/** How long sessions live, in milliseconds. */
export interface Lifetimes {
  /** Milliseconds of disuse. */
  readonly idle: number
  /** Milliseconds since creation; Infinity for never. */
  readonly absolute: number
}

/** The lifetimes, and the present instant. */
interface Moment {
  readonly now: number
  readonly lifetimes: Lifetimes
}

/**
 * The instant at which a session used at `now` ends: idle lifetime from now, absolute lifetime from
 * its creation.
 */
export function expiry(
  now: number,
  createdAt: number,
  maxAge: number | undefined,
  lifetimes: Lifetimes
): number {
  const idle = maxAge === undefined ? lifetimes.idle : maxAge * 1000
  return Math.min(now + idle, createdAt + lifetimes.absolute)
}

/** The idle timeout of a record, in seconds: the session's own, or that of an option. */
export type IdleTimeout = Pick<SessionRecord, 'maxAge' | 'defaultMaxAge'>

/** The milliseconds of an idle timeout. Infinity: a record of version 0.1.0 says nothing of its. */
export function idleOf({ maxAge, defaultMaxAge }: IdleTimeout): number {
  return (maxAge ?? defaultMaxAge ?? Infinity) * 1000
}

/**
 * The idle timeout of a record from now on: the session's own, or that of the option. A request
 * that is no use of the session leaves that of the record, unless its handler drops the session's
 * own.
 *
 * @param stored undefined: the record is new
 * @param maxAge the idle timeout of its own that the session has from now on
 */
export function nextTimeout(
  stored: SessionRecord | undefined,
  maxAge: number | undefined,
  isUse: boolean,
  { idle }: Lifetimes
): IdleTimeout {
  if (maxAge !== undefined) return { maxAge }
  if (isUse || stored === undefined || stored.maxAge !== undefined) {
    return { defaultMaxAge: idle / 1000 }
  }
  const { defaultMaxAge } = stored
  return defaultMaxAge === undefined ? {} : { defaultMaxAge }
}

/**
 * When a session ends after a write or a touch. A use moves that forward, for another request may
 * have been later. It comes nearer only if the idle timeout is shorter than it was.
 *
 * @param timeout the idle timeout that the record has from now on
 */
export function nextExpiry(
  stored: SessionRecord,
  timeout: IdleTimeout,
  isUse: boolean,
  { now, lifetimes }: Moment
): number {
  const idle = idleOf(timeout)
  const moved = Math.min(now + idle, stored.createdAt + lifetimes.absolute)
  const isShorter = idle < idleOf(stored)
  if (isUse) return isShorter ? moved : Math.max(moved, stored.expiresAt)
  return isShorter ? Math.min(moved, stored.expiresAt) : stored.expiresAt
}

/** Milliseconds that a request may take without losing its session, if its idle timeout allows. */
const requestTime = 5 * 60 * 1000

/**
 * Whether a session may end by disuse while the request that uses it is under way. The request has
 * come in time, and moves the expiry before it goes on.
 */
export function endsSoon(record: SessionRecord, now: number, lifetimes: Lifetimes): boolean {
  const left = record.expiresAt - now
  if (left >= requestTime) return false
  const timeout = nextTimeout(record, record.maxAge, true, lifetimes)
  const idle = idleOf(timeout)
  const gain = nextExpiry(record, timeout, true, { now, lifetimes }) - record.expiresAt
  return left < idle / 2 && gain >= Math.min(1000, idle / 2)
}

/**
 * Whether a record read at `now` is live. The absolute lifetime counts as configured now, not as it
 * was at the last write.
 */
export function isLive(
  record: { createdAt: number; expiresAt: number },
  now: number,
  lifetimes: Lifetimes
): boolean {
  return now < record.expiresAt && now < record.createdAt + lifetimes.absolute
}

/** Seconds until `expiresAt`, rounded up: a cookie does not end before its session. */
export function secondsUntil(expiresAt: number, now: number): number {
  return Math.ceil((expiresAt - now) / 1000)
}

/** Seconds: the longest that browsers keep a cookie (RFC 6265bis, 5.5). */
export const maxCookieAge: number = 400 * 24 * 60 * 60

/** Whether a number of seconds can be the idle lifetime of a session, and so of its cookie. */
export function isLifetime(seconds: unknown): seconds is number {
  return (
    Number.isInteger(seconds) && (seconds as number) >= 1 && (seconds as number) <= maxCookieAge
  )
}

/** By how many milliseconds a touch must move the expiry to be worth a write. */
function leastGain(touchAfter: number, maxAge: number | undefined): number {
  // A session with a short life of its own would end before a touch of the usual measure is due.
  return Math.min(touchAfter, ((maxAge ?? Infinity) * 1000) / 10)
}

/** What the renewal of a cookie depends on. Durations are in milliseconds. */
export interface CookieUse {
  readonly now: number
  /** The idle lifetime. */
  readonly idle: number
  /** By how much the expiry must move for the cookie to be sent again. */
  readonly leastGain: number
}

/** What the renewal of the cookie of a session with this idle timeout depends on. */
export function cookieUse(timeout: IdleTimeout, touchAfter: number, now: number): CookieUse {
  return {
    now,
    idle: idleOf(timeout),
    leastGain: leastGain(touchAfter, timeout.maxAge)
  }
}

/** How long sessions live, in milliseconds. */
export interface Lifetimes {
  /** Milliseconds of disuse. */
  readonly idle: number
  /** Milliseconds since creation; Infinity for never. */
  readonly absolute: number
}

/** The instant at which a session used at `now` ends: idle lifetime from now, absolute lifetime from its creation. */
export function expiry(now: number, createdAt: number, maxAge: number | undefined, lifetimes: Lifetimes): number {
  const idle = maxAge === undefined ? lifetimes.idle : maxAge * 1000
  return Math.min(now + idle, createdAt + lifetimes.absolute)
}

/** Whether a record read at `now` is live. The absolute lifetime counts as configured now, not as it was at the last write. */
export function isLive(record: { createdAt: number, expiresAt: number }, now: number, lifetimes: Lifetimes): boolean {
  return now < record.expiresAt && now < record.createdAt + lifetimes.absolute
}

/** Seconds until `expiresAt`, rounded up: a cookie does not end before its session. */
export function secondsUntil(expiresAt: number, now: number): number {
  return Math.ceil((expiresAt - now) / 1000)
}

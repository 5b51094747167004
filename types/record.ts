/** A value, or a promise of one. The plugin does not await a store that returns plain values. */
export type MaybePromise<T> = T | Promise<T>

/**
 * What a store keeps for one session. A store returns what it was given; it interprets only the
 * version, the expiry and the idle timeout.
 */
export interface SessionRecord {
  /** The serialised data; the empty string if the session has no data. */
  readonly data: string
  /**
   * Changes with every write, and never returns to an earlier value. Stores compare it and never
   * parse it.
   */
  readonly version: string
  /** When the session was created, in epoch milliseconds. */
  readonly createdAt: number
  /**
   * When the record expires, in epoch milliseconds. From this millisecond on, every method of the
   * store treats it as absent.
   */
  readonly expiresAt: number
  /** The session's own idle timeout in seconds, if it has one. */
  readonly maxAge?: number
  /** Otherwise the idle timeout of the registration that wrote the record, in seconds. */
  readonly defaultMaxAge?: number
  /**
   * What the plugin notes of the session, such as of its cookie and of who is signed in: a text
   * without white space, if there is anything to note.
   */
  readonly notes?: string
  /** Tells a record from a trace, which has a successor. */
  readonly successor?: undefined
}

/**
 * What a store keeps under the key of a session that has moved to another id: `regenerate()` leaves
 * it, so that an end of the session by its old id finds what it went on as.
 */
export interface SessionTrace {
  /** The key under which the session went on. */
  readonly successor: string
  /** The version of the record that the trace replaced. */
  readonly version: string
  /** When the trace expires, in epoch milliseconds. It is treated as absent from then on. */
  readonly expiresAt: number
  /** A trace has no data. */
  readonly data?: undefined
}

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
   * What the plugin notes of the session's cookie, if anything: a short text without white space.
   */
  readonly cookie?: string
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

/**
 * Keeps the records of sessions. A key is the public id of a session: 43 characters of base64url.
 *
 * Under a key there is a record, or a trace, or nothing. Every method is atomic, and may return a
 * value or a promise. What is absent and what has expired are results, and the same result. A
 * method throws or rejects only if the store fails; that becomes a 503, and is never taken for "no
 * session".
 *
 * `storeConformance` of `fastify-holdfast/testing` tests any store against this contract.
 */
export interface SessionStore {
  /**
   * Returns the live record, or the trace; undefined if there is neither.
   *
   * @throws a `SessionError` of the code `HOLDFAST_DATA_UNDECODABLE`: there is something under the
   * key that the store cannot read. A session that has it can only be ended
   */
  get(key: string): MaybePromise<SessionRecord | SessionTrace | undefined>
  /** Inserts the record and returns true; returns false if a live record or a trace has the key. */
  create(key: string, record: SessionRecord): MaybePromise<boolean>
  /**
   * Replaces the live record and returns true; returns false if there is none, or if its version is
   * not `expectedVersion`. A trace is no record.
   *
   * Keeps the later `expiresAt` of the two, for another request may have moved it since. Only if
   * the idle timeout becomes shorter is the expiry exactly that of `record`. A record without one
   * counts as endless.
   */
  update(key: string, record: SessionRecord, expectedVersion: string): MaybePromise<boolean>
  /**
   * Moves the expiry of the live record to `expiresAt` (epoch milliseconds), but never back, and no
   * further from now than its idle timeout (`maxAge`, else `defaultMaxAge`, if it has either).
   * Returns the expiry that now applies, or undefined if there is no live record. A trace is none,
   * and its expiry stays.
   */
  touch(key: string, expiresAt: number): MaybePromise<number | undefined>
  /**
   * Removes the live record and returns it. A trace stays, and is returned. Returns undefined if
   * there is neither. Of several concurrent callers only one gets the record. What it cannot read
   * it removes too, and returns true.
   */
  delete(key: string): MaybePromise<SessionRecord | SessionTrace | true | undefined>
  /**
   * Replaces the live record by the trace and returns true; returns false if there is no live
   * record, or if its version is not `trace.version`. The expiry is exactly that of the trace: it
   * may be earlier than the record's, and later.
   */
  retire(key: string, trace: SessionTrace): MaybePromise<boolean>
  /**
   * Does both in one step: creates the record under `trace.successor`, as `create` does, and
   * replaces the live record under `key` by the trace, as `retire` does. Returns true; returns
   * false, and changes nothing, if either is refused.
   *
   * Optional: for stores that can change two keys at once. It saves a round trip of each login.
   */
  move?(key: string, record: SessionRecord, trace: SessionTrace): MaybePromise<boolean>
  /**
   * Releases what the store holds open, if anything. Whoever created the store calls it: the plugin
   * does so only for its default store.
   */
  close?(): MaybePromise<void>
}

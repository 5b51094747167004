/** A value, or a promise of it. A store that answers with a plain value is never awaited. */
export type MaybePromise<T> = T | Promise<T>

/** What a store keeps of one session. A store hands back what it was given; it interprets only the instants and the version. */
export interface SessionRecord {
  /** The serialised data; the empty string where nothing was ever written to the session. */
  readonly data: string
  /** Changes with every write, and never to a value it had before. Opaque to stores: compared, never parsed. */
  readonly version: string
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. From this instant on the record is absent to every verb. */
  readonly expiresAt: number
  /** Seconds of disuse after which this session ends, where it has a lifetime of its own. */
  readonly maxAge?: number
}

/**
 * Where records are kept.
 *
 * Absent and expired are answers, and the same answer. Only a fault throws (or rejects): it becomes a 503,
 * never "no session". Every verb is atomic, and may answer with a value or with a promise.
 * A key is the public id of a session: 43 characters of base64url.
 *
 * The suite at `fastify-holdfast/testing` holds any store to this contract.
 */
export interface SessionStore {
  /** Reads the live record. Undefined: there is none. */
  get(key: string): MaybePromise<SessionRecord | undefined>
  /** Inserts the record if the key is free. False: a live record has it. */
  create(key: string, record: SessionRecord): MaybePromise<boolean>
  /**
   * Replaces the live record if it is at `expectedVersion`. False: it is absent, or at another version.
   * The later of both `expiresAt` is kept: a write never shortens a life.
   */
  update(key: string, record: SessionRecord, expectedVersion: string): MaybePromise<boolean>
  /** Moves the expiry of the live record to `expiresAt` (epoch milliseconds), forward only. Answers the expiry that holds now; undefined: there is no live record. */
  touch(key: string, expiresAt: number): MaybePromise<number | undefined>
  /** Removes the live record and answers it: of several callers one gets it. Undefined: there was none. */
  delete(key: string): MaybePromise<SessionRecord | undefined>
  /** Frees what the store holds open, if anything. Called by whoever made the store. */
  close?(): MaybePromise<void>
}

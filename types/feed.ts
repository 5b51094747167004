import type { MaybePromise, SessionRecord, SessionTrace } from './record.ts'

/**
 * How a session ended.
 * - `destroyed`: by `session.destroy()` or `sessions.destroy()`
 * - `all destroyed`: by `sessions.destroyAll()` or `sessions.destroyEverything()`
 * - `limit`: another one of its subject began, and there were too many
 * - `evicted`: the store had no room for it
 */
export type EndReason = 'destroyed' | 'all destroyed' | 'limit' | 'evicted'

/**
 * What a store tells: that the session under a key, or sessions of a subject, may have ended or
 * moved. A notice with neither means that any session may have, because messages may have been
 * lost.
 */
export interface EndNotice {
  /** How, if they have ended. */
  readonly reason?: EndReason | undefined
  readonly key?: string | undefined
  /** The key under which it goes on, if it has moved. */
  readonly successor?: string | undefined
  readonly subject?: string | undefined
}

/** What is under a key: which record, and until when it lives, or where a trace leads. */
export type SessionLook =
  | (Pick<SessionRecord, 'version' | 'createdAt' | 'expiresAt'> & {
      readonly successor?: undefined
    })
  | (Pick<SessionTrace, 'successor'> & {
      /** That of the record that has moved. Undefined: not known. */
      readonly version?: string
    })

/**
 * Tells at once of the sessions that end, in this process and in others, for `session.signal`.
 *
 * A notice is only a hint: the plugin then looks at the sessions. So it may come twice, late, or
 * not at all: the plugin also looks every two seconds at all sessions that are watched.
 */
export interface SessionFeed {
  /**
   * Calls the listener whenever a session has ended or moved. After `delete`, `retire`, `move` and
   * `endOne`, the notice has the key; after `endAll`, and after `create` with `instead`, it has the
   * subject. After a gap, such as a lost connection, calls the listener with an empty notice.
   *
   * @returns what stops it, and releases what it holds open
   */
  listen(listener: (notice: EndNotice) => void): MaybePromise<() => MaybePromise<void>>
  /**
   * Looks at several keys at once, as `get` does with one, but without their data. A look does not
   * count as use of a session.
   *
   * @returns as many looks as there are keys, in their order; undefined for what is not there. What
   *   the store cannot read has an empty version, and `Infinity` for both instants
   */
  look(keys: readonly string[]): MaybePromise<ReadonlyArray<SessionLook | undefined>>
}

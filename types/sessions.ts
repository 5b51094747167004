import type { IncomingHttpHeaders } from 'node:http'

import type { SessionData, SessionDraft, SessionMembers } from './session.ts'
import type { SessionStore } from './store.ts'

/** A stored session, read without a request. */
export interface StoredSession<Data = SessionData> {
  readonly publicId: string
  readonly data: Data
  /** When the session was created, in epoch milliseconds. */
  readonly createdAt: number
  /** When the session ends unless it is used again, in epoch milliseconds. */
  readonly expiresAt: number
  /** The session's own idle timeout in seconds. Undefined if the option `maxAge` applies. */
  readonly maxAge: number | undefined
  /** Who is signed in. Undefined: nobody. */
  readonly subject: string | undefined
  /** When the credentials were checked last, in epoch milliseconds. */
  readonly authenticatedAt: number | undefined
  /**
   * Aborts when the session ends, as `session.signal` does. On a session that `fromRequest()` has
   * returned, the signal works until the connection of the request closes; on one that `get()` has
   * returned, until the session ends. The property is not enumerable, so a copy does not have it.
   */
  readonly signal: AbortSignal
}

/** One of the sessions of a subject. */
export interface SubjectSession {
  /** For `sessions.destroy()`. It stays the same when the session's id changes. */
  readonly publicId: string
  /** Whether it is the session of the request. */
  readonly isCurrent: boolean
  /** When the session was created, in epoch milliseconds. */
  readonly createdAt: number
  /** When the credentials were checked last, in epoch milliseconds. */
  readonly authenticatedAt: number
  /**
   * When the session was used last, in epoch milliseconds, as far as that was stored: the option
   * `touchAfter` says how exact it is. Near the end by `absoluteTimeout` it may be earlier.
   */
  readonly lastUsedAt: number
  /** When the session ends unless it is used again, in epoch milliseconds. */
  readonly expiresAt: number
  /** What `signIn()` was given. */
  readonly info: unknown
}

/** Some or all sessions of a subject. */
export interface SubjectSessions {
  readonly sessions: readonly SubjectSession[]
  /** Where the next page begins. Undefined: there is none. */
  readonly next: string | undefined
}

/** A request past Fastify: one of Node.js or of the Fetch API, or its headers. */
export type RawRequest =
  | { readonly headers: IncomingHttpHeaders | Headers }
  | IncomingHttpHeaders
  | Headers

/** Reads, changes and ends stored sessions without a request: `fastify.sessions`. */
export interface Sessions<Data = SessionData> {
  /** The store of the registration. */
  readonly store: SessionStore
  /**
   * Returns the session with this public id; undefined if there is none. Does not extend the
   * session.
   * @throws HOLDFAST_DATA_UNDECODABLE it cannot be read here; HOLDFAST_STORE_FAILED,
   *   HOLDFAST_STORE_TIMEOUT
   */
  get(publicId: string): Promise<StoredSession<Data> | undefined>
  /**
   * Returns the stored session whose id a request carries in its header or cookie, rightly signed
   * if there is a `secret`; undefined if there is none. For what Fastify does not route, such as
   * the upgrade request of a socket server. Does not extend the session. A socket that a browser
   * opens carries the cookie from every site: check its Origin.
   * @throws HOLDFAST_VALUE_INVALID it is no request
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  fromRequest(request: RawRequest): Promise<StoredSession<Data> | undefined>
  /**
   * Changes the data of a session atomically, as `session.update()` does. If `publicId` is that of
   * a signed-in session, finds the session wherever it has moved.
   * @throws HOLDFAST_SESSION_GONE there is no such session
   * @throws HOLDFAST_SUBJECT_CHANGED it changes whom the option `subject` reads from the data
   * @throws otherwise as `session.update()`
   */
  update<Result>(publicId: string, change: (draft: SessionDraft<Data>) => Result): Promise<Result>
  /**
   * Ends a session, also by an id that it had until ten minutes ago. Returns whether there was one;
   * true if the store's reply was lost and the session has ended.
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  destroy(publicId: string): Promise<boolean>
  /**
   * Returns the live sessions of a subject, the one used last first; where they are many, in
   * pages. For a page on which people see where they are signed in (ASVS 7.5.2).
   *
   * @param options.current the session of the request: its entry is marked
   * @param options.from `next` of the page before
   * @throws HOLDFAST_VALUE_INVALID, HOLDFAST_SUBJECTS_UNSUPPORTED
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  list(
    subject: string,
    options?: {
      readonly current?: SessionMembers<Data> | undefined
      readonly from?: string | undefined
    }
  ): Promise<SubjectSessions>
  /**
   * Ends all sessions of a subject, however many they are (ASVS 7.4.2, 7.4.3). Once the promise has
   * resolved, no request that begins afterwards gets one of them, or one that was being signed in
   * or moved at that moment, and no request that is under way writes into one.
   *
   * @param options.except the session of the request: it is spared, under whatever id it goes on.
   *   If `signIn()` has just signed it in, it is stored before
   * @throws HOLDFAST_SESSION_GONE the session to spare has ended; all others have, too
   * @throws HOLDFAST_VALUE_INVALID `except` is not signed in as this subject; nothing has ended
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT they may have ended; call it again
   */
  destroyAll(
    subject: string,
    options?: { readonly except?: SessionMembers<Data> | undefined }
  ): Promise<void>
  /**
   * Ends the sessions of all subjects (ASVS 7.4.5), of every registration that shares the store
   * with the same prefix or table. It takes longer the more that prefix or table holds. Sessions in
   * which nobody is signed in go on.
   *
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT some may have ended; call it again
   */
  destroyEverything(): Promise<void>
  /**
   * Returns the key in the store that belongs to an id, such as `session.id`; `get()`, `update()`
   * and `destroy()` take it as they take a public id. With the option `secret`, pass the id without
   * its signature.
   */
  publicIdOf(id: string): string
}

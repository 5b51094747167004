import type { SessionStore } from './store.ts'

/**
 * What your sessions hold. Declare it once, and `request.session` has it everywhere:
 *
 * ```ts
 * declare module 'fastify-holdfast' {
 *   interface SessionData { user?: string }
 * }
 * ```
 */
export interface SessionData {}

/**
 * What the sessions of further registrations hold, by their `sessionName`. A line types all that bears the name:
 *
 * ```ts
 * declare module 'fastify-holdfast' {
 *   interface NamedSessions { admin: { operator?: string } }
 * }
 *
 * await app.register(sessionPlugin, { sessionName: 'admin' })
 * // request.admin, app.admins, and a route's config: { admin: false }
 * ```
 */
export interface NamedSessions {}

/** How an id travels. */
export type Transport = 'header' | 'cookie'

/** The attributes of the session cookie, but for its lifetime, which is the session's. */
export interface CookieAttributes {
  /** The host that the cookie goes back to, with its subdomains. Default: none, which is the answering host alone. */
  domain?: string
  /** The path that the cookie goes back to. Default: `'/'`. */
  path?: string
  /** Keeps scripts from reading the cookie. Default: true. */
  httpOnly?: boolean
  /** Which cross-site requests carry the cookie. `'none'` asks for `secure: true`. Default: `'lax'`. */
  sameSite?: 'strict' | 'lax' | 'none'
  /** Whether the cookie goes over HTTPS alone. `'auto'`: if this request came over HTTPS, by `request.protocol`. Default: `'auto'`. */
  secure?: boolean | 'auto'
  /** Keeps one cookie per embedding site (CHIPS). Asks for `secure: true`. Default: false. */
  partitioned?: boolean
  /** What a browser that runs out of room keeps (Chromium). Default: none. */
  priority?: 'low' | 'medium' | 'high'
  /** Whether the cookie outlives the browser. False leaves out Max-Age. Default: true. */
  persistent?: boolean
}

/** The names that a session has for itself; no key of the data can have them. */
export type ReservedName = keyof SessionMembers | 'constructor' | '__proto__' | 'signal' | 'subject' | 'cookie' | 'reload'

type Value<Data, Key> = Key extends keyof Data ? Data[Key] : unknown
type Free<Key> = Key extends ReservedName ? never : Key

/** Data as plain properties. A key that is reserved is refused where it is used: nothing can be assigned to it. */
export type SessionDraft<Data = SessionData> = {
  [Key in keyof Data]: Key extends ReservedName ? { 'this key is reserved by fastify-holdfast': Key } : Data[Key]
}

/** What a session can do, beside holding your data. */
export interface SessionMembers<Data = SessionData> {
  /**
   * The secret that names the session. A new session has one from the first time it is asked for. After `destroy()`: another.
   * With the option `secret` it travels with a signature, which is not part of it: the same for as long as the session lives,
   * whatever secret signs it, and of no use to who has it alone.
   */
  readonly id: string
  /** A digest of the id: the store's key; safe to log and to show in a list of devices. */
  readonly publicId: string
  /** Whether this request began the session: it came without one, or called `regenerate()` or `destroy()`. */
  readonly isNew: boolean
  /** What brought the id of a loaded session; undefined for one that this request began. */
  readonly transport: Transport | undefined
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds: when the session ends if it is not used again. Each use moves it. */
  readonly expiresAt: number
  /**
   * Seconds of disuse after which this one session ends; 1 to 34,560,000 (400 days). Kept with the session,
   * until `regenerate()`. Undefined, or never set: the option `maxAge`, which it then reads as.
   * A smaller value counts from the next use: no write shortens a life.
   * @throws HOLDFAST_VALUE_INVALID
   */
  get maxAge(): number
  set maxAge(seconds: number | undefined)

  /** The value of a key, or undefined. Sees the data alone, never a member. */
  get<Key extends string>(key: Key): Value<Data, Key> | undefined
  /**
   * Sets a key; undefined removes it.
   * @throws HOLDFAST_KEY_RESERVED
   */
  set<Key extends string>(key: Free<Key>, value: Value<Data, Key> | undefined): void
  /** The data as a plain object; its values are the session's own. */
  data(): Data
  /**
   * Sets attributes of the cookie that this reply may carry. Other keys are ignored.
   * @throws HOLDFAST_VALUE_INVALID what no browser would take
   */
  options(attributes: CookieAttributes): void
  /**
   * Moves the expiry, and sends the cookie, at the end of this request, however recent the last touch.
   * Where no reply is sent (WebSocket, `reply.hijack()`), it moves the expiry at once, and a failure is logged.
   */
  touch(): void

  /**
   * Changes the data atomically: of any number of concurrent updates, from any number of processes, each takes effect once,
   * one after the other. Pending changes of this request are stored with it.
   *
   * @param change synchronous; may run more than once, each time on a new draft. Changes the draft.
   * @returns what `change` returned in the run that took effect
   * @throws HOLDFAST_SESSION_GONE the session ended meanwhile; nothing was stored
   * @throws HOLDFAST_ID_UNDELIVERABLE the session is new, and no reply can bring its id any more (`save()`); nothing was stored
   * @throws HOLDFAST_UPDATE_ASYNC, HOLDFAST_KEY_RESERVED, HOLDFAST_DATA_UNSERIALIZABLE, HOLDFAST_DATA_TOO_LARGE: nothing was stored
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT, HOLDFAST_OUTCOME_UNKNOWN: it may have taken effect
   */
  update<Result>(change: (draft: SessionDraft<Data>) => Result): Promise<Result>
  /**
   * Commits now: stores what changed, a new session too, moves the expiry if that is due or was asked for, and puts the header and
   * the cookie on the reply. Call it before `reply.hijack()` and hand on `reply.getHeaders()`; the commit of a reply that Fastify
   * sends has the last word on them. On a WebSocket, and once the reply is on its way, it stores a session that was loaded and
   * refuses a new one, whose id could not reach the client.
   * @throws as `update()`
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  save(): Promise<void>
  /**
   * Goes on under a new id and drops the data, but for the keys in `keep`. The old id is dead when it resolves.
   * To be called at login and at every change of privilege (ASVS 7.2.4).
   * @throws HOLDFAST_SESSION_GONE the session ended meanwhile and there was data to keep
   * @throws HOLDFAST_ID_UNDELIVERABLE no reply can bring the new id: on a WebSocket, after `hijack()`, after the reply. Nothing was removed
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT, HOLDFAST_OUTCOME_UNKNOWN: the old id may be dead
   */
  regenerate(keep?: readonly string[]): Promise<void>
  /**
   * Ends the session. The id is dead when it resolves, and no slow request brings it back.
   * What is written afterwards begins a new session.
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT: the id may be alive
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  destroy(): Promise<void>
}

/** What `request.session` is: your data as plain properties, and the members. */
export type Session<Data = SessionData> = SessionMembers<Data> & SessionDraft<Data>

/** One session as it is stored, seen from outside a request. */
export interface StoredSession<Data = SessionData> {
  readonly publicId: string
  readonly data: Data
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. */
  readonly expiresAt: number
  /** Seconds; undefined where the option `maxAge` counts. */
  readonly maxAge: number | undefined
}

/** The sessions without a request: `fastify.sessions`. */
export interface Sessions<Data = SessionData> {
  readonly store: SessionStore
  /** @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT */
  get(publicId: string): Promise<StoredSession<Data> | undefined>
  /** As `session.update()`. @throws HOLDFAST_SESSION_GONE there is no such session */
  update<Result>(publicId: string, change: (draft: SessionDraft<Data>) => Result): Promise<Result>
  /** Ends a session. False: there was none. @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT */
  destroy(publicId: string): Promise<boolean>
  /** The public id that belongs to an id, such as `session.id`; with the option `secret`, to the id without its signature. */
  publicIdOf(id: string): string
}

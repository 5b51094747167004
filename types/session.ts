import type { CookieAttributes } from './cookie.ts'
import type { Kept } from './kept.ts'

export type { CookieAttributes, CookieScope } from './cookie.ts'

/**
 * The data of your sessions. Declare it once, and `request.session` is typed everywhere:
 *
 * ```ts
 * declare module 'fastify-holdfast' {
 *   interface SessionData { user?: string }
 * }
 * ```
 */
export interface SessionData {}

/**
 * The data of the sessions of further registrations, by `sessionName`. Each entry types everything
 * that has the name:
 *
 * ```ts
 * declare module 'fastify-holdfast' {
 *   interface NamedSessions { admin: { operator?: string } }
 * }
 *
 * await app.register(sessionPlugin, { sessionName: 'admin' })
 * // request.admin, app.admins, and the config of a route: { admin: false }
 * ```
 */
export interface NamedSessions {}

/** How an id travels: in the header or in the cookie. */
export type Transport = 'header' | 'cookie'

/** The names that a session reserves for itself. Session data cannot use them as keys. */
export type ReservedName = keyof SessionMembers | 'constructor' | '__proto__' | 'cookie'

type Value<Data, Key> = Key extends keyof Data ? Kept<Data[Key]> : unknown
type Free<Key> = Key extends ReservedName ? never : Key

/**
 * Session data as plain properties, as it is read back. If a key is reserved, or has a type that
 * JSON does not keep, it gets a type that accepts no value, so that code that uses it does not
 * compile.
 */
export type SessionDraft<Data = SessionData> = {
  [Key in keyof Data]: Key extends ReservedName
    ? { 'this key is reserved by fastify-holdfast': Key }
    : Kept<Data[Key]>
}

/** The keys of the data. Where none is declared, any text. */
type KeyOf<Data> = [keyof Data] extends [never] ? string : Free<Extract<keyof Data, string>>

/** How a session goes on under a new id. */
export interface RegenerateOptions {
  /**
   * Whether it keeps its `createdAt`, from which the option `absoluteTimeout` counts, and its own
   * `maxAge`: for a step-up. Otherwise a session that steps up from time to time would never end.
   * Default: false.
   */
  keepLifetime?: boolean
}

/** How `signIn()` signs a subject in. */
export interface SignInOptions<Data = SessionData> {
  /**
   * Checks the credentials, and returns whether they are right. Once this check has begun, a call
   * of `destroyAll()` for the subject wins over the sign-in. So if you set a new password before
   * that call, nobody gets in with the old one. Leave it out if somebody else has just checked
   * them, such as an identity provider.
   */
  verify?: () => boolean | Promise<boolean>
  /** The keys of the data that go along, or `'all'`. Default: none. */
  keep?: 'all' | ReadonlyArray<KeyOf<Data>>
  /**
   * What `sessions.list()` shows of this session, such as the device. It is read back as JSON has
   * it, and may have 1024 bytes there.
   */
  info?: unknown
}

/**
 * The properties and methods that a session has besides your data. On a route that opted out, all
 * that would change or store the session fails with `HOLDFAST_SESSION_UNAVAILABLE`.
 */
export interface SessionMembers<Data = SessionData> {
  /**
   * The secret that identifies the session. A new session gets one when it is first needed; after
   * `destroy()` there is another.
   *
   * With the option `secret`, the client gets `id.signature`, and this is the part without the
   * signature. It stays the same when the secret is rotated, and is of no use on its own.
   */
  readonly id: string
  /**
   * What the session is called in lists and logs, and by `fastify.sessions`. If nobody is signed
   * in, it is a digest of the id, and also the key in the store. If somebody is, it is a name of
   * its own, which stays the same when the id changes. Safe to log, and to show in a list of
   * devices.
   */
  readonly publicId: string
  /**
   * Whether this request started the session: it brought no valid id, or it called `regenerate()`
   * or `destroy()`.
   */
  readonly isNew: boolean
  /** How the id of a loaded session arrived. Undefined for a session that this request started. */
  readonly transport: Transport | undefined
  /**
   * Whether the browser may have kept a session cookie back from this request, because the request
   * comes from another site, or its URL is outside `cookie.path`. Then a new session proves
   * nothing: the visitor may be signed in. What the app writes to it, or `regenerate()`, replaces
   * the cookie (outside `cookie.path`, only `regenerate()` does).
   *
   * The plugin finds this out from Sec-Fetch-Site, -Mode and -Dest (Fetch Metadata) and from the
   * cookie's `sameSite` and `path` (RFC 6265bis, 5.8.3); over plain http, from the Origin of a
   * request that is neither a GET nor a HEAD.
   */
  readonly cookieWithheld: boolean
  /** When the session was created, in epoch milliseconds. */
  readonly createdAt: number
  /** When the session ends unless it is used again, in epoch milliseconds. Each use moves it. */
  readonly expiresAt: number
  /**
   * The idle timeout of this session, in seconds: an integer from 1 to 34,560,000 (400 days). It is
   * kept with the session until `regenerate()`. If it was never set, or was set to undefined, it
   * reads as the option `maxAge`.
   *
   * Another value counts from this request, which is a use; a smaller one brings the end nearer.
   *
   * @throws HOLDFAST_VALUE_INVALID when set to anything else
   */
  get maxAge(): number
  set maxAge(seconds: number | undefined)

  /** Who is signed in, by `signIn()` or by the option `subject`. Undefined: nobody. */
  readonly subject: string | undefined
  /**
   * When the credentials were checked last, in epoch milliseconds: by `signIn()` or
   * `reauthenticate()`, or when the option `subject` first read who is signed in. Undefined where
   * nobody is.
   */
  readonly authenticatedAt: number | undefined

  /**
   * Aborts when the session ends: within this process before `destroy()` resolves, in others within
   * moments, and within three seconds if the store cannot tell. It does not abort when the session
   * moves to another id. Its `reason` is a `SessionError` that says how it ended. For what goes on
   * after the request: WebSockets, event streams, and what takes a `signal`.
   *
   * It works until the response is over or the connection closes. A session that has ended
   * already has a signal that is aborted; one that is new waits until it is stored.
   */
  readonly signal: AbortSignal

  /** Returns the value of a key, or undefined. Looks at the data only, never at a member. */
  get<Key extends string>(key: Key): Value<Data, Key> | undefined
  /**
   * Sets a key of the data; undefined removes it.
   * @throws HOLDFAST_KEY_RESERVED the key is a reserved name
   */
  set<Key extends string>(key: Free<Key>, value: Value<Data, Key> | undefined): void
  /**
   * Returns the data as a plain object without a prototype. The values are those of the session,
   * not copies: `structuredClone(session.data())` makes ordinary objects.
   */
  data(): Data
  /**
   * Sets attributes of this session's cookie; others keep their values. They are kept with the
   * session, for every reply from this one on, also through `regenerate()`. Unknown keys are
   * ignored.
   * @throws HOLDFAST_VALUE_INVALID an attribute is invalid, or browsers would refuse the cookie
   */
  options(attributes: CookieAttributes): void
  /**
   * Moves the expiry and sends the cookie at the end of this request, however recent the last
   * touch. Where Fastify sends no reply (WebSocket, `reply.hijack()`), moves the expiry at once, or
   * when the response closes; a failure is then logged.
   */
  touch(): void

  /**
   * Changes the data atomically. However many updates run at the same time, in however many
   * processes, each takes effect exactly once, one after another. Stores pending changes of this
   * request along with it. Updates that wait for each other in one process are stored together, so
   * that hundreds of them cost a few calls of the store; if one fails, only that one is left out. A
   * change that leaves a new session without data stores nothing, and begins no session.
   *
   * @param change modifies the draft, synchronously; may run more than once, each time on a new
   * draft. What `change` finds there may not be stored yet: rely on it only if `update()` resolves
   * @returns what `change` returned in the run that took effect
   * @throws HOLDFAST_SESSION_BUSY earlier writes to the session took too long; nothing was stored
   * @throws HOLDFAST_SESSION_GONE the session has ended in the meantime; nothing was stored
   * @throws HOLDFAST_ID_UNDELIVERABLE the session is new, and no reply can bring its id to the
   * client any more (see `save()`); nothing was stored
   * @throws HOLDFAST_VALUE_INVALID `change` is no function; nothing was stored
   * @throws HOLDFAST_UPDATE_ASYNC `change` returned a promise; nothing was stored
   * @throws HOLDFAST_KEY_RESERVED `change` set a reserved name; nothing was stored
   * @throws HOLDFAST_SUBJECT_CHANGED `change` made the option `subject` read another; nothing was
   * stored
   * @throws HOLDFAST_DATA_UNSERIALIZABLE, HOLDFAST_DATA_TOO_LARGE nothing was stored
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT, HOLDFAST_OUTCOME_UNKNOWN the change may
   * have taken effect
   */
  update<Result>(change: (draft: SessionDraft<Data>) => Result): Promise<Result>
  /**
   * Commits now: stores what changed, including a new session; moves the expiry if that is due or
   * `touch()` was called; and puts the header and the cookie on the reply. Call it before
   * `reply.hijack()`, and pass on `reply.getHeaders()`. If Fastify sends the reply after all, its
   * commit decides about the header and the cookie.
   *
   * On a WebSocket, and once the reply is on its way, it stores a session that was loaded, and
   * refuses a new one, whose id could not reach the client.
   *
   * @throws the errors of `update()`
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  save(): Promise<void>
  /**
   * Shows the data as it is stored now, with what this request has changed and not stored yet. For
   * connections that stay open: what they have read grows old.
   *
   * @throws HOLDFAST_SESSION_GONE the session has ended, or has moved to another id: a client with
   *   the old id must not read it any more
   * @throws HOLDFAST_DATA_UNDECODABLE, HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  reload(): Promise<void>
  /**
   * Continues the session under a new id (ASVS 7.2.4). Call it at login, where it drops the data
   * except for the keys in `keep`, and the lifetimes begin anew; and at every change of privilege:
   * `regenerate('all', { keepLifetime: true })`.
   *
   * The session moves when it is next stored: by the commit, or by `save()` or `update()` before
   * it. The successor is stored whole, then the old id ends. Until then nothing has happened, and
   * nothing is lost if the store fails. If another request ends the session meanwhile, the move
   * fails with HOLDFAST_SESSION_GONE, and the reply is a 409: a logout is not undone. If there is
   * nothing to store, the session ends, as by `destroy()`.
   *
   * @throws HOLDFAST_SESSION_GONE the session has ended, or another request has moved it and there
   * was data to keep
   * @throws HOLDFAST_ID_UNDELIVERABLE no reply can bring the new id to the client (on a WebSocket,
   * after `reply.hijack()`, after the reply)
   * @param keep the keys of the data that go along, or `'all'`. Default: none
   * @throws HOLDFAST_VALUE_INVALID `keep` is neither an array nor `'all'`, or an option is wrong
   * @throws HOLDFAST_DATA_UNSERIALIZABLE, HOLDFAST_DATA_TOO_LARGE
   * @throws HOLDFAST_DATA_UNDECODABLE the session cannot be read here, and was to be kept
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  regenerate(keep?: 'all' | ReadonlyArray<KeyOf<Data>>, options?: RegenerateOptions): Promise<void>
  /**
   * Signs a subject in, such as a user: the session goes on under a new id (ASVS 7.2.4), with
   * nothing but the keys in `keep`, and its lifetimes begin anew. From then on `sessions.list()`
   * has it and `sessions.destroyAll()` ends it. Where the same subject is signed in already, the
   * session keeps its `publicId`, and counts once.
   *
   * It is stored with the commit, or by `save()` or `update()` before it. If the sessions of the
   * subject were ended since `verify` began, that fails with `HOLDFAST_SIGN_IN_ENDED`; if there are
   * as many as `subjectSessions` allows, with `HOLDFAST_SESSIONS_FULL`. Both make the reply a 409,
   * and nothing has changed.
   *
   * @param subject a string of 1 to 255 characters
   * @returns whether `verify` returned true; otherwise nothing has changed
   * @throws what `verify` throws; nothing has changed
   * @throws HOLDFAST_VALUE_INVALID the subject, an option or `info` is wrong
   * @throws HOLDFAST_SUBJECTS_UNSUPPORTED the store has no `subjects`
   * @throws HOLDFAST_SIGN_IN_REPEATED another sign-in of this request is yet to be stored
   * @throws HOLDFAST_SESSION_GONE the session has ended, also by `destroy()` in this request
   * @throws HOLDFAST_ID_UNDELIVERABLE no reply can bring the new id to the client
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  signIn(subject: string, options?: SignInOptions<Data>): Promise<boolean>
  /**
   * Checks the credentials of the signed-in subject once more, such as before a payment (ASVS
   * 7.5.1). If they are right, `authenticatedAt` becomes the present time, and the session goes on
   * under a new id, with all that it has. If the sessions of the subject were ended since `verify`
   * began, even by a call that spared this one, the commit fails with `HOLDFAST_SIGN_IN_ENDED`, and
   * nothing has changed.
   *
   * @returns whether `verify` returned true; otherwise nothing has changed
   * @throws HOLDFAST_SESSION_NOT_FRESH nobody is signed in
   * @throws otherwise as `signIn()`
   */
  reauthenticate(verify: () => boolean | Promise<boolean>): Promise<boolean>
  /**
   * Ends the session, also where another request has moved it to a new id. Once the promise
   * resolves, neither id works, and no slow request can bring the session back. What is written
   * afterwards starts a new session.
   *
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT the id may still work
   * @throws HOLDFAST_CALLBACK_UNSUPPORTED it was given a callback
   */
  destroy(): Promise<void>
}

/** The type of `request.session`: your data as plain properties, and the members. */
export type Session<Data = SessionData> = SessionMembers<Data> & SessionDraft<Data>

import type { Clock } from './clock.ts'
import type { CarryOver } from './migrate.ts'
import type { CookieAttributes, CookieScope, NamedSessions, SessionData } from './session.ts'
import type { SessionStore } from './store.ts'

/** Converts session data to text and back. */
export interface Serializer {
  /**
   * Returns the data as text. Must be deterministic: for any text that it made,
   * `stringify(parse(text)) === text`.
   */
  stringify(data: Record<string, unknown>): string
  /** Returns the data of a text, as a new object each time. */
  parse(text: string): Record<string, unknown>
}

/** The data of the sessions of any registration: which one it is, is not known by the options. */
type AnyData = Intersection<AllSessions[keyof AllSessions]>

type AllSessions = NamedSessions & { session: SessionData }

type Intersection<Union> = (Union extends unknown ? (of: Union) => void : never) extends (
  of: infer All
) => void
  ? All
  : never

/**
 * The options of a registration. An invalid one throws `HOLDFAST_OPTION_INVALID`; the message names
 * the option and the values that it takes.
 */
export interface SessionOptions {
  /**
   * Name of the header that carries the id, in requests and replies; `false` for no header. Header
   * and cookie cannot both be `false`. Default: `'X-Session-ID'`, from the default `sessionName`;
   * with `sessionName: 'admin'` it is `'X-Admin-ID'`.
   */
  sessionHeader?: string | false
  /**
   * Name of the cookie that carries the id; `false` for no cookie. A name that begins with
   * `__Host-` or `__Secure-` requires the attributes that browsers demand for it (RFC 6265bis,
   * 4.1.3). Default: `'session_id'`, from the default `sessionName`; with `sessionName: 'admin'` it
   * is `'admin_id'`.
   */
  sessionCookie?: string | false
  /**
   * Idle timeout: the seconds without use after which a session ends, and the Max-Age of its
   * cookie. An integer from 1 to 34,560,000 (400 days, RFC 6265bis, 5.5), no more than
   * `absoluteTimeout`. A session's own `maxAge` takes precedence. Another value counts from the
   * next use of a session. Default: 3600.
   */
  maxAge?: number
  /**
   * Absolute timeout: the seconds after its creation at which a session ends, even if it is in use
   * (ASVS 7.3.2); `false` for never. Default: 2,592,000 (30 days).
   */
  absoluteTimeout?: number | false
  /**
   * The least number of seconds by which a touch must move the expiry to be worth a write; less
   * than `maxAge`. For a session with a `maxAge` of its own it is at most a tenth of that. `0`
   * touches the session, and sends the cookie, on every request. Default: 60, or a tenth of
   * `maxAge` if that is less.
   */
  touchAfter?: number
  /**
   * Other attributes of the cookie. Default: `{ path: '/', httpOnly: true, sameSite: 'lax', secure:
   * 'auto', persistent: true }`; attributes that you leave out keep these values.
   */
  cookie?: CookieAttributes
  /**
   * The `domain`, `path` and `partitioned` that the cookie had in former deployments. Browsers keep
   * that cookie beside the present one until it expires. Each reply that sends or clears the cookie
   * clears those too, and the ones without the present `domain` or `partitioned`. Default:
   * none.
   */
  formerCookies?: readonly CookieScope[]
  /**
   * Where sessions are stored. The plugin does not close a store that you pass. Default: a new
   * `MemoryStore`, which is closed with the app. With `NODE_ENV=production`, and in a worker of
   * `node:cluster`, that default logs a warning at registration; `store: new MemoryStore()` does
   * not.
   */
  store?: SessionStore
  /**
   * Signs the ids, so that forged ones are refused without asking the store. One secret, or several
   * with the newest first, of at least 32 bytes each. The client gets `id.signature`; the signature
   * adds 256 unguessable bits to those of the id (ASVS 7.2.3).
   *
   * Ids are signed with the first secret and accepted with any of them; a client whose id is signed
   * with an older one gets it again, signed with the first. Cannot be combined with
   * `adoptUnknownIds`. Default: none; ids are sent unsigned.
   */
  secret?: string | Uint8Array | ReadonlyArray<string | Uint8Array>
  /**
   * Returns a new id: 22 to 128 characters of `A-Z a-z 0-9 - _`, unguessable and unique. If it
   * throws or returns anything else, what needs the id fails with `HOLDFAST_ID_INVALID`. Default:
   * `crypto.randomUUID`.
   */
  generateId?: () => string
  /**
   * Whether a new session is stored, and its id sent, if nothing was written to it. A reply of 400
   * or more, a CORS preflight and a WebSocket handshake never start such a session. Default: true.
   */
  saveUninitialized?: boolean
  /**
   * Sends the id in the header and in the cookie every time, as if each request had used both, but
   * never over the cookie of another session. This touches the session on every request, and shows
   * the id of a cookie session to every script on the page. Default: false.
   */
  mirror?: boolean
  /**
   * Decides which unknown ids from the header (never from the cookie) a new session may take: those
   * for which the function returns `true`. An attacker who can make a client send a particular id
   * then knows the id of its session (session fixation). Cannot be combined with `secret`. Default:
   * false, none.
   */
  adoptUnknownIds?: false | ((id: string) => boolean)
  /**
   * Converts data to text and back; checked at registration. To encrypt the data, wrap the store
   * instead. Default: JSON.
   */
  serializer?: Serializer
  /**
   * Largest size of the serialised data, in bytes. A write of more is refused with
   * `HOLDFAST_DATA_TOO_LARGE`. Default: 65,536.
   */
  maxBytes?: number
  /**
   * Reads from the data who is signed in, for apps that set the user themselves, as those of
   * `@fastify/passport` do. If it returns another subject than before, the session goes on under a
   * new id, like one that `session.signIn()` has signed in; if it now returns undefined, the
   * session goes on as nobody's. It is read at the commit and at `save()`. So
   * `sessions.destroyAll()` ends the sessions that there are, and does not refuse a login whose
   * credentials were checked before it and that is stored after it. Sessions from before the option
   * was set are listed from their next login on. Where `signIn()` has signed in somebody else, the
   * commit fails with `HOLDFAST_SUBJECT_MISMATCH`; `update()` cannot change whom it reads. Default:
   * none; `signIn()` alone says who is signed in.
   */
  subject?: (data: AnyData) => string | undefined
  /**
   * How many sessions a subject may have at once, by `session.signIn()`, which is exact however
   * many sign in at the same moment (ASVS 7.1.2). When there are as many, a sign-in is refused with
   * `HOLDFAST_SESSIONS_FULL`, a 409; with `whenFull: 'end-oldest'` the oldest session ends.
   * Default: any number.
   */
  subjectSessions?: { max: number; whenFull?: 'refuse' | 'end-oldest' }
  /**
   * Seconds that a request waits for the store when its session is loaded, in each asynchronous
   * call on the session, and in its commit; at most 2,147,483. After that it fails with
   * `HOLDFAST_STORE_TIMEOUT`, a 503. Default: 2.
   */
  storeTimeout?: number
  /**
   * Takes over the sessions of the plugin that the app had before, so that the switch logs nobody
   * out: what `carryOver()` of `fastify-holdfast/migrate` returns. Needs a `sessionCookie`.
   * Default: none are.
   */
  carryOver?: CarryOver
  /**
   * Whether the error of a failed commit, most often a 503, replaces a reply that is an error
   * already: one of 400 or more. By default such a reply goes out as it is, without an id. What the
   * request changed in its session is then lost: the log has a line at level `error`, and the event
   * `committed` the outcome `lost`. Set the option where no such change may be lost, such as a
   * count of failed logins. Default: false.
   */
  replaceErrorReplies?: boolean
  /**
   * Name of the decorators: `request[sessionName]`, and with an s `fastify[sessionName + 's']`.
   * Also the key in a route's `config` that opts it out, and the base of the default names of
   * header and cookie. Registrations with different names can share a store. Default: `'session'`.
   */
  sessionName?: string
  /** Source of time, for tests. Default: the system clock, which follows fake timers. */
  clock?: Clock
}

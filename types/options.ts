import type { Clock } from './clock.ts'
import type { CookieAttributes } from './session.ts'
import type { SessionStore } from './store.ts'

/** Turns data into text and back. */
export interface Serializer {
  /** Must be deterministic: for a text that it made, `stringify(parse(text)) === text`. */
  stringify(data: Record<string, unknown>): string
  /** Gives a new object each time. */
  parse(text: string): Record<string, unknown>
}

/** The options of a registration. Wrong ones throw HOLDFAST_OPTION_INVALID, which names the option and the cure. */
export interface SessionOptions {
  /** Name of the header that carries the id, in requests and replies; false: none does. Default: `'X-Session-ID'`, from the default `sessionName`. */
  sessionHeader?: string | false
  /**
   * Name of the cookie that carries the id; false: none does. Default: `'session_id'`, from the default `sessionName`.
   * A name that begins with `__Host-` or `__Secure-` asks for the attributes that browsers demand of it (RFC 6265bis, 4.1.3).
   */
  sessionCookie?: string | false
  /**
   * Seconds of disuse after which a session ends, and the Max-Age of its cookie; an integer from 1 to 34,560,000 (400 days,
   * RFC 6265bis, 5.5). A session's own `maxAge` goes before it. Default: 3600.
   */
  maxAge?: number
  /** Seconds after which a session ends regardless of use (ASVS 7.3.2); false: never. Default: 2,592,000 (30 days). */
  absoluteTimeout?: number | false
  /**
   * Seconds by which a touch must move the expiry to be worth a write; less than `maxAge`.
   * 0: touches, and sends the cookie, on every request. Default: 60, or a tenth of `maxAge` if that is less.
   */
  touchAfter?: number
  /** The cookie's other attributes. Default: `{ path: '/', httpOnly: true, sameSite: 'lax', secure: 'auto', persistent: true }`. */
  cookie?: CookieAttributes
  /** Where records are kept. Closed by whoever made it. Default: a new MemoryStore, closed with the app. */
  store?: SessionStore
  /**
   * Signs the ids, so that forged ones are refused without asking the store: one secret or several, newest first, of at least
   * 32 bytes each. Ids are signed with the first and accepted under any; an id under an old one goes out again under the first.
   * The value that travels is `id.signature`, with 256 bits that nobody can guess beside the id's own (ASVS 7.2.3).
   * Not together with `adoptUnknownIds`. Default: none, ids travel as they are.
   */
  secret?: string | Uint8Array | ReadonlyArray<string | Uint8Array>
  /** Makes an id: 22 to 128 characters of `A-Z a-z 0-9 - _`, unguessable and unique. Default: `crypto.randomUUID`. */
  generateId?: () => string
  /** Whether a new session that nothing was written to is stored and its id sent. A 404, a CORS preflight and a WebSocket handshake never begin one. Default: true. */
  saveUninitialized?: boolean
  /**
   * Answers on both transports every time, as if each request spoke both, but never over another session's cookie;
   * this touches on every request.
   * It shows the id of a cookie session to every script on the page. Default: false.
   */
  mirror?: boolean
  /**
   * Which unknown ids from the header (never the cookie) a new session may take: those for which it answers true.
   * Whoever can make a client send an id of his choice then knows the session's id (session fixation). Default: false, none.
   */
  adoptUnknownIds?: false | ((id: string) => boolean)
  /** Turns data into text and back; checked at registration. To encrypt, wrap the store. Default: JSON. */
  serializer?: Serializer
  /** Bytes of serialised data over which a write is refused with HOLDFAST_DATA_TOO_LARGE. Default: 65,536. */
  maxBytes?: number
  /** Seconds that a request may wait for the store in resolving, in each asynchronous call on its session, and in committing; then it is a 503. Default: 2. */
  storeTimeout?: number
  /**
   * The decorator: `request[sessionName]`, and with an s `fastify[sessionName + 's']`; also the key by which a route opts out,
   * and what the default names of header and cookie are made of. Two registrations that share a store are kept apart by it. Default: `'session'`.
   */
  sessionName?: string
  /** Where time comes from; for tests. Default: the system's. */
  clock?: Clock
}

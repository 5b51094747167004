import type { FastifyBaseLogger, FastifyReply } from 'fastify'

import type { SerializeCookie } from './cookie-attributes.ts'
import { cookiesOf, isClearing, unquoted } from './cookie-lines.ts'
import type { HeaderFields } from './headers.ts'
import type { CookieAttributes } from '../../types/session.ts'

/** What a cookie is set to. */
export interface CookieValue {
  /** Empty: the cookie is cleared. */
  readonly value: string
  /** Seconds. */
  readonly maxAge: number
  readonly attributes: CookieAttributes
  /** The attributes under which browsers may hold others of the name, which are cleared. */
  readonly others: readonly CookieAttributes[]
}

/** The session cookie: finds it in a request, and sets it on a reply. */
export class SessionCookie {
  readonly #name: string
  readonly #serialize: SerializeCookie
  readonly #pair: RegExp
  readonly #inProduction = process.env['NODE_ENV'] === 'production'
  readonly #warned = new Set<string>()
  /** The attributes as last serialised: from reply to reply they seldom differ. */
  #serialized: { attributes: CookieAttributes; isSecure: boolean; text: string } | undefined

  constructor(name: string, serialize: SerializeCookie) {
    const escaped = name.replace(/[$*+.^|]/g, '\\$&')
    this.#name = name
    this.#serialize = serialize
    this.#pair = new RegExp(`(?:^|;)[ \\t]*${escaped}[ \\t]*=[ \\t]*([^;]*[^; \\t])?`, 'g')
  }

  /**
   * Finds the values of the cookie in the Cookie header. There may be several: browsers send every
   * cookie of the name that fits the host and the path (RFC 6265bis, 4.2.2).
   */
  find(cookies: string | undefined): string | readonly string[] | undefined {
    if (cookies === undefined || !cookies.includes(this.#name)) return undefined
    this.#pair.lastIndex = 0
    const first = this.#pair.exec(cookies)
    if (first === null) return undefined
    const value = unquoted(first[1])
    let next = this.#pair.exec(cookies)
    if (next === null) return value
    const values = new Set([value])
    for (; next !== null; next = this.#pair.exec(cookies)) values.add(unquoted(next[1]))
    return values.size === 1 ? value : [...values]
  }

  /** The Cookie header of a request that brings a value. */
  header(value: string): string {
    return `${this.#name}=${value}`
  }

  /**
   * Sets the cookie, and leaves the app's others.
   *
   * @returns its lines; undefined if it is Secure and the request came over http
   */
  set(reply: FastifyReply, cookie: CookieValue): readonly string[] | undefined {
    const { attributes } = cookie
    const isHttps = reply.request.protocol === 'https'
    const isSecure = attributes.secure === 'auto' ? isHttps : attributes.secure === true
    if (isSecure && !isHttps) {
      this.#warnOnce(
        reply.log,
        'The session cookie was not sent: it is secure, and the request came over http. ' +
          `${trustProxy} Without TLS, as on localhost, set cookie.secure to 'auto', which goes ` +
          "without __Host- and __Secure-, sameSite 'none' and partitioned."
      )
      return undefined
    }
    if (!isSecure && this.#inProduction) {
      const cure = isHttps ? "Set cookie.secure to true or 'auto'." : trustProxy
      this.#warnOnce(
        reply.log,
        `In production, the session cookie went out without Secure. ${cure}`
      )
    }
    const line = this.#lineOf(cookie, isSecure)
    // The last line is the one that counts, if a browser takes two for the same cookie.
    const clearings = cookie.others
      // Of a partitioned one browsers hear over https alone.
      .filter(({ partitioned }) => isSecure || partitioned !== true)
      .map((other) => this.#clearing(other, isSecure))
    const lines = [...clearings, line]
    const others = this.#othersOf(reply, [])
    // Fastify appends to the cookies that are there. To ask first is faster: mostly there are none.
    if (reply.hasHeader('set-cookie')) reply.removeHeader('set-cookie')
    reply.header('set-cookie', others.length + lines.length === 1 ? line : [...others, ...lines])
    return lines
  }

  /** Takes lines of the cookie off a reply: these, or all. Leaves the app's other cookies. */
  remove(reply: FastifyReply, lines?: readonly string[]): void {
    if (!reply.hasHeader('set-cookie')) return
    const others = cookiesOf(reply).filter((line) =>
      lines === undefined ? !this.#isOwn(line) : !lines.includes(line)
    )
    reply.removeHeader('set-cookie')
    if (others.length > 0) reply.header('set-cookie', others)
  }

  /** Whether a reply sets the cookie. */
  isOn(fields: HeaderFields): boolean {
    return cookiesOf(fields).some((line) => this.#isOwn(line) && !isClearing(line))
  }

  /** Leaves these lines of the cookie on a reply where hooks have set more, and as the last. */
  keepOnly(lines: readonly string[], fields: HeaderFields): void {
    if (lines.length === 1 && fields.getHeader('set-cookie') === lines[0]) return
    const present = cookiesOf(fields)
    const own = present.filter((line) => this.#isOwn(line))
    // Where a hook has taken ours off, its will is done.
    if (!own.some((line) => !isClearing(line) || lines.includes(line))) return
    if (own.length === lines.length && lines.every((line, index) => line === own[index])) return
    fields.header('set-cookie', [...this.#othersOf(fields, lines), ...lines])
  }

  /** Warns of something once, however often it happens. */
  #warnOnce(log: FastifyBaseLogger, message: string): void {
    if (this.#warned.has(message)) return
    this.#warned.add(message)
    log.warn(message)
  }

  /** Warns, once, that what a request wrote could not be stored for its path. */
  warnOfPath(log: FastifyBaseLogger): void {
    this.#warnOnce(
      log,
      'What a request wrote to a new session was not stored: its URL is outside cookie.path, so ' +
        'the browser may hold a session that it did not send. Write to the session at a URL ' +
        'within cookie.path, or log in by regenerate(). A proxy must not take the path off.'
    )
  }

  /** Warns, once, of cookies of the name that have different values. */
  warnOfSeveral(log: FastifyBaseLogger): void {
    this.#warnOnce(
      log,
      `A request brought ${this.#name} cookies of different values. The one whose session is live ` +
        'counts, and none if there are two. Most likely cookie.domain, cookie.path or ' +
        'cookie.partitioned was changed: list their former values in formerCookies. Or another ' +
        'application sets the cookie for this host: give sessionCookie a name of its own, at ' +
        'best with __Host-.'
    )
  }

  /**
   * The cookies of a reply that are not the session's: those of other names, and those by which the
   * app clears one of this name at another scope. They go before ours, so that ours holds.
   *
   * @param lines what the plugin has set itself
   */
  #othersOf(fields: HeaderFields, lines: readonly string[]): string[] {
    return cookiesOf(fields).filter(
      (line) => !this.#isOwn(line) || (isClearing(line) && !lines.includes(line))
    )
  }

  #isOwn(line: string): boolean {
    return line.startsWith(`${this.#name}=`)
  }

  #lineOf({ value, maxAge, attributes }: CookieValue, isSecure: boolean): string {
    if (value === '') return this.#clearing(attributes, isSecure)
    const lifetime = attributes.persistent === true ? `; Max-Age=${maxAge}` : ''
    return `${this.header(value)}${lifetime}${this.#textOf(attributes, isSecure)}`
  }

  #clearing(attributes: CookieAttributes, isSecure: boolean): string {
    const expired = '; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT'
    return `${this.header('')}${expired}${this.#textOf(attributes, isSecure)}`
  }

  /** The attributes but for the lifetime, as the header has them. */
  #textOf(attributes: CookieAttributes, isSecure: boolean): string {
    if (this.#serialized?.attributes !== attributes || this.#serialized.isSecure !== isSecure) {
      const line = this.#serialize(this.#name, '', { ...attributes, secure: isSecure })
      this.#serialized = { attributes, isSecure, text: line.slice(this.header('').length) }
    }
    return this.#serialized.text
  }
}

// Fastify trusts no proxy by a number of hops: a direct client could have sent the header itself.
const trustProxy =
  "Behind a TLS proxy set the Fastify option trustProxy to the proxy's address, or to true; a " +
  'number of hops will not do.'

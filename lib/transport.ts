import { fastifyCookie } from '@fastify/cookie'
import type { FastifyBaseLogger, FastifyReply } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import { beforeHead, keepPrivate, vary, type Fields } from './caches.ts'
import { rejected } from './diagnostics.ts'
import { optionError } from './errors.ts'
import { isWellFormed, type Signer } from './identifier.ts'
import { secondsUntil } from './lifetime.ts'
import type { Deed, SessionEvents } from '../types/events.ts'
import type { CookieAttributes, Transport } from '../types/session.ts'

/** What the transports need to know of the configuration. */
export interface TransportConfig {
  readonly sessionName: string
  readonly sessionHeader: string | false
  readonly sessionCookie: string | false
  readonly mirror: boolean
  readonly signer: Signer | undefined
}

/** What a request carried. */
export interface Carried {
  /** The one id to resolve, of the right form and rightly signed; undefined where there is none. */
  readonly id: string | undefined
  /** As it travelled, if it may travel on: with its signature, if there is a secret. */
  readonly wire: string | undefined
  /** It came signed under an old secret. */
  readonly renew: boolean
  /** Which transport decided, also where what it carried is no id. */
  readonly transport: Transport | undefined
  /** The id that the cookie names, whether it decided or not; anything else where it names none. Two cookies of the name are as good as a malformed one. */
  readonly cookie: string | undefined
  /**
   * Sent by a browser, which no script in it can deny: Sec-Fetch-Site is a forbidden request header (Fetch, 2.2.2). Browsers send it
   * with every request that bears Sec-Fetch-Mode (Fetch Metadata, 2), and Node's fetch, which bears that too, does not.
   * Over http, but for localhost, no browser sends either: an app for browsers there turns the header off.
   */
  readonly browser: boolean
}

/** Whether a request asks for a WebSocket (RFC 6455, 4.1): it is answered past Fastify, unless it is refused. */
export function isHandshake(headers: IncomingHttpHeaders): boolean {
  return headers.upgrade !== undefined && /^websocket$/i.test(headers.upgrade)
}

/** What the commit came to, and what the reply is to say of it. */
export type Outcome =
  | { readonly did: Deed, readonly tell: 'nothing' | 'clear' }
  /** `confirmed`: the store said in this commit that the id is live until `expiresAt`; otherwise it is the id that the request carried. */
  | { readonly did: Deed, readonly tell: 'id', readonly id: string, readonly confirmed: boolean, readonly expiresAt: number }

/** What a reply has to say in the end, whatever is done to it meanwhile. */
interface LastWord {
  /** The id in the header, and the line of the cookie; undefined where it has none. */
  readonly header: string | undefined
  readonly cookie: string | undefined
}

function bearsId({ header, cookie }: LastWord): boolean {
  return header !== undefined || cookie !== undefined
}

/** Carries ids: finds what a request brought, and puts on the reply what the commit came to. */
export class Transports {
  readonly #config: TransportConfig
  readonly #headerKey: string | undefined
  readonly #cookiePairs: RegExp | undefined
  /** Those that decide which session a request gets. */
  readonly #requestHeaders: readonly string[]
  readonly #inProduction: boolean
  readonly #warned: Set<string>
  /** Where a reply has its last word. */
  readonly #lastWord = Symbol('fastify-holdfast last word')
  #serialized: { readonly attributes: CookieAttributes, readonly secure: boolean, readonly text: string } | undefined

  constructor(config: TransportConfig) {
    this.#config = config
    this.#inProduction = process.env['NODE_ENV'] === 'production'
    this.#warned = new Set()
    this.#requestHeaders = [config.sessionCookie === false ? [] : 'Cookie', config.sessionHeader === false ? [] : config.sessionHeader].flat()
    if (config.sessionHeader !== false) this.#headerKey = config.sessionHeader.toLowerCase()
    if (config.sessionCookie !== false) {
      this.#cookiePairs = new RegExp(`(?:^|;)[ \\t]*${config.sessionCookie.replace(/[$*+.^|]/g, '\\$&')}[ \\t]*=[ \\t]*([^;]*[^; \\t])?`, 'g')
    }
  }

  /** The header, if present, decides, well-formed or not. Two header lines reach us joined by a comma, which no id has. */
  read(headers: IncomingHttpHeaders, log: FastifyBaseLogger): Carried {
    const header = this.#headerKey === undefined ? undefined : headers[this.#headerKey] as string | undefined
    const cookie = this.#readCookie(headers.cookie, log)
    const candidate = header ?? cookie
    const transport = header !== undefined ? 'header' : cookie !== undefined ? 'cookie' : undefined
    const browser = headers['sec-fetch-site'] !== undefined
    const { signer } = this.#config
    if (signer === undefined || candidate === undefined) {
      const id = candidate !== undefined && isWellFormed(candidate) ? candidate : undefined
      if (id === undefined && transport !== undefined) this.#reject(candidate as string, transport)
      return { id, wire: id, renew: false, transport, cookie, browser }
    }
    const decided = signer.unsign(candidate)
    if (decided === undefined && transport !== undefined) this.#reject(candidate, transport)
    const beside = cookie === undefined || cookie === candidate ? decided : signer.unsign(cookie)
    const renew = decided?.renew === true || (beside?.renew === true && beside.id === decided?.id)
    return {
      id: decided?.id,
      wire: decided?.renew === true ? undefined : candidate,
      renew,
      transport,
      cookie: cookie === undefined ? undefined : beside?.id ?? '',
      browser
    }
  }

  /** Tells who listens why what a request carried is no id. */
  #reject(candidate: string, transport: Transport): void {
    // A client asks for a session by `new`; of two cookies it is told when they are read.
    if (!rejected.hasSubscribers || candidate === 'new' || candidate === duplicate) return
    const unsigned = this.#config.signer !== undefined && isWellFormed(candidate.split('.', 1)[0])
    this.#tellRejected(unsigned ? 'signature' : 'malformed', transport)
  }

  #tellRejected(reason: SessionEvents['rejected']['reason'], transport: Transport): void {
    rejected.publish({ sessionName: this.#config.sessionName, transport, reason, session: undefined })
  }

  /** What goes over the wire for an id. */
  #wireOf(id: string, carried: Carried): string {
    const { signer } = this.#config
    if (signer === undefined) return id
    return id === carried.id && carried.wire !== undefined ? carried.wire : signer.sign(id)
  }

  #readCookie(cookies: string | undefined, log: FastifyBaseLogger): string | undefined {
    const name = this.#config.sessionCookie
    if (this.#cookiePairs === undefined || cookies === undefined || !cookies.includes(name as string)) return undefined
    this.#cookiePairs.lastIndex = 0
    const pair = this.#cookiePairs.exec(cookies)
    // Of two cookies, a sibling host or another path may have set one: neither is believed (RFC 6265bis, 4.2.2).
    if (pair !== null && this.#cookiePairs.test(cookies)) {
      this.#warnOnce(log, `A request brought more than one ${name} cookie, and none was used. ` +
        'Another application may set it for this host or path: give sessionCookie a name of its own, at best with __Host-.')
      if (rejected.hasSubscribers) this.#tellRejected('duplicate', 'cookie')
      return duplicate
    }
    return pair === null ? undefined : pair[1] ?? ''
  }

  /** The headers of a request that carries an id, as `read` finds it. */
  carry(id: string, transport: Transport = this.#config.sessionCookie === false ? 'header' : 'cookie'): Record<string, string> {
    const { sessionHeader, sessionCookie } = this.#config
    const name = transport === 'header' ? sessionHeader : sessionCookie
    if (name === false) throw optionError('transport', `one that the registration has, and it has no ${transport}`)
    const wire = this.#config.signer?.sign(id) ?? id
    return transport === 'header' ? { [name.toLowerCase()]: wire } : { cookie: `${name}=${wire}` }
  }

  /** Puts the outcome on the reply. */
  write(reply: FastifyReply, carried: Carried, outcome: Outcome, attributes: CookieAttributes, accessed: boolean, now: number): void {
    const { sessionHeader, sessionCookie } = this.#config
    let header: string | undefined
    let cookie: string | undefined
    if (outcome.tell === 'id') {
      const inHeader = sessionHeader !== false && this.#answersInHeader(carried)
      const inCookie = sessionCookie !== false && outcome.confirmed && answersInCookie(carried)
      const wire = inHeader || inCookie ? this.#wireOf(outcome.id, carried) : ''
      if (inHeader) {
        reply.header(sessionHeader, wire)
        header = wire
      }
      if (inCookie) cookie = this.#setCookie(reply, sessionCookie, wire, attributes, secondsUntil(outcome.expiresAt, now))
    } else if (outcome.tell === 'clear' && sessionCookie !== false) {
      cookie = this.#setCookie(reply, sessionCookie, '', attributes, 0)
    }
    if (header !== undefined || cookie !== undefined || accessed) this.#guard(reply, { header, cookie })
  }

  /** Takes off what `write` has put on the reply, but for what it says to caches. */
  retract(reply: FastifyReply): void {
    const { sessionHeader, sessionCookie } = this.#config
    const guarded = reply as FastifyReply & { [key: symbol]: LastWord | undefined }
    if (guarded[this.#lastWord] !== undefined) guarded[this.#lastWord] = { header: undefined, cookie: undefined }
    if (sessionHeader !== false) reply.removeHeader(sessionHeader)
    if (sessionCookie !== false && reply.hasHeader('set-cookie')) {
      const others = otherCookies(reply, sessionCookie)
      reply.removeHeader('set-cookie')
      if (others.length > 0) reply.header('set-cookie', others)
    }
  }

  /** Calls back if what `write` has put on the reply is on it when its head is written. */
  whenSent(reply: FastifyReply, callback: () => void): void {
    const { sessionHeader, sessionCookie } = this.#config
    beforeHead(reply, (fields) => {
      const inHeader = sessionHeader !== false && fields.getHeader(sessionHeader.toLowerCase()) !== undefined
      if (inHeader || cookiesOf(fields).some((cookie) => cookie.startsWith(`${sessionCookie}=`))) callback()
    })
  }

  /** Tells caches that the reply depends on the session. */
  vary(reply: FastifyReply): void {
    vary(reply, this.#requestHeaders)
  }

  /** Says now what caches must know, for the hooks of others to see, and has the last word on it and on our own fields. */
  #guard(reply: FastifyReply, lastWord: LastWord): void {
    if (bearsId(lastWord)) keepPrivate(reply)
    vary(reply, this.#requestHeaders)
    const guarded = reply as FastifyReply & { [key: symbol]: LastWord | undefined }
    const isFirst = guarded[this.#lastWord] === undefined
    // Of what was written first, by save(), nothing counts any more.
    guarded[this.#lastWord] = lastWord
    if (isFirst) beforeHead(reply, (fields) => { this.#mend(fields, guarded[this.#lastWord] as LastWord) })
  }

  /** A web Response brings fields of its own, which Fastify lays over ours, and so may a hook. */
  #mend(fields: Fields, lastWord: LastWord): void {
    const { header, cookie } = lastWord
    if (header !== undefined) {
      const present = fields.getHeader(this.#headerKey as string)
      if (present !== undefined && present !== header) fields.header(this.#headerKey as string, header)
    }
    if (cookie !== undefined && fields.getHeader('set-cookie') !== cookie) {
      const others = otherCookies(fields, this.#config.sessionCookie as string)
      if (cookiesOf(fields).length > others.length + 1) fields.header('set-cookie', [...others, cookie])
    }
    if (bearsId(lastWord)) keepPrivate(fields)
    vary(fields, this.#requestHeaders)
  }

  /** An id in a readable header would hand an HttpOnly session to every script on the page: only who speaks the header gets it there. */
  #answersInHeader(carried: Carried): boolean {
    if (this.#config.mirror || this.#config.sessionCookie === false) return true
    return carried.transport === 'header' || (carried.transport === undefined && !carried.browser)
  }

  /** Sets our one cookie, and leaves the app's others. Answers its line; undefined: it could not be set. */
  #setCookie(reply: FastifyReply, name: string, value: string, attributes: CookieAttributes, maxAge: number): string | undefined {
    const { secure, persistent } = attributes
    const https = reply.request.protocol === 'https'
    const isSecure = secure === 'auto' ? https : secure === true
    if (isSecure && !https) {
      this.#warnOnce(reply.log, `The session cookie was not sent: it is secure, and the request came over http. ${trustProxy} ` +
        'Without TLS, as on localhost, set cookie.secure to \'auto\', which goes without __Host- and __Secure-, sameSite \'none\' and partitioned.')
      return undefined
    }
    if (!isSecure && this.#inProduction) {
      this.#warnOnce(reply.log, `In production, the session cookie went out without Secure. ${https ? 'Set cookie.secure to true or \'auto\'.' : trustProxy}`)
    }
    const lifetime = value === '' ? '; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT' : persistent === true ? `; Max-Age=${maxAge}` : ''
    const cookie = `${name}=${value}${lifetime}${this.#textOf(name, attributes, isSecure)}`
    if (!reply.hasHeader('set-cookie')) {
      reply.header('set-cookie', cookie)
    } else {
      const others = otherCookies(reply, name)
      reply.removeHeader('set-cookie')
      reply.header('set-cookie', [...others, cookie])
    }
    return cookie
  }

  /** The attributes but for the lifetime, as the header has them. Serialised once: from one reply to the next they are seldom others. */
  #textOf(name: string, attributes: CookieAttributes, secure: boolean): string {
    if (this.#serialized?.attributes !== attributes || this.#serialized.secure !== secure) {
      const text = fastifyCookie.serialize(name, '', { ...attributes, secure }).slice(`${name}=`.length)
      this.#serialized = { attributes, secure, text }
    }
    return this.#serialized.text
  }

  #warnOnce(log: FastifyBaseLogger, message: string): void {
    if (this.#warned.has(message)) return
    this.#warned.add(message)
    log.warn(message)
  }
}

/** Stands for the value of two cookies of our name; no cookie's value can have it. */
const duplicate = ';'

// Fastify trusts nobody by a number of hops: whoever asks directly could have sent the header.
const trustProxy = 'Behind a TLS proxy set the Fastify option trustProxy to the proxy\'s address, or to true; a number of hops will not do.'

/** The cookies that a reply sets. */
function cookiesOf(fields: Pick<Fields, 'getHeader'>): string[] {
  const cookies = fields.getHeader('set-cookie') as string | string[] | undefined
  if (cookies === undefined) return []
  return Array.isArray(cookies) ? cookies : [cookies]
}

/** Those of another name. */
function otherCookies(fields: Pick<Fields, 'getHeader'>, name: string): string[] {
  return cookiesOf(fields).filter((cookie) => !cookie.startsWith(`${name}=`))
}

/** A request that named its session in the header may carry the cookie of another session, which is left alone. */
function answersInCookie(carried: Carried): boolean {
  return carried.transport !== 'header' || carried.cookie === undefined || carried.cookie === carried.id
}

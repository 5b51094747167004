import type { FastifyReply } from 'fastify'
import { createHmac, timingSafeEqual } from 'node:crypto'

import { optionError, SessionError } from '../errors.ts'
import type { SerializeCookie } from '../http/cookie-attributes.ts'
import { cookiesOf } from '../http/cookie-lines.ts'
import { SessionCookie } from '../http/cookie.ts'
import type { CarryOverOptions } from '../../types/migrate.ts'

/** What a former cookie brings, rightly signed. */
export interface FormerId {
  /** The id under which the former store has the session. */
  readonly sid: string
  /** What nobody knows who has not seen a cookie of this id: its signature, which no store has. */
  readonly key: string
  /**
   * Whether the plugin goes by the expiry that its sessions have, as @fastify/session does.
   * express-session leaves that to its store, which has a later one after a touch.
   */
  readonly hasExpiry: boolean
}

/** The most characters of a cookie that browsers keep (RFC 6265bis, 5.6). */
const maxLength = 4096

/** The most sessions of one request that a store is asked for, unless they are to end. */
export const mostAsked = 4

/** What express-session puts before a value that is signed. */
const mark = 's:'

const none: readonly FormerId[] = Object.freeze([])

/** The session cookie of the former plugin: finds it in a request, and clears it on a reply. */
export class FormerCookie {
  readonly #options: CarryOverOptions
  readonly #serialize: SerializeCookie
  readonly #cookie: SessionCookie

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: CarryOverOptions, serialize: SerializeCookie) {
    this.#options = options
    this.#serialize = serialize
    this.#cookie = new SessionCookie(options.cookie, serialize)
    try {
      this.#line(true)
    } catch {
      throw optionError('carryOver.scope', 'what a cookie can have as its domain and path')
    }
  }

  /** Returns what the cookies bring that are rightly signed, each id once. */
  read(cookies: string | undefined): readonly FormerId[] {
    const found = this.#cookie.find(cookies)
    if (found === undefined) return none
    const former = new Map<string, FormerId>()
    for (const value of typeof found === 'string' ? [found] : found) {
      const token = value.length > maxLength ? undefined : decode(value)
      const id = token === undefined ? undefined : this.#unsign(token)
      if (id !== undefined && !former.has(id.sid)) former.set(id.sid, id)
    }
    return [...former.values()]
  }

  /** Has a reply clear it. */
  clear(reply: FastifyReply): void {
    const line = this.#line(reply.request.protocol === 'https')
    if (!cookiesOf(reply).includes(line)) reply.header('set-cookie', line)
  }

  #line(isSecure: boolean): string {
    const { cookie, scope } = this.#options
    return this.#serialize(cookie, '', {
      path: '/',
      ...scope,
      expires: new Date(0),
      maxAge: 0,
      httpOnly: true,
      sameSite: 'lax',
      // Browsers take neither a prefix nor partitioning without it.
      secure: isSecure || scope?.partitioned === true || /^__(?:Host|Secure)-/.test(cookie)
    })
  }

  #unsign(token: string): FormerId | undefined {
    const { unsign, secret = [] } = this.#options
    if (unsign === undefined) return unsigned(token, secret)
    const sid: unknown = unsign(token)
    if (sid === undefined) return undefined
    if (typeof sid === 'string' && sid !== '' && !/\p{Surrogate}/u.test(sid)) {
      return { sid, key: token, hasExpiry: false }
    }
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: 'unsign of carryOver() returns a session id or undefined'
    })
  }
}

/** express-session and @fastify/cookie percent-encode the value. */
function decode(value: string): string | undefined {
  try {
    return decodeURIComponent(value)
  } catch {
    return undefined
  }
}

/** Returns the id of a value that is signed with one of the secrets. Undefined: it is not. */
function unsigned(
  token: string,
  secret: NonNullable<CarryOverOptions['secret']>
): FormerId | undefined {
  const isMarked = token.startsWith(mark)
  const value = isMarked ? token.slice(mark.length) : token
  const dot = value.lastIndexOf('.')
  if (dot < 1) return undefined
  const sid = value.slice(0, dot)
  const given = Buffer.from(value.slice(dot + 1))
  const secrets = typeof secret === 'string' || secret instanceof Uint8Array ? [secret] : secret
  const signatures = secrets.map((each) => signatureOf(sid, each))
  const isRight = signatures.some((signature) => {
    // Compared as text, for several texts decode to the same bytes.
    const expected = Buffer.from(signature)
    return given.length === expected.length && timingSafeEqual(given, expected)
  })
  // The oldest secret: the same for all cookies of an id, whichever secret has signed them.
  return isRight ? { sid, key: signatures.at(-1) as string, hasExpiry: !isMarked } : undefined
}

function signatureOf(sid: string, secret: string | Uint8Array): string {
  return createHmac('sha256', secret).update(sid).digest('base64').replaceAll('=', '')
}

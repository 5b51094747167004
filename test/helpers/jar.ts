import type { FastifyInstance, LightMyRequestResponse as Reply } from 'fastify'

import type { Clock } from '../../lib/testing/index.ts'
import { setCookies } from './serve.ts'

/** A cookie as a browser keeps it (RFC 6265bis, 5.7; CHIPS). */
export interface Cookie {
  readonly name: string
  readonly value: string
  readonly domain: string
  readonly isHostOnly: boolean
  readonly path: string
  readonly isSecure: boolean
  readonly isHttpOnly: boolean
  readonly sameSite: 'strict' | 'lax' | 'none'
  /** The site of the tab that it belongs to. Undefined: it is not partitioned. */
  readonly partition: string | undefined
  /** An instant. Undefined: it goes when the browser is closed. */
  readonly expiresAt: number | undefined
  /** Its place among all cookies that the jar ever got. */
  readonly order: number
}

/** What makes a browser send a request. The default is a URL that is typed. */
export interface Context {
  readonly method?: 'GET' | 'HEAD' | 'POST'
  /** The URL of the page that makes it. Undefined: it was typed. */
  readonly from?: string
  /** What the reply is to become; `empty` is a fetch of a script. */
  readonly destination?: 'document' | 'iframe' | 'image' | 'empty'
  readonly mode?: 'navigate' | 'no-cors' | 'cors'
  /** Whether the reply never reaches the browser. */
  readonly isLost?: boolean
}

/** A browser's cookie jar. It sends requests to an app that trusts its proxy. */
export class Jar {
  readonly #clock: Pick<Clock, 'now'>
  #cookies: readonly Cookie[] = []
  #count = 0
  /** Who answers: another app, once that is deployed. */
  app: FastifyInstance

  constructor(app: FastifyInstance, clock: Pick<Clock, 'now'>) {
    this.app = app
    this.#clock = clock
  }

  /** The cookies that have not expired. */
  get cookies(): readonly Cookie[] {
    const now = this.#clock.now()
    this.#cookies = this.#cookies.filter(({ expiresAt = Infinity }) => expiresAt > now)
    return this.#cookies
  }

  /** Closes the browser, and opens it again. */
  close(): void {
    this.#cookies = this.#cookies.filter(({ expiresAt }) => expiresAt !== undefined)
  }

  /** Sends what a browser sends, and keeps what it keeps of the reply. */
  async visit(url: string, context: Context = {}): Promise<Reply> {
    const target = new URL(url)
    const cookie = this.cookieHeader(url, context)
    const headers = { ...headersOf(target, context), ...(cookie !== '' && { cookie }) }
    const { method = 'GET', isLost = false } = context
    const reply = await this.app.inject({ method, url: target.pathname + target.search, headers })
    for (const line of isLost ? [] : setCookies(reply)) this.set(line, url, context)
    return reply
  }

  /** The Cookie header of a request (RFC 6265bis, 5.8.3). */
  cookieHeader(url: string, context: Context = {}): string {
    const target = new URL(url)
    const isLaxAllowed = isTopLevel(context) && context.method !== 'POST'
    const isForeign = isCrossSite(target, context)
    return this.cookies
      .filter(
        (cookie) =>
          isSentTo(cookie, target) &&
          [undefined, partitionOf(target, context)].includes(cookie.partition) &&
          (!isForeign || cookie.sameSite === 'none' || (cookie.sameSite === 'lax' && isLaxAllowed))
      )
      .toSorted((one, other) => other.path.length - one.path.length || one.order - other.order)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
  }

  /** Takes a line of Set-Cookie, unless browsers ignore it (RFC 6265bis, 5.7). */
  set(line: string, url: string, context: Context = {}): void {
    const target = new URL(url)
    const cookie = this.#read(line, target, context)
    if (cookie === undefined || !isAllowed(cookie, target, context)) return
    const isInTheWay = (other: Cookie): boolean =>
      other.isSecure &&
      other.name === cookie.name &&
      (isHostWithin(other.domain, cookie.domain) || isHostWithin(cookie.domain, other.domain)) &&
      isPathWithin(cookie.path, other.path)
    if (!isTrusted(target) && this.cookies.some(isInTheWay)) return
    const keys = ['name', 'domain', 'isHostOnly', 'path', 'partition'] as const
    const isSame = (other: Cookie): boolean => keys.every((key) => other[key] === cookie[key])
    const order = this.#cookies.find(isSame)?.order ?? cookie.order
    this.#cookies = [...this.#cookies.filter((other) => !isSame(other)), { ...cookie, order }]
  }

  /** Reads a line of Set-Cookie. Undefined: it is none, or its domain is of others. */
  #read(line: string, target: URL, context: Context): Cookie | undefined {
    const [pair = '', ...parts] = line.split(';').map((part) => part.trim())
    const [, name, value = ''] = /^([^=]+?)\s*=\s*(.*)$/.exec(pair) ?? []
    if (name === undefined) return undefined
    const attributes = new Map<string, string>()
    for (const part of parts) {
      const [key = '', ...rest] = part.split('=')
      attributes.set(key.trim().toLowerCase(), rest.join('=').trim())
    }
    const domain = attributes.get('domain')?.toLowerCase().replace(/^\./, '') ?? ''
    const { hostname, pathname } = target
    if (domain !== '' && !isHostWithin(hostname, domain)) return undefined
    // A name without a dot is a public suffix, at which only the host itself may have a cookie.
    if (domain !== '' && domain !== hostname && !domain.includes('.')) return undefined
    const path = attributes.get('path') ?? ''
    const sameSite = attributes.get('samesite')?.toLowerCase()
    return {
      name,
      value,
      domain: domain === '' ? hostname : domain,
      isHostOnly: domain === '' || !domain.includes('.'),
      path: path.startsWith('/') ? path : pathname.replace(/(?!^)\/[^/]*$|[^/]*$/, ''),
      isSecure: attributes.has('secure'),
      isHttpOnly: attributes.has('httponly'),
      sameSite: sameSite === 'strict' || sameSite === 'none' ? sameSite : 'lax',
      partition: attributes.has('partitioned') ? partitionOf(target, context) : undefined,
      expiresAt: this.#expiryOf(attributes),
      order: (this.#count += 1)
    }
  }

  #expiryOf(attributes: ReadonlyMap<string, string>): number | undefined {
    const now = this.#clock.now()
    const [maxAge, expires] = ['max-age', 'expires'].map((key) => attributes.get(key))
    // Browsers keep no cookie for longer than 400 days.
    if (maxAge !== undefined) return now + Math.min(Number(maxAge), 34_560_000) * 1000
    return expires === undefined ? undefined : Date.parse(expires)
  }
}

/** Whether browsers take the cookie at all, and from this reply. */
function isAllowed(cookie: Cookie, target: URL, context: Context): boolean {
  const { name, isSecure, isHttpOnly, isHostOnly, path, sameSite, partition } = cookie
  const isOfHost = isHostOnly && path === '/'
  if (isSecure && !isTrusted(target)) return false
  if (!isSecure && (sameSite === 'none' || partition !== undefined)) return false
  if (sameSite !== 'none' && isCrossSite(target, context) && !isTopLevel(context)) return false
  if (/^__host-http-/i.test(name)) return isSecure && isHttpOnly && isOfHost
  if (/^__host-/i.test(name)) return isSecure && isOfHost
  if (/^__http-/i.test(name)) return isSecure && isHttpOnly
  return isSecure || !/^__secure-/i.test(name)
}

/** What a browser adds to a request (Fetch, 3.1; Fetch Metadata, 2). */
function headersOf(target: URL, context: Context): Record<string, string> {
  const { method = 'GET', from, destination = 'document' } = context
  const modes = { document: 'navigate', iframe: 'navigate', image: 'no-cors', empty: 'cors' }
  const mode = context.mode ?? modes[destination]
  const isHttps = target.protocol === 'https:'
  const page = from === undefined ? undefined : new URL(from)
  const isOriginSent = method === 'POST' || (mode === 'cors' && page?.origin !== target.origin)
  const isDowngrade = page?.protocol === 'https:' && !isHttps
  return {
    host: target.host,
    'x-forwarded-proto': isHttps ? 'https' : 'http',
    ...(isOriginSent && { origin: page === undefined || isDowngrade ? 'null' : page.origin }),
    ...(isTrusted(target) && {
      'sec-fetch-site': relation(target, page),
      'sec-fetch-mode': mode,
      'sec-fetch-dest': destination
    })
  }
}

function relation(target: URL, page: URL | undefined): string {
  if (page === undefined) return 'none'
  if (page.origin === target.origin) return 'same-origin'
  return siteOf(page) === siteOf(target) ? 'same-site' : 'cross-site'
}

const isTrusted = ({ protocol, hostname }: URL): boolean =>
  protocol === 'https:' || hostname === 'localhost'

const isTopLevel = ({ destination = 'document' }: Context): boolean => destination === 'document'

/** Whether SameSite counts the request as one of another site (RFC 6265bis, 5.2). */
function isCrossSite(target: URL, { from }: Context): boolean {
  return from !== undefined && siteOf(new URL(from)) !== siteOf(target)
}

/** The site of the tab: a frame is one of the page itself. */
function partitionOf(target: URL, context: Context): string {
  return siteOf(isTopLevel(context) ? target : new URL(context.from ?? target))
}

/** The scheme, and the last two labels of the host. */
function siteOf({ protocol, hostname }: URL): string {
  return `${protocol}//${hostname.split('.').slice(-2).join('.')}`
}

function isSentTo({ isHostOnly, domain, path, isSecure }: Cookie, target: URL): boolean {
  const { hostname, pathname } = target
  return (
    (isHostOnly ? hostname === domain : isHostWithin(hostname, domain)) &&
    isPathWithin(pathname, path) &&
    (!isSecure || isTrusted(target))
  )
}

const isHostWithin = (host: string, domain: string): boolean => `.${host}`.endsWith(`.${domain}`)

const isPathWithin = (path: string, prefix: string): boolean =>
  path === prefix || path.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`)

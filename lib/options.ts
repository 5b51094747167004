import { fastifyCookie } from '@fastify/cookie'

import { systemClock } from './clock.ts'
import { Codec } from './codec.ts'
import { optionError } from './errors.ts'
import { isSecret, Signer, uuid } from './identifier.ts'
import type { Lifetimes } from './lifetime.ts'
import { jsonSerializer } from './serializer.ts'
import { MemoryStore } from './stores/memory.ts'
import type { Clock } from '../types/clock.ts'
import type { Serializer, SessionOptions } from '../types/options.ts'
import type { CookieAttributes } from '../types/session.ts'
import type { SessionStore } from '../types/store.ts'

/** Seconds: the longest that browsers keep a cookie (RFC 6265bis, 5.5). */
const longestCookie = 400 * 24 * 60 * 60

/** Milliseconds: the longest that a timer of Node's can be set to. */
const longestTimer = 2 ** 31 - 1

const verbs = ['get', 'create', 'update', 'touch', 'delete'] as const

/** What a registration works by: checked, complete, frozen. Durations are in milliseconds from here on. */
export interface Config {
  readonly sessionName: string
  readonly sessionHeader: string | false
  readonly sessionCookie: string | false
  readonly mirror: boolean
  readonly cookie: Readonly<CookieAttributes>
  readonly lifetimes: Lifetimes
  readonly touchAfter: number
  readonly store: SessionStore
  readonly storeTimeout: number
  /** Undefined: ids travel as they are. */
  readonly signer: Signer | undefined
  readonly generateId: () => string
  readonly saveUninitialized: boolean
  readonly adoptUnknownIds: (id: string) => boolean
  readonly codec: Codec
  readonly clock: Clock
}

/** Every default, and every check. Does not change the caller's object. @throws HOLDFAST_OPTION_INVALID */
export function configure(options: SessionOptions): Config {
  const { sessionName = 'session' } = options
  check(typeof sessionName === 'string' && /^[A-Za-z_$][\w$]*$/.test(sessionName), 'sessionName', 'a name that a property can have, such as \'session\'')
  const {
    sessionName: _,
    sessionHeader = `X-${sessionName.slice(0, 1).toUpperCase()}${sessionName.slice(1)}-ID`,
    sessionCookie = `${sessionName}_id`,
    maxAge = 3600,
    absoluteTimeout = 30 * 24 * 60 * 60,
    touchAfter = Math.min(60, maxAge / 10),
    cookie = {},
    clock = systemClock,
    store = new MemoryStore({ clock }),
    storeTimeout = 2,
    secret,
    generateId = uuid,
    saveUninitialized = true,
    mirror = false,
    adoptUnknownIds = false,
    serializer = jsonSerializer,
    maxBytes = 65_536,
    ...others
  } = options
  const unknown = Object.keys(others).find((key) => !fromFastify.has(key))
  if (unknown !== undefined) throw optionError(unknown, `left out: there is no such option`)

  check(sessionHeader === false || (isToken(sessionHeader) && !/^(?:set-)?cookie$/i.test(sessionHeader)), 'sessionHeader', 'the name of a header, such as \'X-Session-ID\', or false')
  check(sessionCookie === false || isToken(sessionCookie), 'sessionCookie', 'the name of a cookie, such as \'session_id\', or false')
  check(sessionHeader !== false || sessionCookie !== false, 'sessionHeader', 'a name where sessionCookie is false: an id needs one way to travel')
  check(isLifetime(maxAge), 'maxAge', 'an integer of seconds from 1 to 34560000 (400 days)')
  check(absoluteTimeout === false || isPositive(absoluteTimeout), 'absoluteTimeout', 'a positive number of seconds, or false for never')
  check(isNumber(touchAfter) && touchAfter >= 0 && touchAfter < maxAge, 'touchAfter', 'a number of seconds from 0 to less than maxAge: sessions would end while in use')
  check(typeof store === 'object' && store !== null && verbs.every((verb) => typeof store[verb] === 'function'), 'store', `an object with the methods ${verbs.join(', ')}`)
  check(isPositive(storeTimeout) && storeTimeout * 1000 <= longestTimer, 'storeTimeout', 'a positive number of seconds, no more than 2147483')
  const secrets = secret === undefined ? [] : Array.isArray(secret) ? secret : [secret]
  check(secrets.every(isSecret) && (secret === undefined || secrets.length > 0), 'secret', 'a string or Buffer of at least 32 bytes, such as `openssl rand -base64 32` makes, or a list of them, newest first')
  check(secret === undefined || adoptUnknownIds === false, 'adoptUnknownIds', 'left out with secret: a client cannot sign the id it would choose')
  check(typeof generateId === 'function', 'generateId', 'a function that makes an id')
  check(typeof saveUninitialized === 'boolean', 'saveUninitialized', 'true or false')
  check(typeof mirror === 'boolean', 'mirror', 'true or false')
  check(adoptUnknownIds === false || typeof adoptUnknownIds === 'function', 'adoptUnknownIds', 'false, or a function that is given an id and answers true to adopt it')
  check(isDeterministic(serializer), 'serializer', 'an object with stringify and parse, the same text for the same data every time; to encrypt, wrap the store')
  check(Number.isInteger(maxBytes) && maxBytes > 0, 'maxBytes', 'a positive integer of bytes')
  check(typeof clock?.now === 'function' && typeof clock.setTimeout === 'function', 'clock', 'an object with now and setTimeout')
  check(typeof cookie === 'object' && cookie !== null, 'cookie', 'an object of cookie attributes')
  const stranger = Object.keys(cookie).find((key) => !Object.hasOwn(cookieDefaults, key))
  check(stranger === undefined, `cookie.${stranger}`, `left out: the attributes are ${Object.keys(cookieDefaults).join(', ')}, and the lifetime is maxAge`)

  return Object.freeze({
    sessionName,
    sessionHeader,
    sessionCookie,
    mirror,
    cookie: cookieAttributes(sessionCookie, cookieDefaults, cookie),
    lifetimes: Object.freeze({ idle: maxAge * 1000, absolute: absoluteTimeout === false ? Infinity : absoluteTimeout * 1000 }),
    touchAfter: touchAfter * 1000,
    store,
    storeTimeout: storeTimeout * 1000,
    signer: secret === undefined ? undefined : new Signer(secrets, sessionName),
    generateId,
    saveUninitialized,
    // Only true adopts: the promise of an asynchronous function would be truthy whatever it came to.
    adoptUnknownIds: (id: string) => adoptUnknownIds !== false && adoptUnknownIds(id) === true,
    codec: new Codec(serializer, maxBytes),
    clock
  })
}

/** What Fastify itself reads from the options of a plugin. */
const fromFastify: ReadonlySet<string> = new Set(['prefix', 'logLevel', 'logSerializers'])

const cookieDefaults = Object.freeze({
  domain: undefined,
  path: '/',
  httpOnly: true,
  sameSite: 'lax',
  secure: 'auto',
  partitioned: undefined,
  priority: undefined,
  persistent: true
} as const)

/**
 * Lays cookie attributes over others; keys that are none are left out. What a browser would refuse throws (RFC 6265bis, 4.1 and 5.7).
 * @throws HOLDFAST_OPTION_INVALID
 */
export function cookieAttributes(name: string | false, base: object, over: object): Readonly<CookieAttributes> {
  const given = { ...base, ...over } as Record<string, unknown>
  const attributes: Record<string, unknown> = {}
  for (const key of Object.keys(cookieDefaults)) {
    if (given[key] !== undefined) attributes[key] = given[key]
  }
  const { path, domain, httpOnly, sameSite, secure, partitioned, priority, persistent } = attributes as CookieAttributes
  check(typeof path === 'string' && /^\/[\x20-\x3a\x3c-\x7e]*$/.test(path), 'cookie.path', 'a path that begins with / and has no ; or control character')
  check(domain === undefined || (typeof domain === 'string' && domain !== '' && isSerializable({ domain })), 'cookie.domain', 'the name of a host')
  check(typeof httpOnly === 'boolean', 'cookie.httpOnly', 'true or false')
  check(['strict', 'lax', 'none'].includes(sameSite as string), 'cookie.sameSite', '\'strict\', \'lax\' or \'none\'')
  check(secure === 'auto' || typeof secure === 'boolean', 'cookie.secure', 'true, false or \'auto\'')
  check(partitioned === undefined || typeof partitioned === 'boolean', 'cookie.partitioned', 'true or false')
  check(priority === undefined || ['low', 'medium', 'high'].includes(priority), 'cookie.priority', '\'low\', \'medium\' or \'high\'')
  check(typeof persistent === 'boolean', 'cookie.persistent', 'true or false')

  const prefix = /^__(?:host|secure)-/i.exec(name === false ? '' : name)?.[0]
  check(prefix === undefined || prefix === '__Host-' || prefix === '__Secure-', 'sessionCookie', 'spelt __Host- or __Secure- to the letter')
  const wantsSecure = prefix ?? (sameSite === 'none' ? 'sameSite \'none\'' : partitioned === true ? 'partitioned' : undefined)
  check(secure === true || wantsSecure === undefined, 'cookie.secure', `true with ${wantsSecure}`)
  check(prefix !== '__Host-' || path === '/', 'cookie.path', '\'/\' with __Host-')
  check(prefix !== '__Host-' || domain === undefined, 'cookie.domain', 'left out with __Host-')
  return Object.freeze(attributes as CookieAttributes)
}

/** Whether a number of seconds can be the idle lifetime of a session, and so the Max-Age of its cookie. */
export function isLifetime(seconds: unknown): seconds is number {
  return Number.isInteger(seconds) && seconds as number >= 1 && seconds as number <= longestCookie
}

function check(holds: boolean, option: string, cure: string): void {
  if (!holds) throw optionError(option, cure)
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function isPositive(value: unknown): boolean {
  return isNumber(value) && value > 0
}

/** RFC 9110, 5.6.2. */
function isToken(value: unknown): boolean {
  return typeof value === 'string' && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(value)
}

function isSerializable(attributes: { domain: string }): boolean {
  try {
    return fastifyCookie.serialize('name', '', attributes) !== ''
  } catch {
    return false
  }
}

function isDeterministic(serializer: Serializer): boolean {
  const sample = { text: 'é "\u2028', list: [1, { deep: null }], flag: true }
  try {
    const text = serializer.stringify(sample)
    return typeof text === 'string' && text === serializer.stringify(structuredClone(sample)) && text === serializer.stringify(serializer.parse(text))
  } catch {
    return false
  }
}

import { fastifyCookie } from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'

import type { CookieReach } from './cookie-reach.ts'
import { check, optionError, SessionError } from '../errors.ts'
import { readAttributes } from '../session/notes.ts'
import { refuseAttribute } from '../unknown-options.ts'
import type { CookieAttributes } from '../../types/session.ts'

/** Serialises a cookie, as @fastify/cookie does. Throws on what no header can have. */
export type SerializeCookie = (name: string, value: string, attributes: object) => string

/** Which cookie it is, and how it is serialised. */
export interface CookieConfig {
  readonly sessionCookie: string | false
  readonly serializeCookie: SerializeCookie
}

/** The same, and the attributes that the registration sets. */
export interface AttributeConfig extends CookieConfig {
  readonly cookieAttributes: Readonly<CookieAttributes>
  /** Undefined: there is no cookie. */
  readonly cookieReach: CookieReach | undefined
}

/** The attributes of a cookie whose registration sets none. */
export const defaultAttributes: Readonly<CookieAttributes> = Object.freeze({
  path: '/',
  httpOnly: true,
  sameSite: 'lax',
  secure: 'auto',
  persistent: true
})

type Rule = readonly [holds: (value: unknown) => boolean, expected: string]

const isBoolean: Rule = [(value) => typeof value === 'boolean', 'true or false']

function oneOf(...values: readonly string[]): (value: unknown) => boolean {
  return (value) => values.includes(value as string)
}

/** The attributes, and what each must be if it is given (RFC 6265bis, 4.1). */
const rules: Readonly<Record<string, Rule>> = {
  domain: [(value) => typeof value === 'string' && value !== '', 'the name of a host'],
  path: [
    (value) => typeof value === 'string' && /^\/[\x20-\x3a\x3c-\x7e]*$/.test(value),
    'a path that begins with / and has no ; or control character'
  ],
  httpOnly: isBoolean,
  sameSite: [
    (value) => value === true || oneOf('strict', 'lax', 'none')(value),
    "'strict', 'lax' or 'none'"
  ],
  secure: [(value) => value === 'auto' || typeof value === 'boolean', "true, false or 'auto'"],
  partitioned: isBoolean,
  priority: [oneOf('low', 'medium', 'high'), "'low', 'medium' or 'high'"],
  persistent: isBoolean
}

/** Refuses keys that are no attribute. @throws HOLDFAST_OPTION_INVALID */
export function assertAttributeNames(attributes: object): void {
  const unknown = Object.keys(attributes).find((key) => !Object.hasOwn(rules, key))
  if (unknown !== undefined) refuseAttribute(unknown, Object.keys(rules))
}

/**
 * Returns what a session's cookie is to have beside the attributes of the registration. Leaves out
 * keys that are no attribute.
 *
 * @param present what it has, as a record notes it
 * @throws HOLDFAST_VALUE_INVALID
 */
export function addAttributes(
  config: AttributeConfig,
  present: string,
  given: object
): CookieAttributes {
  const isFit = attributesOf(config, present) !== config.cookieAttributes
  const entries = Object.entries({ ...(isFit ? readAttributes(present) : undefined), ...given })
  const own: CookieAttributes = Object.fromEntries(
    entries.filter(([key, value]) => Object.hasOwn(rules, key) && value !== undefined)
  )
  try {
    config.cookieReach?.learn(mergeAttributes(config, config.cookieAttributes, own))
  } catch (cause) {
    const detail = (cause as Error).message.replace(/^.*?: /, '')
    throw new SessionError('HOLDFAST_VALUE_INVALID', { cause, detail })
  }
  return own
}

/** Returns the attributes of a cookie that has some of its own, as a record notes them. */
export function attributesOf(config: AttributeConfig, own: string): Readonly<CookieAttributes> {
  if (own === '') return config.cookieAttributes
  try {
    const attributes = mergeAttributes(config, config.cookieAttributes, readAttributes(own))
    config.cookieReach?.learn(attributes)
    return attributes
  } catch {
    // They do not go with what the registration has now.
    return config.cookieAttributes
  }
}

/**
 * Lays cookie attributes over others. Leaves out keys that are no attribute.
 *
 * @throws HOLDFAST_OPTION_INVALID what a browser would refuse (RFC 6265bis, 4.1 and 5.7)
 */
export function mergeAttributes(
  { sessionCookie, serializeCookie }: CookieConfig,
  base: CookieAttributes,
  over: CookieAttributes
): Readonly<CookieAttributes> {
  const given: Record<string, unknown> = { ...base, ...over }
  const merged: Record<string, unknown> = {}
  for (const [key, [holds, expected]] of Object.entries(rules)) {
    if (given[key] === undefined && !Object.hasOwn(defaultAttributes, key)) continue
    check(holds(given[key]), `cookie.${key}`, expected)
    merged[key] = given[key]
  }
  if (merged['sameSite'] === true) merged['sameSite'] = 'strict'
  const attributes = merged as CookieAttributes
  assertSerializable(serializeCookie, attributes)
  assertAccepted(sessionCookie === false ? '' : sessionCookie, attributes)
  return Object.freeze(attributes)
}

const prefixes = ['__Host-Http-', '__Host-', '__Http-', '__Secure-']

/** Checks the rules that tie attributes to each other, and to the name (RFC 6265bis, 4.1.3). */
function assertAccepted(name: string, attributes: CookieAttributes): void {
  const { path, domain, httpOnly, sameSite, secure, partitioned } = attributes
  // Browsers do not mind the case.
  const prefix = prefixes.find((known) => name.toLowerCase().startsWith(known.toLowerCase()))
  check(
    prefix === undefined || name.startsWith(prefix),
    'sessionCookie',
    `spelt ${prefix} to the letter`
  )
  let demanding = prefix
  if (sameSite === 'none') demanding ??= "sameSite 'none'"
  if (partitioned === true) demanding ??= 'partitioned'
  check(secure === true || demanding === undefined, 'cookie.secure', `true with ${demanding}`)
  const isForScripts = httpOnly !== true && prefix?.endsWith('Http-') === true
  check(!isForScripts, 'cookie.httpOnly', `true with ${prefix}`)
  if (prefix?.startsWith('__Host-') !== true) return
  check(path === '/', 'cookie.path', `'/' with ${prefix}`)
  check(domain === undefined, 'cookie.domain', `left out with ${prefix}`)
}

function assertSerializable(serialize: SerializeCookie, { domain }: CookieAttributes): void {
  if (domain === undefined) return
  try {
    serialize('name', '', { domain })
  } catch {
    throw optionError('cookie.domain', 'the name of a host')
  }
}

/**
 * Returns the serializer of @fastify/cookie, which it loads when it is registered. Unless the app
 * has registered it, that is done in a scope of its own, where nobody meets it.
 */
export async function loadSerializer(fastify: FastifyInstance): Promise<SerializeCookie> {
  if (fastify.hasPlugin('@fastify/cookie')) return serializerOf(fastify)
  let serialize: SerializeCookie | undefined
  // An app may have decorated the name for something else: then it is done beside the app.
  const isNameTaken = fastify.hasDecorator('serializeCookie')
  const host = isNameTaken ? (await import('fastify')).default() : fastify
  await host.register(async (scope) => {
    await scope.register(fastifyCookie)
    serialize = serializerOf(scope)
  })
  return serialize as unknown as SerializeCookie
}

function serializerOf(fastify: FastifyInstance): SerializeCookie {
  return (name, value, attributes) => fastify.serializeCookie(name, value, attributes)
}

import { check } from './errors.ts'
import { assertAttributeNames } from './http/cookie-attributes.ts'
import { isSecret } from './http/signer.ts'
import { isLifetime } from './session/lifetime.ts'
import { refuseOption } from './unknown-options.ts'
import type { Serializer, SessionOptions } from '../types/options.ts'

/** The options of a registration, with every default. */
export type CompleteOptions = Required<
  Omit<SessionOptions, 'secret' | 'subject' | 'subjectSessions' | 'carryOver'>
> & {
  subject: SessionOptions['subject'] | undefined
  secret: SessionOptions['secret'] | undefined
  carryOver: SessionOptions['carryOver'] | undefined
  subjectSessions: SessionOptions['subjectSessions'] | undefined
}

/** Milliseconds: the longest that a timer of Node.js can be set to. */
const maxTimerDelay = 2 ** 31 - 1

const storeMethods = ['get', 'create', 'update', 'touch', 'delete', 'retire'] as const

/** What Fastify itself reads from the options of a plugin. */
const fastifyKeys: ReadonlySet<string> = new Set(['prefix', 'logLevel', 'logSerializers'])

/** @throws HOLDFAST_OPTION_INVALID */
export function checkName(sessionName: unknown): void {
  check(
    typeof sessionName === 'string' && /^[A-Za-z_$][\w$]*$/.test(sessionName),
    'sessionName',
    "a name that a property can have, such as 'session'"
  )
}

/** Refuses what is no option. @param known those that there are @throws HOLDFAST_OPTION_INVALID */
export function checkUnknown(rest: object, known: object): void {
  const unknown = Object.keys(rest).find((key) => !fastifyKeys.has(key))
  if (unknown !== undefined) refuseOption(unknown, Object.keys(known))
}

/**
 * Checks every option but for the name and the values of the cookie's attributes.
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function checkOptions(options: CompleteOptions): void {
  check(
    options.sessionHeader === false ||
      (isToken(options.sessionHeader) && !/^(?:set-)?cookie$/i.test(options.sessionHeader)),
    'sessionHeader',
    "the name of a header, such as 'X-Session-ID', or false"
  )
  check(
    options.sessionCookie === false || isToken(options.sessionCookie),
    'sessionCookie',
    "the name of a cookie, such as 'session_id', or false"
  )
  check(
    options.sessionHeader !== false || options.sessionCookie !== false,
    'sessionHeader',
    'a name where sessionCookie is false: an id needs one way to travel'
  )
  check(isLifetime(options.maxAge), 'maxAge', 'an integer of seconds from 1 to 34560000 (400 days)')
  check(
    options.absoluteTimeout === false || isPositive(options.absoluteTimeout),
    'absoluteTimeout',
    'a positive number of seconds, or false for never'
  )
  check(
    options.absoluteTimeout === false || options.maxAge <= options.absoluteTimeout,
    'maxAge',
    `a number of seconds, no more than absoluteTimeout (${options.absoluteTimeout} seconds)`
  )
  check(
    isNumber(options.touchAfter) && options.touchAfter >= 0 && options.touchAfter < options.maxAge,
    'touchAfter',
    'a number of seconds from 0 to less than maxAge: sessions would end while in use'
  )
  check(
    typeof options.store === 'object' &&
      options.store !== null &&
      storeMethods.every((method) => typeof options.store[method] === 'function'),
    'store',
    `an object with the methods ${storeMethods.join(', ')}`
  )
  check(
    isPositive(options.storeTimeout) && options.storeTimeout * 1000 <= maxTimerDelay,
    'storeTimeout',
    'a positive number of seconds, no more than 2147483'
  )
  const secrets = options.secret === undefined ? [] : [options.secret].flat()
  check(
    secrets.every(isSecret) && (options.secret === undefined || secrets.length > 0),
    'secret',
    'a string or Buffer of at least 32 bytes, such as `openssl rand -base64 32` makes, ' +
      'or a list of them, newest first'
  )
  check(
    options.secret === undefined || options.adoptUnknownIds === false,
    'adoptUnknownIds',
    'left out with secret: a client cannot sign the id it would choose'
  )
  check(typeof options.generateId === 'function', 'generateId', 'a function that makes an id')
  check(typeof options.saveUninitialized === 'boolean', 'saveUninitialized', 'true or false')
  check(typeof options.mirror === 'boolean', 'mirror', 'true or false')
  check(typeof options.replaceErrorReplies === 'boolean', 'replaceErrorReplies', 'true or false')
  check(
    options.adoptUnknownIds === false || typeof options.adoptUnknownIds === 'function',
    'adoptUnknownIds',
    'false, or a function that is given an id and returns true to adopt it'
  )
  check(
    isDeterministic(options.serializer),
    'serializer',
    'an object with stringify and parse, the same text for the same data every time; ' +
      'to encrypt, wrap the store'
  )
  check(
    Number.isInteger(options.maxBytes) && options.maxBytes > 0,
    'maxBytes',
    'a positive integer of bytes'
  )
  check(
    typeof options.clock?.now === 'function' && typeof options.clock.setTimeout === 'function',
    'clock',
    'an object with now and setTimeout'
  )
  check(
    typeof options.cookie === 'object' && options.cookie !== null,
    'cookie',
    'an object of cookie attributes'
  )
  assertAttributeNames(options.cookie)
  checkSubjects(options)
}

function checkSubjects({ subject, subjectSessions, store }: CompleteOptions): void {
  check(
    subject === undefined || typeof subject === 'function',
    'subject',
    'a function that is given the data and returns who is signed in, or undefined'
  )
  check(
    subject === undefined || typeof store.subjects === 'object',
    'subject',
    'left out: the store keeps no sessions of subjects'
  )
  if (subjectSessions === undefined) return
  const { max, whenFull = 'refuse', ...rest } = Object(subjectSessions) as Record<string, unknown>
  check(
    Number.isSafeInteger(max) &&
      (max as number) > 0 &&
      ['refuse', 'end-oldest'].includes(whenFull as string) &&
      Object.keys(rest).length === 0,
    'subjectSessions',
    "{ max }, a positive integer, and perhaps whenFull: 'refuse' or 'end-oldest'"
  )
  check(
    typeof store.subjects === 'object',
    'subjectSessions',
    'left out: the store keeps no sessions of subjects'
  )
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

function isDeterministic(serializer: Serializer): boolean {
  const sample = { text: 'é "\u2028', list: [1, { deep: null }], flag: true }
  try {
    const text = serializer.stringify(sample)
    return (
      typeof text === 'string' &&
      text === serializer.stringify(structuredClone(sample)) &&
      text === serializer.stringify(serializer.parse(text))
    )
  } catch {
    return false
  }
}

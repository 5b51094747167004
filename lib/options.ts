import { connectFormer } from './carry-over.ts'
import { checkName, checkOptions, checkUnknown, type CompleteOptions } from './check-options.ts'
import { systemClock } from './clock.ts'
import type { HttpConfig } from './http/config.ts'
import { SessionCookie } from './http/cookie.ts'
import { CookieReach } from './http/cookie-reach.ts'
import { checkFormerCookies, otherCookies } from './http/cookie-scopes.ts'
import {
  defaultAttributes,
  mergeAttributes,
  type SerializeCookie
} from './http/cookie-attributes.ts'
import { Signer } from './http/signer.ts'
import { Recent } from './recent.ts'
import { Codec } from './session/codec.ts'
import type { SessionConfig } from './session/config.ts'
import { publicIdOf, uuid } from './session/id.ts'
import { jsonSerializer } from './session/json.ts'
import { Signals } from './signal/signals.ts'
import { MemoryStore } from './stores/memory.ts'
import type { SessionOptions } from '../types/options.ts'

/** What a registration works by: checked, complete, frozen. Durations are in milliseconds. */
export interface Config extends HttpConfig, SessionConfig {}

/**
 * Sets every default, and checks every option. Does not change the caller's object.
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function configure(options: SessionOptions, serializeCookie: SerializeCookie): Config {
  const { sessionName = 'session' } = options
  checkName(sessionName)
  const {
    sessionName: _,
    sessionHeader = `X-${sessionName.slice(0, 1).toUpperCase()}${sessionName.slice(1)}-ID`,
    sessionCookie = `${sessionName}_id`,
    maxAge = 3600,
    absoluteTimeout = 30 * 24 * 60 * 60,
    touchAfter = Math.min(60, maxAge / 10),
    cookie = {},
    formerCookies = [],
    clock = systemClock,
    store = new MemoryStore({ clock }),
    storeTimeout = 2,
    carryOver,
    replaceErrorReplies = false,
    secret,
    generateId = uuid,
    saveUninitialized = true,
    mirror = false,
    adoptUnknownIds = false,
    serializer = jsonSerializer,
    maxBytes = 65_536,
    subject,
    subjectSessions,
    ...rest
  } = options
  const complete: CompleteOptions = {
    sessionName,
    sessionHeader,
    sessionCookie,
    maxAge,
    absoluteTimeout,
    touchAfter,
    cookie,
    formerCookies,
    clock,
    store,
    storeTimeout,
    carryOver,
    replaceErrorReplies,
    secret,
    generateId,
    saveUninitialized,
    mirror,
    adoptUnknownIds,
    serializer,
    maxBytes,
    subject,
    subjectSessions
  }
  checkUnknown(rest, complete)
  checkOptions(complete)
  const cookieConfig = { sessionCookie, serializeCookie }
  const cookieAttributes = mergeAttributes(cookieConfig, defaultAttributes, cookie)
  checkFormerCookies(cookieConfig, cookieAttributes, formerCookies)
  const cookieReach = sessionCookie === false ? undefined : new CookieReach(cookieAttributes)
  const scopes = { ...cookieConfig, cookieAttributes, cookieReach, formerCookies }
  const names = [sessionCookie !== false && 'Cookie', sessionHeader].filter(
    (name) => name !== false
  )
  const config = {
    sessionName,
    sessionHeader,
    headerKey: sessionHeader === false ? undefined : sessionHeader.toLowerCase(),
    ...scopes,
    cookie: sessionCookie === false ? undefined : new SessionCookie(sessionCookie, serializeCookie),
    otherCookies: otherCookies(scopes, [cookieAttributes]),
    mirror,
    replaceErrorReplies,
    signer: secret === undefined ? undefined : new Signer([secret].flat(), sessionName),
    varyNames: { names, text: names.join(', ') },
    lifetimes: Object.freeze({
      idle: maxAge * 1000,
      absolute: absoluteTimeout === false ? Infinity : absoluteTimeout * 1000
    }),
    // An id that goes out with every reply has to be confirmed for every reply.
    touchAfter: mirror ? 0 : touchAfter * 1000,
    store,
    storeTimeout: storeTimeout * 1000,
    generateId,
    publicIds: new Recent((id) => publicIdOf(sessionName, id)),
    saveUninitialized,
    // Only true adopts: the promise of an asynchronous function is truthy whatever it comes to.
    adoptUnknownIds: (id: string) => adoptUnknownIds !== false && adoptUnknownIds(id) === true,
    codec: new Codec(serializer, maxBytes),
    subjectOf: subject,
    subjectLimit: subjectSessions && { whenFull: 'refuse' as const, ...subjectSessions },
    ...connectFormer(carryOver, sessionCookie, serializeCookie),
    clock
  }
  return Object.freeze({ ...config, ends: new Signals(config) })
}

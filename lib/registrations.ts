import type { FastifyInstance } from 'fastify'

import { optionError } from './errors.ts'
import { pathMatches } from './http/cookie-reach.ts'
import type { Config } from './options.ts'

interface Registration {
  readonly scope: FastifyInstance
  readonly config: Config
}

/** The registrations of each app. All scopes of an app have one server. */
const registrations = new WeakMap<object, Registration[]>()

/**
 * Reserves the names of a registration's header and cookie. Two registrations must not set the same
 * one if a request meets both, or if a browser sends the cookie of one to the other.
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function reserveNames(scope: FastifyInstance, config: Config): void {
  const { sessionCookie, sessionHeader } = config
  const others = registrations.get(scope.server) ?? []
  for (const other of others) {
    // Hooks are inherited by the scopes that are opened later, but not by those that were opened
    // before.
    const meets = other.scope === scope || Object.prototype.isPrototypeOf.call(other.scope, scope)
    const sharesCookie = sessionCookie !== false && other.config.sessionCookie === sessionCookie
    if (meets && sharesCookie)
      throw optionError('sessionCookie', 'another name than the other registration has')
    if (
      meets &&
      sessionHeader !== false &&
      String(other.config.sessionHeader).toLowerCase() === sessionHeader.toLowerCase()
    ) {
      throw optionError('sessionHeader', 'another name than the other registration has')
    }
    if (sharesCookie && overlaps(other.config, config) && !sharesSessions(other.config, config)) {
      throw optionError(
        'sessionCookie',
        'another name, or go to another cookie.path, than in the registration of another scope: ' +
          'a browser sends each of them the cookie of the other. For both to have the same ' +
          'sessions, give them the same store, sessionName and secret'
      )
    }
  }
  registrations.set(scope.server, [...others, { scope, config }])
}

/**
 * Whether a browser may send the cookie of one registration to the other (RFC 6265, 5.1.3 and
 * 5.1.4).
 */
function overlaps({ cookieAttributes: one }: Config, { cookieAttributes: other }: Config): boolean {
  const paths = [one.path, other.path] as [string, string]
  const hosts = [one.domain, other.domain].map((domain) => domain?.toLowerCase().replace(/^\./, ''))
  const [host, otherHost] = hosts
  return (
    (pathMatches(...paths) || pathMatches(paths[1], paths[0])) &&
    (host === undefined ||
      otherHost === undefined ||
      `.${host}`.endsWith(`.${otherHost}`) ||
      `.${otherHost}`.endsWith(`.${host}`))
  )
}

/** Whether each registration finds the sessions of the other. */
function sharesSessions(one: Config, other: Config): boolean {
  return (
    one.store === other.store &&
    one.sessionName === other.sessionName &&
    accepts(one, other) &&
    accepts(other, one)
  )
}

function accepts({ signer }: Config, { signer: other }: Config): boolean {
  return signer === undefined || other === undefined
    ? signer === other
    : signer.verify(other.sign('a-probe-of-the-form-of-an-id')) !== undefined
}

import { StoredSessions } from '../sessions.ts'
import type { NamedSessions, SessionData, Transport } from '../../types/session.ts'

/** What to seed beside the data. */
export interface SeedOptions<Name extends string = string> {
  /** The registration that the session belongs to. Default: `'session'`. */
  sessionName?: Name
  /** How the requests are to carry the session. Default: `'cookie'`, or `'header'` where `sessionCookie` is false. */
  transport?: Transport
  /** Seconds of disuse after which this one session ends. Default: the option `maxAge` of the registration. */
  maxAge?: number
}

/**
 * Stores a session that holds `data`, and answers the headers of a request that carries it:
 *
 * ```ts
 * const headers = await seedSession(app, { user: 'ada' })
 * const reply = await app.inject({ url: '/me', headers })
 * ```
 *
 * It goes the way that every session goes: the names of cookie and header, the serializer, the store and its limits are those of
 * the registration. Other sessions are left alone; two seeds are two sessions. Makes the app ready.
 *
 * @param app the instance that the plugin was registered on, or one below it
 * @throws HOLDFAST_OPTION_INVALID `transport` is one that the registration has not
 * @throws as `session.set()`, the setter of `session.maxAge` and `session.save()`
 */
export async function seedSession<Name extends string = 'session'>(
  app: { ready(): PromiseLike<unknown> }, data: Name extends keyof NamedSessions ? NamedSessions[Name] : SessionData, options: SeedOptions<Name> = {}
): Promise<Record<string, string>> {
  const { sessionName = 'session', transport, maxAge } = options
  await app.ready()
  const sessions = (app as unknown as Record<string, unknown>)[`${sessionName}s`]
  if (!(sessions instanceof StoredSessions)) throw new TypeError(`This instance has no sessions of the name ${sessionName}: register fastify-holdfast on it, or set sessionName`)
  return sessions.seed(data, transport, maxAge)
}

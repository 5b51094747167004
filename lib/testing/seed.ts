import { StoredSessions } from '../sessions.ts'
import type { NamedSessions, SessionDraft, Transport } from '../../types/session.ts'

/** Options of `seedSession`. */
export interface SeedOptions<Name extends string = string> {
  /** The `sessionName` of the registration to use. Default: `'session'`. */
  sessionName?: Name
  /**
   * Whether the returned headers carry the session in the header or in the cookie. Default:
   * `'cookie'`, or `'header'` if `sessionCookie` is false.
   */
  transport?: Transport
  /**
   * The session's own idle timeout, in seconds. Default: the option `maxAge` of the registration.
   */
  maxAge?: number
  /** Whom to sign in, as `session.signIn()` does. Default: nobody. */
  subject?: string
}

/**
 * Stores a new session with this data, and returns the headers of a request that carries it:
 *
 * ```ts
 * const headers = await seedSession(app, { user: 'ada' })
 * const reply = await app.inject({ url: '/me', headers })
 * ```
 *
 * Uses the registration's own names of header and cookie, serializer, store and limits. Each call
 * stores another session and leaves existing ones alone. Calls `app.ready()`.
 *
 * @param app the instance on which the plugin was registered, or a child of it
 * @param data what SessionData declares; declare there what plugins keep, such as `passport`
 * @throws HOLDFAST_OPTION_INVALID the registration does not have this `transport`
 * @throws TypeError the app has no registration of this `sessionName`
 * @throws the errors of `session.set()`, of setting `session.maxAge`, of `session.signIn()` and of
 *   `session.save()`
 */
export async function seedSession<Name extends string = 'session'>(
  app: { ready(): PromiseLike<unknown> },
  data: Name extends keyof NamedSessions ? SessionDraft<NamedSessions[Name]> : SessionDraft,
  options: SeedOptions<Name> = {}
): Promise<Record<string, string>> {
  const { sessionName = 'session', ...how } = options
  await app.ready()
  const sessions = (app as unknown as Record<string, unknown>)[`${sessionName}s`]
  if (!(sessions instanceof StoredSessions))
    throw new TypeError(
      `This instance has no sessions of the name ${sessionName}: ` +
        'register fastify-holdfast on it, or set sessionName'
    )
  return sessions.seed(data, how)
}

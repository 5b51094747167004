import type { NamedSessions, Session, Sessions } from './session.ts'

type NamedOnRequest = { readonly [Name in keyof NamedSessions]: Session<NamedSessions[Name]> }
type NamedOnInstance = { readonly [Name in keyof NamedSessions as `${Name}s`]: Sessions<NamedSessions[Name]> }
type NamedInConfig = { [Name in keyof NamedSessions]?: false }

declare module 'fastify' {
  interface FastifyRequest extends NamedOnRequest {
    /** The session of this request. On a route that opted out: empty and frozen. */
    readonly session: Session
  }

  interface FastifyInstance extends NamedOnInstance {
    /** The sessions without a request. */
    readonly sessions: Sessions
  }

  interface FastifyContextConfig extends NamedInConfig {
    /** False: the route has no session; it stores and sends nothing. */
    session?: false
  }
}

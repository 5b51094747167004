import type { Session, Sessions } from './session.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The session of this request. On a route that opted out: empty and frozen. */
    readonly session: Session
  }

  interface FastifyInstance {
    /** The sessions without a request. */
    readonly sessions: Sessions
  }

  interface FastifyContextConfig {
    /** False: the route has no session; it stores and sends nothing. */
    session?: false
  }
}

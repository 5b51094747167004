import type { NamedSessions, Session, Sessions } from './session.ts'

// Within `declare module 'fastify'`, a name that another plugin has declared there goes before one imported here:
// @fastify/session declares a Session.
type HoldfastSession = Session
type HoldfastSessions = Sessions
type HoldfastOnRequest = { readonly [Name in keyof NamedSessions]: Session<NamedSessions[Name]> }
type HoldfastOnInstance = { readonly [Name in keyof NamedSessions as `${Name}s`]: Sessions<NamedSessions[Name]> }
type HoldfastInConfig = { [Name in keyof NamedSessions]?: false }

declare module 'fastify' {
  interface FastifyRequest extends HoldfastOnRequest {
    /**
     * The session of this request. On a route that opted out: empty and frozen.
     * @throws HOLDFAST_SESSION_UNAVAILABLE in a hook that was registered before the plugin
     */
    readonly session: HoldfastSession
  }

  interface FastifyInstance extends HoldfastOnInstance {
    /** The sessions without a request. */
    readonly sessions: HoldfastSessions
  }

  interface FastifyContextConfig extends HoldfastInConfig {
    /** False: the route has no session; it stores and sends nothing. */
    session?: false
  }
}

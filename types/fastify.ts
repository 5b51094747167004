import type {
  FastifyBaseLogger,
  FastifyPluginAsync,
  FastifyRegisterOptions,
  FastifyTypeProvider,
  RawServerBase,
  RawServerDefault
} from 'fastify'

import type { SessionOptions } from './options.ts'
import type { NamedSessions, Session } from './session.ts'
import type { Sessions } from './sessions.ts'

// Inside `declare module 'fastify'`, a name that another plugin declares there takes precedence
// over an imported one, and @fastify/session declares a Session. Hence these aliases.
type HoldfastSession = Session
type HoldfastSessions = Sessions
type HoldfastOnRequest = { readonly [Name in keyof NamedSessions]: Session<NamedSessions[Name]> }
type HoldfastOnInstance = {
  readonly [Name in keyof NamedSessions as `${Name}s`]: Sessions<NamedSessions[Name]>
}
type HoldfastOnRoute =
  | false
  | { touch: boolean; fresh?: number }
  | { touch?: boolean; fresh: number }
type HoldfastInConfig = { [Name in keyof NamedSessions]?: HoldfastOnRoute }

declare module 'fastify' {
  interface FastifyRequest extends HoldfastOnRequest {
    /**
     * The session of this request. On a route that opted out it is empty and frozen.
     * @throws HOLDFAST_SESSION_UNAVAILABLE in a hook that was registered before the plugin
     */
    readonly session: HoldfastSession
  }

  interface FastifyInstance extends HoldfastOnInstance {
    /** Reads, changes and ends stored sessions without a request. */
    readonly sessions: HoldfastSessions
  }

  interface FastifyContextConfig extends HoldfastInConfig {
    /**
     * `false` opts the route out: it has no session, stores none and sends no id. `{ touch: false
     * }`: its requests do not count as use of the session, and do not put off its end, unless the
     * handler calls `session.touch()`. `{ fresh: 300 }`: the signed-in subject must have been
     * authenticated within the last 300 seconds, by `session.signIn()` or
     * `session.reauthenticate()` (ASVS 7.5.1); otherwise the request fails with
     * `HOLDFAST_SESSION_NOT_FRESH`, a 401.
     */
    session?: HoldfastOnRoute
  }

  // Its parameters are those of Fastify: an interface is declared the same way each time.
  interface FastifyRegister<
    T = void,
    RawServer extends RawServerBase = RawServerDefault,
    TypeProviderDefault extends FastifyTypeProvider = FastifyTypeProvider,
    LoggerDefault extends FastifyBaseLogger = FastifyBaseLogger
  > {
    /**
     * Registers what `require()` of an ES module gives. TypeScript knows a call of `require()`
     * inside another call, in JavaScript that it checks, only as the module.
     */
    (
      plugin: { readonly 'module.exports': FastifyPluginAsync<SessionOptions> },
      opts?: FastifyRegisterOptions<SessionOptions>
    ): T
  }
}

import type {
  DoneFuncWithErrOrRes,
  FastifyInstance,
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
  HookHandlerDoneFunction
} from 'fastify'
import fastifyPlugin from 'fastify-plugin'

import { SessionError, unavailableError } from './errors.ts'
import { loadSerializer } from './http/cookie-attributes.ts'
import { Exchange, type ExchangeConfig } from './http/exchange.ts'
import { statusOf } from './http/held-payload.ts'
import { lossReportsOf } from './http/log.ts'
import { mayBegin } from './http/request.ts'
import { identify } from './identify.ts'
import { warnOfMemoryStore } from './memory-warning.ts'
import { configure } from './options.ts'
import { reserveNames } from './registrations.ts'
import { checkRouteSetting, routeSetting } from './route-setting.ts'
import { loadSession } from './session/load.ts'
import { assertFresh } from './session/login.ts'
import type { SessionContext } from './session/operations.ts'
import type { RequestSession } from './session/request-session.ts'
import type { Session } from './session/session.ts'
import { unavailableSession } from './session/unavailable.ts'
import { andThen, isPromise } from './session/waiting.ts'
import { Writer } from './session/write.ts'
import { StoredSessions } from './sessions.ts'
import type { SessionOptions } from '../types/options.ts'

/** What the hooks of a registration work with. */
interface Registration {
  readonly config: ExchangeConfig
  readonly context: SessionContext
  /** Where a request keeps its exchange. */
  readonly slot: symbol
  /** Stands in the slot of a request that has no session. */
  readonly unavailable: { readonly session: Session }
}

type Slots = Record<symbol, Exchange | Registration['unavailable'] | null>

async function register(fastify: FastifyInstance, options: SessionOptions): Promise<void> {
  const config = configure(options, await loadSerializer(fastify))
  const { sessionName, store } = config
  if (fastify.hasRequestDecorator(sessionName)) {
    throw new SessionError('HOLDFAST_ALREADY_REGISTERED')
  }
  reserveNames(fastify, config)
  if (options.store === undefined) await warnOfMemoryStore(fastify.log, sessionName)
  const context = { config, writer: new Writer(config) }
  const registration: Registration = {
    config: { ...config, lossReports: lossReportsOf(fastify.log) },
    context,
    slot: Symbol(`fastify-holdfast ${sessionName}`),
    unavailable: { session: unavailableSession(config) }
  }

  fastify.decorateRequest(registration.slot, null)
  fastify.decorateRequest(sessionName, {
    getter(this: FastifyRequest) {
      return sessionOf(registration, this)
    },
    setter() {
      throw new SessionError('HOLDFAST_SESSION_READONLY')
    }
  })
  fastify.decorate(`${sessionName}s`, new StoredSessions(config, context, fastify.log))
  fastify.addHook('onRoute', ({ url, config: routeConfig }) => {
    checkRouteSetting(routeConfig, sessionName, url)
  })
  fastify.addHook('onReady', async () => {
    config.cookieReach?.readRoutes(fastify.printRoutes({ commonPrefix: false }))
  })
  fastify.addHook('onRequest', (request, reply, done) =>
    resolveSession(registration, request, reply, done)
  )
  fastify.addHook('onError', (request, _reply, _error, done) => {
    slotOf(registration, request)
    done()
  })
  fastify.addHook('onSend', (request, reply, payload, done) =>
    commitSession(registration, { request, reply, payload }, done)
  )
  fastify.addHook('onClose', async () => {
    try {
      await config.ends.close()
    } finally {
      if (options.store === undefined) await store.close?.()
    }
  })
}

/**
 * Finds the session of a request: the onRequest hook. It calls `done`, or it returns a promise if
 * the store does, never both; Fastify goes on by whichever comes.
 */
function resolveSession(
  registration: Registration,
  request: FastifyRequest,
  reply: FastifyReply,
  done: HookHandlerDoneFunction
): Promise<void> | void {
  const { config, context, slot } = registration
  const onRoute = routeSetting(request.routeOptions.config, config.sessionName)
  if (onRoute === false) {
    slotOf(registration, request)
    return done()
  }
  const begin = (exchange: Exchange, session: RequestSession): void => {
    exchange.begin(session)
    slotsOf(request)[slot] = exchange
    if (onRoute?.fresh !== undefined) assertFresh(session.state, onRoute.fresh, config)
  }
  const fail = (error: unknown): never => {
    slotOf(registration, request)
    throw error
  }
  try {
    const { log } = request
    const isUse = onRoute?.touch !== false
    const about = { log, isUse, request }
    const identified = identify(config, context, request.raw.headers, about)
    const begun = andThen(identified, (presented) => {
      const exchange = new Exchange(config, reply, presented)
      return andThen(loadSession(context, presented, exchange), (session) =>
        begin(exchange, session)
      )
    })
    if (isPromise(begun)) return begun.catch(fail)
  } catch (error) {
    fail(error)
  }
  done()
}

/**
 * Commits the session before the reply leaves: the onSend hook. While the commit waits for the
 * store, the exchange holds the reply, and calls `done` itself.
 */
function commitSession(
  registration: Registration,
  { request, reply, payload }: { request: FastifyRequest; reply: FastifyReply; payload: unknown },
  done: DoneFuncWithErrOrRes
): void {
  const exchange = slotOf(registration, request)
  if (!(exchange instanceof Exchange)) return done()
  exchange.commit(payload, mayBegin(request, statusOf(reply, payload)), done)
}

/** The session that a handler sees. @throws HOLDFAST_SESSION_UNAVAILABLE it asks too early */
function sessionOf({ config, slot, unavailable }: Registration, request: FastifyRequest): Session {
  const exchange = slotsOf(request)[slot]
  if (exchange !== null && exchange !== undefined) return exchange.session
  if (isBeforeHooks()) return unavailable.session
  throw unavailableError(
    `request.${config.sessionName} was asked for before the plugin had resolved it. ` +
      'Register the plugin before the hooks and the plugins that use the session'
  )
}

/**
 * Returns what is in the slot of a request. Fills an empty one with the unavailable session, at
 * which an error handler may look.
 */
function slotOf({ slot, unavailable }: Registration, request: FastifyRequest): Slots[symbol] {
  return (slotsOf(request)[slot] ??= unavailable)
}

function slotsOf(request: FastifyRequest): Slots {
  return request as unknown as Slots
}

/**
 * Whether Fastify has yet to run the first hook. It logs a request before that, outside every try:
 * if `request.session` threw in a log serializer, the process would end. Only the stack shows it,
 * and only an app that asks too early pays for it.
 */
function isBeforeHooks(): boolean {
  const { stackTraceLimit } = Error
  Reflect.set(Error, 'stackTraceLimit', 50)
  const { stack } = new Error('where from')
  Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
  return /\brouteHandler\b/.test(stack as string) && !/hookRunner|hooks\.js/i.test(stack as string)
}

/**
 * The plugin: `fastify.register(sessionPlugin, options)`. Sessions are there from the onRequest
 * hook on, in the scope that registers it and below.
 *
 * @throws HOLDFAST_OPTION_INVALID, HOLDFAST_ALREADY_REGISTERED, at registration
 */
export const sessionPlugin: FastifyPluginAsync<SessionOptions> = fastifyPlugin(register, {
  fastify: '5.x',
  name: 'fastify-holdfast'
})

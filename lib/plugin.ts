import { fastifyCookie } from '@fastify/cookie'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'

import { takeOffSuccess } from './caches.ts'
import { committed } from './diagnostics.ts'
import { SessionError, unavailableError } from './errors.ts'
import { HeldReply } from './held-reply.ts'
import { SessionManager } from './manager.ts'
import { isPromise } from './operation.ts'
import { configure } from './options.ts'
import { discard, statusOf } from './payload.ts'
import { claimNames } from './registrations.ts'
import { Reporter } from './reporter.ts'
import { StoredSessions } from './sessions.ts'
import { isHandshake, Transports, type Outcome } from './transport.ts'
import type { UnitOfWork } from './unit-of-work.ts'
import type { Deed } from '../types/events.ts'
import type { SessionOptions } from '../types/options.ts'

type Worked = FastifyRequest & { [workKey: symbol]: UnitOfWork | null }

async function register(fastify: FastifyInstance, options: SessionOptions): Promise<void> {
  await loadCookieFunctions()
  const config = configure(options)
  const { clock, sessionName, store } = config
  if (fastify.hasRequestDecorator(sessionName)) throw new SessionError('HOLDFAST_ALREADY_REGISTERED')
  claimNames(fastify, config)

  const transports = new Transports(config)
  const announce = (work: UnitOfWork, reply: FastifyReply, outcome: Outcome): void => {
    if (work.announced) transports.retract(reply)
    transports.write(reply, work.carried, outcome, work.attributes, work.accessed, clock.now())
  }
  const announceEarly = (work: UnitOfWork, reply: FastifyReply, outcome: Outcome): void => {
    announce(work, reply, outcome)
    if (work.announced) return
    work.announced = true
    transports.whenSent(reply, () => { work.delivered = true })
  }
  const manager = new SessionManager(config, announceEarly)
  const none = manager.none()
  // Without a logger nobody would hear of it.
  const hasLogger = (fastify.log.level as string | undefined) !== undefined
  const reporter = hasLogger ? new Reporter(process.env['NODE_ENV'] !== 'production') : undefined
  const workKey = Symbol(`fastify-holdfast ${sessionName}`)
  const workOf = (request: FastifyRequest): UnitOfWork | null => (request as Worked)[workKey] ?? null
  const setWork = (request: FastifyRequest, work: UnitOfWork): void => { (request as Worked)[workKey] = work }
  const begin = (request: FastifyRequest, reply: FastifyReply, work: UnitOfWork): void => {
    work.reply = reply
    work.reporter = reporter
    setWork(request, work)
  }
  const beginLater = async (request: FastifyRequest, reply: FastifyReply, work: Promise<UnitOfWork>): Promise<void> => {
    try {
      begin(request, reply, await work)
    } catch (error) {
      settleForNone(request)
      throw error
    }
  }
  // Whoever replies to a request that was never resolved, or that failed to be, may ask for a session: there is none.
  const settleForNone = (request: FastifyRequest): void => { if (workOf(request) === null) setWork(request, none) }

  const succeed = (work: UnitOfWork, reply: FastifyReply, outcome: Outcome, waited: boolean): void => {
    work.committed = 'done'
    announce(work, reply, outcome)
    tellCommit(reply.log, work, sessionName, outcome.did)
    reporter?.committed(work, waited)
  }
  const fail = (work: UnitOfWork, reply: FastifyReply, payload: unknown, error: unknown): void => {
    work.committed = 'failed'
    tellCommit(reply.log, work, sessionName, 'failed')
    // A new id that save() has announced is live, and the one that the client has may not be any more.
    if (!work.announced || work.status !== 'loaded' || !work.isNew) transports.retract(reply)
    if (work.accessed) transports.vary(reply)
    if (statusOf(reply, payload) < 400) {
      takeOffSuccess(reply)
      discard(payload, reply)
      throw error
    }
    // The reply is an error already, and stays as it is.
    reply.log.error({ err: error }, 'the session could not be committed')
  }

  fastify.decorateRequest(workKey as unknown as string, null)
  fastify.decorateRequest(sessionName, {
    getter(this: FastifyRequest) {
      const work = workOf(this)
      if (work !== null) return work.session
      if (isBeforeHooks()) return none.session
      throw unresolvedError(sessionName)
    },
    setter() { throw new SessionError('HOLDFAST_SESSION_READONLY') }
  })
  fastify.decorate(`${sessionName}s`, new StoredSessions(config, manager, transports))

  fastify.addHook('onRequest', function resolveSession(request, reply, done) {
    if ((request.routeOptions.config as unknown as Record<string, unknown>)[sessionName] === false) {
      setWork(request, none)
      return done()
    }
    let work: UnitOfWork | Promise<UnitOfWork>
    try {
      work = manager.resolve(transports.read(request.raw.headers, request.log))
    } catch (error) {
      settleForNone(request)
      throw error
    }
    if (isPromise(work)) return beginLater(request, reply, work)
    begin(request, reply, work)
    done()
  })

  fastify.addHook('onError', function giveUpUnresolved(request, _reply, _error, done) {
    settleForNone(request)
    done()
  })

  fastify.addHook('onSend', function commitSession(request, reply, payload, done) {
    settleForNone(request)
    const work = workOf(request) as UnitOfWork
    if (work === none) return done()
    if (work.heldReply !== undefined) {
      // A second reply, which an earlier hook held up until now.
      work.heldReply.refuse(payload)
      return
    }
    // Fastify runs onSend again for the reply to an error thrown in it: the commit is done once.
    if (work.committing) return done()
    let outcome: Outcome | Promise<Outcome> | undefined
    try {
      outcome = manager.commit(work, mayBegin(request, statusOf(reply, payload)), request.log)
      if (!isPromise(outcome)) succeed(work, reply, outcome, false)
    } catch (error) {
      fail(work, reply, payload, error)
    }
    if (outcome === undefined || !isPromise(outcome)) return done()
    const held = new HeldReply(reply, payload)
    work.heldReply = held
    const goOn = (settle: () => void): void => {
      work.heldReply = undefined
      try {
        held.release()
        settle()
        held.assertPayload()
        // Fastify goes on in this very step: nobody can reply between the release and this.
        done(null, held.payload)
      } catch (error) {
        done(error as Error)
      }
    }
    outcome.then(
      (end) => { goOn(() => { succeed(work, reply, end, true) }) },
      (error: unknown) => { goOn(() => { fail(work, reply, payload, error) }) }
    )
  })

  if (options.store === undefined) fastify.addHook('onClose', async () => { await store.close?.() })
}

/**
 * Scanners, preflights and refused handshakes would fill the store with sessions that nobody comes back to
 * (CORS preflight: Fetch, 3.3.2; handshake: RFC 6455, 4.2.1).
 */
function mayBegin({ headers, is404, method }: FastifyRequest, status: number): boolean {
  if (is404 || status === 404) return false
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) return false
  return !isHandshake(headers)
}

/**
 * Whether Fastify has yet to run the first hook. It logs a request before that, outside every try: were `request.session` in a serializer
 * to throw, the process would end. Nothing but the stack tells, and nobody who does as he should comes here.
 */
function isBeforeHooks(): boolean {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 50
  const { stack } = new Error('where from')
  Error.stackTraceLimit = stackTraceLimit
  return /\brouteHandler\b/.test(stack as string) && !/hookRunner|hooks\.js/i.test(stack as string)
}

function unresolvedError(sessionName: string): SessionError {
  return unavailableError(`request.${sessionName} was asked for before the plugin had resolved it. Register the plugin before the hooks and the plugins that use the session`)
}

/** Each commit is an event, and one line at level debug, with what is safe to log. */
function tellCommit(log: FastifyBaseLogger & { isLevelEnabled?: (level: string) => boolean }, work: UnitOfWork, sessionName: string, outcome: Deed | 'failed'): void {
  const isDebug = log.isLevelEnabled?.('debug') !== false
  if (!isDebug && !committed.hasSubscribers) return
  const message = { sessionName, session: work.knownKey, removed: work.removed, status: work.endedAs, outcome }
  if (isDebug) log.debug(message, 'session committed')
  if (committed.hasSubscribers) committed.publish(message)
}

/** @fastify/cookie loads its parser and serialiser when it is registered. This registers it nowhere, so that the app may do as it likes. */
async function loadCookieFunctions(): Promise<void> {
  const nowhere = { decorate() {}, decorateRequest() {}, decorateReply() {}, addHook() {} }
  await fastifyCookie(nowhere as unknown as FastifyInstance, {})
}

/**
 * The plugin: `fastify.register(sessionPlugin, options)`. Sessions are there from the onRequest hook on,
 * in the scope that registers it and below.
 *
 * @throws HOLDFAST_OPTION_INVALID, HOLDFAST_ALREADY_REGISTERED, at registration
 */
export const sessionPlugin: FastifyPluginAsync<SessionOptions> = fastifyPlugin(register, { fastify: '5.x', name: 'fastify-holdfast' })

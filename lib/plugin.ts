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
import { discard, statusOf, unwrapResponse } from './payload.ts'
import { claimNames } from './registrations.ts'
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
    work.announced = true
    transports.whenSent(reply, () => { work.delivered = true })
  }
  const manager = new SessionManager(config, announceEarly)
  const none = manager.none()
  const hasLogger = (fastify.log.level as string | undefined) !== undefined
  const watchesEveryKey = process.env['NODE_ENV'] !== 'production'
  const workKey = Symbol(`fastify-holdfast ${sessionName}`)
  const workOf = (request: FastifyRequest): UnitOfWork | null => (request as Worked)[workKey] ?? null
  const setWork = (request: FastifyRequest, work: UnitOfWork): void => { (request as Worked)[workKey] = work }
  const begin = (request: FastifyRequest, reply: FastifyReply, work: UnitOfWork): void => {
    work.reply = reply
    setWork(request, work)
    // After the handshake Fastify runs no hook of this request any more.
    if (hasLogger && isHandshake(request.headers)) request.raw.socket.once('close', () => { reportLost(request.log, work) })
  }
  // Whoever replies to a request that was never resolved, or that failed to be, may ask for a session: there is none.
  const settleForNone = (request: FastifyRequest): void => { if (workOf(request) === null) setWork(request, none) }

  fastify.decorateRequest(workKey as unknown as string, null)
  fastify.decorateRequest(sessionName, {
    getter(this: FastifyRequest) {
      const work = workOf(this)
      if (work === null) throw unresolvedError(sessionName)
      return work.session
    },
    setter() { throw new SessionError('HOLDFAST_SESSION_READONLY') }
  })
  fastify.decorate(`${sessionName}s`, new StoredSessions(config, manager, transports))

  fastify.addHook('onRequest', function resolveSession(request, reply, done) {
    if ((request.routeOptions.config as unknown as Record<string, unknown>)[sessionName] === false) {
      setWork(request, none)
      return done()
    }
    const work = manager.resolve(transports.read(request.raw.headers, request.log))
    if (isPromise(work)) return work.then((resolved) => { begin(request, reply, resolved) })
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
    if (work.committing) {
      // Fastify runs onSend again for the reply to an error thrown in it: the commit is done once.
      if (work.committed !== undefined) return done()
      // A second reply, which an earlier hook held up until now. It ends here: `send` refuses it.
      reply.send(payload)
      return
    }
    const succeed = (outcome: Outcome, body: unknown): unknown => {
      tellCommit(request.log, work, sessionName, outcome.did)
      work.committed = 'done'
      if (hasLogger) work.watch(reportLate, watchesEveryKey)
      const unwrapped = unwrapResponse(reply, body)
      announce(work, reply, outcome)
      return unwrapped
    }
    const fail = (error: unknown, body: unknown): unknown => {
      tellCommit(request.log, work, sessionName, 'failed')
      work.committed = 'failed'
      transports.retract(reply)
      if (work.accessed) transports.vary(reply)
      if (statusOf(reply, body) < 400) {
        takeOffSuccess(reply)
        discard(body)
        throw error
      }
      // The reply is an error already, and stays as it is.
      reply.log.error({ err: error }, 'the session could not be committed')
      return body
    }
    let outcome: Outcome | Promise<Outcome>
    try {
      outcome = manager.commit(work, mayBegin(request, statusOf(reply, payload)), request.log)
    } catch (error) {
      return done(null, fail(error, payload))
    }
    if (!isPromise(outcome)) return done(null, succeed(outcome, payload))
    const held = new HeldReply(reply, payload)
    const goOn = (settle: () => unknown): void => {
      held.release()
      try {
        const body = settle()
        held.assertPayload()
        // Fastify goes on in this very step: nobody can reply between the release and this.
        done(null, body)
      } catch (error) {
        done(error as Error)
      }
    }
    outcome.then((end) => { goOn(() => succeed(end, held.payload)) }, (error: unknown) => { goOn(() => fail(error, held.payload)) })
  })

  // Without a logger nobody would hear of it; with one, Fastify listens for the end of each response anyway.
  if (hasLogger) {
    fastify.addHook('onResponse', function reportUncommitted(request, _reply, done) {
      const work = workOf(request)
      if (work !== null && work !== none) {
        if (!work.committing) reportLost(request.log, work)
        else if (work.accessed && (watchesEveryKey || work.hasOtherValues())) work.changedLate()
      }
      done()
    })
  }

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

/** Where hijack() or reply.raw went past the commit: what was changed is lost, and so is a new id. */
function reportLost(log: FastifyBaseLogger, work: UnitOfWork): void {
  if (work.isUnstored()) {
    log.warn({ session: work.knownKey }, 'What the request changed in its session was not stored: the reply went out past Fastify. Call session.save() before it does.')
  } else if (!work.delivered && (work.status === 'regenerated' || (work.record !== undefined && work.isNew && !work.adopted))) {
    log.warn({ session: work.knownKey }, 'The request began a session whose id the client did not get: the reply went out past Fastify. ' +
      'Call session.save() before it does, and hand on reply.getHeaders().')
  }
}

/** What was changed when the commit was over is lost. */
function reportLate({ reply, knownKey }: UnitOfWork): void {
  reply?.log.warn({ session: knownKey }, 'What was changed in the session after its reply was not stored. Change it before the reply is sent, ' +
    'or store it with session.update() or session.save().')
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

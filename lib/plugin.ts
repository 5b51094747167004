import { fastifyCookie } from '@fastify/cookie'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'

import { takeOffSuccess } from './caches.ts'
import { committed } from './diagnostics.ts'
import { optionError, SessionError } from './errors.ts'
import { SessionManager } from './manager.ts'
import { isPromise } from './operation.ts'
import { configure, type Config } from './options.ts'
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

  const manager = new SessionManager(config)
  const transports = new Transports(config)
  const none = manager.none()
  const workKey = Symbol(`fastify-holdfast ${sessionName}`)
  const workOf = (request: FastifyRequest): UnitOfWork | null => (request as Worked)[workKey] ?? null
  const begin = (request: FastifyRequest, reply: FastifyReply, work: UnitOfWork): void => {
    work.reply = reply;
    (request as Worked)[workKey] = work
  }

  fastify.decorateRequest(workKey as unknown as string, null)
  fastify.decorateRequest(sessionName, { getter(this: FastifyRequest) { return (workOf(this) ?? none).session } })
  fastify.decorate(`${sessionName}s`, new StoredSessions(config, manager, transports))

  fastify.addHook('onRequest', function resolveSession(request, reply, done) {
    if ((request.routeOptions.config as unknown as Record<string, unknown>)[sessionName] === false) return done()
    const work = manager.resolve(transports.read(request.raw.headers, request.log))
    if (isPromise(work)) return work.then((resolved) => { begin(request, reply, resolved) })
    begin(request, reply, work)
    done()
  })

  fastify.addHook('onSend', function commitSession(request, reply, payload, done) {
    const work = workOf(request)
    // Fastify runs onSend again for the reply to an error thrown in it: the commit is done once.
    if (work === null || work.committing) return done()
    const tell = (outcome: Outcome): unknown => {
      tellCommit(request.log, work, sessionName, outcome.did)
      const unwrapped = unwrapResponse(reply, payload)
      transports.write(reply, work.carried, outcome, work.attributes, work.accessed, clock.now())
      return unwrapped
    }
    const fail = (error: unknown): unknown => {
      tellCommit(request.log, work, sessionName, 'failed')
      if (work.accessed) transports.vary(reply)
      return failReply(reply, payload, error, config)
    }
    let outcome
    try {
      outcome = manager.commit(work, mayBegin(request, statusOf(reply, payload)), request.log)
      if (isPromise(outcome)) return outcome.then(tell, fail)
    } catch (error) {
      return done(null, fail(error))
    }
    done(null, tell(outcome))
  })

  // It costs nothing where each request is logged anyway, and helps nobody where nothing is.
  if ((fastify.log.level as string | undefined) !== undefined) {
    fastify.addHook('onResponse', function reportUncommitted(request, _reply, done) {
      const work = workOf(request)
      if (work !== null && !work.committing) reportLost(request.log, work)
      done()
    })
  }

  if (options.store === undefined) fastify.addHook('onClose', async () => { await store.close?.() })
}

const claimed = Symbol('fastify-holdfast names')

/** Two registrations that one request meets must not read and set the same header or cookie. */
function claimNames(fastify: FastifyInstance & { [claimed]?: readonly string[] }, { sessionCookie, sessionHeader }: Config): void {
  const names = fastify[claimed] ?? []
  const cookie = `cookie ${sessionCookie}`
  const header = `header ${String(sessionHeader).toLowerCase()}`
  if (sessionCookie !== false && names.includes(cookie)) throw optionError('sessionCookie', 'another name than the other registration has')
  if (sessionHeader !== false && names.includes(header)) throw optionError('sessionHeader', 'another name than the other registration has')
  // On this scope alone: those below inherit it, those beside it do not.
  Object.defineProperty(fastify, claimed, { value: [...names, cookie, header], configurable: true })
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

/** As Fastify tells one: it need not be Node's own. */
function isResponse(payload: unknown): payload is Response {
  return Object.prototype.toString.call(payload) === '[object Response]'
}

function statusOf(reply: FastifyReply, payload: unknown): number {
  return isResponse(payload) ? payload.status : reply.statusCode
}

/** A web Response brings its own headers, which Fastify lays over those of the reply: they go there first, so that ours are not lost. */
function unwrapResponse(reply: FastifyReply, payload: unknown): unknown {
  if (!isResponse(payload) || payload.bodyUsed) return payload
  reply.code(payload.status)
  for (const [name, value] of payload.headers) reply.header(name, value)
  return new Response(payload.body, { status: payload.status })
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
  } else if (work.record !== undefined && work.isNew && !work.adopted) {
    log.warn({ session: work.knownKey }, 'The request began a session whose id the client did not get: the reply went out past Fastify.')
  }
}

/**
 * What the reply becomes when the commit failed: the error, with nothing left on it of the success that was meant. A reply
 * that is an error already stays as it is.
 */
function failReply(reply: FastifyReply, payload: unknown, error: unknown, config: Config): unknown {
  if (statusOf(reply, payload) >= 400) {
    reply.log.error({ err: error }, 'the session could not be committed')
    return payload
  }
  takeOffSuccess(reply, config.sessionHeader)
  discard(payload)
  throw error
}

function discard(payload: unknown): void {
  const stream = isResponse(payload) ? payload.body : payload as Partial<{ destroy(): void, cancel(): Promise<void> }> | null | undefined
  if (stream === null || stream === undefined || typeof stream !== 'object') return
  if ('destroy' in stream && typeof stream.destroy === 'function') stream.destroy()
  else if (typeof stream.cancel === 'function') stream.cancel().catch(() => {})
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

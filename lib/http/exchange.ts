import type { FastifyReply } from 'fastify'

import type { HttpConfig } from './config.ts'
import { addAttributes } from './cookie-attributes.ts'
import { logLoss, makeWay, staysAsItIs, toldAnyway } from './failed-commit.ts'
import { HeldReply, type Done } from './held-reply.ts'
import { logCommit, LossReporter } from './log.ts'
import { isHandshake, type PresentedToken } from './request.ts'
import { SessionResponse } from './response.ts'
import { beginsWith } from './transports.ts'
import { whyWithheld, type Withheld } from './withheld.ts'
import { wordingFor, type Wording } from './wording.ts'
import type { BeginsWith, CommitResult, SessionClient } from '../session/client.ts'
import type { RequestSession } from '../session/request-session.ts'
import type { Session } from '../session/session.ts'
import { isPromise } from '../session/waiting.ts'
import type { Clock } from '../../types/clock.ts'
import type { CookieAttributes } from '../../types/session.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What all exchanges of a registration share. */
export interface ExchangeConfig extends HttpConfig {
  readonly clock: Clock
  /** How to report what is lost. Undefined: nobody reads the log. */
  readonly lossReports: 'all' | 'cheap' | undefined
}

/** One request and its reply, with the session between them. */
export class Exchange implements SessionClient {
  readonly #config: ExchangeConfig
  readonly #reply: FastifyReply
  readonly #presented: PresentedToken
  readonly #response: SessionResponse
  #session: RequestSession | undefined
  #phase: 'open' | 'committing' | 'committed' | 'failed' = 'open'
  /** The reply, while it waits for the commit. */
  #held: HeldReply | undefined
  #losses: LossReporter | undefined

  constructor(config: ExchangeConfig, reply: FastifyReply, presented: PresentedToken) {
    this.#config = config
    this.#reply = reply
    this.#presented = presented
    this.#response = new SessionResponse(config, reply, presented)
  }

  /** Takes the session that was loaded, once, before the handler can see it. */
  begin(session: RequestSession): void {
    this.#session = session
  }

  /** The object that the handler holds. */
  get session(): Session {
    return this.#loaded.session
  }

  get log(): FastifyReply['log'] {
    // A hook may have given the request a logger of its own.
    return this.#reply.request.log
  }

  get isCommitStarted(): boolean {
    return this.#phase !== 'open'
  }

  get isCommitted(): boolean {
    return this.#phase === 'committed' || this.#phase === 'failed'
  }

  canReceiveId(): boolean {
    if (this.#reply.raw.headersSent || isHandshake(this.#reply.request.headers)) return false
    // A reply that waits for its commit counts as sent.
    return this.isCommitStarted || !this.#reply.sent
  }

  announce(result: CommitResult): void {
    this.#response.announce(result, this.#wording)
  }

  withdraw(): void {
    if (!this.#response.isAnnounced || this.#reply.raw.headersSent) return
    this.#response.write({ action: 'nothing', reply: 'none' }, this.#wording)
  }

  get isCookieWithheld(): boolean {
    return this.#withheld !== undefined
  }

  get beginsWith(): BeginsWith {
    return beginsWith(this.#config, this.#presented, this.#withheld)
  }

  addCookieAttributes(present: string, attributes: CookieAttributes): CookieAttributes {
    return addAttributes(this.#config, present, attributes)
  }

  whenClosed(callback: () => void): void {
    const { raw } = this.#reply
    if (raw.closed || raw.destroyed) callback()
    else raw.once('close', callback)
  }

  sessionOpened(): void {
    const { lossReports } = this.#config
    if (lossReports === undefined || this.#losses !== undefined) return
    this.#losses = new LossReporter(this.#loaded, this.#reply, lossReports === 'all')
    // Fastify runs no hook at the end of a WebSocket, nor if the client has left.
    this.whenClosed(() => this.#closed())
    if (this.#phase === 'committed') this.#losses.committed(false)
  }

  sessionChanged(): void {
    this.#losses?.changed()
  }

  /**
   * Commits the session before the reply with this payload leaves, and then goes on. Fastify calls
   * this again for the reply to an error of its own: the commit is done once.
   */
  commit(payload: unknown, isSuccess: boolean, done: Done): void {
    if (this.#held !== undefined) {
      // A second reply, which an earlier hook held up until now.
      this.#held.refuse(payload)
      return
    }
    if (this.isCommitStarted) return done(null, payload)
    this.#phase = 'committing'
    let result: MaybePromise<CommitResult>
    try {
      result = this.#loaded.commit(isSuccess)
    } catch (error) {
      this.#fail(payload, error)
      return done(null, payload)
    }
    if (isPromise(result)) return this.#hold(payload, result, done)
    this.#succeed(payload, result, false)
    done(null, payload)
  }

  /** Holds the reply until it is known what the commit came to. */
  #hold(payload: unknown, result: Promise<CommitResult>, done: Done): void {
    const held = (this.#held = new HeldReply(this.#reply, payload))
    const goOn = (settle: () => void): void => {
      this.#held = undefined
      held.goOn(settle, done)
    }
    result.then(
      (settled) => goOn(() => this.#succeed(payload, settled, true)),
      (error: unknown) => goOn(() => this.#fail(payload, error))
    )
  }

  #succeed(payload: unknown, result: CommitResult, waited: boolean): void {
    this.#phase = 'committed'
    try {
      this.#response.write(result, this.#wording)
      logCommit(this.#reply.log, this.#config.sessionName, this.#loaded.state, result.action)
    } catch (error) {
      this.#fail(payload, error)
    }
    if (result.reply !== 'undeliverable') this.#losses?.committed(waited)
  }

  /** Makes the reply an error, unless it is one already and stays it. @throws the error */
  #fail(payload: unknown, error: unknown): void {
    const { state } = this.#loaded
    this.#phase = 'failed'
    const told = toldAnyway(state)
    const isNew = state.status === 'loaded' && state.identity.isNew
    if (told !== undefined) this.#response.announce(told, this.#wording)
    else if (!isNew || !this.#response.isAnnounced) this.#response.retract()
    if (this.#wording.isRead) this.#response.vary()
    const isKept = staysAsItIs(this.#config, this.#reply, payload)
    if (!isKept) makeWay(this.#reply, payload, error)
    // Last, for an app's logger may throw.
    logCommit(this.#reply.log, this.#config.sessionName, state, isKept ? 'lost' : 'failed')
    logLoss(this.#reply, state, error, isKept)
    if (!isKept) throw error
  }

  #closed(): void {
    // If the client has left before its reply, the commit is still to come.
    const isPastFastify = !this.isCommitStarted && !this.canReceiveId()
    if (!isPastFastify && this.#phase !== 'committed') return
    this.#losses?.responseClosed({ isPastFastify, isIdSent: this.#response.isDelivered })
  }

  get #wording(): Wording {
    return wordingFor(this.#loaded, this.#withheld, this.#config.clock)
  }

  get #withheld(): Withheld | undefined {
    const { isStale } = this.#loaded.state.cookie
    return whyWithheld(this.#config, this.#reply.request, this.#presented, isStale)
  }

  get #loaded(): RequestSession {
    return this.#session as RequestSession
  }
}

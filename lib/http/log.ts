import type { FastifyBaseLogger, FastifyReply } from 'fastify'

import { inNextTurn } from '../clock.ts'
import { committed } from '../events.ts'
import type { RequestSession } from '../session/request-session.ts'
import type { SessionState } from '../session/state.ts'
import type { CommitOutcome } from '../../types/events.ts'

/** Pino's logger can say whether a level is written; another logger need not. */
type Logger = FastifyBaseLogger & { isLevelEnabled?: (level: string) => boolean }

/** Publishes a commit, and logs it at level debug, with what is safe to log. */
export function logCommit(
  log: Logger,
  sessionName: string,
  state: SessionState,
  outcome: CommitOutcome
): void {
  const isDebug = isDebugged(log)
  if (!isDebug && !committed.hasSubscribers) return
  const message = {
    sessionName,
    session: state.identity.handleIfKnown,
    removed: state.removed,
    status: state.statusAtCommit,
    outcome
  }
  if (isDebug) log.debug(message, 'session committed')
  if (committed.hasSubscribers) committed.publish(message)
}

/** Whether lines of level debug are written, as far as a logger tells. */
function isDebugged(log: Logger): boolean {
  if (log.isLevelEnabled !== undefined) return log.isLevelEnabled('debug') !== false
  // Without a logger, Fastify has a default one: the same function, which does nothing, for each
  // level.
  return log.debug !== log.info
}

/**
 * Warns of what is lost: changes of a session that no commit stored, and new ids that did not reach
 * the client. Handlers hold the session and may change it at any time. So it is looked at when the
 * response is over, and watched from the commit on.
 */
export class LossReporter {
  readonly #session: RequestSession
  readonly #reply: FastifyReply
  /** Whether to notice every change, and not only those that cost nothing to notice. */
  readonly #isThorough: boolean
  #isCommitted = false
  #isChecking = false
  #hasWarned = false

  constructor(session: RequestSession, reply: FastifyReply, isThorough: boolean) {
    this.#session = session
    this.#reply = reply
    this.#isThorough = isThorough
  }

  /**
   * Watches the session from now on, as it is committed.
   *
   * @param waited whether there was time to change it while the commit was under way
   */
  committed(waited: boolean): void {
    this.#isCommitted = true
    this.#session.state.data.watch(this.#isThorough)
    if (waited && !this.#isThorough && this.#isUnstored()) this.changed()
  }

  /** The session was changed, or may have been: looks at it once the response is over. */
  changed(): void {
    if (this.#isChecking || this.#hasWarned || !this.#isCommitted) return
    this.#isChecking = true
    const { raw } = this.#reply
    if (raw.writableFinished || raw.destroyed) inNextTurn(() => this.#check())
    else raw.once('close', () => this.#check())
  }

  /** Warns that a change came after the commit. */
  #warnOfChange(): void {
    this.#hasWarned = true
    this.#warn(
      'What was changed in the session after its reply was not stored. Change it before the ' +
        'reply is sent, or store it with session.update() or session.save().'
    )
  }

  /** Looks at the session when the response is over, however it came about. */
  responseClosed({ isPastFastify, isIdSent }: { isPastFastify: boolean; isIdSent: boolean }): void {
    if (isPastFastify) this.#warnOfLoss(isIdSent)
    else if (this.#isThorough || this.#session.state.data.hasOtherValues()) this.changed()
  }

  /** What is not stored by now is lost, if no operation is under way that stores it. */
  #check(): void {
    const { pending } = this.#session
    if (pending !== undefined) {
      void pending.then(() => this.#check())
      return
    }
    if (this.#isUnstored()) this.#warnOfChange()
    // Only now: to look at a watched object counts as a change.
    this.#isChecking = false
  }

  /** hijack() or reply.raw went past the commit. */
  #warnOfLoss(isIdSent: boolean): void {
    if (this.#isUnstored()) {
      this.#warn(
        'What the request changed in its session was not stored: the reply went out past ' +
          'Fastify. Call session.save() before it does.'
      )
    } else if (!isIdSent && this.#isIdUnknown()) {
      this.#warn(
        'The request began a session whose id the client did not get: the reply went out past ' +
          'Fastify. Call session.save() before it does, and hand on reply.getHeaders().'
      )
    }
  }

  /** Whether the session has changes that were not stored, even such as cannot be serialised. */
  #isUnstored(): boolean {
    const { state } = this.#session
    try {
      if (state.status === 'gone') return false
      const snapshot = state.snapshot()
      // A lifetime alone is nothing to store.
      return state.record === undefined ? snapshot.text !== '' : state.data.isChanged(snapshot)
    } catch {
      return true
    }
  }

  /** Whether the client does not know the id yet. */
  #isIdUnknown(): boolean {
    const { status, record, identity } = this.#session.state
    if (status === 'regenerated') return true
    return record !== undefined && identity.isNew && !identity.isAdopted
  }

  #warn(message: string): void {
    this.#reply.log.warn({ session: this.#session.state.identity.handleIfKnown }, message)
  }
}

/** Without a logger nobody would read of losses; in production only what is cheap is noticed. */
export function lossReportsOf({ level }: { readonly level?: string }): 'cheap' | 'all' | undefined {
  if (level === undefined) return undefined
  return process.env['NODE_ENV'] === 'production' ? 'cheap' : 'all'
}

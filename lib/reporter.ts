import type { UnitOfWork } from './unit-of-work.ts'

/**
 * Warns of what is lost: changes of a session that no commit stored, and new ids that did not reach the client.
 * Handlers hold the session and may change it at any time. So it is looked at when the response is over; and after the commit it says
 * itself when it is changed.
 */
export class Reporter {
  /** Whether to notice every change, and not just those that cost nothing to notice. */
  readonly #thorough: boolean

  constructor(thorough: boolean) {
    this.#thorough = thorough
  }

  /** Somebody has the session from now on. */
  shown(work: UnitOfWork): void {
    // Also where Fastify runs no hook at the end: after a WebSocket, and where the client has left.
    work.reply?.raw.once('close', () => { this.#closed(work) })
    if (work.committed === 'done') work.watch(this.#thorough)
  }

  /** @param waited whether there was time to change the session while the commit was under way */
  committed(work: UnitOfWork, waited: boolean): void {
    work.watch(this.#thorough)
    if (waited && !this.#thorough && work.accessed && work.isUnstored()) work.changedLate()
  }

  #closed(work: UnitOfWork): void {
    // Where the client has left before its reply, the commit is still to come.
    if (!work.committing && !work.canBringId) reportLost(work)
    else if (work.committed === 'done' && (this.#thorough || work.hasOtherValues())) work.changedLate()
  }

  /** What was changed when the commit was over is lost. */
  changedLate({ reply, knownKey }: UnitOfWork): void {
    reply?.log.warn({ session: knownKey }, 'What was changed in the session after its reply was not stored. Change it before the reply is sent, ' +
      'or store it with session.update() or session.save().')
  }
}

/** Where hijack() or reply.raw went past the commit: what was changed is lost, and so is a new id. */
function reportLost(work: UnitOfWork): void {
  const { reply, knownKey } = work
  if (work.isUnstored()) {
    reply?.log.warn({ session: knownKey }, 'What the request changed in its session was not stored: the reply went out past Fastify. Call session.save() before it does.')
  } else if (!work.delivered && (work.status === 'regenerated' || (work.record !== undefined && work.isNew && !work.adopted))) {
    reply?.log.warn({ session: knownKey }, 'The request began a session whose id the client did not get: the reply went out past Fastify. ' +
      'Call session.save() before it does, and hand on reply.getHeaders().')
  }
}

import type { FastifyReply } from 'fastify'

import { destroyed, regenerated, rejected } from './diagnostics.ts'
import { SessionError, unavailableError } from './errors.ts'
import { expiry, isLive } from './lifetime.ts'
import { merge, type Data } from './merge.ts'
import { isPromise, operate, type Operation, type Steps } from './operation.ts'
import type { Config } from './options.ts'
import type { Carried, Outcome } from './transport.ts'
import { UnitOfWork, type Operations, type Snapshot } from './unit-of-work.ts'
import { sameLife } from './version.ts'
import { unchanged, Writer } from './writer.ts'
import type { Deed } from '../types/events.ts'
import type { SessionData, Transport } from '../types/session.ts'
import type { MaybePromise, SessionRecord } from '../types/store.ts'

/** Where the manager tells what no caller gets to know; Fastify's `request.log` is one. */
export interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

/** Puts on a reply, before its commit, what the client is to be told of a session. */
export type Announce = (work: UnitOfWork, reply: FastifyReply, outcome: Outcome) => void

const nothingCarried: Carried = Object.freeze({ id: undefined, wire: undefined, renew: false, transport: undefined, cookie: undefined, browser: false })

const nothing: Outcome = Object.freeze({ did: 'nothing', tell: 'nothing' })
const gone: Outcome = Object.freeze({ did: 'gone', tell: 'nothing' })

/** Resolves what a request carries into a session, runs the operations on it, and commits it at the end. */
export class SessionManager implements Operations {
  readonly #config: Config
  readonly #writer: Writer
  readonly #announce: Announce

  constructor(config: Config, announce: Announce) {
    this.#config = config
    this.#writer = new Writer(config)
    this.#announce = announce
  }

  /** Stands where there is no session: one that is empty, frozen, and refuses to change. */
  none(): UnitOfWork {
    return new UnitOfWork(this.#config, this, nothingCarried, 'none')
  }

  /** Begins a session without a request. */
  begin(): UnitOfWork {
    return new UnitOfWork(this.#config, this, nothingCarried, 'new')
  }

  /** Turns what a request carries into its session. Rejects if the store fails: that is not "no session". */
  resolve(carried: Carried): MaybePromise<UnitOfWork> {
    const work = new UnitOfWork(this.#config, this, carried, 'new')
    if (carried.id !== undefined) return operate(this.#config, (operation) => this.#resolve(operation, work, carried.id as string))
    if (carried.transport !== undefined) work.forget()
    return work
  }

  *#resolve(operation: Operation, work: UnitOfWork, id: string): Steps<UnitOfWork> {
    const { adoptUnknownIds, clock, lifetimes } = this.#config
    const record = yield* operation.get(work.key)
    if (record !== undefined && isLive(record, clock.now(), lifetimes)) {
      work.load(record)
      work.owed = work.carried.renew
    } else if (record === undefined && work.carried.transport === 'header' && adoptUnknownIds(id)) {
      work.adopted = true
    } else {
      if (rejected.hasSubscribers) {
        rejected.publish({ sessionName: this.#config.sessionName, transport: work.carried.transport as Transport, reason: record === undefined ? 'unknown' : 'expired', session: work.key })
      }
      work.forget()
    }
    return work
  }

  /** The session that is stored under a public id, without a request; undefined if there is none. */
  find(publicId: string): MaybePromise<UnitOfWork | undefined> {
    return operate(this.#config, (operation) => this.#find(operation, publicId))
  }

  *#find(operation: Operation, publicId: string): Steps<UnitOfWork | undefined> {
    const { clock, lifetimes } = this.#config
    const record = yield* operation.get(publicId)
    if (record === undefined || !isLive(record, clock.now(), lifetimes)) return undefined
    const work = new UnitOfWork(this.#config, this, nothingCarried, 'new', publicId)
    work.load(record)
    return work.isDecodable() ? work : undefined
  }

  /**
   * Ends a request: the only place where that touches the store. Waits for the operations under way, and those that
   * begin meanwhile wait for it.
   *
   * @param mayBegin whether a session that nothing was written to may begin with this request
   */
  commit(work: UnitOfWork, mayBegin: boolean, log: Log): MaybePromise<Outcome> {
    work.committing = true
    if (work.pending !== undefined) return work.pending.then(() => this.commit(work, mayBegin, log))
    const end = this.#decide(work, mayBegin, log)
    if (typeof end !== 'function') return end
    const outcome = operate(this.#config, end)
    if (isPromise(outcome)) work.occupy(outcome)
    return outcome
  }

  /** What a request ends in: an outcome, or what has to be done in the store to have one. */
  #decide(work: UnitOfWork, mayBegin: boolean, log: Log): Outcome | ((operation: Operation) => Steps<Outcome>) {
    work.endedAs = work.status
    if (work.undecodable !== undefined) log.warn({ session: work.undecodable }, 'the stored session could not be decoded, and counts as unknown')
    if (work.fault !== undefined) throw work.fault
    if (work.status === 'gone') return dropped(work, log)
    const snapshot = work.snapshot()
    if (work.status !== 'loaded') {
      const begins = mayBegin && this.#config.saveUninitialized && !work.cookieDead && work.status !== 'destroyed'
      if (snapshot.text === '' && !begins) return work.cookieRemoved ? { did: 'nothing', tell: 'clear' } : nothing
      return (operation) => this.#create(operation, work, snapshot)
    }
    if (work.changes(snapshot)) return (operation) => this.#replace(operation, work, snapshot, log)
    if (work.owed || this.#touchIsDue(work)) return (operation) => this.#touch(operation, work, log)
    return { did: 'nothing', tell: 'id', id: work.wireId, confirmed: false, expiresAt: work.expiresAt }
  }

  /** Whether to move the expiry of a session that was loaded. */
  #touchIsDue(work: UnitOfWork): boolean {
    const { mirror, touchAfter } = this.#config
    const record = work.record as SessionRecord
    // A session with a short life of its own would end before a touch of the usual measure is due.
    const worthwhile = Math.min(touchAfter, (record.maxAge ?? Infinity) * 1000 / 10)
    return work.touchAsked || mirror || touchAfter === 0 || this.#expiryOf(record) - record.expiresAt >= worthwhile
  }

  /** When a session ends that is used now. */
  #expiryOf({ createdAt, maxAge }: SessionRecord): number {
    const { clock, lifetimes } = this.#config
    return expiry(clock.now(), createdAt, maxAge, lifetimes)
  }

  *#create(operation: Operation, work: UnitOfWork, snapshot: Snapshot): Steps<Outcome> {
    yield* this.#writer.write(operation, work, snapshot, unchanged)
    return tellId(work, 'created')
  }

  *#replace(operation: Operation, work: UnitOfWork, snapshot: Snapshot, log: Log): Steps<Outcome> {
    try {
      yield* this.#writer.write(operation, work, snapshot, unchanged)
      return tellId(work, 'updated')
    } catch (error) {
      if ((error as SessionError).code === 'HOLDFAST_SESSION_GONE') return dropped(work, log)
      throw error
    }
  }

  *#touch(operation: Operation, work: UnitOfWork, log: Log): Steps<Outcome> {
    try {
      const expiresAt = this.#expiryOf(work.record as SessionRecord)
      const liveUntil = yield* operation.forgiving(() => operation.touch(work.key, expiresAt))
      if (liveUntil !== undefined) {
        work.touched(liveUntil)
        return tellId(work, 'touched')
      }
      work.end()
      return gone
    } catch (err) {
      // Who does not hold this id yet would lose the session by a reply without it.
      if (work.wireId !== work.carried.id) throw err
      log.warn({ err, session: work.key }, 'the session could not be touched')
      return nothing
    }
  }

  update<Result>(work: UnitOfWork, change: (draft: SessionData) => Result): Promise<Result> {
    return this.#enqueue(work, (operation) => this.#update(operation, work, change))
  }

  *#update<Result>(operation: Operation, work: UnitOfWork, change: (draft: SessionData) => Result): Steps<Result> {
    if (work.status === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
    assertReachable(work)
    return yield* this.#writer.write(operation, work, work.snapshot(), change)
  }

  save(work: UnitOfWork): Promise<void> {
    return this.#enqueue(work, (operation) => this.#save(operation, work))
  }

  *#save(operation: Operation, work: UnitOfWork): Steps<void> {
    if (work.status === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
    const { reply } = work
    const announces = reply !== undefined && work.canBringId
    const outcome = yield* this.#saveChanges(operation, work, work.snapshot(), announces && work.owed)
    if (outcome.did === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
    // The commit has to tell it again, and has the last word; whoever takes over the reply finds it there.
    if (outcome.tell === 'id') work.owed ||= outcome.confirmed
    if (announces && work.canBringId) this.#announce(work, reply, outcome)
  }

  /** @param owed whether the store has to confirm that the session is live, though nothing has changed */
  *#saveChanges(operation: Operation, work: UnitOfWork, snapshot: Snapshot, owed: boolean): Steps<Outcome> {
    if (work.status === 'destroyed' && snapshot.text === '') return work.cookieRemoved ? { did: 'nothing', tell: 'clear' } : nothing
    assertReachable(work)
    if (work.status === 'loaded' && !work.changes(snapshot)) {
      // A session that is loaded and can be saved is that of a request.
      if (owed || this.#touchIsDue(work)) return yield* this.#touch(operation, work, (work.reply as FastifyReply).log)
      return { did: 'nothing', tell: 'id', id: work.wireId, confirmed: false, expiresAt: work.expiresAt }
    }
    yield* this.#writer.write(operation, work, snapshot, unchanged)
    return tellId(work, 'updated')
  }

  /** Has the commit touch the session. Where there is none to come, for the reply has been taken over or is gone, it is done without. */
  touch(work: UnitOfWork): void {
    // Only a request has a session that can be touched.
    const reply = work.reply as FastifyReply
    const isAsked = work.touchAsked
    work.touchAsked = true
    if (!work.canBringId) this.#touchNow(work, reply.log)
    else if (!isAsked) reply.raw.once('close', () => { if (!work.committing) this.#touchNow(work, reply.log) })
  }

  #touchNow(work: UnitOfWork, log: Log): void {
    this.#enqueue(work, (operation) => this.#touchLoaded(operation, work, log)).catch((err: unknown) => {
      log.warn({ err, session: work.knownKey }, 'the session could not be touched')
    })
  }

  *#touchLoaded(operation: Operation, work: UnitOfWork, log: Log): Steps<void> {
    if (work.status === 'loaded') yield* this.#touch(operation, work, log)
  }

  regenerate(work: UnitOfWork, keep: readonly string[]): Promise<void> {
    return this.#enqueue(work, (operation) => this.#regenerate(operation, work, keep))
  }

  *#regenerate(operation: Operation, work: UnitOfWork, keep: readonly string[]): Steps<void> {
    if (!Array.isArray(keep)) throw new SessionError('HOLDFAST_VALUE_INVALID')
    // Before anything is removed: where no reply will bring the new id, this would be a logout.
    if (work.reply !== undefined && !work.canBringId) throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
    const { codec } = this.#config
    const snapshot = work.snapshot()
    const { record } = work
    let data = codec.parse(snapshot.text)
    // Before anything is removed: what is kept will have to be stored.
    codec.assertFits(codec.stringify(pick(data, keep)))
    const removed = work.mayBeStored ? yield* this.#remove(operation, work, regenerated) : undefined
    if (record !== undefined) {
      if (removed !== undefined && sameLife(removed.version, record.version)) {
        data = merge(codec.parse(record.data), data, codec.parse(removed.data), codec.same)
      } else {
        // Another request ended this session, and what was in it has ended with it.
        if (keep.some((key) => Object.hasOwn(data, key))) {
          work.end()
          throw new SessionError(operation.forgave ? 'HOLDFAST_OUTCOME_UNKNOWN' : 'HOLDFAST_SESSION_GONE')
        }
        data = {}
      }
    }
    const kept = codec.stringify(pick(data, keep))
    this.#withdraw(work)
    work.restart('regenerated')
    work.show(kept, snapshot)
  }

  destroy(work: UnitOfWork): Promise<void> {
    return this.#enqueue(work, (operation) => this.#destroy(operation, work))
  }

  *#destroy(operation: Operation, work: UnitOfWork): Steps<void> {
    const held = work.held()
    if (work.mayBeStored) yield* this.#remove(operation, work, destroyed)
    this.#withdraw(work)
    work.restart('destroyed')
    work.drop(held)
  }

  /** What `save()` has put on the reply is not to go out any more, whoever sends it. */
  #withdraw(work: UnitOfWork): void {
    const { reply } = work
    if (work.announced && reply !== undefined && work.endedAs === undefined && !reply.raw.headersSent) this.#announce(work, reply, nothing)
  }

  /** Takes the record away; who is answered the record is the one who did. */
  *#remove(operation: Operation, work: UnitOfWork, event: typeof destroyed): Steps<SessionRecord | undefined> {
    const removed = yield* operation.forgiving(() => operation.delete(work.key))
    if (removed === undefined) {
      work.end()
    } else {
      work.removed = work.key
      if (work.carried.cookie === work.wireId) work.cookieRemoved = true
      if (event.hasSubscribers) event.publish({ sessionName: this.#config.sessionName, session: work.key })
    }
    return removed
  }

  /** The operations of one request run one after the other, awaited or not. The first begins at once. */
  #enqueue<Result>(work: UnitOfWork, steps: (operation: Operation) => Steps<Result>): Promise<Result> {
    if (work.status === 'none') return Promise.reject(unavailableError())
    const before = work.pending
    const begin = (): MaybePromise<Result> => operate(this.#config, steps)
    let finish!: () => void
    work.occupy(new Promise<void>((resolve) => { finish = resolve }))
    const result = new Promise<Result>((resolve, reject) => {
      const fail = (error: unknown): void => {
        if (work.status === 'gone') this.#withdraw(work)
        if (error instanceof SessionError) {
          // A fault of the store fails the request; so does an error that nobody can have waited for.
          if (error.statusCode === 503 || (work.committing && error.code !== 'HOLDFAST_SESSION_GONE')) work.fault ??= error
          result.catch(() => {})
          // No reply can tell of it any more.
          if (error.code !== 'HOLDFAST_SESSION_GONE' && work.committed !== undefined) work.reply?.log.warn({ err: error, session: work.knownKey }, 'an operation on the session failed after its reply')
        }
        finish()
        reject(error)
      }
      new Promise<Result>((start) => { start(before === undefined ? begin() : before.then(begin)) }).then((answer) => {
        finish()
        resolve(answer)
      }, fail)
    })
    return result
  }
}

/** A record under an id that nobody gets to know would only take room. */
function assertReachable(work: UnitOfWork): void {
  if (!work.isReachable) throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
}

function tellId(work: UnitOfWork, did: Deed): Outcome {
  return { did, tell: 'id', id: work.wireId, confirmed: true, expiresAt: work.expiresAt }
}

function dropped(work: UnitOfWork, log: Log): Outcome {
  log.info({ session: work.key }, 'the session ended while the request ran; what the request changed is dropped')
  return gone
}

function pick(data: Data, keys: readonly string[]): Data {
  return Object.fromEntries(keys.filter((key) => Object.hasOwn(data, key)).map((key) => [key, data[key]]))
}

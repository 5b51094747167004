import { created, merged } from './diagnostics.ts'
import { SessionError } from './errors.ts'
import { expiry } from './lifetime.ts'
import { merge } from './merge.ts'
import { isPromise, isTimeout, Turns, type Operation, type Steps } from './operation.ts'
import type { Config } from './options.ts'
import { isReserved } from './session.ts'
import type { Snapshot, UnitOfWork } from './unit-of-work.ts'
import { firstVersion, includesWrite, nextVersion, remembersSince, sameLife } from './version.ts'
import type { SessionData } from '../types/session.ts'
import type { SessionRecord } from '../types/store.ts'

/** What is being written: fixed until it is known not to have been. */
interface Attempt<Result> {
  readonly record: SessionRecord
  readonly result: Result
  /** No answer came: it may have been written, or still be. */
  lost: boolean
}

const idTries = 3

/** The one place where data is written, for every caller and every store: optimistic, by compare-and-set. */
export class Writer {
  readonly #config: Config
  readonly #turns = new Turns()

  constructor(config: Config) {
    this.#config = config
  }

  /**
   * Stores what the session holds, changed by `change`: creates a record where there is none, else replaces the one that
   * was read. If that has moved on, takes what is there now, lays this request's changes over it and tries again.
   */
  *write<Result>(operation: Operation, work: UnitOfWork, snapshot: Snapshot, change: (draft: SessionData) => Result): Steps<Result> {
    let theirs = work.record
    let attempt: Attempt<Result> | undefined
    let leave: (() => void) | undefined
    let faults = 0
    let tries = 0
    try {
      for (;;) {
        if (tries > 0) {
          leave ??= yield* this.#turns.enter(work.key, operation)
          if (tries > 1 && theirs !== undefined) yield* operation.pause(tries)
          const found = yield* operation.get(work.key)
          if (found !== undefined && attempt !== undefined && includesWrite(found.version, attempt.record.version)) break
          if (found !== undefined && work.record === undefined && !work.adopted) {
            // A minted id that is somebody else's.
            if (tries >= idTries) throw new SessionError('HOLDFAST_ID_TAKEN')
            work.remint()
          } else if (found?.version !== theirs?.version) {
            const moved = found !== undefined && theirs !== undefined && sameLife(found.version, theirs.version)
            if (!moved && work.record !== undefined) {
              work.end()
              throw new SessionError('HOLDFAST_SESSION_GONE')
            }
            if (moved && attempt?.lost === true && !remembersSince(found.version, (theirs as SessionRecord).version)) throw new SessionError('HOLDFAST_OUTCOME_UNKNOWN')
            theirs = found
            attempt = undefined
          }
        }
        attempt ??= this.#attempt(work, snapshot, theirs, change)
        tries += 1
        try {
          const written: boolean = theirs === undefined
            ? yield* operation.create(work.key, attempt.record)
            : yield* operation.update(work.key, attempt.record, theirs.version)
          if (written) break
        } catch (fault) {
          // Whether it took effect is to be read from the record. One fault is forgiven; without time there is no second try.
          if (theirs === undefined) work.creationUncertain = true
          faults += 1
          if (faults > 1 || isTimeout(fault)) throw fault
          attempt.lost = true
        }
      }
    } finally {
      leave?.()
    }
    const event = theirs === undefined ? created : theirs === work.record ? undefined : merged
    if (event?.hasSubscribers === true) event.publish({ sessionName: this.#config.sessionName, session: work.key })
    work.wrote(attempt.record, snapshot)
    return attempt.result
  }

  #attempt<Result>(work: UnitOfWork, snapshot: Snapshot, theirs: SessionRecord | undefined, change: (draft: SessionData) => Result): Attempt<Result> {
    const { clock, codec, lifetimes } = this.#config
    let data = snapshot.text
    let result!: Result
    if (change as unknown !== unchanged || theirs !== work.record) {
      // All parsed anew: a draft that an earlier attempt has changed must not come in.
      const mine = codec.parse(snapshot.text)
      const draft = theirs === undefined || theirs === work.record ? mine : { ...merge(codec.parse(work.record?.data ?? ''), mine, codec.parse(theirs.data), codec.same) }
      const present = new Set(Object.keys(draft))
      result = change(draft)
      if (isPromise(result)) {
        result.then(undefined, () => {})
        throw new SessionError('HOLDFAST_UPDATE_ASYNC')
      }
      for (const key of Object.keys(draft)) {
        if (draft[key] === undefined) delete draft[key]
        else if (isReserved(key) && !present.has(key)) throw new SessionError('HOLDFAST_KEY_RESERVED')
      }
      data = codec.stringify(draft)
    }
    if (data !== theirs?.data) codec.assertFits(data)
    const maxAge = snapshot.maxAge === work.record?.maxAge ? theirs?.maxAge : snapshot.maxAge
    const createdAt = theirs?.createdAt ?? work.createdAt
    const record = {
      data,
      version: theirs === undefined ? firstVersion() : nextVersion(theirs.version),
      createdAt,
      expiresAt: Math.max(theirs?.expiresAt ?? 0, expiry(clock.now(), createdAt, maxAge, lifetimes)),
      ...(maxAge === undefined ? undefined : { maxAge })
    }
    return { record, result, lost: false }
  }
}

/** For a write of what the session holds, no more. */
export function unchanged(): void {}

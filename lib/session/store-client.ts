import { isTimeout, SessionError } from '../errors.ts'
import { fault } from '../events.ts'
import type { Ends } from './ends.ts'
import { looksOf } from './looks.ts'
import { moveOf, tellingOfDelete, tellingOfMove } from './telling.ts'
import { isPromise } from './waiting.ts'
import type { Clock, Timer } from '../../types/clock.ts'
import type { SessionEvents } from '../../types/events.ts'
import type { SessionFeed } from '../../types/feed.ts'
import { SubjectClient } from './subject-client.ts'
import { subjectOf } from '../subject-key.ts'
import type { MaybePromise, SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/** What the client of a store needs of the configuration. */
export interface StoreConfig {
  readonly sessionName: string
  readonly store: SessionStore
  /** Milliseconds. */
  readonly storeTimeout: number
  readonly clock: Clock
  /** Those who wait for an end, in this process. */
  readonly ends: Ends
}

/** Does one piece of work on the store, under one deadline. Returns its result. */
export function withStore<Result>(
  config: StoreConfig,
  operation: (store: StoreClient) => Result
): Result {
  const client = new StoreClient(config)
  const result = operation(client)
  if (isPromise(result)) {
    // Beside the result, not before it: what follows must not come later for it.
    const close = (): void => client.close()
    result.then(close, close)
  }
  return result
}

/**
 * The store, for one operation. Turns failures into SessionErrors, and puts all calls under one
 * deadline: after it, late results are ignored. A store that returns plain values is not awaited.
 */
export class StoreClient {
  readonly #config: StoreConfig
  #isRetried = false
  #deadline: Timer | undefined
  #isOver = false
  #giveUp: (() => void) | undefined

  constructor(config: StoreConfig) {
    this.#config = config
  }

  /** Whether a call was repeated after a failure. The first may have taken effect. */
  get isRetried(): boolean {
    return this.#isRetried
  }

  /** Whether its time is over. */
  get isOver(): boolean {
    return this.#isOver
  }

  get(key: string): MaybePromise<SessionRecord | SessionTrace | undefined> {
    return this.#call('get', key, () => this.#config.store.get(key))
  }

  create(key: string, record: SessionRecord): MaybePromise<boolean> {
    return this.#call('create', key, () => this.#config.store.create(key, record))
  }

  update(key: string, record: SessionRecord, expectedVersion: string): MaybePromise<boolean> {
    return this.#call('update', key, () => this.#config.store.update(key, record, expectedVersion))
  }

  /** Repeats the call once if it fails: it may be made twice. */
  touch(key: string, expiresAt: number): MaybePromise<number | undefined> {
    return this.#retryOnce('touch', key, () => this.#config.store.touch(key, expiresAt))
  }

  /** Repeats the call once if it fails: it may be made twice. */
  delete(key: string): MaybePromise<SessionRecord | SessionTrace | true | undefined> {
    return tellingOfDelete(this.#config.ends, key, () =>
      this.#retryOnce('delete', key, () => this.#config.store.delete(key))
    )
  }

  retire(key: string, trace: SessionTrace): MaybePromise<boolean> {
    const { successor, version: from } = trace
    return tellingOfMove(this.#config.ends, { key, successor, from }, () =>
      this.#call('retire', key, () => this.#config.store.retire(key, trace))
    )
  }

  /** Whether the store moves a session, which stays its subject's, in one step. */
  canMove(key: string): boolean {
    return subjectOf(key) !== undefined || this.#config.store.move !== undefined
  }

  move(...given: [...Parameters<Move>, stamp?: string]): MaybePromise<boolean> {
    const [key, record, trace] = given
    if (subjectOf(key) !== undefined) return this.subjects.move(...given)
    const store = this.#config.store as Required<SessionStore>
    return tellingOfMove(this.#config.ends, moveOf(key, record, trace), () =>
      this.#call('move', key, () => store.move(key, record, trace))
    )
  }

  look(feed: SessionFeed, keys: readonly string[]): ReturnType<SessionFeed['look']> {
    const [only = ''] = keys.length > 1 ? [] : keys
    return this.#call('look', only, () => looksOf(feed, keys))
  }

  /** The sessions of subjects. @throws HOLDFAST_SUBJECTS_UNSUPPORTED */
  get subjects(): SubjectClient {
    return new SubjectClient(this.#config.store.subjects, {
      once: (method, subject, call) => this.#call(method, subject, call),
      twice: (method, subject, call) => this.#retryOnce(method, subject, call),
      ends: this.#config.ends
    })
  }

  /** Waits for something else than the store, under the same deadline. */
  waitFor<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#giveUp = () => reject(new SessionError('HOLDFAST_STORE_TIMEOUT'))
      promise.then(resolve, reject)
      if (this.#isOver) this.#giveUp()
      // One timer for the operation, not one for each call.
      this.#deadline ??= this.#config.clock.setTimeout(() => {
        this.#isOver = true
        this.#giveUp?.()
      }, this.#config.storeTimeout)
    })
  }

  /** Pauses at random, up to 2, 4, 8 … 64 ms, so that colliding writers move apart. */
  pause(collisions: number): Promise<void> {
    const milliseconds = Math.random() * 2 ** Math.min(collisions, 6)
    const pause = new Promise<void>((resolve) => {
      this.#config.clock.setTimeout(resolve, milliseconds)
    })
    return this.waitFor(pause)
  }

  /** Ends the operation: its deadline does not hold the process. */
  close(): void {
    this.#deadline?.close()
  }

  #call<T>(method: Method, key: string, call: () => MaybePromise<T>): MaybePromise<T> {
    let result: MaybePromise<T>
    try {
      result = call()
    } catch (error) {
      throw this.#coded(method, key, error)
    }
    return isPromise(result) ? this.#finish(method, key, result) : result
  }

  async #finish<T>(method: Method, key: string, result: Promise<T>): Promise<T> {
    try {
      return await this.waitFor(result)
    } catch (error) {
      throw this.#coded(method, key, error)
    }
  }

  #retryOnce<T>(method: Method, key: string, call: () => MaybePromise<T>): MaybePromise<T> {
    const retry = (error: unknown): MaybePromise<T> => {
      if (isTimeout(error)) throw error
      this.#isRetried = true
      return this.#call(method, key, call)
    }
    try {
      const result = this.#call(method, key, call)
      return isPromise(result) ? result.catch(retry) : result
    } catch (error) {
      return retry(error)
    }
  }

  #coded(verb: Method, key: string, cause: unknown): SessionError {
    const error =
      cause instanceof SessionError ? cause : new SessionError('HOLDFAST_STORE_FAILED', { cause })
    if (fault.hasSubscribers) {
      const { sessionName } = this.#config
      fault.publish({ sessionName, session: key, verb, code: error.code })
    }
    return error
  }
}

type Method = SessionEvents['fault']['verb']
type Move = Required<SessionStore>['move']

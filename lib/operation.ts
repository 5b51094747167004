import { fault as faults } from './diagnostics.ts'
import { SessionError } from './errors.ts'
import type { Clock, Timer } from '../types/clock.ts'
import type { SessionEvents } from '../types/events.ts'
import type { MaybePromise, SessionRecord, SessionStore } from '../types/store.ts'

/**
 * A piece of work that may have to wait. It is written once, top to bottom, and yields only what must be awaited:
 * over a store that answers with plain values it runs through without a pause.
 */
export type Steps<T> = Generator<Promise<unknown>, T, unknown>

/** Runs steps that may reach the store: the result itself if nothing had to be awaited, else a promise of it, under the time-out. */
export function operate<T>(config: OperationConfig, work: (operation: Operation) => Steps<T>): MaybePromise<T> {
  const operation = new Operation(config)
  const steps = work(operation)
  const first = steps.next()
  return first.done === true ? first.value : drive(operation, steps, first.value)
}

async function drive<T>(operation: Operation, steps: Steps<T>, awaited: Promise<unknown>): Promise<T> {
  try {
    for (;;) {
      const step = await awaited.then((answer) => steps.next(answer), (fault: unknown) => steps.throw(fault))
      if (step.done === true) return step.value
      awaited = step.value
    }
  } finally {
    operation.close()
  }
}

/** Whether an answer has to be waited for. */
export function isPromise<T>(answer: MaybePromise<T>): answer is Promise<T> {
  return typeof (answer as { then?: unknown } | null | undefined)?.then === 'function'
}

/** What an operation needs to know of the configuration. `storeTimeout` is in milliseconds. */
export interface OperationConfig {
  readonly sessionName: string
  readonly store: SessionStore
  readonly storeTimeout: number
  readonly clock: Clock
}

/**
 * The store as one operation sees it: every fault coded, and all calls together under one deadline. An operation that has
 * run out of time is over, whatever the calls still under way come to.
 */
export class Operation {
  readonly #config: OperationConfig
  #deadline: Timer | undefined
  #giveUp: (() => void) | undefined
  #over = false
  /** A call was made again after a fault: the first may have taken effect. */
  forgave = false

  constructor(config: OperationConfig) {
    this.#config = config
  }

  get(key: string): Steps<SessionRecord | undefined> {
    return this.#ask('get', key, () => this.#config.store.get(key))
  }

  create(key: string, record: SessionRecord): Steps<boolean> {
    return this.#ask('create', key, () => this.#config.store.create(key, record))
  }

  update(key: string, record: SessionRecord, expectedVersion: string): Steps<boolean> {
    return this.#ask('update', key, () => this.#config.store.update(key, record, expectedVersion))
  }

  touch(key: string, expiresAt: number): Steps<number | undefined> {
    return this.#ask('touch', key, () => this.#config.store.touch(key, expiresAt))
  }

  delete(key: string): Steps<SessionRecord | undefined> {
    return this.#ask('delete', key, () => this.#config.store.delete(key))
  }

  /** Calls once more if it fails, unless time has run out. For a call that may be made twice. */
  *forgiving<T>(call: () => Steps<T>): Steps<T> {
    try {
      return yield* call()
    } catch (fault) {
      if (isTimeout(fault)) throw fault
      this.forgave = true
      return yield* call()
    }
  }

  /** Waits for something other than the store, under the same deadline. */
  *wait<T>(promise: Promise<T>): Steps<T> {
    return (yield this.#inTime(promise)) as T
  }

  /** Lets writers that collide get out of each other's way: up to 2, 4, 8 … 64 milliseconds, at random. */
  *pause(collisions: number): Steps<void> {
    const milliseconds = Math.random() * 2 ** Math.min(collisions, 6)
    yield* this.wait(new Promise<void>((resolve) => { this.#config.clock.setTimeout(resolve, milliseconds) }))
  }

  close(): void {
    this.#deadline?.close()
  }

  *#ask<T>(verb: SessionEvents['fault']['verb'], key: string, call: () => MaybePromise<T>): Steps<T> {
    try {
      const answer = call()
      return isPromise(answer) ? yield* this.wait(answer) : answer
    } catch (cause) {
      const error = cause instanceof SessionError ? cause : new SessionError('HOLDFAST_STORE_FAILED', { cause })
      if (faults.hasSubscribers) faults.publish({ sessionName: this.#config.sessionName, session: key, verb, code: error.code })
      throw error
    }
  }

  #inTime<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#giveUp = () => { reject(new SessionError('HOLDFAST_STORE_TIMEOUT')) }
      promise.then(resolve, reject)
      if (this.#over) this.#giveUp()
      // One timer for the operation, not one for each call.
      this.#deadline ??= this.#config.clock.setTimeout(() => {
        this.#over = true
        this.#giveUp?.()
      }, this.#config.storeTimeout)
    })
  }
}

/** Whether an operation failed for want of time: there is none for another try. */
export function isTimeout(fault: unknown): boolean {
  return fault instanceof SessionError && fault.code === 'HOLDFAST_STORE_TIMEOUT'
}

/** Lets writers of one key that have collided in this process take turns. Only a courtesy: the store's compare-and-set decides. */
export class Turns {
  readonly #last: Map<string, Promise<void>>

  constructor() {
    this.#last = new Map()
  }

  /** Waits for those who came before. Answers how to leave, which must be done. */
  *enter(key: string, operation: Operation): Steps<() => void> {
    const before = this.#last.get(key)
    let done!: () => void
    const turn = new Promise<void>((resolve) => { done = resolve })
    const leave = (): void => {
      done()
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
    this.#last.set(key, turn)
    try {
      if (before !== undefined) yield* operation.wait(before)
    } catch (timeout) {
      leave()
      throw timeout
    }
    return leave
  }
}

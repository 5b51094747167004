import { SessionError } from '../errors.ts'
import type { MaybePromise } from '../../types/store.ts'

/** Whether a value has to be awaited. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}

/**
 * Continues now with a value, later with the value of a promise. So a store that returns plain
 * values is never awaited, and one code serves both kinds.
 */
export function andThen<T, Result>(
  value: MaybePromise<T>,
  next: (value: T) => MaybePromise<Result>
): MaybePromise<Result> {
  // oxlint-disable-next-line promise/no-callback-in-promise -- that is what it is for
  return isPromise(value) ? value.then(next) : next(value)
}

/** Makes a promise that is resolved from outside: `Promise.withResolvers()` needs Node.js 22. */
export function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((fulfil) => {
    resolve = fulfil
  })
  return { promise, resolve }
}

/** Runs the operations of one request one after the other, awaited or not. */
export class OperationQueue {
  #pending: Promise<void> | undefined
  #beside: Set<Promise<void>> | undefined

  /** Settles when the operations under way are over. Undefined: none is. */
  get pending(): Promise<void> | undefined {
    return this.#pending
  }

  /** Settles when one of those beside them is over. Undefined: none is. */
  get pendingBeside(): Promise<void> | undefined {
    const [first] = this.#beside ?? []
    return first
  }

  /**
   * Runs an operation after those under way. The first one begins at once.
   *
   * @param noteFailure called before anybody else learns of a failure
   */
  run<Result>(
    operation: () => Promise<Result>,
    noteFailure: (error: unknown) => void
  ): Promise<Result> {
    const earlier = this.#pending
    // Before it begins: an operation that it calls waits for it.
    const { promise: finished, resolve: finish } = deferred()
    this.#hold(finished)
    const running = earlier === undefined ? operation() : earlier.then(operation)
    running.then(finish, finish)
    return visible(running, noteFailure)
  }

  /** Keeps what comes next waiting until this is over. */
  waitFor(running: Promise<unknown>): void {
    this.#hold(running.then(ignore, ignore))
  }

  /** Has the commit wait for what other operations do not: they may be a part of it. */
  beside<Result>(running: Promise<Result>): Promise<Result> {
    const end = (): void => {
      this.#beside?.delete(ended)
    }
    const ended = running.then(end, end)
    this.#beside ??= new Set()
    this.#beside.add(ended)
    return visible(running)
  }

  #hold(finished: Promise<void>): void {
    const pending = finished.then(() => {
      if (this.#pending === pending) this.#pending = undefined
    })
    this.#pending = pending
  }
}

/**
 * Returns what the app is given of an operation. Ours fails without harm if nobody awaits it; any
 * other error is the app's to handle.
 */
function visible<Result>(
  running: Promise<Result>,
  noteFailure: (error: unknown) => void = ignore
): Promise<Result> {
  const result = running.catch((error: unknown) => {
    noteFailure(error)
    if (error instanceof SessionError) result.catch(ignore)
    throw error
  })
  return result
}

function ignore(): void {}

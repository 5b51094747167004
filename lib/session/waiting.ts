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

  /** Settles when nothing is under way. Undefined: nothing is. */
  get pending(): Promise<void> | undefined {
    return this.#pending
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
    const result = running.catch((error: unknown) => {
      noteFailure(error)
      // Ours is noted, even if nobody awaits the operation. Any other is the app's to handle.
      if (error instanceof SessionError) result.catch(ignore)
      throw error
    })
    return result
  }

  /** Keeps what comes next waiting until this is over. */
  waitFor(running: Promise<unknown>): void {
    this.#hold(running.then(ignore, ignore))
  }

  #hold(finished: Promise<void>): void {
    const pending = finished.then(() => {
      if (this.#pending === pending) this.#pending = undefined
    })
    this.#pending = pending
  }
}

function ignore(): void {}

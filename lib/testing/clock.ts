import type { Clock, Timer } from '../../types/clock.ts'

interface PendingTimer extends Timer {
  readonly dueAt: number
  readonly callback: () => void
}

/**
 * A clock for the option `clock` that stands still until a test moves it:
 *
 * ```ts
 * const clock = new TestClock()
 * await app.register(sessionPlugin, { clock, maxAge: 60 })
 * clock.advance(60_000)
 * ```
 */
export class TestClock implements Clock {
  #now: number
  /** In the order in which they were set. */
  readonly #pending = new Set<PendingTimer>()

  /** @param now epoch milliseconds. Default: the start of 2030, UTC. */
  constructor(now: number = Date.UTC(2030, 0, 1)) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  setTimeout(callback: () => void, milliseconds: number): Timer {
    const timer: PendingTimer = {
      dueAt: this.#now + Math.max(0, milliseconds),
      callback,
      close: () => {
        this.#pending.delete(timer)
      },
      unref: () => timer
    }
    this.#pending.add(timer)
    return timer
  }

  /**
   * Moves the time forward. Calls each timer that becomes due on the way, including those that a
   * callback sets, with the clock at the time for which it was set.
   */
  advance(milliseconds: number): void {
    const end = this.#now + milliseconds
    for (let timer = this.#nextUntil(end); timer !== undefined; timer = this.#nextUntil(end)) {
      this.#pending.delete(timer)
      this.#now = timer.dueAt
      timer.callback()
    }
    this.#now = end
  }

  /** Returns the pending timer that is due first, if it is due by `end`. */
  #nextUntil(end: number): PendingTimer | undefined {
    let next: PendingTimer | undefined
    for (const timer of this.#pending) {
      if (timer.dueAt <= end && (next === undefined || timer.dueAt < next.dueAt)) next = timer
    }
    return next
  }
}

import type { Clock, Timer } from '../../types/clock.ts'

interface PendingTimer extends Timer {
  readonly dueAt: number
  readonly callback: () => void
}

/** A clock that a test moves by hand. It stands still otherwise. */
export class TestClock implements Clock {
  #now: number
  /** In the order in which they were set. */
  readonly #pending = new Set<PendingTimer>()

  /** @param now epoch milliseconds. Default: the first instant of 2030. */
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
      close: () => { this.#pending.delete(timer) },
      unref: () => timer
    }
    this.#pending.add(timer)
    return timer
  }

  /** Moves time on, and calls the timers that fall due on the way, each at its instant; those that they set too. */
  advance(milliseconds: number): void {
    const until = this.#now + milliseconds
    for (let timer = this.#next(until); timer !== undefined; timer = this.#next(until)) {
      this.#pending.delete(timer)
      this.#now = timer.dueAt
      timer.callback()
    }
    this.#now = until
  }

  #next(until: number): PendingTimer | undefined {
    let next: PendingTimer | undefined
    for (const timer of this.#pending) {
      if (timer.dueAt <= until && (next === undefined || timer.dueAt < next.dueAt)) next = timer
    }
    return next
  }
}

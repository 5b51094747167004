/**
 * A source of time: the system clock, which follows the fake timers of a test runner, or a clock
 * that a test controls (`TestClock` of `fastify-holdfast/testing`).
 */
export interface Clock {
  /** Returns the current time in epoch milliseconds. */
  now(): number
  /** Calls `callback` once, after so many milliseconds. */
  setTimeout(callback: () => void, milliseconds: number): Timer
}

/** A pending timer. Node's `setTimeout` returns one. */
export interface Timer {
  /** Cancels the timer. */
  close(): unknown
  /** Lets the process exit while the timer is pending. */
  unref(): unknown
}

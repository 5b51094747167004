/** Where time comes from: the system's clock, or a test's (`TestClock` of `fastify-holdfast/testing`). */
export interface Clock {
  /** The present instant, in epoch milliseconds. */
  now(): number
  /** Calls `callback` once, after so many milliseconds. */
  setTimeout(callback: () => void, milliseconds: number): Timer
}

/** A timer that was set; what Node's `setTimeout` gives is one. */
export interface Timer {
  /** Cancels the timer. */
  close(): unknown
  /** Lets the process end while the timer is pending. */
  unref(): unknown
}

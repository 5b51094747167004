import type { Clock, Timer } from '../types/clock.ts'

/** That of Node.js, unless a test has faked it before this module was loaded. */
const realSetTimeout = setTimeout

/**
 * The system clock. No other module asks for the time or sets a timer. It looks up the global
 * functions at each call, so that it follows the fake timers of a test.
 */
export const systemClock: Clock = Object.freeze({
  now: () => Date.now(),
  setTimeout(callback: () => void, milliseconds: number): Timer {
    const timer = setTimeout(callback, milliseconds)
    return setTimeout === realSetTimeout && isTimer(timer) ? timer : asTimer(timer)
  }
})

/** Calls back in the next turn of the event loop. That takes no time, so no clock has a say. */
export function inNextTurn(callback: () => void): void {
  setImmediate(callback)
}

function isTimer(timer: unknown): timer is Timer {
  return typeof (timer as Partial<Timer>).close === 'function'
}

/**
 * Makes a timer of a fake one. That may be a number or lack `close()`, and the `close()` of
 * node:test breaks its later timers if the test has reset them in the meantime.
 */
function asTimer(fake: NodeJS.Timeout): Timer {
  return {
    close: () => clearTimeout(fake),
    // It holds no process.
    unref() {}
  }
}

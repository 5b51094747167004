import type { Clock } from '../types/clock.ts'

/** The system's clock, and the only place that asks it. */
export const systemClock: Clock = Object.freeze({
  now: Date.now,
  setTimeout: (callback: () => void, milliseconds: number) => setTimeout(callback, milliseconds)
})

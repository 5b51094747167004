import type { Clock, Timer } from '../../types/clock.ts'

/** The number of records that one step of a sweep checks: about 0.3 ms if all have expired. */
const recordsPerStep = 500

/** What is swept. */
interface Swept<Entry> {
  isEmpty(): boolean
  entries(): Iterator<Entry, undefined>
  /** Drops an entry if it is dead. */
  sweep(entry: Entry): void
}

/**
 * Sweeps from time to time, in small steps. One timer serves all records, so that a session may
 * live longer than a timer can run. It does not keep the process alive.
 */
export class Sweep<Entry> {
  readonly #clock: Clock
  readonly #interval: number
  readonly #swept: Swept<Entry>
  #timer: Timer | undefined

  /** @param interval milliseconds between two sweeps */
  constructor(clock: Clock, interval: number, swept: Swept<Entry>) {
    this.#clock = clock
    this.#interval = interval
    this.#swept = swept
  }

  /** Sweeps from now on, if it does not do so already. */
  start(): void {
    if (this.#timer === undefined) this.#schedule(this.#interval)
  }

  stop(): void {
    this.#timer?.close()
    this.#timer = undefined
  }

  /** @param entries what is still to be checked. Default: all, in a new sweep */
  #schedule(milliseconds: number, entries?: Iterator<Entry, undefined>): void {
    this.#timer = this.#clock.setTimeout(() => {
      this.#step(entries ?? this.#swept.entries())
    }, milliseconds)
    this.#timer.unref()
  }

  /** Does one step, and lets other work run before the next one. */
  #step(entries: Iterator<Entry, undefined>): void {
    this.#timer = undefined
    for (let count = 0; count < recordsPerStep; count += 1) {
      const { value: entry } = entries.next()
      if (entry === undefined) {
        if (!this.#swept.isEmpty()) this.#schedule(this.#interval)
        return
      }
      this.#swept.sweep(entry)
    }
    this.#schedule(0, entries)
  }
}

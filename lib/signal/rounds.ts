import { inNextTurn } from '../clock.ts'
import type { Clock, Timer } from '../../types/clock.ts'

/** Milliseconds between two looks at those that end, however close their times are. */
const gap = 50

/** Milliseconds after which all sessions that are watched have been looked at again. */
const interval = 2000

/**
 * Has all sessions that are watched be looked at from time to time, and those that end at theirs,
 * by one timer.
 */
export class Rounds {
  readonly #clock: Clock
  readonly #begin: (isRound: boolean) => void
  #timer: Timer | undefined
  #dueAt = Infinity
  #wokenAt = -Infinity
  /** When all are to be looked at. */
  #roundAt = Infinity

  /** @param begin called for each round, and in between when a session ends */
  constructor(clock: Clock, begin: (isRound: boolean) => void) {
    this.#clock = clock
    this.#begin = begin
  }

  /** Sets the timer for the next round, or for then, if a session ends before it. */
  schedule(endsAt: number): void {
    const now = this.#clock.now()
    // A clock that has stepped back leaves no round far ahead.
    this.#roundAt = Math.min(this.#roundAt, now + interval)
    const isJustWoken = now >= this.#wokenAt && now < this.#wokenAt + gap
    const soonest = isJustWoken ? this.#wokenAt + gap : now
    const next = Math.min(Math.max(endsAt, soonest), this.#roundAt)
    if (this.#dueAt <= next) return
    this.#timer?.close()
    this.#dueAt = next
    this.#timer = this.#clock.setTimeout(
      () => {
        this.#wokenAt = this.#clock.now()
        const isRound = this.#wokenAt >= this.#roundAt
        this.#dueAt = Infinity
        if (isRound) this.#roundAt = Infinity
        this.#begin(isRound)
      },
      Math.max(next - now, 1)
    )
    this.#timer.unref()
  }

  /** No round comes until one is scheduled. */
  stop(): void {
    this.#dueAt = Infinity
    this.#roundAt = Infinity
    this.#timer?.close()
  }
}

/** Gathers what comes in one turn of the event loop, and takes it together in the next. */
export class Gathered<Item> {
  readonly #take: (items: readonly Item[]) => void
  readonly #items: Item[] = []

  constructor(take: (items: readonly Item[]) => void) {
    this.#take = take
  }

  add(item: Item): void {
    if (this.#items.push(item) === 1) inNextTurn(() => this.#take(this.#items.splice(0)))
  }
}

import { inNextTurn } from '../clock.ts'
import { expired } from '../events.ts'
import { Affected, reasonAmong } from './affected.ts'
import { atOnce, Checker, mostMoves } from './checker.ts'
import type { WatchConfig } from './config.ts'
import { FeedListener } from './feed-listener.ts'
import { Told } from './told.ts'
import { endedError, type Reason } from './reasons.ts'
import { Gathered, Rounds } from './rounds.ts'
import { WatchedSessions, type Watched } from './watched.ts'
import type { EndCall, Waiting } from '../session/ends.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndNotice, EndReason } from '../../types/feed.ts'
import type { MaybePromise, SessionStore } from '../../types/store.ts'

/**
 * The sessions of a store whose ends somebody waits for in this process, whatever registration
 * they are of. Before the first signal is asked for there is no subscription and no timer.
 */
export class EndWatch {
  /** How many registrations watch by it. */
  members = 0
  readonly #clock: Clock
  readonly #sessions = new WatchedSessions()
  readonly #told = new Told()
  readonly #fresh = new Gathered<Watched>((all) => void this.#checker.check(all))
  readonly #listener: FeedListener
  readonly #rounds: Rounds
  readonly #calls = new Set<Affected>()
  readonly #checker: Checker
  readonly #tools: ConstructorParameters<typeof Affected>[0] = {
    calls: this.#calls,
    sessions: this.#sessions,
    about: (notice) => this.#about(notice),
    told: this.#told,
    endAll: (found, reason, isStill) => this.#endAll(found, reason, isStill),
    lookAt: (watched) => this.lookAt(watched),
    check: (found, likely) => this.#checker.check(found, likely)
  }
  #isLooking = false
  /** What is to be looked at after that: all, or those that end. Undefined: nothing. */
  #due: 'all' | 'ending' | undefined

  constructor({ feed }: SessionStore, clock: Clock) {
    this.#clock = clock
    this.#checker = new Checker({
      clock,
      sessions: this.#sessions,
      reasonOf: (watched) => this.#told.reasonOf(watched),
      toldSoFar: () => this.#told.count,
      likelyFor: (watched) =>
        this.#told.reasonAmongAll(watched) ?? reasonAmong(this.#calls, watched),
      end: (watched, reason) => this.end(watched, reason)
    })
    this.#rounds = new Rounds(clock, (isRound) => {
      if (isRound) this.#told.forget()
      this.#lookAround(isRound ? 'all' : 'ending')
    })
    this.#listener = new FeedListener(feed, (notice) => void this.hear(notice))
  }

  /** Watches a session, which is stored under this key. */
  add(watched: Watched, key: string): void {
    if (watched.isWatched) this.#sessions.remove(watched)
    this.#sessions.add(watched, key)
    this.#listener.start()
    this.#rounds.schedule(watched.endsAt)
  }

  /** Looks at a session soon: it may have ended before it was watched. */
  lookAt(watched: Watched): void {
    this.#fresh.add(watched)
  }

  remove(watched: Watched): void {
    if (watched.isWatched) this.#sessions.remove(watched)
  }

  /**
   * A registration watches no more. Without anybody who waits, nothing is heard until somebody
   * does.
   */
  async leave(config: WatchConfig): Promise<void> {
    for (const each of this.#sessions.all()) if (each.config === config) this.remove(each)
    if (!this.#sessions.isEmpty) return
    this.#rounds.stop()
    await this.#listener.stop()
  }

  /** The session of a key lasts until then, if it is watched. */
  lasts(key: string, endsAt: number): void {
    const found = this.#sessions.about({ key })
    for (const each of found) each.endsAt = endsAt
    if (found.length > 0) this.#rounds.schedule(endsAt)
  }

  /** Tells somebody that the session has ended. */
  end(watched: Watched, reason: Reason): void {
    const { config, controller, key } = watched
    this.remove(watched)
    const isByTime = reason === 'idle' || reason === 'absolute'
    // Once for a session, however many wait for it.
    if (isByTime && expired.hasSubscribers && !this.#sessions.has(key)) {
      expired.publish({ sessionName: config.sessionName, session: watched.handle, reason })
    }
    controller.abort(endedError(reason))
  }

  hear(notice: EndNotice): MaybePromise<void> {
    if (this.#sessions.isEmpty) return
    const found = this.#about(notice)
    const { key, successor } = notice
    if (key !== undefined && successor !== undefined) {
      if (found.length > 0) this.#told.noteMove(key, successor)
      // The next round follows the move. A look now is only for an end that was told before the
      // move: one that comes after it will be told, and the message says how.
      if (!found.some((each) => this.#told.mayHaveEnded(successor, each))) return
    } else {
      this.#told.noteEnd(notice)
    }
    return this.#checker.check(found, notice.reason)
  }

  waiting(call: EndCall): Waiting {
    return new Affected(this.#tools, call)
  }

  /** Returns those that a notice is about, also by what was told of moves. */
  #about(notice: EndNotice, moves = 0): Watched[] {
    const found = this.#sessions.about(notice)
    const before = moves < mostMoves ? this.#told.before(notice) : []
    if (before.length === 0) return found
    return [...found, ...before.flatMap((key) => this.#about({ key }, moves + 1))]
  }

  #endAll(
    found: readonly Watched[],
    reason: EndReason,
    isStill: (watched: Watched) => boolean
  ): Promise<void> | undefined {
    for (const each of found.slice(0, atOnce)) if (isStill(each)) this.end(each, reason)
    if (found.length <= atOnce) return undefined
    return new Promise<void>(inNextTurn).then(() =>
      this.#endAll(found.slice(atOnce), reason, isStill)
    )
  }

  #lookAround(what: 'all' | 'ending'): void {
    if (this.#sessions.isEmpty) return this.#told.forget()
    this.#schedule()
    this.#listener.start()
    // A slow store is not asked once more before it has answered.
    if (!this.#isLooking) void this.#lookAtAll(what)
    else if (this.#due !== 'all') this.#due = what
  }

  async #lookAtAll(what: 'all' | 'ending'): Promise<void> {
    const now = this.#clock.now()
    const all = this.#sessions.all()
    this.#isLooking = true
    try {
      await this.#checker.check(what === 'all' ? all : all.filter(({ endsAt }) => endsAt <= now))
    } finally {
      this.#isLooking = false
    }
    const due = this.#due
    this.#due = undefined
    if (due !== undefined) this.#lookAround(due)
    else if (!this.#sessions.isEmpty) this.#schedule()
  }

  /** What should have ended, and could not be looked at, waits for the next round. */
  #schedule(): void {
    const now = this.#clock.now()
    let first = Infinity
    for (const { endsAt } of this.#sessions.all())
      if (endsAt > now && endsAt < first) first = endsAt
    this.#rounds.schedule(first)
  }
}

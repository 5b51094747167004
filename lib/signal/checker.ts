import { inNextTurn } from '../clock.ts'
import { lookAt, type Look } from './look-at.ts'
import type { Reason } from './reasons.ts'
import { isSame, judge } from './verdict.ts'
import type { Watched, WatchedSessions } from './watched.ts'
import { isPromise } from '../session/waiting.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndReason } from '../../types/feed.ts'

/** How many are looked at, and told of their end, before other work is let in. */
export const atOnce = 100

/** How often a session is followed to another key before others have their turn. */
export const mostMoves = 16

/** What a watch does for its checker. */
interface Tools {
  readonly clock: Clock
  readonly sessions: WatchedSessions
  /** Returns how a session has ended, if that was told of it. */
  readonly reasonOf: (watched: Watched) => EndReason | undefined
  /** Returns how many ends have been told. */
  readonly toldSoFar: () => number
  /** Returns how a session may have ended, if others have. */
  readonly likelyFor: (watched: Watched) => EndReason | undefined
  /** Tells somebody that the session has ended. */
  readonly end: (watched: Watched, reason: Reason) => void
}

/** What a look has shown. */
interface Seen {
  readonly seen: ReadonlyMap<string, Look>
  /** When the look began: what it shows may be as old. */
  readonly begunAt: number
  /** How many ends had been told by then. */
  readonly toldBefore: number
  /** How the sessions may have ended. */
  readonly likely: EndReason | undefined
}

/** Looks at sessions, and has those told that have ended. A store that fails ends nobody. */
export class Checker {
  readonly #tools: Tools

  constructor(tools: Tools) {
    this.#tools = tools
  }

  /** @param likely how those may have ended that have not run out */
  async check(found: readonly Watched[], likely?: EndReason): Promise<void> {
    const { clock, toldSoFar } = this.#tools
    for (let from = 0; from < found.length; from += atOnce) {
      if (from > 0) await new Promise<void>(inNextTurn)
      let part = found.slice(from, from + atOnce).filter(({ isWatched }) => isWatched)
      for (let moves = 0; part.length > 0 && moves < mostMoves; moves += 1) {
        const begunAt = clock.now()
        const toldBefore = toldSoFar()
        const looks = lookAt(part[0].config, [...new Set(part.map(({ key }) => key))])
        const seen = isPromise(looks) ? await looks : looks
        part = part.filter((watched) => this.#take(watched, { seen, begunAt, toldBefore, likely }))
      }
    }
  }

  /** @returns whether to look again: it was elsewhere by then, or its time has run out since */
  #take(watched: Watched, { seen, begunAt, toldBefore, likely }: Seen): boolean {
    const { clock, sessions, reasonOf, likelyFor, end } = this.#tools
    const { key } = watched
    if (!watched.isWatched) return false
    if (!seen.has(key)) return true
    const look = seen.get(key)
    // It will be looked at again.
    if (look === 'failed') return false
    const trace = look?.successor === undefined ? undefined : look
    if (trace !== undefined && isSame(watched.version, trace.version)) {
      sessions.move(watched, trace.successor)
      return true
    }
    const record = look?.successor === undefined ? look : undefined
    const ended = judge(watched, record, {
      begunAt,
      reason: reasonOf(watched),
      likely: likely ?? likelyFor(watched)
    })
    if (ended !== undefined) {
      end(watched, ended)
      return false
    }
    watched.livedAfter = toldBefore
    return clock.now() >= watched.endsAt
  }
}

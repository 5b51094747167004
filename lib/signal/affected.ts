import type { Told } from './told.ts'
import { isSame } from './verdict.ts'
import type { Watched, WatchedSessions } from './watched.ts'
import type { EndCall, Waiting } from '../session/ends.ts'
import { subjectOf } from '../subject-key.ts'
import type { EndNotice, EndReason } from '../../types/feed.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What a watch does for those whom a call affects. */
interface Tools {
  /** The calls that are under way. */
  readonly calls: Set<Affected>
  readonly sessions: WatchedSessions
  readonly told: Told
  /** Returns those that a notice may be about. */
  readonly about: (notice: EndNotice) => readonly Watched[]
  /** Tells them that their sessions have ended, if that is still so. Undefined: that is done. */
  readonly endAll: (
    found: readonly Watched[],
    reason: EndReason,
    isStill: (watched: Watched) => boolean
  ) => Promise<void> | undefined
  /** Looks at a session soon. */
  readonly lookAt: (watched: Watched) => void
  /** Looks at their sessions. */
  readonly check: (found: readonly Watched[], reason?: EndReason) => Promise<void>
}

/** Those who waited as a call of the store began: their sessions may end by it, or move. */
export class Affected implements Waiting {
  readonly #tools: Tools
  readonly #call: EndCall
  /** With the lineages of their sessions: one may come to wait for another session meanwhile. */
  readonly #found = new Map<Watched, string | undefined>()

  constructor(tools: Tools, call: EndCall) {
    this.#tools = tools
    this.#call = call
    for (const each of tools.sessions.about(call)) {
      if (this.#concerns(each)) this.#found.set(each, each.lineage)
    }
    tools.calls.add(this)
  }

  over(): void {
    this.#tools.calls.delete(this)
  }

  /** Returns how the call ends a session, if it does. */
  reasonFor(watched: Watched): EndReason | undefined {
    return watched.mayEndBy(this.#call) ? this.#call.reason : undefined
  }

  ended(reason: EndReason, isEnded: EndCall['isEnded'] = this.#call.isEnded): MaybePromise<void> {
    const { sessions, told, endAll } = this.#tools
    if (!sessions.isEmpty) told.noteEnd({ ...this.#call, reason, isEnded })
    // What is under a key has ended with it, whichever session that is.
    const isKey = this.#call.key !== undefined
    const found = [...this.#found.keys()]
    // Asked of each in its turn: of many at once it would take long.
    const hasEnded = (each: Watched): boolean =>
      this.#isStill(each) &&
      (isKey || (each.lineage !== undefined && isEnded?.(each.lineage) !== false))
    const isUnknown = (each: Watched): boolean => this.#isStill(each) && each.lineage === undefined
    const rest = (): MaybePromise<void> =>
      this.#checkOthers(isKey ? [] : found.filter(isUnknown), reason)
    const ending = endAll(found, reason, hasEnded)
    return ending === undefined ? rest() : ending.then(rest)
  }

  moved(successor: string, from: string, version?: string): MaybePromise<void> {
    const { sessions, told, lookAt } = this.#tools
    for (const each of this.#found.keys()) {
      if (!this.#isStill(each)) continue
      // Of another life under the same id: that of this one is over.
      const isOther = !isSame(each.version, from)
      if (!isOther) sessions.move(each, successor, version)
      // It may have ended there before the call was over.
      if (isOther || told.mayHaveEnded(successor, each)) lookAt(each)
    }
    return this.#checkOthers([], this.#call.reason)
  }

  unknown(reason?: EndReason): MaybePromise<void> {
    const present = [...this.#found.keys()].filter((each) => this.#isStill(each))
    return this.#checkOthers(present, reason)
  }

  /** An end of all sessions is one of all that are signed in. */
  #concerns({ key }: Watched): boolean {
    return this.#call.key !== undefined || subjectOf(key) !== undefined
  }

  /** Whether somebody still waits for the session that they waited for as the call began. */
  #isStill(each: Watched): boolean {
    return each.isWatched && each.isAbout(this.#call) && each.lineage === this.#found.get(each)
  }

  /**
   * Looks at these, and at those who wait for another session than then: they may have been looked
   * at before the call took effect.
   */
  #checkOthers(unknown: readonly Watched[], reason: EndReason | undefined): MaybePromise<void> {
    const { about, check } = this.#tools
    const since = about(this.#call).filter(
      (each) => !(this.#found.has(each) && this.#isStill(each))
    )
    const all = [...unknown, ...since]
    return all.length === 0 ? undefined : check(all, reason)
  }
}

/** Returns how one of these calls ends a session. Undefined: none does. */
export function reasonAmong(calls: Iterable<Affected>, watched: Watched): EndReason | undefined {
  for (const call of calls) {
    const reason = call.reasonFor(watched)
    if (reason !== undefined) return reason
  }
}

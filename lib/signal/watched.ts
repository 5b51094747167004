import type { WatchConfig } from './config.ts'
import type { EndCall } from '../session/ends.ts'
import { handleOf, lineageOf, subjectOf } from '../subject-key.ts'
import type { EndNotice } from '../../types/feed.ts'

/** A signal that was asked for, and the session whose end aborts it. */
export class Watched {
  readonly config: WatchConfig
  readonly controller: AbortController = new AbortController()
  key: string = ''
  /** A version of its record. The empty text: not known yet. */
  version: string = ''
  createdAt: number = 0
  /** After how many ends it was still seen to live. */
  livedAfter: number = 0
  /** When it ends, unless it is used. */
  endsAt: number = Infinity
  /** Whether its end is waited for. */
  isWatched: boolean = false
  /** Whether who asked for the signal has left. */
  isOver: boolean = false
  /** The neighbours in the list of those of a subject, or of a key without one. */
  before: Watched | undefined
  next: Watched | undefined

  constructor(config: WatchConfig) {
    this.config = config
  }

  /** What the session is called in lists and logs. */
  get handle(): string {
    return this.version === '' ? this.key : handleOf(this.key, this.version)
  }

  /** What its versions have in common. Undefined: not known yet. */
  get lineage(): string | undefined {
    return this.version === '' ? undefined : lineageOf(this.version)
  }

  /** Sets when it ends, as far as a record tells. */
  lasts({ createdAt, expiresAt }: Readonly<Record<'createdAt' | 'expiresAt', number>>): void {
    this.createdAt = createdAt
    this.endsAt = Math.min(expiresAt, createdAt + this.config.lifetimes.absolute)
  }

  /** Whether a notice is about its session, or one of its subject's. */
  isAbout({ key, subject }: EndNotice): boolean {
    if (key !== undefined) return key === this.key
    return subject === undefined || subject === subjectOf(this.key)
  }

  /** Whether its session may end by a call. */
  mayEndBy(call: EndCall): boolean {
    if (!this.isAbout(call)) return false
    // An end of all sessions is one of all that are signed in.
    if (call.key === undefined && subjectOf(this.key) === undefined) return false
    return this.lineage === undefined || call.isEnded?.(this.lineage) !== false
  }
}

/** All signals that wait for an end: those of a subject together, and those of any other key. */
export class WatchedSessions {
  readonly #lists = new Map<string, Watched>()

  get isEmpty(): boolean {
    return this.#lists.size === 0
  }

  has(key: string): boolean {
    for (let each = this.#lists.get(listOf(key)); each; each = each.next) {
      if (each.key === key) return true
    }
    return false
  }

  all(): Watched[] {
    return this.about({})
  }

  /** Returns those that a notice of a store is about. */
  about(notice: EndNotice): Watched[] {
    const found: Watched[] = []
    const { key, subject } = notice
    const name = key === undefined ? subject : listOf(key)
    const firsts = name === undefined ? this.#lists.values() : [this.#lists.get(name)]
    for (const first of firsts) {
      for (let each = first; each; each = each.next) if (each.isAbout(notice)) found.push(each)
    }
    return found
  }

  add(watched: Watched, key: string): void {
    const list = listOf(key)
    const next = this.#lists.get(list)
    watched.key = key
    watched.isWatched = true
    watched.next = next
    if (next !== undefined) next.before = watched
    this.#lists.set(list, watched)
  }

  remove(watched: Watched): void {
    const { key, before, next } = watched
    watched.isWatched = false
    watched.before = undefined
    watched.next = undefined
    if (next !== undefined) next.before = before
    if (before !== undefined) before.next = next
    else if (next !== undefined) this.#lists.set(listOf(key), next)
    else this.#lists.delete(listOf(key))
  }

  /** The session goes on under another key. @param version that of its record there, if known */
  move(watched: Watched, key: string, version = ''): void {
    this.remove(watched)
    watched.version = version
    this.add(watched, key)
  }
}

function listOf(key: string): string {
  return subjectOf(key) ?? key
}

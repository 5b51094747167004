import { Roll } from './roll.ts'
import { lineageOf, subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndNotice } from '../../types/feed.ts'
import type {
  ListedSession,
  SessionPage,
  SessionRecord,
  SessionTrace,
  SubjectStore
} from '../../types/store.ts'

/** Milliseconds that the stamp of a subject without sessions is kept. */
const stampLife = 3600 * 1000

/** How many of them are kept: the oldest go first, and who signs in by one is refused. */
const maxUnused = 50_000

/** What a MemoryStore does for its subjects. */
export interface Records {
  readonly clock: Clock
  /** Returns the live record or the trace under a key. It is no use of the session. */
  peek(key: string): SessionRecord | SessionTrace | undefined
  /** Puts a record under a key that is free. @throws HOLDFAST_DATA_TOO_LARGE */
  add(key: string, record: SessionRecord): void
  /** Puts it where a trace says, and the trace in place of the record under `key`. @throws as `add` */
  move(key: string, record: SessionRecord, trace: SessionTrace): void
  /** Tells what a step has done, at its end: who hears of it may use the store. */
  tell(notice?: EndNotice): void
}

/** The sessions of subjects in a MemoryStore: every method is one synchronous step. */
export class MemorySubjects implements SubjectStore {
  readonly #records: Records
  readonly #rolls = new Map<string, Roll>()
  /** Who has no sessions, and since when the stamp was not asked for, in that order. */
  readonly #unused = new Map<string, number>()
  #count = 0

  constructor(records: Records) {
    this.#records = records
  }

  /** Whether a record under the key of a subject is listed. */
  lists(key: string, version: string): boolean {
    return this.#rolls.get(subjectOf(key) as string)?.get(lineageOf(version)) === key // mutant: listed
  }

  /** A record under the key of a subject was removed. */
  strike(key: string, version: string): void {
    const subject = subjectOf(key) as string
    const roll = this.#rolls.get(subject)
    const lineage = lineageOf(version)
    if (roll?.get(lineage) !== key) return
    roll.delete(lineage)
    this.#put(subject, roll)
  }

  stamp(subject: string): string {
    const roll = this.#rolls.get(subject) ?? new Roll(this.#next(), this.#next())
    this.#put(subject, roll)
    return String(roll.stamp)
  }

  list(subject: string): SessionPage {
    const roll = this.#rolls.get(subject)
    const sessions: ListedSession[] = []
    // What has expired strikes itself off as it is looked at.
    for (const [lineage, key] of roll?.entries() ?? []) {
      const record = this.#records.peek(key)
      if (record?.data !== undefined) sessions.push({ lineage, key, record })
    }
    return { stamp: String(roll?.stamp ?? ''), version: String(roll?.version ?? ''), sessions }
  }

  find(subject: string, lineage: string): string | undefined {
    const key = this.#rolls.get(subject)?.get(lineage)
    return key === undefined || this.#records.peek(key) === undefined ? undefined : key
  }

  create(
    key: string,
    record: SessionRecord,
    { stamp, version, instead = [] }: Parameters<SubjectStore['create']>[2]
  ): 'created' | 'taken' | 'refused' {
    const subject = subjectOf(key) as string
    const roll = this.#rolls.get(subject)
    if (roll === undefined || String(roll.stamp) !== stamp) return 'refused' // mutant: stamp
    if (version !== undefined && version !== String(roll.version)) return 'refused' // mutant: additions
    if (this.#records.peek(key) !== undefined) return 'taken'
    // First, for it may have no room.
    this.#records.add(key, record)
    for (const lineage of instead) roll.delete(lineage)
    roll.set(lineageOf(record.version), key)
    roll.version = this.#next()
    this.#put(subject, roll)
    this.#records.tell(instead.length > 0 ? { reason: 'limit', subject } : undefined)
    return 'created'
  }

  move(key: string, record: SessionRecord, trace: SessionTrace, stamp?: string): boolean {
    const subject = subjectOf(key) as string
    const left = this.#records.peek(key)
    if (left?.data === undefined || left.version !== trace.version) return false
    if (this.#records.peek(trace.successor) !== undefined) return false
    // The list stays the same one, with its stamp and version.
    const roll = this.#rolls.get(subject) as Roll
    if (stamp !== undefined && stamp !== String(roll.stamp)) return false
    this.#records.move(key, record, trace)
    roll.set(lineageOf(record.version), trace.successor)
    this.#put(subject, roll)
    this.#records.tell({ key })
    return true
  }

  endAll(subject: string, except?: string): boolean {
    const spared = except === undefined ? undefined : this.find(subject, except)
    const { version = this.#next() } = this.#rolls.get(subject) ?? {}
    // A new list, and not one that is emptied: that would take as long as there are sessions.
    const roll = new Roll(this.#next(), version) // mutant: new stamp
    if (spared !== undefined) roll.set(except as string, spared)
    this.#put(subject, roll)
    this.#records.tell({ reason: 'all destroyed', subject })
    return spared !== undefined
  }

  endOne(subject: string, lineage: string): boolean {
    const key = this.find(subject, lineage)
    if (key === undefined) return false
    const roll = this.#rolls.get(subject) as Roll
    roll.delete(lineage)
    this.#put(subject, roll)
    this.#records.tell({ reason: 'destroyed', key })
    return true
  }

  endEverything(): void {
    this.#rolls.clear()
    this.#unused.clear()
    this.#records.tell({ reason: 'all destroyed' })
  }

  #next(): number {
    this.#count += 1
    return this.#count
  }

  /** Keeps the sessions of a subject; if there are none, for as long as somebody may sign in. */
  #put(subject: string, roll: Roll): void {
    this.#rolls.set(subject, roll)
    this.#unused.delete(subject)
    if (!roll.isEmpty) return
    const now = this.#records.clock.now()
    this.#unused.set(subject, now)
    for (const [first, at] of this.#unused) {
      if (at + stampLife > now && this.#unused.size <= maxUnused) break
      this.#unused.delete(first)
      this.#rolls.delete(first)
    }
  }
}

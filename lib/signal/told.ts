import type { Watched } from './watched.ts'
import type { EndCall } from '../session/ends.ts'
import { subjectOf } from '../subject-key.ts'
import type { EndNotice, EndReason } from '../../types/feed.ts'

/** What has been told lately of ends and moves, and what a look does not say. */
export class Told {
  #recent = new Notes()
  #older = new Notes()
  #count = 0

  /** How many ends have been told: a session that lives did not end by them. */
  get count(): number {
    return this.#count
  }

  /** Sessions have ended. One may still be watched under the key that it had before. */
  noteEnd(call: EndCall): void {
    const { key, reason, subject = everybody } = call
    if (reason === undefined) return
    const { ends, calls } = this.#recent
    const number = this.#count++
    if (key !== undefined) {
      ends.set(key, { reason, number })
      return
    }
    const told = calls.get(subject) ?? []
    told.push({ call, number })
    calls.set(subject, told)
  }

  /** A session that is watched has moved. */
  noteMove(key: string, successor: string): void {
    this.#recent.before.set(successor, key)
  }

  /** Forgets what was noted before the last time. */
  forget(): void {
    this.#older = this.#recent
    this.#recent = new Notes()
  }

  /** Returns how a session of these may have ended, which was told of several at once. */
  reasonAmongAll(watched: Watched): EndReason | undefined {
    const subject = subjectOf(watched.key)
    if (subject === undefined) return undefined
    return this.#callsOn(subject).findLast(
      ({ call, number }) => number >= watched.livedAfter && watched.mayEndBy(call)
    )?.call.reason
  }

  /** Whether a session may have ended under a key by what has been told since it was seen there. */
  mayHaveEnded(key: string, { livedAfter }: Watched): boolean {
    const subject = subjectOf(key)
    if (this.reasonOf({ key, livedAfter }) !== undefined) return true
    return subject !== undefined && this.#callsOn(subject).some((each) => each.number >= livedAfter)
  }

  /** Returns how the session of a key has ended, since it was seen to live there. */
  reasonOf({ key, livedAfter }: Pick<Watched, 'key' | 'livedAfter'>): EndReason | undefined {
    const end = this.#recent.ends.get(key) ?? this.#older.ends.get(key)
    return end !== undefined && end.number >= livedAfter ? end.reason : undefined
  }

  #callsOn(subject: string): ToldCall[] {
    return [this.#older, this.#recent].flatMap(({ calls }) => [
      ...(calls.get(subject) ?? []),
      ...(calls.get(everybody) ?? [])
    ])
  }

  /** Returns the keys that sessions which a notice is about have had before. */
  before({ key, subject }: EndNotice): string[] {
    const notes = [this.#recent, this.#older]
    if (key !== undefined) return notes.flatMap(({ before }) => before.get(key) ?? [])
    if (subject === undefined) return []
    return notes.flatMap(({ before }) =>
      [...before].filter(([to]) => subjectOf(to) === subject).map(([, from]) => from)
    )
  }
}

/** An end of several sessions, and how many had been told before. */
interface ToldCall {
  readonly call: EndCall
  readonly number: number
}

/** Stands for all subjects. */
const everybody = ''

class Notes {
  /** By the key. */
  readonly ends = new Map<string, { readonly reason: EndReason; readonly number: number }>()
  /** By the subject. */
  readonly calls = new Map<string, ToldCall[]>()
  readonly before = new Map<string, string>()
}

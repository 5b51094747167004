import { SessionError } from '../errors.ts'
import type { Ends } from './ends.ts'
import { moveOf, telling, tellingOfMove } from './telling.ts'
import { subjectOf } from '../subject-key.ts'
import type { SessionEvents } from '../../types/events.ts'
import type { MaybePromise, SessionPage, SessionRecord, SubjectStore } from '../../types/store.ts'

/** Makes a call of the store. */
type Call = <T>(
  method: SessionEvents['fault']['verb'],
  subject: string,
  call: () => MaybePromise<T>
) => MaybePromise<T>

/** How calls are made: once, or once more after a failure, where a call may be made twice. */
interface Calls {
  readonly once: Call
  readonly twice: Call
  /** Those who wait for an end. */
  readonly ends: Ends
}

/** The sessions of subjects in the store, for one operation. Subjects are as their keys have them. */
export class SubjectClient {
  readonly #subjects: SubjectStore
  readonly #calls: Calls

  /** @throws HOLDFAST_SUBJECTS_UNSUPPORTED */
  constructor(subjects: SubjectStore | undefined, calls: Calls) {
    if (subjects === undefined) throw new SessionError('HOLDFAST_SUBJECTS_UNSUPPORTED')
    this.#subjects = subjects
    this.#calls = calls
  }

  stamp(subject: string): MaybePromise<string> {
    return this.#calls.twice('stamp', subject, () => this.#subjects.stamp(subject))
  }

  list(subject: string, from?: string): MaybePromise<SessionPage> {
    return this.#calls.twice('list', subject, () => this.#subjects.list(subject, from))
  }

  find(subject: string, lineage: string): MaybePromise<string | undefined> {
    return this.#calls.twice('find', subject, () => this.#subjects.find(subject, lineage))
  }

  create(
    key: string,
    record: SessionRecord,
    under: Parameters<SubjectStore['create']>[2]
  ): MaybePromise<'created' | 'taken' | 'refused'> {
    const subject = subjectOf(key)
    const create = (): MaybePromise<'created' | 'taken' | 'refused'> =>
      this.#calls.once('create', key, () => this.#subjects.create(key, record, under))
    const { instead = [] } = under
    if (instead.length === 0) return create()
    const isEnded = (lineage: string): boolean => instead.includes(lineage)
    const about = { reason: 'limit', subject, isEnded } as const
    return telling(this.#calls.ends, about, create, (waiting, made) =>
      made === 'created' ? waiting.ended('limit') : undefined
    )
  }

  move(...given: Parameters<SubjectStore['move']>): MaybePromise<boolean> {
    const [key, record, trace] = given
    return tellingOfMove(this.#calls.ends, moveOf(key, record, trace), () =>
      this.#calls.once('move', key, () => this.#subjects.move(...given))
    )
  }

  /** Not repeated: a call that comes late would end what has begun since. */
  endAll(subject: string, except?: string): MaybePromise<boolean> {
    return telling(
      this.#calls.ends,
      { reason: 'all destroyed', subject, isEnded: (lineage) => lineage !== except },
      () => this.#calls.once('endAll', subject, () => this.#subjects.endAll(subject, except)),
      (waiting, isSpared) => waiting.ended('all destroyed', isSpared ? undefined : () => true)
    )
  }

  endOne(subject: string, lineage: string): MaybePromise<boolean> {
    return telling(
      this.#calls.ends,
      { reason: 'destroyed', subject, isEnded: (each) => each === lineage },
      () => this.#calls.twice('endOne', subject, () => this.#subjects.endOne(subject, lineage)),
      (waiting, isEnded) => (isEnded ? waiting.ended('destroyed') : waiting.unknown('destroyed'))
    )
  }

  endEverything(): MaybePromise<void> {
    return telling(
      this.#calls.ends,
      { reason: 'all destroyed' },
      () => this.#calls.once('endEverything', '', () => this.#subjects.endEverything()),
      (waiting) => waiting.ended('all destroyed')
    )
  }
}

import { SessionError } from '../errors.ts'
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
    return this.#calls.once('create', key, () => this.#subjects.create(key, record, under))
  }

  move(...given: Parameters<SubjectStore['move']>): MaybePromise<boolean> {
    return this.#calls.once('move', given[0], () => this.#subjects.move(...given))
  }

  /** Not repeated: a call that comes late would end what has begun since. */
  endAll(subject: string, except?: string): MaybePromise<boolean> {
    return this.#calls.once('endAll', subject, () => this.#subjects.endAll(subject, except))
  }

  endOne(subject: string, lineage: string): MaybePromise<boolean> {
    return this.#calls.twice('endOne', subject, () => this.#subjects.endOne(subject, lineage))
  }

  endEverything(): MaybePromise<void> {
    return this.#calls.once('endEverything', '', () => this.#subjects.endEverything())
  }
}

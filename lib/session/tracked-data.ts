import { SessionError } from '../errors.ts'
import type { Codec } from './codec.ts'
import { isLifetime } from './lifetime.ts'
import { merge, type Data } from './merge.ts'
import { Session } from './session.ts'
import { emptySnapshot, snapshotOf, type Snapshot } from './snapshot.ts'
import { differs, unwatch, watch } from './watch.ts'
import type { SessionRecord } from '../../types/store.ts'

/**
 * What a session holds, and whether it differs from the record. Nothing is parsed before somebody
 * looks; changes are found by comparing text.
 */
export class TrackedData {
  readonly #codec: Codec
  #base: Snapshot = emptySnapshot
  #maxAge: number | undefined
  #attributes = ''
  #login = ''
  /** The former session that it goes on from, as a record notes it. The empty text for none. */
  former = ''
  #session: Session | undefined
  #watched: { readonly everyKey: boolean; readonly values: Data } | undefined

  constructor(codec: Codec) {
    this.#codec = codec
  }

  /** The object that the handler holds. Undefined if nobody has looked at the session. */
  get session(): Session | undefined {
    return this.#session
  }

  /** The lifetime of its own that the session has, in seconds. */
  get maxAge(): number | undefined {
    return this.#maxAge
  }

  /** @throws HOLDFAST_VALUE_INVALID */
  set maxAge(seconds: number | undefined) {
    if (seconds !== undefined && !isLifetime(seconds)) {
      throw new SessionError('HOLDFAST_VALUE_INVALID', {
        detail: 'maxAge is an integer of seconds, from 1 to 34560000 (400 days)'
      })
    }
    this.#maxAge = seconds
  }

  /** The attributes of its own that the session's cookie has. */
  get attributes(): string {
    return this.#attributes
  }

  set attributes(text: string) {
    this.#attributes = text
  }

  /** Who is signed in. The empty text for nobody. */
  get login(): string {
    return this.#login
  }

  set login(text: string) {
    this.#login = text
  }

  /** Starts from what a record has, or from nothing. */
  load(record: SessionRecord | undefined): void {
    this.#base = record === undefined ? emptySnapshot : snapshotOf(record)
    this.#maxAge = record?.maxAge
    this.#attributes = this.#base.attributes
    this.#login = this.#base.login
    this.former = this.#base.former
  }

  /** Decodes what the record has. Undefined: it is not what the serializer made. */
  decode(): Data | undefined {
    try {
      return this.#codec.parse(this.#base.text)
    } catch {
      return undefined
    }
  }

  /** From now on the session object has the data, as it was decoded. */
  open(session: Session): void {
    this.#session = session
    if (Session.hidesKeys(session)) {
      // Keys that do not come back in the order in which they were stored would look changed.
      this.#base = { ...this.#base, text: this.#codec.stringify(Session.read(session)) }
    }
  }

  /** Takes what the session holds now. @throws HOLDFAST_DATA_UNSERIALIZABLE */
  snapshot(): Snapshot {
    return {
      text: this.#text(),
      maxAge: this.#maxAge,
      attributes: this.#attributes,
      login: this.#login,
      former: this.former
    }
  }

  /** Whether a snapshot has anything that the record does not have. */
  isChanged({ text, maxAge, attributes, login }: Snapshot): boolean {
    const base = this.#base
    return (
      text !== base.text ||
      maxAge !== base.maxAge ||
      attributes !== base.attributes ||
      login !== base.login
    )
  }

  /** Returns the data that the session object has, even if it cannot be stored. */
  read(): Data {
    return this.#session === undefined ? {} : Session.read(this.#session)
  }

  /** Removes the values in `held`, but not those that were set since. */
  remove(held: Data): void {
    if (this.#session !== undefined) this.#replace(this.#session, held, {})
  }

  /**
   * Shows the handler the data that an operation led to. What the handler has changed since the
   * snapshot stays, and what is equal stays the very object that it may be holding.
   */
  rebase(text: string, snapshot: Snapshot): void {
    if (this.#session === undefined || text === snapshot.text) return
    this.#replace(this.#session, this.#codec.parse(snapshot.text), this.#codec.parse(text))
  }

  /** Goes on from the record that was written. */
  written(record: SessionRecord, snapshot: Snapshot): void {
    this.rebase(record.data, snapshot)
    const maxAge = this.#maxAge
    const attributes = this.#attributes
    this.load(record)
    if (maxAge !== snapshot.maxAge) this.#maxAge = maxAge
    if (attributes !== snapshot.attributes) this.#attributes = attributes
  }

  /** Goes on from the record as it is stored now. What has changed, and is not stored, stays. */
  reread(record: SessionRecord): void {
    const before = this.#base
    const hasChanged = !this.#holds(before.text)
    this.written(record, before)
    // The object may have the keys in another order than the record, which is no change.
    if (!hasChanged) this.#base = { ...this.#base, text: this.#text() }
  }

  /** Watches for changes. @param everyKey whether to notice also what costs something to notice */
  watch(everyKey: boolean): void {
    if (this.#session === undefined) return
    this.#watched = { everyKey, values: watch(this.#session, everyKey) }
  }

  /** Whether a key has another value than when the watch began, by identity. */
  hasOtherValues(): boolean {
    return this.#watched !== undefined && differs(this.#session as Session, this.#watched.values)
  }

  #holds(text: string): boolean {
    try {
      return this.#text() === text
    } catch {
      // What cannot be serialised has been set since.
      return false
    }
  }

  #text(): string {
    return this.#session === undefined
      ? this.#base.text
      : this.#codec.stringify(Session.read(this.#session))
  }

  #replace(session: Session, before: Data, after: Data): void {
    if (!isChangeable(session)) {
      // The app has frozen the object: it stays as it is, and whoever looks gets another.
      this.#session = undefined
      this.#watched = undefined
      return
    }
    const { same } = this.#codec
    if (this.#watched !== undefined) unwatch(session)
    Session.write(session, merge(before, Session.read(session), after, same), same)
    if (this.#watched !== undefined) this.watch(this.#watched.everyKey)
  }
}

/** Whether every key of the data can be removed, and others added. */
function isChangeable(object: object): boolean {
  if (!Object.isExtensible(object)) return false
  const keys = Object.getOwnPropertyNames(object)
  return keys.every((key) => Object.getOwnPropertyDescriptor(object, key)?.configurable === true)
}

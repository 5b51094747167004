import { readNotes } from './notes.ts'
import type { SessionRecord } from '../../types/store.ts'

/** What a session holds at one moment. */
export interface Snapshot {
  /** The serialised data; the empty text for none. */
  readonly text: string
  /** The lifetime of its own that it has, in seconds. */
  readonly maxAge: number | undefined
  /** The attributes of its own that its cookie has, as `writeAttributes()` makes them. */
  readonly attributes: string
  /** Who is signed in, as `writeLogin()` makes it. */
  readonly login: string
  /** The former session that it goes on from, as a record notes it. */
  readonly former: string
}

/** What a session without a record holds. */
export const emptySnapshot: Snapshot = Object.freeze({
  text: '',
  maxAge: undefined,
  attributes: '',
  login: '',
  former: ''
})

/** Returns what a record has. */
export function snapshotOf(record: SessionRecord): Snapshot {
  const { attributes, login, former } = readNotes(record)
  return { text: record.data, maxAge: record.maxAge, attributes, login, former }
}

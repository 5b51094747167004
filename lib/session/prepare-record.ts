import { SessionError } from '../errors.ts'
import type { Codec } from './codec.ts'
import type { SessionConfig } from './config.ts'
import { draftOf } from './draft.ts'
import type { Identity, SignIn } from './id.ts'
import { moveNotes, noNotes, readNotes, writeNotes } from './notes.ts'
import { cookieUse, expiry, nextExpiry, nextTimeout, type CookieUse } from './lifetime.ts'
import { merge, type Data } from './merge.ts'
import { isReserved } from './session.ts'
import { versionAfter } from './version.ts'
import { isPromise } from './waiting.ts'
import type { SessionData } from '../../types/session.ts'
import type { SessionRecord } from '../../types/store.ts'

/** What is to be written. */
export interface Write<Result> {
  /** Under which id. A new one is minted only once there is something to send. */
  readonly identity: Pick<Identity, 'publicId' | 'handle' | 'lineage'>
  /** The record as this request last read or wrote it. Undefined: a new one is created. */
  readonly base: SessionRecord | undefined
  /** What the session holds now. */
  readonly text: string
  readonly maxAge: number | undefined
  /** The attributes of its own that the session's cookie has now. */
  readonly attributes: string
  /** Who is signed in now, as the notes have it. */
  readonly login: string
  /** The former session that it goes on from, as the notes have it. */
  readonly former: string
  /** Whether a reply is going to send the cookie to the browser that has it. */
  readonly isCookieSent: boolean
  /** Whether the write is a use of the session, which moves its expiry. */
  readonly isUse: boolean
  readonly createdAt: number
  /** Whether to join a record that somebody else creates under the key: its client chose the id. */
  readonly mayJoin: boolean
  /** The sign-in by which the record is created, if it is. */
  readonly signIn: SignIn | undefined
  /** Changes the data further. May run more than once, each time on a new draft. */
  readonly change: ((draft: SessionData) => Result) | undefined
}

/** One try. It is repeated unchanged until we know that it did not take effect. */
export interface Attempt<Result> {
  readonly record: SessionRecord
  readonly result: Result
}

/**
 * Makes the record that is to follow `theirs`, which is what is stored now: if that has moved on
 * from the base, lays the changes of this request over it.
 */
export function prepareRecord<Result>(
  config: SessionConfig,
  write: Write<Result>,
  theirs: SessionRecord | undefined
): Attempt<Result> {
  const { base, change } = write
  const { codec } = config
  let data = write.text
  let result: Result | undefined
  if (change !== undefined || theirs !== base) {
    // All parsed anew: a draft that an earlier attempt has changed must not come in.
    const mine = codec.parse(write.text)
    const draft =
      theirs === undefined || theirs === base
        ? mine
        : merge(codec.parse(base?.data ?? ''), mine, codec.parse(theirs.data), codec.same)
    result = change === undefined ? undefined : applyChange(change, draft)
    data = codec.stringify({ ...draft })
  }
  if (data !== theirs?.data) codec.assertFits(data)
  const maxAge = write.maxAge === base?.maxAge ? theirs?.maxAge : write.maxAge
  const timeout = nextTimeout(theirs, maxAge, write.isUse, config.lifetimes)
  const createdAt = theirs?.createdAt ?? write.createdAt
  const { lifetimes, touchAfter } = config
  const now = config.clock.now()
  const expiresAt =
    theirs === undefined
      ? expiry(now, createdAt, maxAge, lifetimes)
      : nextExpiry(theirs, timeout, write.isUse, { now, lifetimes })
  const use = cookieUse(timeout, touchAfter, now)
  const notes = notesFor(write, theirs, expiresAt, use)
  const record = {
    data,
    version: versionAfter(theirs?.version, notes !== undefined, write.identity.lineage),
    createdAt,
    expiresAt,
    ...timeout,
    ...(notes === undefined ? undefined : { notes })
  }
  return { record, result: result as Result }
}

/** Returns what the record notes. */
function notesFor(
  write: Pick<Write<unknown>, 'base' | 'attributes' | 'login' | 'former' | 'isCookieSent'>,
  theirs: SessionRecord | undefined,
  expiresAt: number,
  use: CookieUse
): string | undefined {
  const { base, former, isCookieSent } = write
  let { attributes, login } = write
  if (theirs === undefined) return writeNotes({ ...noNotes, attributes, login, former })
  const before = base === undefined ? noNotes : readNotes(base)
  const now = readNotes(theirs)
  if (attributes === before.attributes) ({ attributes } = now)
  if (login === before.login) ({ login } = now)
  const moved = moveNotes(theirs, expiresAt, isCookieSent, use)
  return writeNotes({ ...moved, attributes, login, former: now.former })
}

/** Returns what a change makes of data, as text, and its result. */
export function applyTo<Result>(
  codec: Codec,
  text: string,
  change: (draft: SessionData) => Result
): { readonly data: string; readonly result: Result } {
  const draft = codec.parse(text)
  const result = applyChange(change, draft)
  return { data: codec.stringify({ ...draft }), result }
}

/** Lets the caller's function change the draft. */
function applyChange<Result>(change: (draft: SessionData) => Result, draft: Data): Result {
  const before = new Set(Object.keys(draft))
  const result = change(draftOf(draft))
  if (isPromise(result)) {
    result.then(undefined, () => {})
    throw new SessionError('HOLDFAST_UPDATE_ASYNC')
  }
  for (const key of Object.keys(draft)) {
    if (draft[key] === undefined) delete draft[key]
    else if (isReserved(key) && !before.has(key)) throw new SessionError('HOLDFAST_KEY_RESERVED')
  }
  return result
}

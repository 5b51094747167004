import type { SessionFeed } from './feed.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from './record.ts'

export type { MaybePromise, SessionRecord, SessionTrace } from './record.ts'

/**
 * Keeps the records of sessions. A key is a digest of a session's id: 43 characters of base64url.
 * If somebody is signed in, 16 characters that stand for the subject and a dot come before it.
 *
 * Under a key there is a record, or a trace, or nothing. Every method is atomic, and may return a
 * value or a promise. "Absent" and "expired" are results, not failures, and they are the same
 * result. A method throws or rejects only if the store fails; that becomes a 503, and is never
 * taken for "no session".
 *
 * `storeConformance` of `fastify-holdfast/testing` tests any store against this contract.
 */
export interface SessionStore {
  /**
   * Returns the live record, or the trace; undefined if there is neither.
   *
   * @throws a `SessionError` of the code `HOLDFAST_DATA_UNDECODABLE`: there is something under the
   * key that the store cannot read. A session that has it can only be ended
   */
  get(key: string): MaybePromise<SessionRecord | SessionTrace | undefined>
  /** Inserts the record and returns true; returns false if a live record or a trace has the key. */
  create(key: string, record: SessionRecord): MaybePromise<boolean>
  /**
   * Replaces the live record and returns true; returns false if there is none, or if its version is
   * not `expectedVersion`. A trace is no record.
   *
   * Keeps the later `expiresAt` of the two, because another request may have moved it since. Only
   * if the idle timeout becomes shorter is the expiry exactly that of `record`. A record without an
   * idle timeout counts as one whose timeout is endless.
   */
  update(key: string, record: SessionRecord, expectedVersion: string): MaybePromise<boolean>
  /**
   * Moves the expiry of the live record to `expiresAt` (epoch milliseconds), but never back, and no
   * further from now than its idle timeout (`maxAge`, else `defaultMaxAge`, if it has either).
   * Returns the expiry that now applies, or undefined if there is no live record. A trace is none,
   * and its expiry stays.
   */
  touch(key: string, expiresAt: number): MaybePromise<number | undefined>
  /**
   * Removes the live record and returns it. A trace stays, and is returned. Returns undefined if
   * there is neither. Of several concurrent callers only one gets the record. What it cannot read
   * it removes too, and returns true.
   */
  delete(key: string): MaybePromise<SessionRecord | SessionTrace | true | undefined>
  /**
   * Replaces the live record by the trace and returns true; returns false if there is no live
   * record, or if its version is not `trace.version`. The expiry is exactly that of the trace: it
   * may be earlier than the record's, and later.
   */
  retire(key: string, trace: SessionTrace): MaybePromise<boolean>
  /**
   * Does both in one step: creates the record under `trace.successor`, as `create` does, and
   * replaces the live record under `key` by the trace, as `retire` does. Returns true; returns
   * false, and changes nothing, if either is refused.
   *
   * Optional: for stores that can change two keys at once. It saves a round trip of each login.
   */
  move?(key: string, record: SessionRecord, trace: SessionTrace): MaybePromise<boolean>
  /**
   * The sessions of subjects, such as users, which `session.signIn()` needs. Optional: a store
   * without it keeps anonymous sessions and those of apps that keep the user in the data.
   */
  readonly subjects?: SubjectStore
  /**
   * Tells of ends at once, for `session.signal`. Optional: over a store without it the plugin looks
   * at the sessions that are watched every two seconds, by `get`.
   */
  readonly feed?: SessionFeed
  /**
   * Releases what the store holds open, if anything. Whoever created the store calls it: the plugin
   * does so only for its default store.
   */
  close?(): MaybePromise<void>
}

/** One of the live sessions of a subject, as a store lists it. */
export interface ListedSession {
  /** Names the session under every id that it has: its version up to the first dot. */
  readonly lineage: string
  /** The key under which it is now. */
  readonly key: string
  readonly record: SessionRecord
}

/** Some or all of the live sessions of a subject. */
export interface SessionPage {
  /** As `stamp()` returns it. */
  readonly stamp: string
  /** Changes whenever a session is added. */
  readonly version: string
  readonly sessions: readonly ListedSession[]
  /** Where the next page begins. Undefined: there is none. */
  readonly next?: string
}

/**
 * Keeps, for each subject, a list of its live sessions: the lineage of each, and the key under
 * which it is now. One change of the list ends all of them, however many there are.
 *
 * A subject is 16 characters of base64url. The keys of its sessions begin with it and a dot, and no
 * other key has a dot. A record under such a key is live only if its lineage (its version up to the
 * first dot) is listed with that key: otherwise every method of the store treats it as absent. When
 * a record is deleted or retired, its lineage is no longer listed. The list lives at least as long
 * as the records. If the list is lost, the sessions have ended.
 */
export interface SubjectStore {
  /**
   * Returns the stamp under which sessions of the subject can be created. It changes with every
   * `endAll`, never to an earlier value, and is kept for an hour at least; if it is lost, nobody
   * can sign in by it.
   */
  stamp(subject: string): MaybePromise<string>
  /** Lists live sessions, in no order; some of them may be listed twice. */
  list(subject: string, from?: string): MaybePromise<SessionPage>
  /** Returns the key under which a session is now; undefined if it has ended. */
  find(subject: string, lineage: string): MaybePromise<string | undefined>
  /**
   * Creates the record as `SessionStore.create` does, and lists it.
   *
   * @param under the stamp that must be the present one; the version, if no session may have been
   *   added since; and, as `instead`, the lineages to take off the list
   * @returns `created`; `taken`: a live record or a trace has the key; `refused`: another stamp or
   *   version is the present one. Nothing was changed unless it was created
   */
  create(
    key: string,
    record: SessionRecord,
    under: {
      readonly stamp: string
      readonly version?: string
      readonly instead?: readonly string[]
    }
  ): MaybePromise<'created' | 'taken' | 'refused'>
  /**
   * Does what `SessionStore.move` does, with a session that keeps its subject and its lineage: it
   * is listed with the new key from then on.
   *
   * @param stamp if given, the move is refused under another one, as `create` is
   */
  move(
    key: string,
    record: SessionRecord,
    trace: SessionTrace,
    stamp?: string
  ): MaybePromise<boolean>
  /**
   * Ends all sessions of the subject, except the one that `except` names, in a time that does not
   * depend on their number.
   *
   * @param except the lineage that stays listed, if it is
   * @returns whether it is listed
   */
  endAll(subject: string, except?: string): MaybePromise<boolean>
  /** Ends the session of a lineage, whatever its key. @returns whether there was a live one */
  endOne(subject: string, lineage: string): MaybePromise<boolean>
  /** Ends the sessions of all subjects that there are, as `endAll` does. */
  endEverything(): MaybePromise<void>
}

import { SessionError } from '../errors.ts'
import { created, merged } from '../events.ts'
import { createRecord } from './admission.ts'
import type { SessionConfig } from './config.ts'
import { prepareRecord, type Write } from './prepare-record.ts'
import type { StoreClient } from './store-client.ts'
import { sameLife, versionAfter } from './version.ts'
import type { MaybePromise, SessionRecord } from '../../types/store.ts'

/** What became of a write. */
export type WriteResult<Result> =
  | {
      readonly kind: 'written'
      readonly record: SessionRecord
      readonly result: Result
      /** Whether the session has moved since, and the write with it. */
      readonly hasMoved: boolean
    }
  /** The session ended meanwhile. */
  | { readonly kind: 'gone' }
  /**
   * The key of the new record is another session's. `beginsAnew`: and what the session was to go on
   * from has gone on elsewhere.
   */
  | { readonly kind: 'id-taken'; readonly beginsAnew?: boolean }
  /**
   * The answer to the creation was lost, and it has not taken effect so far. It may come yet, and
   * bring back an ended session: it must not be made again under its key.
   */
  | { readonly kind: 'id-lost'; readonly error: unknown }
  /** `mayExist`: a record was to be created, and its answer was lost. */
  | { readonly kind: 'failed'; readonly error: unknown; readonly mayExist: boolean }

export type Written<Result> = Extract<WriteResult<Result>, { kind: 'written' }>

/** One of the writes that take effect together, and what becomes of it. */
export class Member {
  readonly write: Write<unknown>
  /** The client of its operation: the time that the client has left is the time it has. */
  readonly store: StoreClient
  readonly result: Promise<WriteResult<unknown>>
  /** Whether it has had a turn: from then on it may be stored. */
  isTried = false
  #settle!: (result: WriteResult<unknown>) => void

  constructor(write: Write<unknown>, store: StoreClient) {
    this.write = write
    this.store = store
    this.result = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  settle(result: WriteResult<unknown>): void {
    this.#settle(result)
  }
}

/** What a member did to the record as it found it. It counts once the batch is written. */
interface Turn {
  readonly member: Member
  readonly found: SessionRecord | undefined
  readonly outcome: { readonly result: unknown } | { readonly error: unknown }
}

/**
 * Writes of one session that take effect as one. They take turns: each finds the record that those
 * before it have led to, and one that fails leaves it as it was.
 */
export class Batch {
  /** The client that asks for all: that of the last member, which has the most time left. */
  readonly store: StoreClient
  readonly #config: SessionConfig
  #members: readonly Member[]
  #turns: readonly Turn[]

  /** @param turns those of an attempt that is under way */
  constructor(config: SessionConfig, members: readonly Member[], turns: readonly Turn[] = []) {
    this.store = (members.at(-1) as Member).store
    this.#config = config
    this.#members = members
    this.#turns = turns
  }

  /** Whether all members are writes of the session that this record is of. */
  isOf(record: SessionRecord): boolean {
    return this.#members.every(({ write }) => refusal(write, record) === undefined)
  }

  /**
   * Has each member take its turn on what is stored now. Returns the record that they lead to;
   * undefined if no write is left.
   */
  prepare(stored: SessionRecord | undefined): SessionRecord | undefined {
    this.#members = this.#members.filter((member) => this.#stays(member, stored))
    const turns: Turn[] = []
    let record = stored
    for (const member of this.#members) {
      const found = record
      member.isTried = true
      try {
        const attempt = prepareRecord(this.#config, member.write, found)
        turns.push({ member, found, outcome: attempt })
        ;({ record } = attempt)
      } catch (error) {
        turns.push({ member, found, outcome: { error } })
      }
    }
    this.#turns = turns
    if (record === undefined || record === stored) return undefined
    // One write has one token, however many members it has.
    const [{ write }] = this.#members as [Member]
    const { lineage } = write.identity
    return {
      ...record,
      version: versionAfter(stored?.version, record.notes !== undefined, lineage)
    }
  }

  /** Creates the record. @throws HOLDFAST_SIGN_IN_ENDED, HOLDFAST_SESSIONS_FULL */
  create(key: string, record: SessionRecord): MaybePromise<boolean> {
    const [{ write }] = this.#members as [Member]
    return createRecord({ config: this.#config, store: this.store }, key, record, write.signIn)
  }

  /** There is a trace under the key: no write may follow it. */
  refuse(): void {
    for (const member of this.#members) {
      member.settle({ kind: member.write.base === undefined ? 'id-taken' : 'gone' })
    }
  }

  /** The creation has not taken effect, and may do so yet. */
  loseId(error: unknown): void {
    for (const member of this.#members) member.settle({ kind: 'id-lost', error })
  }

  /** The record is stored. Undefined: there was none to store. @param hasMoved and moved since */
  finish(record: SessionRecord | undefined, hasMoved: boolean): void {
    for (const { member, found, outcome } of this.#turns) {
      if (record === undefined || 'error' in outcome) {
        const { error } = outcome as { error: unknown }
        member.settle({ kind: 'failed', error, mayExist: false })
      } else {
        publishWritten(this.#config, member.write, found)
        member.settle({ kind: 'written', record, result: outcome.result, hasMoved })
      }
    }
  }

  /** It is not known whether the record is stored. @param mayExist whether it may be a new one */
  fail(error: unknown, mayExist: boolean): void {
    const { code, cause } =
      error instanceof SessionError
        ? error
        : ({ code: 'HOLDFAST_STORE_FAILED', cause: error } as const)
    // Each its own: what one request's error handler does to an error is not the others' concern.
    for (const member of this.#members) {
      member.settle({ kind: 'failed', error: new SessionError(code, { cause }), mayExist })
    }
  }

  /** Whether a member's turn is to come. The client that asks learns by itself that it is late. */
  #stays(member: Member, stored: SessionRecord | undefined): boolean {
    if (member.store.isOver && member.store !== this.store) return false
    const kind = refusal(member.write, stored)
    if (kind !== undefined) member.settle({ kind })
    return kind === undefined
  }
}

/** Tells of a write that took effect. @param found the record before it */
export function publishWritten(
  { sessionName }: SessionConfig,
  { identity, base }: Write<unknown>,
  found: SessionRecord | undefined
): void {
  if (found === undefined) {
    if (created.hasSubscribers) created.publish({ sessionName, session: identity.handle })
  } else if (found.version !== base?.version && merged.hasSubscribers) {
    merged.publish({ sessionName, session: identity.handle })
  }
}

/** Why a write must not follow what is stored. Undefined: it may. */
function refusal(
  { base, mayJoin }: Write<unknown>,
  stored: SessionRecord | undefined
): 'gone' | 'id-taken' | undefined {
  if (base === undefined) return stored === undefined || mayJoin ? undefined : 'id-taken'
  const isStored = stored !== undefined && sameLife(stored.version, base.version) // mutant: life
  return isStored ? undefined : 'gone'
}

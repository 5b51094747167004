import { SessionError } from '../errors.ts'
import { createRecord } from './admission.ts'
import { Batch, Member, publishWritten, type WriteResult } from './batch.ts'
import type { SessionConfig } from './config.ts'
import { prepareRecord, type Attempt, type Write } from './prepare-record.ts'
import { carryOut, send, type Answer } from './send.ts'
import type { StoreClient } from './store-client.ts'
import { andThen } from './waiting.ts'
import type { MaybePromise, SessionRecord } from '../../types/store.ts'

/**
 * The one place where data is written, for every caller and every store: by compare-and-set.
 *
 * While a write of a session is under way in this process, those that come wait in line. Together
 * they are the next one: a crowd costs a few calls of the store.
 */
export class Writer {
  readonly #config: SessionConfig
  /** Who waits, for each key of which a write is under way. */
  readonly #lines = new Map<string, Member[]>()

  constructor(config: SessionConfig) {
    this.#config = config
  }

  /**
   * Creates the record, or replaces the one that was read. If that has moved on, lays the changes
   * of this request over what is stored now, and tries again.
   *
   * @throws HOLDFAST_UPDATE_ASYNC, HOLDFAST_KEY_RESERVED, HOLDFAST_DATA_UNSERIALIZABLE,
   *   HOLDFAST_DATA_TOO_LARGE, and what `change` throws in its first run: nothing was sent
   * @throws HOLDFAST_SESSION_BUSY nothing was sent; HOLDFAST_STORE_TIMEOUT
   */
  write<Result>(store: StoreClient, write: Write<Result>): MaybePromise<WriteResult<Result>> {
    const { base } = write
    // Nobody else writes to a session that is to have an id of its own.
    const isShared = base !== undefined || write.mayJoin
    const line = isShared ? this.#lines.get(write.identity.publicId) : undefined
    if (line !== undefined) return waitInLine(line, write, store)
    const attempt = prepareRecord(this.#config, write, base)
    const sender = {
      store,
      create: (key: string, record: SessionRecord): MaybePromise<boolean> =>
        createRecord({ config: this.#config, store }, key, record, write.signIn)
    }
    const answer = send(sender, write.identity.publicId, attempt.record, base)
    return answer === 'written'
      ? this.#written(write, attempt)
      : this.#goOn(store, write, attempt, answer)
  }

  /** Has the others wait in line until it is known what became of the first attempt. */
  #goOn<Result>(
    store: StoreClient,
    write: Write<Result>,
    attempt: Attempt<Result>,
    firstAnswer: MaybePromise<Answer>
  ): MaybePromise<WriteResult<Result>> {
    const key = write.identity.publicId
    const line: Member[] = []
    // There may be one: what changes a draft may, from within, write to the session elsewhere.
    if (!this.#lines.has(key)) this.#lines.set(key, line)
    return andThen(firstAnswer, (answer) => {
      const { record } = attempt
      if (answer === 'written') {
        if (line.length > 0) void this.#serve(key, line, record)
        else this.#close(key, line)
        return this.#written(write, attempt)
      }
      const member = new Member(write, store)
      const turn = { member, found: write.base, outcome: attempt }
      const batch = new Batch(this.#config, [member], [turn])
      const outcome = carryOut(key, batch, { record, theirs: write.base, answer })
      void outcome.then((known) => this.#serve(key, line, known))
      return member.result as Promise<WriteResult<Result>>
    })
  }

  /** Writes for all who have come meanwhile, until nobody has. @param last what was written last */
  async #serve(key: string, line: Member[], last: SessionRecord | undefined): Promise<void> {
    let known = last
    while (line.length > 0) {
      const members = line.splice(0).filter(({ store }) => !store.isOver)
      if (members.length > 0) {
        const batch = new Batch(this.#config, members)
        known = await carryOut(key, batch, undefined, known)
      }
    }
    this.#close(key, line)
  }

  #close(key: string, line: Member[]): void {
    if (this.#lines.get(key) === line) this.#lines.delete(key)
  }

  #written<Result>(write: Write<Result>, { record, result }: Attempt<Result>): WriteResult<Result> {
    publishWritten(this.#config, write, write.base)
    return { kind: 'written', record, result, hasMoved: false }
  }
}

/**
 * Waits for the write to be part of a batch, and for what becomes of it, while its operation has
 * time. Once that is over, a write that has had no turn gets none.
 */
async function waitInLine<Result>(
  line: Member[],
  write: Write<Result>,
  store: StoreClient
): Promise<WriteResult<Result>> {
  const member = new Member(write, store)
  line.push(member)
  try {
    return (await store.waitFor(member.result)) as WriteResult<Result>
  } catch (error) {
    throw member.isTried ? error : new SessionError('HOLDFAST_SESSION_BUSY')
  }
}

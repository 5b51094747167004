import { systemClock } from '../clock.ts'
import { optionError, SessionError } from '../errors.ts'
import { CallLimit } from './call-limit.ts'
import { checkStoreOptions } from './check-store-options.ts'
import { feedStatementsFor } from './postgres-feed-sql.ts'
import { PostgresFeed } from './postgres-feed.ts'
import { entryOf, rowOf, toInstant, type Row } from './postgres-row.ts'
import { definitionOf, statementsFor, type Statements } from './postgres-sql.ts'
import { listingFor, subjectStatementsFor } from './postgres-subjects-sql.ts'
import { PostgresSubjects } from './postgres-subjects.ts'
import { subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionFeed } from '../../types/feed.ts'
import type { SessionRecord, SessionStore, SessionTrace, SubjectStore } from '../../types/store.ts'

/** The part of a connection pool that the store uses. A `Pool` of `pg` has it. */
export interface PostgresPool {
  /**
   * Runs a statement on any connection, with `values` for its $1, $2, and so on. Without values,
   * the text may hold several statements.
   */
  query(
    text: string,
    values?: unknown[]
  ): Promise<{ rows: readonly unknown[]; rowCount: number | null }>
  on?(event: 'error', listener: (error: Error) => void): unknown
  listenerCount?(event: 'error'): number
}

/**
 * Options of the table. An invalid one throws `HOLDFAST_OPTION_INVALID`; the message names the
 * option and the values that it takes.
 */
export interface PostgresTableOptions {
  /**
   * Name of the table, spelt as in the database, or `schema.table` if the search path does not find
   * it. Each part consists of up to 50 letters, digits and underscores. Default:
   * `'holdfast_sessions'`.
   */
  table?: string
  /**
   * Whether `createTable()` and `ddl()` make the table UNLOGGED. Writes are cheaper then, but
   * replicas do not have the table, and a crash of the server empties it, which logs everybody out.
   * Default: false.
   */
  unlogged?: boolean
}

/**
 * Options of `PostgresStore`. An invalid one throws `HOLDFAST_OPTION_INVALID`; the message names
 * the option and the values that it takes.
 */
export interface PostgresStoreOptions extends PostgresTableOptions {
  /** Your pool. You create it and you end it. */
  pool: PostgresPool
  /**
   * A pool that connects to the server itself, where `pool` does so by PgBouncer, through which
   * nobody can LISTEN. For `session.signal` the store makes one connection with its settings, at
   * the first signal, and closes it with the app. Default: `pool`.
   */
  listener?: PostgresPool
  /**
   * Maximum number of calls that wait for the server at the same time, including those in the
   * pool's queue. A further call fails at once. Default: 1000.
   */
  maxPending?: number
  /** Source of the app's time, for tests. Default: the system clock. */
  clock?: Clock
}

const optionNames = ['pool', 'listener', 'table', 'unlogged', 'maxPending', 'clock']

/** How often a statement is run if the server undoes it in favour of other transactions. */
const maxAttempts = 100

/** The key of the advisory lock that is held to create the table: "hold" in ASCII. */
const creationLock = 0x68_6f_6c_64

/** The SQLSTATE of a transaction that was undone because it conflicted with another one. */
const serializationFailure = '40001'

/**
 * Keeps sessions in a table of PostgreSQL 14 or later, through the app's own pool, which it never
 * closes.
 *
 * Each method of `SessionStore` runs one unnamed statement, which is a transaction of its own, so
 * the store works behind PgBouncer in transaction mode. The pool must connect to the primary: a
 * replica lags behind, and would bring ended sessions back.
 *
 * Nothing deletes expired records by itself: call `deleteExpired()` about once an hour, or the table
 * grows by a row for each session that is not logged out.
 */
export class PostgresStore implements SessionStore {
  readonly #pool: PostgresPool
  readonly #callLimit: CallLimit
  readonly #clock: Clock
  readonly #ddl: string
  readonly subjects: SubjectStore
  readonly feed: SessionFeed
  readonly #statements: Statements
  /** The same for the keys of subjects. */
  readonly #listed: Statements
  readonly #subjectStatements: ReturnType<typeof subjectStatementsFor>

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: PostgresStoreOptions) {
    checkStoreOptions(options, optionNames)
    const { pool, listener, table, maxPending, clock = systemClock } = options
    if (typeof pool?.query !== 'function')
      throw optionError('pool', 'a Pool of pg, or what queries as it does')
    if (typeof clock?.now !== 'function') throw optionError('clock', 'an object with now')
    this.#pool = pool
    this.#callLimit = new CallLimit(maxPending)
    this.#clock = clock
    this.#ddl = PostgresStore.ddl(options)
    this.#statements = statementsFor(table)
    this.#listed = statementsFor(table, listingFor(table))
    this.#subjectStatements = subjectStatementsFor(table)
    this.subjects = new PostgresSubjects({
      clock,
      statements: this.#subjectStatements,
      run: (text, values) => this.#run(text, values)
    })
    this.feed = new PostgresFeed({
      pool: listener ?? pool,
      clock,
      statements: feedStatementsFor(table, listingFor(table)),
      run: (text, values) => this.#run(text, values)
    })
    // When an idle connection breaks, pg emits an error event, which ends the process if nobody
    // listens. The next call reports the error anyway.
    if (pool.listenerCount?.('error') === 0) pool.on?.('error', () => {})
  }

  /**
   * Returns the SQL that creates the table and its index if they do not exist, for use in a
   * migration.
   *
   * @throws HOLDFAST_OPTION_INVALID
   */
  static ddl(options: PostgresTableOptions = {}): string {
    const { table, unlogged = false } = options
    if (typeof unlogged !== 'boolean') throw optionError('unlogged', 'true or false')
    return definitionOf(table, unlogged)
  }

  /**
   * Creates the table and its index if they do not exist. Several processes may call it at once.
   * The database user needs the right to create tables; without it, run `PostgresStore.ddl()` in a
   * migration instead. A schema named in the option `table` must exist.
   */
  async createTable(): Promise<void> {
    // IF NOT EXISTS alone fails if another process creates the table at the same moment. Statements
    // that are sent together form one transaction.
    await this.#callLimit.run(() =>
      this.#pool.query(`SELECT pg_advisory_xact_lock(${creationLock});\n${this.#ddl}`)
    )
  }

  /**
   * Deletes records that expired an hour ago or more, and returns how many it deleted. Works in
   * transactions of at most `batch` records (default: 1000).
   *
   * Expired records are never returned, deleted or not; this only frees their space. Nothing calls
   * it for you: call it about once an hour, from one process or from several, which share the work
   * and do not wait for each other.
   *
   * @throws HOLDFAST_OPTION_INVALID `batch` is not a positive integer
   */
  async deleteExpired({ batch = 1000 }: { batch?: number } = {}): Promise<number> {
    if (!Number.isSafeInteger(batch) || batch < 1) throw optionError('batch', 'a positive integer')
    let total = 0
    let deleted: number
    do {
      const { rowCount } = await this.#run(this.#statements.deleteExpired, [batch])
      deleted = Number(rowCount)
      total += deleted
    } while (deleted >= batch)
    for (const text of [
      this.#subjectStatements.deleteUnlisted,
      this.#subjectStatements.deleteUnused
    ]) {
      do {
        deleted = Number((await this.#run(text, [batch])).rowCount)
      } while (deleted >= batch)
    }
    return total
  }

  async get(key: string): Promise<SessionRecord | SessionTrace | undefined> {
    const calledAt = this.#clock.now()
    const { rows } = await this.#run(this.#for(key).get, [key])
    const entry = entryOf(rows, calledAt)
    if (entry === 'unreadable') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    return entry
  }

  async create(key: string, record: SessionRecord): Promise<boolean> {
    const values = rowOf(key, record, this.#clock.now())
    const { rowCount } = await this.#run(this.#statements.create, values)
    return rowCount === 1
  }

  async update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    const { data, version, maxAge, defaultMaxAge, notes, expiresAt } = record
    const { rowCount } = await this.#run(this.#for(key).update, [
      key,
      expectedVersion,
      data,
      version,
      maxAge ?? null,
      defaultMaxAge ?? null,
      notes ?? null,
      expiresAt - this.#clock.now()
    ])
    return rowCount === 1
  }

  async touch(key: string, expiresAt: number): Promise<number | undefined> {
    const calledAt = this.#clock.now()
    const { rows } = await this.#run(this.#for(key).touch, [key, expiresAt - calledAt])
    const [touched] = rows as readonly Pick<Row, 'expires_in'>[]
    return touched === undefined ? undefined : toInstant(calledAt, touched.expires_in)
  }

  async delete(key: string): Promise<SessionRecord | SessionTrace | true | undefined> {
    const calledAt = this.#clock.now()
    const { rows } = await this.#run(this.#for(key).delete, [key])
    const entry = entryOf(rows, calledAt)
    return entry === 'unreadable' ? true : entry
  }

  async retire(key: string, { successor, version, expiresAt }: SessionTrace): Promise<boolean> {
    const life = expiresAt - this.#clock.now()
    const { rowCount } = await this.#run(this.#for(key).retire, [key, version, successor, life])
    return rowCount === 1
  }

  async move(key: string, record: SessionRecord, trace: SessionTrace): Promise<boolean> {
    const calledAt = this.#clock.now()
    const { rowCount } = await this.#run(this.#statements.move, [
      ...rowOf(trace.successor, record, calledAt),
      key,
      trace.version,
      trace.expiresAt - calledAt
    ])
    return rowCount === 1
  }

  #for(key: string): Statements {
    return subjectOf(key) === undefined ? this.#statements : this.#listed
  }

  #run(text: string, values: unknown[]): ReturnType<PostgresPool['query']> {
    return this.#callLimit.run(() => this.#query(text, values))
  }

  /**
   * Runs a statement, again and again if the server undoes it. That happens where transactions are
   * REPEATABLE READ or SERIALIZABLE by default, when another transaction changed the same row;
   * under READ COMMITTED the statement would continue with the changed row. Running it again has
   * the same result: the other transaction has ended by then, and an update finds its version
   * changed or not.
   */
  async #query(
    text: string,
    values: unknown[],
    attemptsLeft = maxAttempts
  ): ReturnType<PostgresPool['query']> {
    try {
      return await this.#pool.query(text, values)
    } catch (error) {
      if (attemptsLeft === 1 || !isSerializationFailure(error)) throw withoutValues(error)
      return this.#query(text, values, attemptsLeft - 1)
    }
  }
}

function isSerializationFailure(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === serializationFailure
}

/**
 * Removes from an error what must not reach a log: the server may quote the row, or the values of
 * the statement, beside its message.
 */
function withoutValues(error: unknown): unknown {
  if (typeof error === 'object' && error !== null) {
    for (const property of ['detail', 'where', 'internalQuery'])
      Reflect.deleteProperty(error, property)
  }
  return error
}

import { systemClock } from '../clock.ts'
import { optionError } from '../errors.ts'
import { InFlight } from './in-flight.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionRecord, SessionStore } from '../../types/store.ts'

/** What the store needs of a pool: a `Pool` of `pg` has it. */
export interface PostgresPool {
  /** Runs a statement on any connection; `values` stand for its $1, $2 … Without values there may be several statements. */
  query(text: string, values?: unknown[]): Promise<{ rows: readonly unknown[], rowCount: number | null }>
  on?(event: 'error', listener: (error: Error) => void): unknown
  listenerCount?(event: 'error'): number
}

/** Which table, and how it is kept. Wrong options throw HOLDFAST_OPTION_INVALID, which names the option and the cure. */
export interface PostgresTableOptions {
  /** Name of the table, spelt as in the database; `schema.table` for one that the search path does not find. Default: `'holdfast_sessions'`. */
  table?: string
  /**
   * Whether `createTable()` and `ddl()` make the table UNLOGGED: writes are cheaper, replicas do not have it, and a crash
   * of the server empties it: everybody is logged out. Default: false.
   */
  unlogged?: boolean
}

/** The options of a PostgresStore. Wrong ones throw HOLDFAST_OPTION_INVALID, which names the option and the cure. */
export interface PostgresStoreOptions extends PostgresTableOptions {
  /** Your pool, made and ended by you. */
  pool: PostgresPool
  /** The most calls that wait for the server, the pool's queue included; one more fails at once. Default: 1000. */
  maxPending?: number
  /** Where the app's time comes from; for tests. Default: the system's. */
  clock?: Clock
}

/** How often a statement is made again that the server has undone for the sake of another. */
const mostTries = 100

/** What those who make a table lock, so as to do it one after the other: "hold" in ASCII. */
const creationLock = 0x68_6f_6c_64

/** The SQLSTATE of a transaction that was undone since it could not be put in order with others. */
const serializationFailure = '40001'

/**
 * Keeps records in a table of PostgreSQL 14 or later, through the app's own pool, which it never closes.
 *
 * Every verb is one unnamed statement, a transaction of its own: so it works behind PgBouncer in transaction mode. The pool must
 * lead to the primary: a replica is behind, and would bring back what has ended.
 */
export class PostgresStore implements SessionStore {
  readonly #pool: PostgresPool
  readonly #inFlight: InFlight
  readonly #clock: Clock
  readonly #ddl: string
  readonly #statements: Statements

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: PostgresStoreOptions) {
    const { pool, table, maxPending, clock = systemClock } = options
    if (typeof pool?.query !== 'function') throw optionError('pool', 'a Pool of pg, or what queries as it does')
    if (typeof clock?.now !== 'function') throw optionError('clock', 'an object with now')
    this.#pool = pool
    this.#inFlight = new InFlight(maxPending)
    this.#clock = clock
    this.#ddl = PostgresStore.ddl(options)
    this.#statements = statements(nameOf(table).quoted)
    // pg tells of an idle connection that broke by an event that ends the process if nobody listens. The next call will tell.
    if (pool.listenerCount?.('error') === 0) pool.on?.('error', () => {})
  }

  /**
   * The statements that make the table and its index, where they are not there yet: for a migration.
   *
   * @throws HOLDFAST_OPTION_INVALID
   */
  static ddl(options: PostgresTableOptions = {}): string {
    const { unlogged = false } = options
    if (typeof unlogged !== 'boolean') throw optionError('unlogged', 'true or false')
    const { quoted, index } = nameOf(options.table)
    // Almost every write moves the expiry. Were it indexed itself, each would add an entry to both indexes, for vacuum to take
    // out again. Indexed by the hour, and with room left in the pages, most are heap-only (HOT): measured, 97 of 100 touches
    // and not one, and some 40 % less WAL. The price: what has expired may be kept for an hour more, unseen.
    //
    // Data is text, to be read by whoever looks into the table. It cannot hold U+0000, which JSON never does (it writes \u0000):
    // a serializer of one's own that does is refused by the server with an error. As bytea it would travel at twice its size.
    return `CREATE${unlogged ? ' UNLOGGED' : ''} TABLE IF NOT EXISTS ${quoted} (
  key text COLLATE "C" PRIMARY KEY,
  data text NOT NULL,
  version text COLLATE "C" NOT NULL,
  max_age integer,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  expires_hour timestamptz NOT NULL GENERATED ALWAYS AS (date_bin('1 hour', expires_at, '2000-01-01 00:00Z')) STORED
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS ${index} ON ${quoted} (expires_hour);
`
  }

  /**
   * Makes the table and its index, where they are not there yet. Several processes may do so at once. Needs the right to create;
   * an app that has none leaves it to a migration (`PostgresStore.ddl()`). A schema must be there.
   */
  async createTable(): Promise<void> {
    // IF NOT EXISTS alone fails if another creates at the same moment. Statements sent together are one transaction.
    await this.#inFlight.call(() => this.#pool.query(`SELECT pg_advisory_xact_lock(${creationLock});\n${this.#ddl}`))
  }

  /**
   * Deletes records that expired an hour ago or more, in transactions of at most `batch` records (default: 1000), and answers
   * how many it deleted. What has expired is never served, deleted or not; this frees its space, and nothing else does: call it
   * every hour or so, from one process or from several, which share the work and do not wait for each other.
   *
   * @throws HOLDFAST_OPTION_INVALID
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
    return total
  }

  async get(key: string): Promise<SessionRecord | undefined> {
    const askedAt = this.#clock.now()
    const { rows } = await this.#run(this.#statements.get, [key])
    return liveRecord(rows, askedAt)
  }

  async create(key: string, record: SessionRecord): Promise<boolean> {
    const { data, version, maxAge, createdAt, expiresAt } = record
    const askedAt = this.#clock.now()
    const { rowCount } = await this.#run(this.#statements.create, [key, data, version, maxAge ?? null, createdAt - askedAt, expiresAt - askedAt])
    return rowCount === 1
  }

  async update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    const { data, version, maxAge, expiresAt } = record
    const askedAt = this.#clock.now()
    const { rowCount } = await this.#run(this.#statements.update, [key, expectedVersion, data, version, maxAge ?? null, expiresAt - askedAt])
    return rowCount === 1
  }

  async touch(key: string, expiresAt: number): Promise<number | undefined> {
    const askedAt = this.#clock.now()
    const { rows } = await this.#run(this.#statements.touch, [key, expiresAt - askedAt])
    const [touched] = rows as readonly Pick<Row, 'expires_in'>[]
    return touched === undefined ? undefined : instant(askedAt, touched.expires_in)
  }

  async delete(key: string): Promise<SessionRecord | undefined> {
    const askedAt = this.#clock.now()
    const { rows } = await this.#run(this.#statements.delete, [key])
    return liveRecord(rows, askedAt)
  }

  /**
   * Where transactions are REPEATABLE READ or SERIALIZABLE by default, a statement that met another on its row is undone and
   * fails, whereas under READ COMMITTED it goes on with what the other left. To make it again is the same thing: the other is
   * through by then, and an update finds the version moved, or not.
   */
  #run(text: string, values: unknown[]): ReturnType<PostgresPool['query']> {
    return this.#inFlight.call(() => this.#try(mostTries, text, values))
  }

  async #try(tries: number, text: string, values: unknown[]): ReturnType<PostgresPool['query']> {
    try {
      return await this.#pool.query(text, values)
    } catch (fault) {
      if (tries === 1 || (fault as { code?: unknown } | null)?.code !== serializationFailure) throw withoutValues(fault)
      return this.#try(tries - 1, text, values)
    }
  }
}

/** A server may quote the row, or the values of the statement, beside its message: they must not reach a log. */
function withoutValues(fault: unknown): unknown {
  if (typeof fault === 'object' && fault !== null) {
    for (const property of ['detail', 'where', 'internalQuery']) Reflect.deleteProperty(fault, property)
  }
  return fault
}

/** A row as the statements answer it; durations in milliseconds from when the server got the statement. */
interface Row {
  readonly data: unknown
  readonly version: unknown
  readonly max_age: unknown
  readonly created_in: unknown
  readonly expires_in: unknown
  readonly live: boolean
}

/**
 * What cannot be read is no record of ours.
 *
 * @param askedAt the app's instant before the call, so that what is made of it is never later than the truth
 */
function liveRecord(rows: readonly unknown[], askedAt: number): SessionRecord | undefined {
  const [row] = rows as readonly Row[]
  if (row?.live !== true || typeof row.data !== 'string' || typeof row.version !== 'string') return undefined
  const createdAt = instant(askedAt, row.created_in)
  const expiresAt = instant(askedAt, row.expires_in)
  if (createdAt === undefined || expiresAt === undefined) return undefined
  return { data: row.data, version: row.version, createdAt, expiresAt, ...row.max_age === null ? undefined : { maxAge: Number(row.max_age) } }
}

/** Undefined: the row had 'infinity', which no session has. */
function instant(askedAt: number, duration: unknown): number | undefined {
  const epoch = Math.floor(askedAt + Number(duration))
  return Number.isFinite(epoch) ? epoch : undefined
}

type Statements = Readonly<Record<'get' | 'create' | 'update' | 'touch' | 'delete' | 'deleteExpired', string>>

/** The instant so many milliseconds after the server got the statement. */
function at(duration: string): string {
  return `statement_timestamp() + ${duration}::float8 * interval '1 millisecond'`
}

/** The milliseconds from when the server got the statement until an instant. */
function until(column: string): string {
  return `((extract(epoch FROM ${column}) - extract(epoch FROM statement_timestamp())) * 1000)::float8`
}

/**
 * The server's clock alone decides. Instants come as durations and go as durations, both counted from when the server got
 * the statement (statement_timestamp()): so the clocks need not agree, and a wait for a lock lengthens no life. A wait on the way there, in
 * the pool's queue or the network, lengthens the idle life by as much, never the absolute one, which readers check. Whether a record
 * is live is asked of the present (clock_timestamp()), since a statement may have waited for a lock while the record expired.
 */
function statements(table: string): Statements {
  const record = `data, version, max_age, ${until('created_at')} AS created_in, ${until('expires_at')} AS expires_in, expires_at > clock_timestamp() AS live`

  return Object.freeze({
    get: `SELECT ${record} FROM ${table} WHERE key = $1`,

    // Locks the row that is in the way before it looks at it: the present is that after any wait. An expired one is replaced.
    create: `INSERT INTO ${table} AS stored (key, data, version, max_age, created_at, expires_at)
VALUES ($1, $2, $3, $4, ${at('$5')}, ${at('$6')})
ON CONFLICT (key) DO UPDATE
SET data = excluded.data, version = excluded.version, max_age = excluded.max_age, created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE stored.expires_at <= clock_timestamp()`,

    // A plain UPDATE looks at its conditions, then waits for the row, and looks again only if the row was changed meanwhile. Behind a
    // lock that changed nothing (SELECT FOR UPDATE, a transaction undone) it would bring back what expired while it waited. So
    // the row is locked first, and the conditions are on what was locked.
    update: `WITH locked AS MATERIALIZED (SELECT key, expires_at FROM ${table} WHERE key = $1 AND version = $2 FOR NO KEY UPDATE)
UPDATE ${table} AS stored
SET data = $3, version = $4, max_age = $5, expires_at = greatest(stored.expires_at, ${at('$6')})
FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()`,

    touch: `WITH locked AS MATERIALIZED (SELECT key, expires_at FROM ${table} WHERE key = $1 FOR NO KEY UPDATE)
UPDATE ${table} AS stored
SET expires_at = greatest(stored.expires_at, ${at('$2')})
FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()
RETURNING ${until('stored.expires_at')} AS expires_in`,

    // RETURNING is worked out after any wait, on the row as it was last. One that has expired goes too, and is not answered.
    delete: `DELETE FROM ${table} WHERE key = $1 RETURNING ${record}`,

    // What is locked is skipped: another deletes it, or replaces it. clock_timestamp(), being volatile, could not use the index.
    deleteExpired: `DELETE FROM ${table} WHERE key = ANY (ARRAY(
  SELECT key FROM ${table} WHERE expires_hour <= statement_timestamp() - interval '1 hour'
  ORDER BY expires_hour LIMIT $1 FOR UPDATE SKIP LOCKED
))`
  })
}

/** What PostgreSQL cuts names to is 63 bytes: of a longer name the index would have that of the table. */
const longestName = 50

/** A table's name, and that of its index, as they stand in a statement. */
function nameOf(table: string = 'holdfast_sessions'): { readonly quoted: string, readonly index: string } {
  const parts = typeof table === 'string' ? table.split('.') : []
  if (parts.length < 1 || parts.length > 2 || !parts.every((part) => /^[A-Za-z_][\w$]*$/.test(part) && part.length <= longestName)) {
    throw optionError('table', `the name of a table, or of a schema and a table with a dot between, of letters, digits and _, up to ${longestName} each`)
  }
  return { quoted: parts.map((part) => `"${part}"`).join('.'), index: `"${parts.at(-1)}_expiry"` }
}

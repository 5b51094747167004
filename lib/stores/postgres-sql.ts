import { hash } from 'node:crypto'

import { optionError } from '../errors.ts'

/** The statements of a store, by the method that sends them. */
export type Statements = Readonly<
  Record<
    'get' | 'create' | 'update' | 'touch' | 'delete' | 'retire' | 'move' | 'deleteExpired',
    string
  >
>

/** What is asked of the records of subjects, and done as they end. */
export interface Listing {
  /** Returns what holds of a row with the columns `key` and `version` that is listed. */
  readonly isListed: (row: string) => string
  /** Returns the statement that strikes the session of a row off. */
  readonly strike: (row: string) => string
}

/** The names of a table, of those beside it, and of its index, as they stand in a statement. */
export interface Names {
  readonly table: string
  /** The stamp of each subject. */
  readonly subjects: string
  /** The live sessions of subjects. */
  readonly lists: string
  readonly index: string
}

/**
 * The longest name that a table may have. PostgreSQL cuts names to 63 bytes, so that with a longer
 * one the name of the index could become that of the table.
 */
const maxNameLength = 50

/** @throws HOLDFAST_OPTION_INVALID */
export function namesFor(table: string = 'holdfast_sessions'): Names {
  const parts = typeof table === 'string' ? table.split('.') : []
  if (
    parts.length < 1 ||
    parts.length > 2 ||
    !parts.every((part) => /^[A-Za-z_][\w$]*$/.test(part) && part.length <= maxNameLength)
  ) {
    throw optionError(
      'table',
      'the name of a table, or of a schema and a table with a dot between, ' +
        `of letters, digits and _, up to ${maxNameLength} each`
    )
  }
  const named = (end: string): string =>
    parts.map((part, place) => `"${part}${place === parts.length - 1 ? end : ''}"`).join('.')
  return {
    table: named(''),
    subjects: named('_subjects'),
    lists: named('_lists'),
    index: `"${parts.at(-1)}_expiry"`
  }
}

/**
 * Returns the statements that create the table and its index if they do not exist.
 * @throws HOLDFAST_OPTION_INVALID
 */
export function definitionOf(tableName: string | undefined, unlogged: boolean): string {
  const { table, subjects, lists, index } = namesFor(tableName)
  const temporary = unlogged ? ' UNLOGGED' : ''
  // Almost every write moves the expiry. With an index on the expiry itself, each write would add
  // an entry to both indexes, and vacuum would have to remove them. With an index on the hour, and
  // with free space in the pages, most updates are heap-only (HOT): in a measurement 97 of 100
  // touches instead of none, and about 40 % less WAL. The price: an expired record, which is never
  // returned, may be kept for an hour longer.
  //
  // The data is text, so that people can read it in the table. It cannot contain U+0000, which JSON
  // never does (it writes \u0000): the server refuses the data of a custom serializer that does. As
  // bytea it would be twice the size on the wire.
  return `CREATE${temporary} TABLE IF NOT EXISTS ${table} (
  key text COLLATE "C" PRIMARY KEY,
  data text NOT NULL,
  version text COLLATE "C" NOT NULL,
  max_age integer,
  default_max_age integer,
  notes text COLLATE "C",
  successor text COLLATE "C",
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  expires_hour timestamptz NOT NULL
    GENERATED ALWAYS AS (date_bin('1 hour', expires_at, '2000-01-01 00:00Z')) STORED
) WITH (fillfactor = 80);
-- A table of version 0.1.0 lacks columns. Adding one takes a lock, even if it is there. It is the
-- first lock: a transaction that has a lesser one could wait for a statement that waits for it.
DO $$ BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = '${table}'::regclass AND attname = 'successor'
  ) THEN ALTER TABLE ${table} ADD COLUMN IF NOT EXISTS default_max_age integer,
    ADD COLUMN IF NOT EXISTS notes text COLLATE "C",
    ADD COLUMN IF NOT EXISTS successor text COLLATE "C";
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS ${index} ON ${table} (expires_hour);
CREATE${temporary} TABLE IF NOT EXISTS ${subjects} (
  subject text COLLATE "C" PRIMARY KEY,
  stamp text COLLATE "C" NOT NULL,
  additions bigint NOT NULL DEFAULT 0,
  used_at timestamptz NOT NULL DEFAULT statement_timestamp()
);
CREATE${temporary} TABLE IF NOT EXISTS ${lists} (
  subject text COLLATE "C",
  lineage text COLLATE "C",
  key text COLLATE "C" NOT NULL,
  stamp text COLLATE "C" NOT NULL,
  PRIMARY KEY (subject, lineage)
);
`
}

/** Returns SQL for the time `duration` milliseconds after the server received the statement. */
export function timestampAfter(duration: string): string {
  return `statement_timestamp() + ${duration}::float8 * interval '1 millisecond'`
}

/** Returns SQL for the milliseconds from when the server received the statement until `column`. */
function millisecondsUntil(column: string): string {
  return `((extract(epoch FROM ${column})
  - extract(epoch FROM statement_timestamp())) * 1000)::float8`
}

/**
 * What holds of a record, and not of a trace: a trace begins at infinity. Its version has `>`
 * before it. By both a process of version 0.1.0, which does not know traces, takes it for no record.
 */
export const isRecord = "created_at < 'infinity'"

/**
 * Returns SQL that tells who listens, when the transaction commits. Its first character says what:
 * a session was destroyed or has moved, or one or all of a subject were ended, or by the limit.
 *
 * @param name a key or a subject, as an expression
 */
export function notify(tableName: string | undefined, what: string, name: string): string {
  return `pg_notify('${channelOf(tableName)}', '${what}' || ${name})`
}

/** Tables of one name in several schemas share a channel: what is told is looked at. */
export function channelOf(tableName: string | undefined): string {
  const { table } = namesFor(tableName)
  return `holdfast_${hash('sha1', String(table.split('.').at(-1))).slice(0, 16)}`
}

/** Returns the columns of a row that a store reads. @param data instead of the data */
export function selectOf(row: string, listing?: Listing, data = 'data'): string {
  const isLive =
    `${row}.expires_at > clock_timestamp()` +
    (listing ? ` AND (${row}.created_at = 'infinity' OR ${listing.isListed(row)})` : '')
  return `${data} AS data, version, max_age, default_max_age, notes, successor,
  (extract(epoch FROM created_at) * 1000)::float8 AS created,
  ${millisecondsUntil('expires_at')} AS expires_in,
  ${isLive} AS live`
}

/** Seconds that are longer than any idle timeout. */
const endless = 2 ** 31 - 1

/** What holds of a trace that this store has written. */
const isTrace =
  "created_at = 'infinity' AND version LIKE '>%' AND successor IS NOT NULL AND expires_at < 'infinity'"

/**
 * Returns the statements for a table.
 *
 * Only the server's clock counts, so the clocks of the apps need not agree with it. Timestamps are
 * sent and returned as durations from when the server received the statement
 * (`statement_timestamp()`), so waiting for a lock does not extend a session. A delay before that,
 * in the pool's queue or in the network, extends the idle lifetime by as much, never the absolute
 * one, which the plugin checks on every read. Whether a record is live is compared with the present
 * (`clock_timestamp()`), because the record may have expired while the statement waited for a lock.
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function statementsFor(tableName: string | undefined, listing?: Listing): Statements {
  const { table } = namesFor(tableName)
  const also = (row: string): string => (listing ? ` AND ${listing.isListed(row)}` : '')
  const strike = listing ? `, struck AS (${listing.strike('locked')})` : ''
  const record = (row: string): string => selectOf(row, listing)
  const tell = (what: string, key: string): string => notify(tableName, what, key)
  const columns = 'key, data, version, max_age, default_max_age, notes, created_at, expires_at'
  // Replaces an expired record. ON CONFLICT locks the existing row before the condition is
  // evaluated, so clock_timestamp() is the time after any wait.
  const unlessTaken = `ON CONFLICT (key) DO UPDATE
SET data = excluded.data, version = excluded.version, max_age = excluded.max_age,
  default_max_age = excluded.default_max_age, notes = excluded.notes, successor = NULL,
  created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE stored.expires_at <= clock_timestamp()`
  // What becomes of a record that gives way to a trace.
  const traceTo = (successor: string, life: string): string => `data = '',
  version = '>' || stored.version, max_age = NULL, default_max_age = NULL, notes = NULL,
  successor = ${successor}, created_at = 'infinity', expires_at = ${timestampAfter(life)}`

  return Object.freeze({
    get: `SELECT ${record('stored')} FROM ${table} AS stored WHERE key = $1`,

    create: `INSERT INTO ${table} AS stored (${columns})
VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7::float8 / 1000), ${timestampAfter('$8')})
${unlessTaken}`,

    // A plain UPDATE evaluates its conditions, then waits for the row, and evaluates them again
    // only if the row was changed in the meantime. Behind a lock that changed nothing (SELECT FOR
    // UPDATE, a transaction that was rolled back) it would revive a record that expired during the
    // wait. So the row is locked first, and the conditions apply to the locked row.
    update: `WITH locked AS MATERIALIZED (
  SELECT key, expires_at FROM ${table} AS stored
  WHERE key = $1 AND version = $2 AND ${isRecord}${also('stored')} FOR NO KEY UPDATE
)
UPDATE ${table} AS stored
SET data = $3, version = $4, max_age = $5, default_max_age = $6, notes = $7,
  expires_at = CASE
    WHEN coalesce($5::int, $6::int)
      < coalesce(stored.max_age, stored.default_max_age, ${endless})
    THEN ${timestampAfter('$8')}
    ELSE greatest(stored.expires_at, ${timestampAfter('$8')})
  END
FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()`,

    touch: `WITH locked AS MATERIALIZED (
  SELECT key, expires_at FROM ${table} AS stored WHERE key = $1 AND ${isRecord}${also('stored')}
  FOR NO KEY UPDATE
)
UPDATE ${table} AS stored
SET expires_at = greatest(stored.expires_at, least(
  ${timestampAfter('$2')},
  statement_timestamp() + coalesce(stored.max_age, stored.default_max_age) * interval '1 second'
))
FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()
RETURNING ${millisecondsUntil('stored.expires_at')} AS expires_in`,

    // Deletes an expired record too, which then is not live. The row is locked first, so that a
    // record that became a trace in the meantime is read as that, and stays.
    delete: `WITH locked AS MATERIALIZED (
  SELECT * FROM ${table} WHERE key = $1 FOR UPDATE
), removed AS (
  DELETE FROM ${table} AS stored USING locked
  WHERE stored.key = locked.key AND NOT (SELECT ${isTrace} FROM locked)
  RETURNING ${tell('d', 'stored.key')}
)${strike}
SELECT ${record('locked')} FROM locked`,

    retire: `WITH locked AS MATERIALIZED (
  SELECT key, version, expires_at FROM ${table} AS stored
  WHERE key = $1 AND version = $2 AND ${isRecord}${also('stored')} FOR NO KEY UPDATE
)${strike}
UPDATE ${table} AS stored
SET ${traceTo('$3', '$4')}
FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()
RETURNING ${tell('m', "stored.key || ' ' || stored.successor")}`,

    // The record is locked first, as everywhere. It becomes a trace only if its successor was
    // created, and that is created only if it is there: both happen, or neither.
    move: `WITH locked AS MATERIALIZED (
  SELECT key, expires_at FROM ${table} WHERE key = $9 AND version = $10 AND ${isRecord}
  FOR NO KEY UPDATE
), created AS (
  INSERT INTO ${table} AS stored (${columns})
  SELECT $1, $2, $3, $4::integer, $5::integer, $6, to_timestamp($7::float8 / 1000),
    ${timestampAfter('$8')}
  FROM locked WHERE locked.expires_at > clock_timestamp()
  ${unlessTaken}
  RETURNING key
)
UPDATE ${table} AS stored
SET ${traceTo('created.key', '$11')}
FROM locked, created WHERE stored.key = locked.key
RETURNING ${tell('m', "stored.key || ' ' || stored.successor")}`,

    // Skips locked rows: another transaction is deleting or replacing them. Compares with
    // statement_timestamp(), because the volatile clock_timestamp() cannot use the index.
    deleteExpired: `DELETE FROM ${table} WHERE key = ANY (ARRAY(
  SELECT key FROM ${table} WHERE expires_hour <= statement_timestamp() - interval '1 hour'
  ORDER BY expires_hour LIMIT $1 FOR UPDATE SKIP LOCKED
))`
  })
}

import { isRecord, namesFor, notify, timestampAfter, type Listing } from './postgres-sql.ts'
import { tagLength } from '../subject-key.ts'

/** The statements of the sessions of subjects, by the method that sends them. */
export type SubjectStatements = Readonly<
  Record<
    | 'stamp'
    | 'list'
    | 'find'
    | 'create'
    | 'move'
    | 'endAll'
    | 'endOne'
    | 'endEverything'
    | 'deleteUnlisted'
    | 'deleteUnused',
    string
  >
>

/** Returns SQL for the lineage of a row that has a version. */
function lineage(version: string): string {
  return `split_part(${version}, '.', 1)`
}

/** Returns what tells the records of subjects from dead ones. */
export function listingFor(tableName: string | undefined): Listing {
  const { subjects, lists } = namesFor(tableName)
  return {
    isListed: (row) => `EXISTS (
    SELECT FROM ${lists} AS listed JOIN ${subjects} AS subject USING (subject, stamp)
    WHERE listed.subject = left(${row}.key, ${tagLength})
      AND listed.lineage = ${lineage(`${row}.version`)} AND listed.key = ${row}.key
  )`,
    // A trace has `>` before its version, and so no lineage.
    strike: (row) => `DELETE FROM ${lists} AS listed USING ${row}
  WHERE listed.subject = left(${row}.key, ${tagLength})
    AND listed.lineage = ${lineage(`${row}.version`)} AND listed.key = ${row}.key`
  }
}

/**
 * Returns the statements for the sessions of subjects.
 *
 * A session is listed with the stamp that its subject had: another stamp ends all of them, however
 * many they are. What decides is in rows that a statement locks, and reads once more when it has
 * them: the row of a subject first, then that of a session.
 */
export function subjectStatementsFor(tableName: string | undefined): SubjectStatements {
  const { table, subjects, lists } = namesFor(tableName)
  const tell = (what: string, name: string): string => notify(tableName, what, name)
  const columns = 'key, data, version, max_age, default_max_age, notes, created_at, expires_at'
  const row = `$1, $2, $3, $4::integer, $5::integer, $6, to_timestamp($7::float8 / 1000),
    ${timestampAfter('$8')}`

  return Object.freeze({
    stamp: `INSERT INTO ${subjects} AS subject (subject, stamp)
VALUES ($1, gen_random_uuid()::text)
ON CONFLICT (subject) DO UPDATE SET used_at = statement_timestamp()
RETURNING stamp`,

    list: `SELECT subject.stamp, subject.additions::text AS version, listed.lineage, stored.*
FROM ${subjects} AS subject
LEFT JOIN LATERAL (
  SELECT lineage, key FROM ${lists} AS listed
  WHERE listed.subject = subject.subject AND listed.stamp = subject.stamp AND lineage > $2
  ORDER BY lineage LIMIT $3
) AS listed ON true
LEFT JOIN LATERAL (
  SELECT key, data, version AS record_version, max_age, default_max_age, notes, successor,
    (extract(epoch FROM created_at) * 1000)::float8 AS created,
    ((extract(epoch FROM expires_at)
      - extract(epoch FROM statement_timestamp())) * 1000)::float8 AS expires_in,
    expires_at > clock_timestamp() AS live
  FROM ${table} WHERE key = listed.key AND ${isRecord}
) AS stored ON true
WHERE subject.subject = $1
ORDER BY listed.lineage`,

    find: `SELECT listed.key FROM ${lists} AS listed JOIN ${subjects} USING (subject, stamp)
WHERE subject = $1 AND lineage = $2`,

    // What was listed instead goes only if the session comes.
    create: `WITH subject AS (
  UPDATE ${subjects} SET additions = additions + 1, used_at = statement_timestamp()
  WHERE subject = $9 AND stamp = $10 AND ($11::text IS NULL OR additions::text = $11)
  RETURNING subject, stamp
), created AS (
  INSERT INTO ${table} AS stored (${columns})
  SELECT ${row} FROM subject
  ON CONFLICT (key) DO UPDATE
  SET data = excluded.data, version = excluded.version, max_age = excluded.max_age,
    default_max_age = excluded.default_max_age, notes = excluded.notes, successor = NULL,
    created_at = excluded.created_at, expires_at = excluded.expires_at
  WHERE stored.expires_at <= clock_timestamp()
  RETURNING key, version
), struck AS (
  DELETE FROM ${lists} AS listed USING created
  WHERE listed.subject = $9 AND listed.lineage = ANY ($12::text[])
  RETURNING ${tell('l', 'listed.subject')}
), listed AS (
  INSERT INTO ${lists} (subject, lineage, key, stamp)
  SELECT subject, ${lineage('version')}, key, stamp FROM created, subject
  ON CONFLICT (subject, lineage) DO UPDATE SET key = excluded.key, stamp = excluded.stamp
)
SELECT (SELECT count(*) FROM subject)::int AS subjects, (SELECT count(*) FROM created)::int AS created`,

    // A key that is taken fails the statement, by its constraint: then nothing has happened. What is
    // listed is locked before it is compared with the stamp, which may have changed meanwhile.
    move: `WITH subject AS MATERIALIZED (
  SELECT subject, stamp FROM ${subjects}
  WHERE subject = left($9, ${tagLength}) AND ($12::text IS NULL OR stamp = $12) FOR SHARE
), locked AS MATERIALIZED (
  SELECT key, version, expires_at FROM ${table} AS stored
  WHERE key = $9 AND version = $10 AND ${isRecord} AND EXISTS (SELECT FROM subject)
  FOR NO KEY UPDATE
), held AS MATERIALIZED (
  SELECT subject, lineage, key, stamp FROM ${lists}
  WHERE subject = (SELECT subject FROM subject)
    AND lineage = (SELECT ${lineage('version')} FROM locked) FOR UPDATE
), listed AS (
  UPDATE ${lists} AS listed SET key = $1 FROM subject, locked, held
  WHERE listed.subject = held.subject AND listed.lineage = held.lineage
    AND held.stamp = subject.stamp AND held.key = locked.key
    AND locked.expires_at > clock_timestamp()
  RETURNING listed.key
), created AS (
  INSERT INTO ${table} AS stored (${columns}) SELECT ${row} FROM listed RETURNING key
)
UPDATE ${table} AS stored
SET data = '', version = '>' || stored.version, max_age = NULL, default_max_age = NULL,
  notes = NULL, successor = created.key, created_at = 'infinity',
  expires_at = ${timestampAfter('$11')}
FROM locked, created WHERE stored.key = locked.key
RETURNING ${tell('m', "stored.key || ' ' || stored.successor")}`,

    // The subject is locked first; then the session that is spared, in the state that it has by
    // then, so that it is found wherever another request has just moved it.
    endAll: `WITH before AS MATERIALIZED (
  SELECT subject, stamp FROM ${subjects} WHERE subject = $1 FOR UPDATE
), spared AS MATERIALIZED (
  SELECT subject, lineage, stamp FROM ${lists}
  WHERE subject = (SELECT subject FROM before) AND lineage = $2 FOR UPDATE
), after AS (
  INSERT INTO ${subjects} AS subject (subject, stamp) VALUES ($1, gen_random_uuid()::text)
  ON CONFLICT (subject) DO UPDATE SET stamp = excluded.stamp, used_at = statement_timestamp()
  RETURNING stamp, ${tell('a', 'subject.subject')}
)
UPDATE ${lists} AS listed SET stamp = after.stamp
FROM before, spared, after
WHERE listed.subject = spared.subject AND listed.lineage = spared.lineage
  AND spared.stamp = before.stamp`,

    endOne: `WITH struck AS (
  DELETE FROM ${lists} WHERE subject = $1 AND lineage = $2 RETURNING subject, stamp, key, ${tell('d', 'key')}
)
SELECT FROM struck JOIN ${subjects} USING (subject, stamp) JOIN ${table} AS stored USING (key)
WHERE ${isRecord} AND stored.expires_at > clock_timestamp()`,

    endEverything: `WITH ended AS (
  UPDATE ${subjects} SET stamp = gen_random_uuid()::text, used_at = statement_timestamp()
)
SELECT ${tell('a', "''")}`,

    deleteUnlisted: `DELETE FROM ${lists} AS listed
WHERE (subject, lineage) IN (
  SELECT subject, lineage FROM ${lists} AS listed
  WHERE NOT EXISTS (SELECT FROM ${table} AS stored WHERE stored.key = listed.key)
    OR NOT EXISTS (
      SELECT FROM ${subjects} AS subject
      WHERE subject.subject = listed.subject AND subject.stamp = listed.stamp
    )
  LIMIT $1 FOR UPDATE SKIP LOCKED
)`,

    // A stamp is kept for longer than anybody takes to sign in.
    deleteUnused: `DELETE FROM ${subjects}
WHERE subject IN (
  SELECT subject FROM ${subjects} AS subject
  WHERE used_at < statement_timestamp() - interval '1 hour'
    AND NOT EXISTS (SELECT FROM ${lists} AS listed WHERE listed.subject = subject.subject)
  LIMIT $1 FOR UPDATE SKIP LOCKED
)`
  })
}

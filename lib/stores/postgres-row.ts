import type { SessionRecord, SessionTrace } from '../../types/store.ts'

/** Returns a new row, as the values of a statement. */
export function rowOf(key: string, record: SessionRecord, calledAt: number): unknown[] {
  const { data, version, maxAge = null, defaultMaxAge = null, notes = null } = record
  const { createdAt, expiresAt } = record
  return [key, data, version, maxAge, defaultMaxAge, notes, createdAt, expiresAt - calledAt]
}

/**
 * A row that the statements return. Durations are in milliseconds from when the server received the
 * statement.
 */
export interface Row {
  readonly data: unknown
  readonly version: unknown
  readonly max_age: unknown
  readonly default_max_age: unknown
  readonly notes: unknown
  readonly successor: unknown
  readonly created: unknown
  readonly expires_in: unknown
  readonly live: boolean
}

/**
 * Returns what is in the first row; undefined if there is none, or if it has expired.
 *
 * @param calledAt the app's time before the call, so that the timestamps are never later than the
 * true ones
 */
export function entryOf(
  rows: readonly unknown[],
  calledAt: number
): SessionRecord | SessionTrace | 'unreadable' | undefined {
  const [row] = rows as readonly Row[]
  if (row === undefined || row.live === false) return undefined
  if (typeof row.data !== 'string' || typeof row.version !== 'string') return 'unreadable'
  const createdAt = toInstant(0, row.created)
  const expiresAt = toInstant(calledAt, row.expires_in)
  if (expiresAt === undefined) return 'unreadable'
  const { data, version, successor } = row
  if (createdAt === undefined) {
    return typeof successor === 'string' && version.startsWith('>')
      ? { successor, version: version.slice(1), expiresAt }
      : 'unreadable'
  }
  return {
    data,
    version,
    createdAt,
    expiresAt,
    ...(row.max_age === null ? undefined : { maxAge: Number(row.max_age) }),
    ...(row.default_max_age === null ? undefined : { defaultMaxAge: Number(row.default_max_age) }),
    ...(typeof row.notes === 'string' ? { notes: row.notes } : undefined)
  }
}

/** Returns undefined for 'infinity', at which no record of this store begins or expires. */
export function toInstant(calledAt: number, duration: unknown): number | undefined {
  const instant = Math.floor(calledAt + Number(duration))
  return Number.isFinite(instant) ? instant : undefined
}

/** Whether a statement failed because a key was taken. */
export function isUniqueViolation(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === '23505'
}

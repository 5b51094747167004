import type { SessionRecord } from '../../types/store.ts'

type Idle = Pick<SessionRecord, 'maxAge' | 'defaultMaxAge'>

/**
 * Writes the idle timeout of a record as digits, in seconds. A plus before them says that it is the
 * default. Version 0.1.0 reads the same number.
 */
export function writeMaxAge({ maxAge, defaultMaxAge }: Idle): string {
  if (maxAge !== undefined) return String(maxAge)
  return defaultMaxAge === undefined ? '' : `+${defaultMaxAge}`
}

/** Reads what `writeMaxAge()` has written. */
export function readMaxAge(text: string): Idle | undefined {
  if (text === '') return undefined
  return text.startsWith('+') ? { defaultMaxAge: Number(text) } : { maxAge: Number(text) }
}

/** Returns the milliseconds of the idle timeout of a record. Infinity: it has none. */
export function idleOf({ maxAge, defaultMaxAge }: Idle): number {
  return (maxAge ?? defaultMaxAge ?? Infinity) * 1000
}

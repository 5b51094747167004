import { tolerance } from './notes.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

/**
 * Milliseconds that a trace is kept: longer than a request may take from its arrival to its
 * `destroy()`.
 */
export const traceLife: number = 10 * 60 * 1000

/**
 * Milliseconds for which a request that meets a trace may not begin a session: its browser is about
 * to get the new id. Afterwards it may have lost the reply.
 */
const quiet = 10 * 1000

/** Whether what a store has under a key is a trace. */
export function isTrace(
  entry: SessionRecord | SessionTrace | 'unreadable' | true | undefined
): entry is SessionTrace {
  return typeof entry === 'object' && entry.successor !== undefined
}

/**
 * Whether the session has moved only just now. A trace that seems to last longer than any does is
 * of no time that is known: the clock has stepped back.
 */
export function isQuiet({ expiresAt }: SessionTrace, now: number): boolean {
  const left = expiresAt - now
  return left > traceLife - quiet && left <= traceLife + tolerance
}

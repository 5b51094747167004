import { SessionError } from '../errors.ts'
import type { SessionErrorCode } from '../../types/errors.ts'
import type { EndReason } from '../../types/feed.ts'

/** How a session may end: as a store tells it, or because its time is over. */
export type Reason = EndReason | 'idle' | 'absolute' | 'unknown'

const codes: Readonly<Record<Reason, SessionErrorCode>> = {
  destroyed: 'HOLDFAST_SESSION_DESTROYED',
  'all destroyed': 'HOLDFAST_SESSIONS_DESTROYED',
  limit: 'HOLDFAST_SESSION_REPLACED',
  evicted: 'HOLDFAST_SESSION_EVICTED',
  idle: 'HOLDFAST_SESSION_IDLE',
  absolute: 'HOLDFAST_SESSION_EXPIRED',
  unknown: 'HOLDFAST_SESSION_GONE'
}

/**
 * Makes the reason with which a signal aborts. Without a stack, which would tell of the watch alone
 * and take most of the time where many sessions end at once.
 */
export function endedError(reason: Reason): SessionError {
  const { stackTraceLimit } = Error
  // An app may have frozen it: then there is a stack.
  Reflect.set(Error, 'stackTraceLimit', 0)
  try {
    return new SessionError(codes[reason])
  } finally {
    Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
  }
}

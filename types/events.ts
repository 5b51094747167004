import type { Transport } from './session.ts'
import type { SessionErrorCode } from '../lib/errors.ts'

/**
 * Where a session is in its life within one request.
 * - `new`, `regenerated`, `destroyed`: there is no record under its id; it is created if something is written
 * - `loaded`: there is a record, which this request read or wrote
 * - `gone`: there was one, and it ended while the request ran; what this request still changes is dropped
 * - `none`: the route opted out, or nobody has resolved the request yet
 */
export type Status = 'new' | 'loaded' | 'regenerated' | 'destroyed' | 'gone' | 'none'

/** What the commit did to the record; `gone`: it found the session ended. */
export type Deed = 'nothing' | 'created' | 'updated' | 'touched' | 'gone'

/** One of the registrations of an app, and of its sessions one by its public id. */
interface OfSession {
  readonly sessionName: string
  readonly session: string
}

/**
 * What can be watched with `node:diagnostics_channel`, on the channel `fastify-holdfast:` and the name. It costs nothing
 * where nobody does. Messages name sessions by their public ids; no id and no data is in them.
 *
 * ```ts
 * subscribe('fastify-holdfast:rejected', (message) => { const { reason } = message as SessionEvents['rejected'] })
 * ```
 *
 * A subscriber that throws does not reach the request: Node hands its error to the process as an uncaught exception.
 */
export interface SessionEvents {
  /** A session was stored for the first time. */
  created: OfSession
  /**
   * A request was committed: the status its session had by then, and what became of the record. `failed`: the reply was an error.
   * `session` is undefined where the request made do without an id; `removed` is the session that it destroyed or regenerated.
   */
  committed: { readonly sessionName: string, readonly session: string | undefined, readonly removed: string | undefined, readonly status: Status | undefined, readonly outcome: Deed | 'failed' }
  /** Another request had written meanwhile, and the changes of both were merged. */
  merged: OfSession
  /** A session ended while the request ran; what the request changed is dropped. */
  gone: OfSession
  /**
   * What a request carried named no session. `malformed`: not of the form of an id. `signature`: not signed under one of the secrets.
   * `duplicate`: more than one cookie of the name. `unknown`: not stored, or no more; stores do not tell an expired session from
   * none. `expired`: found, and past its deadline. `session` is there where the store was asked.
   */
  rejected: { readonly sessionName: string, readonly transport: Transport, readonly reason: 'malformed' | 'signature' | 'duplicate' | 'unknown' | 'expired', readonly session: string | undefined }
  /** `regenerate()` has removed the session, which goes on under another id. */
  regenerated: OfSession
  /** `destroy()` has removed the session. */
  destroyed: OfSession
  /** A MemoryStore that is full has dropped a live session; `returned`: one that had come back. */
  evicted: { readonly session: string, readonly returned: boolean }
  /** A call of the store failed or timed out, or what it answered could not be decoded. The store's own error is in the log, unless a second try went well. */
  fault: OfSession & { readonly verb: 'get' | 'create' | 'update' | 'touch' | 'delete', readonly code: SessionErrorCode }
}

import type { SessionErrorCode } from './errors.ts'
import type { Transport } from './session.ts'

/**
 * The state of a session within one request.
 * - `new`, `regenerated`, `destroyed`: there is no record under its id; one is created if something
 *   is written
 * - `loaded`: there is a record, which this request read or wrote
 * - `moved`: another request has moved the session to another id; what this request writes is
 *   dropped
 * - `gone`: there was a record, and it was removed or expired while the request ran; further
 *   changes of this request are dropped
 */
export type Status =
  | 'new'
  | 'loaded'
  | 'unreadable'
  | 'moved'
  | 'regenerated'
  | 'destroyed'
  | 'gone'

/** What the commit did to the record. `gone`: it found that the session had ended. */
export type CommitAction = 'nothing' | 'created' | 'updated' | 'touched' | 'gone'

/**
 * What a commit came to.
 * - `failed`: it failed, and the reply is the error
 * - `lost`: it failed under a reply that was an error already, and goes out as it is: what the
 *   request changed in its session is lost
 */
export type CommitOutcome = CommitAction | 'failed' | 'lost'

/** A session: the `sessionName` of its registration, and its public id. */
interface SessionRef {
  readonly sessionName: string
  readonly session: string
}

/**
 * The messages that the plugin publishes through `node:diagnostics_channel`. The channel of each is
 * `fastify-holdfast:` and its name here.
 *
 * ```ts
 * subscribe('fastify-holdfast:rejected', (message) => {
 *   const { reason } = message as SessionEvents['rejected']
 * })
 * ```
 *
 * Messages identify sessions by their public ids, and contain no id and no data. A channel without
 * subscribers costs nothing. An error that a subscriber throws does not reach the request: Node
 * raises it as an uncaught exception of the process.
 */
export interface SessionEvents {
  /** A session was stored for the first time. */
  created: SessionRef
  /** A request was committed, or its commit failed. */
  committed: {
    readonly sessionName: string
    /** The public id of the session; undefined if the request did not need an id. */
    readonly session: string | undefined
    /** The public id of the session that this request destroyed or regenerated. */
    readonly removed: string | undefined
    /** The state of the session when the commit began. */
    readonly status: Status | undefined
    /** What the commit did to the record, or how it failed. */
    readonly outcome: CommitOutcome
  }
  /**
   * Another request wrote to the session in the meantime, and its changes were merged with those of
   * this request.
   */
  merged: SessionRef
  /** A session ended while the request ran. What the request changed is dropped. */
  gone: SessionRef
  /**
   * A request named a session that could not be found. The value `new`, which asks for a new
   * session, is not reported.
   */
  rejected: {
    readonly sessionName: string
    readonly transport: Transport
    /**
     * - `malformed`: the value does not have the form of an id
     * - `signature`: it is not signed with one of the secrets
     * - `duplicate`: the request has more than one cookie of that name
     * - `unknown`: the store has no such session, or no longer; an expired session may count as
     *   unknown, since stores do not distinguish the two
     * - `expired`: the session was found, and is past its end
     */
    readonly reason: 'malformed' | 'signature' | 'duplicate' | 'unknown' | 'expired'
    /** The public id, if the store was asked: with `unknown` and `expired`. */
    readonly session: string | undefined
  }
  /** The session was moved to another id, by `regenerate()`. */
  regenerated: SessionRef
  /** `destroy()` removed the session. */
  destroyed: SessionRef
  /**
   * A session ended by disuse, or by its absolute lifetime, and this process noticed it, because a
   * `session.signal` of that session was in use.
   */
  expired: SessionRef & { readonly reason: 'idle' | 'absolute' }
  /** A full `MemoryStore` removed a live session to make room. */
  evicted: {
    readonly session: string
    /** Whether the session had been requested again since it was created. */
    readonly returned: boolean
  }
  /**
   * A call of the store failed or timed out, or it returned data that could not be decoded. The
   * store's own error is in the log, unless a second try succeeded.
   */
  fault: SessionRef & {
    /** The method of the store that was called. */
    readonly verb:
      | 'get'
      | 'create'
      | 'update'
      | 'touch'
      | 'delete'
      | 'retire'
      | 'move'
      | 'stamp'
      | 'list'
      | 'find'
      | 'endAll'
      | 'endOne'
      | 'endEverything'
      | 'look'
    readonly code: SessionErrorCode
  }
}

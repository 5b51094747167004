import type { Log, PresentedFormer, PresentedId } from './client.ts'
import type { SessionConfig } from './config.ts'
import type { Entry } from './find.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What a request presents besides its id. */
export interface FormerRequest {
  readonly presented: PresentedId
  /** Its Cookie header, as far as former cookies in it count. */
  readonly cookies: string | undefined
  /** Whether what a former cookie leads to may become its session. */
  readonly mayCarryOver: boolean
  readonly log: Log
}

/** What a request is found to present. */
export interface FormerAnswer {
  /** The id to which the former cookie leads. Undefined: the id that the request presents counts. */
  readonly id: string | undefined
  /** What is stored under that. Undefined: nothing that is live. */
  readonly found: Entry | undefined
  readonly former: PresentedFormer
}

/**
 * Finds out whether a request brings the cookie of a former session. If it brings no live session
 * beside that, carries the former one over.
 *
 * @throws the failure of a store
 */
export type AnswerFormer = (
  config: SessionConfig,
  request: FormerRequest
) => MaybePromise<FormerAnswer | undefined>

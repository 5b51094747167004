import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import type { HttpConfig } from './http/config.ts'
import { chooseCandidate, readPresentedId, type PresentedToken } from './http/request.ts'
import { mayBeWithheld } from './http/withheld.ts'
import type { FormerAnswer } from './session/former.ts'
import { findAll } from './session/load.ts'
import type { SessionContext } from './session/operations.ts'
import { andThen } from './session/waiting.ts'
import type { MaybePromise } from '../types/store.ts'

/** What is to be known of a request beside its headers. */
interface IdentifiedRequest {
  readonly log: FastifyBaseLogger
  readonly isUse: boolean
  /** The request of Fastify. Undefined: it came past that. */
  readonly request?: FastifyRequest
}

/**
 * Finds out which id a request presents. The store is asked only if there are several cookies, or
 * one of the plugin that the app had before.
 *
 * @throws the failure of the store
 */
export function identify(
  config: HttpConfig,
  context: SessionContext,
  headers: IncomingHttpHeaders,
  about: IdentifiedRequest
): MaybePromise<PresentedToken> {
  const { answerFormer } = config
  const read = readPresentedId(config, headers, about)
  const chosen = choose(config, context, read)
  if (answerFormer === undefined) return chosen
  return andThen(chosen, (presented) => {
    // The header decides if it is there. Of several live cookies none counts. Where ours may have
    // been kept back, the former one counts no more than that.
    const mayCarryOver = presented.transport !== 'header' && presented.ambiguous.length === 0
    const isWithheld = mayBeWithheld(config, headers, about.request, presented)
    const cookies = isWithheld ? undefined : headers.cookie
    const former = { presented, cookies, mayCarryOver, log: about.log }
    const answer = answerFormer(context.config, former)
    return andThen(answer, (given) => (given === undefined ? presented : take(presented, given)))
  })
}

/** Has the store say which of several cookies counts. */
function choose(
  config: HttpConfig,
  context: SessionContext,
  presented: PresentedToken
): MaybePromise<PresentedToken> {
  if (presented.candidates === undefined) return presented
  const ids = presented.candidates.map(({ id }) => id)
  return andThen(findAll(context, ids), (found) => chooseCandidate(config, presented, found))
}

/** Takes what the former cookie leads to, whose id is yet to be sent. */
function take(presented: PresentedToken, { id, found, former }: FormerAnswer): PresentedToken {
  if (id === undefined) return { ...presented, found, former }
  return {
    ...presented,
    id,
    found,
    former,
    token: undefined,
    transport: 'cookie',
    cookieId: id,
    mustRenew: true
  }
}

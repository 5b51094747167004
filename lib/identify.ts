import type { FastifyBaseLogger } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import type { HttpConfig } from './http/config.ts'
import { chooseCandidate, readPresentedId, type PresentedToken } from './http/request.ts'
import { findAll } from './session/load.ts'
import type { SessionContext } from './session/operations.ts'
import { andThen } from './session/waiting.ts'
import type { MaybePromise } from '../types/store.ts'

/**
 * Finds out which id a request presents. The store is asked only if there are several cookies.
 *
 * @throws the failure of the store
 */
export function identify(
  config: HttpConfig,
  context: SessionContext,
  headers: IncomingHttpHeaders,
  request: { readonly log: FastifyBaseLogger; readonly isUse: boolean }
): MaybePromise<PresentedToken> {
  const presented = readPresentedId(config, headers, request)
  if (presented.candidates === undefined) return presented
  const ids = presented.candidates.map(({ id }) => id)
  return andThen(findAll(context, ids), (found) => chooseCandidate(config, presented, found))
}

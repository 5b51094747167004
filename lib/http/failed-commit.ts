import type { FastifyReply } from 'fastify'

import type { HttpConfig } from './config.ts'
import { SessionError } from '../errors.ts'
import { removeSuccessHeaders } from './headers.ts'
import { discard, statusOf } from './held-payload.ts'
import type { CommitResult } from '../session/client.ts'
import type { SessionState } from '../session/state.ts'

/** Whether a reply goes out as it is although its commit failed: it is an error already. */
export function staysAsItIs(
  { replaceErrorReplies }: HttpConfig,
  reply: FastifyReply,
  payload: unknown
): boolean {
  return !replaceErrorReplies && statusOf(reply, payload) >= 400
}

/**
 * What the reply must say although its commit failed: this request has moved the session before,
 * so that the id that the client has is dead.
 */
export function toldAnyway({
  moving: { hasMoved, departure },
  status,
  identity,
  expiresAt
}: SessionState): CommitResult | undefined {
  if (!hasMoved || status === 'gone') return undefined
  const id = departure?.id ?? identity.id
  const until = departure?.record?.expiresAt ?? expiresAt
  return { action: 'nothing', reply: 'id', id, isConfirmed: true, expiresAt: until }
}

/** Clears a reply for the error of its commit, which takes its place. */
export function makeWay(reply: FastifyReply, payload: unknown, error: unknown): void {
  removeSuccessHeaders(reply)
  discard(payload, reply)
  // Where Fastify's own error page is replaced, Fastify would keep the status of that.
  if (reply.statusCode >= 400) reply.code(statusCodeOf(error))
}

/**
 * Logs the error of a commit, at the level of Fastify's, where Fastify does not: under a reply that
 * goes out as it is, and where it takes the place of an error that Fastify has logged.
 *
 * @param isKept whether the reply goes out as it is
 */
export function logLoss(
  reply: FastifyReply,
  { identity }: SessionState,
  error: unknown,
  isKept: boolean
): void {
  if (!isKept && !isPastErrorHandlers(reply)) return
  const level = statusCodeOf(error) < 500 ? 'info' : 'error'
  const details = { err: error, session: identity.handleIfKnown }
  const rest = isKept ? '; the reply, itself an error, goes out as it is' : ''
  reply.log[level](details, `the session could not be committed${rest}`)
}

/**
 * Whether the reply is that of the last error handler, Fastify's own: no other is called for the
 * error that replaces it. Fastify has no public word for that. If it keeps it elsewhere one day, it
 * is not found.
 */
function isPastErrorHandlers(reply: FastifyReply): boolean {
  const own = reply as unknown as Record<symbol, unknown>
  return Object.getOwnPropertySymbols(reply).some(
    (key) => key.description === 'fastify.reply.nextErrorHandler' && own[key] === false
  )
}

function statusCodeOf(error: unknown): number {
  return error instanceof SessionError ? error.statusCode : 500
}

import type { FastifyBaseLogger } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import { SessionError } from './errors.ts'
import { headersFor } from './http/request.ts'
import { identify } from './identify.ts'
import type { Config } from './options.ts'
import { endAt } from './session/end.ts'
import { isPublicId, publicIdOf } from './session/id.ts'
import { beginSession, findSession } from './session/load.ts'
import type { SessionContext } from './session/operations.ts'
import { withStore } from './session/store-client.ts'
import type {
  RawRequest,
  SessionData,
  Sessions,
  StoredSession,
  Transport
} from '../types/session.ts'
import type { SessionStore } from '../types/store.ts'

/** The sessions without a request. */
export class StoredSessions implements Sessions {
  readonly store: SessionStore
  readonly #config: Config
  readonly #context: SessionContext
  readonly #log: FastifyBaseLogger

  constructor(config: Config, context: SessionContext, log: FastifyBaseLogger) {
    this.store = config.store
    this.#config = config
    this.#context = context
    this.#log = log
  }

  async get(publicId: string): Promise<StoredSession | undefined> {
    const found = isPublicId(publicId) ? await findSession(this.#context, publicId) : undefined
    if (found?.state.record === undefined) return undefined
    const { createdAt, expiresAt, maxAge } = found.state.record
    return { publicId, data: found.session.data(), createdAt, expiresAt, maxAge }
  }

  async fromRequest(request: RawRequest): Promise<StoredSession | undefined> {
    const headers = headersOf(request)
    const how = { log: this.#log, isUse: false }
    const { id } = await identify(this.#config, this.#context, headers, how)
    return id === undefined ? undefined : this.get(this.publicIdOf(id))
  }

  async update<Result>(publicId: string, change: (draft: SessionData) => Result): Promise<Result> {
    const found = isPublicId(publicId) ? await findSession(this.#context, publicId) : undefined
    if (found === undefined) throw new SessionError('HOLDFAST_SESSION_GONE')
    return found.session.update(change)
  }

  async destroy(publicId: string): Promise<boolean> {
    if (!isPublicId(publicId)) return false
    return withStore(this.#config, (store) => endAt(store, this.#config, publicId))
  }

  publicIdOf(id: string): string {
    return publicIdOf(this.#config.sessionName, id)
  }

  /**
   * Stores a session, and returns the headers of a request that presents it. For `seedSession()` of
   * fastify-holdfast/testing: no part of `Sessions`.
   */
  async seed(
    data: SessionData,
    transport: Transport | undefined,
    maxAge: number | undefined
  ): Promise<Record<string, string>> {
    const { session } = beginSession(this.#context)
    for (const [key, value] of Object.entries(data)) session.set(key, value)
    if (maxAge !== undefined) session.maxAge = maxAge
    const headers = headersFor(this.#config, session.id, transport)
    await session.save()
    return headers
  }
}

/** Returns header fields as Node.js has them. @throws HOLDFAST_VALUE_INVALID */
function headersOf(request: RawRequest): IncomingHttpHeaders {
  if (typeof request !== 'object' || request === null) {
    throw new SessionError('HOLDFAST_VALUE_INVALID')
  }
  // A client may send a header field of this name.
  const { headers } = request as { readonly headers?: unknown }
  const fields = typeof headers === 'object' && headers !== null ? headers : request
  return fields instanceof Headers
    ? Object.fromEntries(fields)
    : (fields as unknown as IncomingHttpHeaders)
}

import type { FastifyBaseLogger } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import { SessionError } from './errors.ts'
import { headersFor } from './http/request.ts'
import { identify } from './identify.ts'
import type { Config } from './options.ts'
import { endAt } from './session/end.ts'
import { isKey, readHandle } from './session/handle.ts'
import { publicIdOf } from './session/id.ts'
import { beginSession, findSession } from './session/load.ts'
import type { SessionContext } from './session/operations.ts'
import { withStore } from './session/store-client.ts'
import { endByHandle, endSessions, keyOf, listSessions } from './session/subject-sessions.ts'
import { signalFor, whenClosed, type Connection } from './signal/connection.ts'
import { lineageOf } from './subject-key.ts'
import type { RequestSession } from './session/request-session.ts'
import type { SessionState } from './session/state.ts'
import type { SessionData, Transport } from '../types/session.ts'
import type { RawRequest, Sessions, StoredSession, SubjectSessions } from '../types/sessions.ts'
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
    return this.#read(publicId, undefined)
  }

  async fromRequest(request: RawRequest): Promise<StoredSession | undefined> {
    const headers = headersOf(request)
    const about = { log: this.#log, isUse: false }
    const { id } = await identify(this.#config, this.#context, headers, about)
    // A client may send a header field of this name.
    const { socket } = request as { readonly socket?: Partial<Connection> }
    const connection = typeof socket?.once === 'function' ? (socket as Connection) : undefined
    return id === undefined ? undefined : this.#read(this.publicIdOf(id), connection)
  }

  /** @param connection until it closes somebody waits for the end */
  async #read(
    publicId: string,
    connection: Connection | undefined
  ): Promise<StoredSession | undefined> {
    const found = await this.#find(publicId)
    if (found?.state.record === undefined) return undefined
    const { state, session } = found
    const { createdAt, expiresAt, maxAge } = found.state.record
    const { subject, authenticatedAt } = session
    const data = session.data()
    const { handle } = state.identity
    const read = { publicId: handle, data, createdAt, expiresAt, maxAge, subject, authenticatedAt }
    const { version } = found.state.record
    Object.defineProperty(read, 'signal', {
      get: () => this.#signalOf(state, `${handle} ${lineageOf(version)}`, connection)
    })
    return read as typeof read & { readonly signal: AbortSignal }
  }

  /** @param life tells the session from others that have had its id */
  #signalOf(state: SessionState, life: string, connection: Connection | undefined): AbortSignal {
    const { ends } = this.#config
    if (connection === undefined) return ends.signalOf(state, undefined)
    const client = { whenClosed: (callback: () => void) => whenClosed(connection, callback) }
    return signalFor(connection, life, () => ends.signalOf(state, client))
  }

  async update<Result>(publicId: string, change: (draft: SessionData) => Result): Promise<Result> {
    let last: string | undefined
    for (;;) {
      const found = await this.#find(publicId)
      if (found === undefined) throw new SessionError('HOLDFAST_SESSION_GONE')
      const key = found.state.identity.publicId
      try {
        return await found.session.update(change)
      } catch (error) {
        // Found by its handle, it may have moved since: then it is elsewhere.
        if (!isGone(error) || key === publicId || key === last) throw error
        last = key
      }
    }
  }

  async destroy(publicId: string): Promise<boolean> {
    const handle = readHandle(publicId)
    if (handle !== undefined) return endByHandle(this.#config, handle)
    if (!isKey(publicId)) return false
    return withStore(this.#config, (store) => endAt(store, this.#config, publicId))
  }

  list(subject: string, options?: unknown): Promise<SubjectSessions> {
    return listSessions(this.#config, subject, options)
  }

  destroyAll(subject: string, options?: unknown): Promise<void> {
    return endSessions(this.#config, subject, options)
  }

  async destroyEverything(): Promise<void> {
    await withStore(this.#config, async (store) => store.subjects.endEverything())
  }

  publicIdOf(id: string): string {
    return publicIdOf(this.#config.sessionName, id)
  }

  async #find(publicId: string): Promise<RequestSession | undefined> {
    let last: string | undefined
    for (;;) {
      const key = await keyOf(this.#config, publicId)
      if (key === undefined || key === last || !isKey(key)) return undefined
      const found = await findSession(this.#context, key)
      if (found !== undefined || key === publicId) return found
      last = key
    }
  }

  /**
   * Stores a session, and returns the headers of a request that presents it. For `seedSession()` of
   * fastify-holdfast/testing: no part of `Sessions`.
   */
  async seed(
    data: SessionData,
    how: { readonly transport?: Transport; readonly maxAge?: number; readonly subject?: string }
  ): Promise<Record<string, string>> {
    const { session } = beginSession(this.#context)
    if (how.subject !== undefined) await session.signIn(how.subject)
    for (const [key, value] of Object.entries(data)) session.set(key, value)
    if (how.maxAge !== undefined) session.maxAge = how.maxAge
    const headers = (): Record<string, string> =>
      headersFor(this.#config, session.id, how.transport)
    // Before it is stored, for it may be refused; and afterwards, for the id may be another one.
    headers()
    await session.save()
    return headers()
  }
}

function isGone(error: unknown): boolean {
  return error instanceof SessionError && error.code === 'HOLDFAST_SESSION_GONE'
}

/** Returns header fields as Node.js has them. @throws HOLDFAST_VALUE_INVALID */
function headersOf(request: RawRequest): IncomingHttpHeaders {
  if (typeof request !== 'object' || request === null) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: 'fromRequest() takes a request or its headers'
    })
  }
  // A client may send a header field of this name.
  const { headers } = request as { readonly headers?: unknown }
  const fields = typeof headers === 'object' && headers !== null ? headers : request
  return fields instanceof Headers
    ? Object.fromEntries(fields)
    : (fields as unknown as IncomingHttpHeaders)
}

import { destroyed } from './diagnostics.ts'
import { SessionError } from './errors.ts'
import { isPublicId, publicIdOf } from './identifier.ts'
import type { SessionManager } from './manager.ts'
import { operate } from './operation.ts'
import type { Config } from './options.ts'
import type { Transports } from './transport.ts'
import type { SessionData, Sessions, StoredSession, Transport } from '../types/session.ts'
import type { SessionStore } from '../types/store.ts'

/** The sessions without a request. */
export class StoredSessions implements Sessions {
  readonly store: SessionStore
  readonly #config: Config
  readonly #manager: SessionManager
  readonly #transports: Transports

  constructor(config: Config, manager: SessionManager, transports: Transports) {
    this.store = config.store
    this.#config = config
    this.#manager = manager
    this.#transports = transports
  }

  async get(publicId: string): Promise<StoredSession | undefined> {
    const work = isPublicId(publicId) ? await this.#manager.find(publicId) : undefined
    if (work?.record === undefined) return undefined
    const { createdAt, expiresAt, maxAge } = work.record
    return { publicId, data: work.session.data(), createdAt, expiresAt, maxAge }
  }

  async update<Result>(publicId: string, change: (draft: SessionData) => Result): Promise<Result> {
    const work = isPublicId(publicId) ? await this.#manager.find(publicId) : undefined
    if (work === undefined) throw new SessionError('HOLDFAST_SESSION_GONE')
    return work.update(change)
  }

  async destroy(publicId: string): Promise<boolean> {
    if (!isPublicId(publicId)) return false
    const removed = await operate(this.#config, (operation) => operation.forgiving(() => operation.delete(publicId)))
    if (removed !== undefined && destroyed.hasSubscribers) destroyed.publish({ sessionName: this.#config.sessionName, session: publicId })
    return removed !== undefined
  }

  publicIdOf(id: string): string {
    return publicIdOf(this.#config.sessionName, id)
  }

  /** Begins a session, and answers the headers of a request that carries it: `seedSession` of fastify-holdfast/testing, and no part of `Sessions`. */
  async seed(data: SessionData, transport: Transport | undefined, maxAge: number | undefined): Promise<Record<string, string>> {
    const work = this.#manager.begin()
    for (const [key, value] of Object.entries(data)) work.session.set(key, value)
    if (maxAge !== undefined) work.session.maxAge = maxAge
    const headers = this.#transports.carry(work.wireId, transport)
    await work.save()
    return headers
  }
}

import { SessionError } from '../errors.ts'
import type { SessionClient } from './client.ts'
import { carryOut, prepareCommit } from './commit.ts'
import type { SessionConfig } from './config.ts'
import { writeAttributes } from './cookie-notes.ts'
import { destroySession, regenerateSession } from './end.ts'
import { readKeep } from './keep.ts'
import type { SessionOperations } from './session.ts'
import type { SessionState } from './state.ts'
import { withStore, type StoreClient } from './store-client.ts'
import { storeChanges } from './store-changes.ts'
import { isOfCookie, touch, type Tools } from './touch.ts'
import type { OperationQueue } from './waiting.ts'
import type { Writer } from './write.ts'
import type { CookieAttributes, SessionData } from '../../types/session.ts'

/** What all sessions of a registration share. */
export interface SessionContext {
  readonly config: SessionConfig
  readonly writer: Writer
}

/** What the handler can do with its session: one operation after the other, awaited or not. */
export class Operations implements SessionOperations {
  readonly #context: SessionContext
  readonly #state: SessionState
  readonly #queue: OperationQueue
  readonly #client: SessionClient | undefined
  #failure: SessionError | undefined

  constructor(
    context: SessionContext,
    state: SessionState,
    queue: OperationQueue,
    client: SessionClient | undefined
  ) {
    this.#context = context
    this.#state = state
    this.#queue = queue
    this.#client = client
  }

  /** A failure by which the request cannot succeed, even if its handler goes on. */
  get failure(): SessionError | undefined {
    return this.#failure
  }

  get isCookieWithheld(): boolean {
    return this.#client?.isCookieWithheld === true
  }

  options(attributes: CookieAttributes): void {
    const { data } = this.#state
    const own = this.#client?.addCookieAttributes(data.attributes, attributes)
    if (own !== undefined) data.attributes = writeAttributes(own)
    this.changed()
  }

  /** Has the commit touch the session. If no commit is to come, touches it without one. */
  touch(): void {
    const isFirst = this.#state.use.requestTouch()
    if (!this.#canDeliverId()) {
      this.#touchNow()
    } else if (isFirst) {
      this.#client?.whenClosed(() => {
        if (this.#client?.isCommitStarted === false) this.#touchNow()
      })
    }
  }

  update<Result>(change: (draft: SessionData) => Result): Promise<Result> {
    return this.#run(async (store) => {
      if (typeof change !== 'function') throw new SessionError('HOLDFAST_VALUE_INVALID')
      this.#assertStorable()
      this.#assertReachable()
      const changes = { snapshot: this.#state.snapshot(), change }
      // The reply need not come to its commit, and then brings no cookie.
      const tools = { ...this.#tools(store), isCookieSent: false }
      const stored = await storeChanges(tools, this.#state, changes)
      if (stored.kind === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
      return stored.result
    })
  }

  save(): Promise<void> {
    return this.#run(async (store) => {
      this.#assertStorable()
      const state = this.#state
      const announces = this.#canDeliverId()
      const mustSendId = announces && state.mustSendId
      const { plan, snapshot } = prepareCommit(state, this.#context.config, {
        mayBegin: true,
        beginsWith: this.#client?.beginsWith === 'regenerate' ? 'regenerate' : 'request',
        mustSendId
      })
      if (plan.kind === 'create' || snapshot.text !== '') this.#assertReachable()
      const result = await carryOut(plan, state, snapshot, this.#tools(store))
      if (result.action === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
      // The commit has to send it again, and has the last word.
      if (result.reply === 'id' && result.isConfirmed) state.announceId()
      if (announces && this.#canDeliverId()) this.#client?.announce(result)
    })
  }

  regenerate(keep: unknown, options: unknown): Promise<void> {
    return this.#run(async () => {
      const how = readKeep(keep, options)
      // Before anything is removed: if no reply can bring the new id, this would be a logout.
      if (this.#client !== undefined && !this.#canDeliverId()) {
        throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
      }
      regenerateSession(this.#state, this.#context.config, how)
      this.#leaveBehind()
    })
  }

  destroy(): Promise<void> {
    return this.#run(async (store) => {
      await destroySession(store, this.#state, this.#context.config)
      this.#leaveBehind()
    })
  }

  changed(): void {
    this.#client?.sessionChanged()
  }

  #run<Result>(operation: (store: StoreClient) => Promise<Result>): Promise<Result> {
    const { config } = this.#context
    return this.#queue.run(
      () => withStore(config, operation),
      (error) => {
        if (this.#state.status === 'gone') this.#withdraw()
        if (error instanceof SessionError) this.#noteFailure(error)
      }
    )
  }

  #noteFailure(error: SessionError): void {
    const isGone = error.code === 'HOLDFAST_SESSION_GONE'
    const isCommitStarted = this.#client?.isCommitStarted === true
    // A failure of the store fails the request, and so does an error that comes during the commit,
    // when nobody can have waited for it.
    if (error.statusCode === 503 || (isCommitStarted && !isGone)) this.#failure ??= error
    if (this.#client?.isCommitted === true && !isGone) {
      const details = { err: error, session: this.#state.identity.publicIdIfKnown }
      this.#client.log.warn(details, 'an operation on the session failed after its reply')
    }
  }

  #touchNow(): void {
    const touched = this.#run(async (store) => {
      if (this.#state.status === 'loaded') await touch(this.#state, this.#tools(store))
    })
    touched.catch((err: unknown) => {
      const details = { err, session: this.#state.identity.publicIdIfKnown }
      this.#client?.log.warn(details, 'the session could not be touched')
    })
  }

  /** The session is no more the one that the request came with. */
  #leaveBehind(): void {
    // That it could not be read matters no more.
    if (this.#failure?.code === 'HOLDFAST_DATA_UNDECODABLE') this.#failure = undefined
    this.#withdraw()
  }

  #withdraw(): void {
    if (this.#state.statusAtCommit === undefined) this.#client?.withdraw()
  }

  #tools(store: StoreClient): Tools {
    return {
      ...this.#context,
      store,
      log: this.#client?.log,
      isCookieSent: this.#canDeliverId() && isOfCookie(this.#state),
      isSuccess: false
    }
  }

  #assertStorable(): void {
    const { status } = this.#state
    if (status === 'unreadable') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    if (status === 'gone' || status === 'moved') throw new SessionError('HOLDFAST_SESSION_GONE')
  }

  /** Refuses to store a record under an id that nobody gets to know. */
  #assertReachable(): void {
    const { record, identity, moving } = this.#state
    if (record !== undefined || identity.isAdopted || this.#client === undefined) return
    const mayBegin = moving.isRegenerated || this.#client.beginsWith !== 'regenerate'
    if (!mayBegin || !this.#canDeliverId()) throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
  }

  /** Whether the reply can still bring an id: the commit has not decided, and it has not left. */
  #canDeliverId(): boolean {
    return this.#state.statusAtCommit === undefined && this.#client?.canReceiveId() === true
  }
}

import { SessionError } from '../errors.ts'
import type { SessionClient } from './client.ts'
import type { SessionConfig } from './config.ts'
import { writeAttributes } from './notes.ts'
import { destroySession, regenerateSession } from './end.ts'
import { readKeep } from './keep.ts'
import { reload } from './reload.ts'
import { save } from './save.ts'
import { assertDeliverable, canDeliverId } from './reach.ts'
import type { SessionOperations } from './session-parts.ts'
import { reauthenticate, signIn } from './sign-in.ts'
import type { SessionState } from './state.ts'
import { withStore, type StoreClient } from './store-client.ts'
import { isOfCookie, touch, type Tools } from './touch.ts'
import { update } from './update.ts'
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
    if (!canDeliverId(this.#state, this.#client)) {
      this.#touchNow()
    } else if (isFirst) {
      this.#client?.whenClosed(() => {
        if (this.#client?.isCommitStarted === false) this.#touchNow()
      })
    }
  }

  update<Result>(change: (draft: SessionData) => Result): Promise<Result> {
    return this.#run((store) => update(this.#state, this.#client, this.#tools(store), change))
  }

  save(): Promise<void> {
    return this.#run((store) => save(this.#state, this.#client, () => this.#tools(store)))
  }

  reload(): Promise<void> {
    const { config } = this.#context
    // If it fails, the request may go on with what it has read.
    return this.#run((store) => reload(store, this.#state, config), false)
  }

  regenerate(keep: unknown, options: unknown): Promise<void> {
    return this.#run(async (store) => {
      const how = readKeep(keep, options)
      assertDeliverable(this.#state, this.#client)
      regenerateSession(this.#state, this.#context.config, how)
      this.#leaveBehind()
      const { former } = this.#state.cookie
      if (former !== undefined) await former.supersede(store, this.#state.moving)
    })
  }

  signIn(subject: unknown, options: unknown): Promise<boolean> {
    return this.#queue.beside(signIn(this.#signInTools, subject, options))
  }

  reauthenticate(verify: unknown): Promise<boolean> {
    return this.#queue.beside(reauthenticate(this.#signInTools, verify))
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

  /** @param isNeeded whether the request fails if this does */
  #run<Result>(
    operation: (store: StoreClient) => Promise<Result>,
    isNeeded = true
  ): Promise<Result> {
    return this.#queue.run(
      () => withStore(this.#context.config, operation),
      (error) => {
        if (this.#state.status === 'gone') this.#withdraw()
        if (isNeeded && error instanceof SessionError) this.#noteFailure(error)
      }
    )
  }

  #noteFailure(error: SessionError): void {
    const isGone = error.code === 'HOLDFAST_SESSION_GONE'
    const isCommitStarted = this.#client?.isCommitStarted === true
    // A failure of the store fails the request, and so does an error that comes during the commit,
    // when nobody can have waited for it.
    if (error.statusCode === 503 || (isCommitStarted && !isGone)) this.#failure ??= error
    const isLate = this.#client?.isCommitted === true && !isGone
    if (isLate) this.#warn(error, 'an operation on the session failed after its reply')
  }

  #touchNow(): void {
    const touched = this.#run(async (store) => {
      if (this.#state.status === 'loaded') await touch(this.#state, this.#tools(store))
    })
    touched.catch((error: unknown) => this.#warn(error, 'the session could not be touched'))
  }

  #warn(err: unknown, message: string): void {
    this.#client?.log.warn({ err, session: this.#state.identity.handleIfKnown }, message)
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

  get #signInTools(): Parameters<typeof signIn>[0] {
    return {
      config: this.#context.config,
      state: this.#state,
      run: (operation) => this.#run(operation),
      client: this.#client,
      leaveBehind: () => this.#leaveBehind()
    }
  }

  #tools(store: StoreClient): Tools {
    return {
      ...this.#context,
      store,
      log: this.#client?.log,
      isCookieSent: canDeliverId(this.#state, this.#client) && isOfCookie(this.#state),
      isSuccess: false
    }
  }
}

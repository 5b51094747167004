import { fault } from '../events.ts'
import type { CommitResult, PresentedId, SessionClient } from './client.ts'
import { carryOut, needsStore, prepareCommit, resultOf } from './commit.ts'
import type { SessionConfig } from './config.ts'
import type { Data } from './merge.ts'
import { followData } from './data-subject.ts'
import { Operations, type SessionContext } from './operations.ts'
import { Session } from './session.ts'
import { StateInfo } from './session-info.ts'
import { SessionState } from './state.ts'
import { withStore } from './store-client.ts'
import { isOfCookie } from './touch.ts'
import { guardUnreadable } from './unreadable.ts'
import { andThen, isPromise, OperationQueue } from './waiting.ts'
import type { MaybePromise } from '../../types/store.ts'

/** The session of one request, or of none if it has no client. */
export class RequestSession {
  /** Where the session stands. */
  readonly state: SessionState
  readonly #context: SessionContext
  readonly #presented: PresentedId
  readonly #client: SessionClient | undefined
  readonly #queue: OperationQueue
  /** Stands before the session if its record cannot be read. */
  #guarded: Session | undefined
  #operations: Operations | undefined
  /** Whether the commit waits for no check of credentials any more. */
  #isOverdue = false

  constructor(
    context: SessionContext,
    presented: PresentedId,
    state: SessionState,
    client?: SessionClient
  ) {
    this.#context = context
    this.#presented = presented
    this.state = state
    this.#client = client
    this.#queue = new OperationQueue()
  }

  /** The object that the handler holds, made when it is first looked at. */
  get session(): Session {
    return this.#guarded ?? this.state.data.session ?? this.#open()
  }

  /** Whether anybody has looked at the session. Until then nothing is parsed. */
  get isOpened(): boolean {
    return this.#operations !== undefined
  }

  /** Settles when no operation is under way. Undefined: none is. */
  get pending(): Promise<void> | undefined {
    return this.#queue.pending
  }

  /**
   * Commits: stores what changed, and returns what the reply is to say. Waits for the operations
   * under way; those that begin meanwhile wait for it.
   *
   * @param isSuccess whether the reply is such that the request alone may begin a session
   * @throws the failure of an operation or of the store, and what `storeChanges()` throws
   */
  commit(isSuccess: boolean): MaybePromise<CommitResult> {
    const { pending } = this.#queue
    if (pending !== undefined) return pending.then(() => this.commit(isSuccess))
    const { state } = this
    const { config } = this.#context
    const beside = this.#isOverdue ? undefined : this.#queue.pendingBeside
    if (beside !== undefined) return this.#waitFor(beside).then(() => this.commit(isSuccess))
    state.startCommit()
    if (this.#operations?.failure !== undefined) throw this.#operations.failure
    if (config.subjectOf === undefined) return this.#commitNow(isSuccess)
    const followed = withStore(config, (store) => followData(config, state, store, true))
    const result = andThen(followed, () => this.#commitNow(isSuccess))
    if (isPromise(result)) this.#queue.waitFor(result)
    return result
  }

  /** Waits for a check of credentials that nobody has awaited, as long as for the store. */
  #waitFor(check: Promise<void>): Promise<void> {
    const { clock, storeTimeout } = this.#context.config
    return new Promise<void>((resolve) => {
      const timer = clock.setTimeout(() => {
        this.#isOverdue = true
        resolve()
      }, storeTimeout)
      void check.then(() => {
        timer.close()
        resolve()
      })
    })
  }

  #commitNow(isSuccess: boolean): MaybePromise<CommitResult> {
    const { state } = this
    const { config } = this.#context
    // Who has met a trace, and begins anew with nothing, logs out.
    const isFree = !state.cookie.isStale && state.moving.missed === undefined
    const { plan, snapshot } = prepareCommit(state, config, {
      mayBegin: isSuccess && config.saveUninitialized && isFree,
      beginsWith: (this.#client as SessionClient).beginsWith,
      mustSendId: state.mustSendId
    })
    if (!needsStore(plan)) return this.#logIfDropped(resultOf(plan, state), state)
    const { writer } = this.#context
    const log = this.#client?.log
    const isCookieSent = isOfCookie(state)
    const result = withStore(config, (store) =>
      carryOut(plan, state, snapshot, {
        config,
        store,
        writer,
        log,
        isCookieSent,
        isSuccess
      })
    )
    if (isPromise(result)) this.#queue.waitFor(result)
    // A touch that finds the session gone has no changes to drop.
    return plan.kind === 'touch'
      ? result
      : andThen(result, (done) => this.#logIfDropped(done, state))
  }

  #open(): Session {
    const { state } = this
    const { config } = this.#context
    const data = state.status === 'unreadable' ? undefined : decode(state, config)
    if (data === undefined) {
      state.markUnreadable()
      const details = { session: state.identity.handle }
      this.#client?.log.warn(details, 'the stored session cannot be read here')
    }
    this.#operations ??= new Operations(this.#context, state, this.#queue, this.#client)
    const info = new StateInfo(state, this.#presented, config, this.#client)
    const session = new Session(info, this.#operations, data ?? {})
    state.data.open(session)
    this.#client?.sessionOpened()
    if (data !== undefined) return session
    this.#guarded = guardUnreadable(session, () => state.status === 'unreadable')
    return this.#guarded
  }

  #logIfDropped(result: CommitResult, { identity }: SessionState): CommitResult {
    if (result.action === 'gone') {
      const message = 'the session ended while the request ran; what the request changed is dropped'
      this.#client?.log.info({ session: identity.handle }, message)
    }
    return result
  }
}

/** Decodes what a session's record holds. Undefined: it is not what the serializer made. */
export function decode({ data, identity }: SessionState, config: SessionConfig): Data | undefined {
  const decoded = data.decode()
  if (decoded === undefined && fault.hasSubscribers) {
    const { sessionName } = config
    const code = 'HOLDFAST_DATA_UNDECODABLE'
    fault.publish({ sessionName, session: identity.handle, verb: 'get', code })
  }
  return decoded
}

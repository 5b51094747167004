import type { Entry } from './find.ts'
import type { Moving } from './moving.ts'
import type { StoreClient } from './store-client.ts'
import type { CommitAction } from '../../types/events.ts'
import type { CookieAttributes, Transport } from '../../types/session.ts'

/** What a request presented to name its session, as far as the session must know it. */
export interface PresentedId {
  /** The id: of the right form, and rightly signed. Undefined if there is none. */
  readonly id: string | undefined
  /** The transport that decided, even if what it brought is no id. */
  readonly transport: Transport | undefined
  /** The id in the session cookie, even if the header decided. */
  readonly cookieId: string | undefined
  /** Whether the id is to be sent again, for it was signed with an old secret. */
  readonly mustRenew: boolean
  /** Whether the request is a use of the session, which moves its expiry. */
  readonly isUse: boolean
  /** What the id leads to, if that has been read already. */
  readonly found: Entry | undefined
  /** The former sessions whose cookies it brings. Undefined: none, or `carryOver` is not set. */
  readonly former: PresentedFormer | undefined
}

/** The former sessions whose cookies a request brings. */
export interface PresentedFormer {
  /** Whether their cookies are of no use any more. */
  readonly isOver: boolean
  /**
   * Ends them, before a request ends its own session.
   *
   * @returns the keys under which they go on here, if they do
   * @throws the failure of a store; then it may be done again
   */
  end(store: StoreClient): Promise<readonly string[]>
  /** Removes what the former store still has of them, once they have ended. */
  remove(store: StoreClient): Promise<void>
  /**
   * Ends them, and what they go on as here, where a request goes on under a new id: they count no
   * more, if they ever did.
   *
   * @param own the session of the request, which stays, also if it is what one of them has become
   * @param isLogout whether they end also where they are live side by side with it
   */
  supersede(
    store: StoreClient,
    own: Pick<Moving, 'led' | 'departure'>,
    isLogout?: boolean
  ): Promise<void>
}

/** What it takes for a session to begin: the request itself, a write, or `regenerate()` alone. */
export type BeginsWith = 'request' | 'write' | 'regenerate'

/** What a commit did, and what the reply is to say. */
export type CommitResult =
  | {
      readonly action: CommitAction
      /** Undeliverable: data was written, and no reply could bring the id of its session. */
      readonly reply: 'none' | 'clear-cookie' | 'undeliverable'
    }
  | {
      readonly action: CommitAction
      readonly reply: 'id'
      readonly id: string
      /** Whether the store has confirmed in this commit that the id is live until `expiresAt`. */
      readonly isConfirmed: boolean
      readonly expiresAt: number
    }

/** The log for events that no caller sees, such as Fastify's `request.log`. */
export interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

/** The client that a session belongs to, reached by the reply to its request. */
export interface SessionClient {
  readonly log: Log
  /** Whether the commit has begun. */
  readonly isCommitStarted: boolean
  /** Whether it is over, and the reply goes on. */
  readonly isCommitted: boolean
  /** Whether the browser may hold a session cookie that it did not send. */
  readonly isCookieWithheld: boolean
  /** What it takes for a session to begin with this request. */
  readonly beginsWith: BeginsWith
  /** Whether the reply can still bring an id to the client. */
  canReceiveId(): boolean
  /** Puts a result on the reply before the commit, which has the last word. */
  announce(result: CommitResult): void
  /** Takes back what was announced, if the reply has not left. */
  withdraw(): void
  /**
   * Returns the attributes that the session's cookie is to have beside those of the registration.
   *
   * @param present what it has, as a record notes it
   * @throws HOLDFAST_VALUE_INVALID
   */
  addCookieAttributes(present: string, attributes: CookieAttributes): CookieAttributes
  /** Calls back once the response is over. */
  whenClosed(callback: () => void): void
  /** Called when somebody gets hold of the session object. */
  sessionOpened(): void
  /** Called after a change, or what may be one. Only one that follows the commit matters. */
  sessionChanged(): void
}

import type { Status } from '../../types/events.ts'
import type { EndNotice, EndReason } from '../../types/feed.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from '../../types/store.ts'

/** What a stored session is found by. */
interface Stored {
  readonly publicId: string
}

/** A call that may end or move sessions: which, and how they end. */
export interface EndCall extends EndNotice {
  /** Whether it ends a session of this lineage. Undefined: it ends all that the notice is about. */
  readonly isEnded?: ((lineage: string) => boolean) | undefined
}

/** What is to be known of a session to wait for its end. */
export interface Followed {
  readonly status: Status
  /** Undefined: it is not stored. */
  readonly record: { readonly version: string } | undefined
  readonly identity: Stored
  readonly moving: {
    readonly departure: (Stored & { readonly record: SessionRecord | undefined }) | undefined
    readonly trace: Pick<SessionTrace, 'successor'> | undefined
  }
  readonly createdAt: number
  readonly expiresAt: number
}

/** What a session belongs to, such as a request. */
export interface Closing {
  whenClosed(callback: () => void): unknown
}

/** Those who wait for the end of a session in this process. */
export interface Ends {
  /** Returns the signal of a session, which is watched until its client has left. */
  signalOf(session: Followed, client: Closing | undefined): AbortSignal
  /** A request has stored its session, perhaps under another key than before. */
  stored(session: Followed): void
  /** A request has ended its session. What it writes from now on begins another one. */
  ended(session: Followed): void
  /** Returns those who wait as a call begins. */
  waiting(call: EndCall): Waiting
  /** Hears that sessions may have ended or moved. Settles when those who wait have been told. */
  hear(notice: EndNotice): MaybePromise<void>
  /** Nothing is heard any more. */
  close(): Promise<void>
}

/** Those who waited as a call of the store began. First of all, it is said to be over. */
export interface Waiting {
  /** The call is over. Until then, who is found to have ended has ended by it. */
  over(): void
  /**
   * The sessions have ended. Settles when all have been told who wait for them.
   *
   * @param isEnded whether one has, by its lineage. Default: as the call says
   */
  ended(reason: EndReason, isEnded?: (lineage: string) => boolean): MaybePromise<void>
  /**
   * The session goes on under another key.
   *
   * @param from the version of the record that has moved
   * @param version that of its record there, if known
   */
  moved(successor: string, from: string, version?: string): MaybePromise<void>
  /** It is not known what has become of them: they are looked at. @param reason how they may end */
  unknown(reason?: EndReason): MaybePromise<void>
}

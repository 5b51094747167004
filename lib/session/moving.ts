import type { Entry } from './find.ts'
import type { Keep } from './keep.ts'
import { isTrace } from './trace.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

/** What a stored session is found by. */
export interface Stored {
  readonly id: string
  readonly publicId: string
  /** What it is called in lists and logs. */
  readonly handle: string
}

/** What the presented id led to. */
interface Led extends Stored {
  /** Whether the session had moved by then: the browser may hold another cookie. */
  readonly isLate: boolean
  /** The record that was there. */
  readonly record: SessionRecord | undefined
}

/** A stored session that `regenerate()` goes on from. */
export interface Departure extends Stored {
  /** As this request read or wrote it last. Undefined: it may be stored all the same. */
  readonly record: SessionRecord | undefined
  /** Whether the request has not seen its data: it cannot be read here, or counts as expired. */
  readonly isUnseen: boolean
  /** What the request had made of its data, as text. */
  readonly mine: string
  /** What goes along. */
  readonly keep: Keep
}

/** What a late request was to keep of a session that had moved before it came. */
export interface Missed {
  readonly successor: string
  readonly keep: Keep
}

/** Whether a session moves from one id to another: by this request, or by another before it. */
export class Moving {
  #isRegenerated = false
  #hasMoved = false
  #led: Led | undefined
  #departure: Departure | undefined
  #trace: SessionTrace | undefined
  #expired: SessionRecord | undefined
  #missed: Missed | undefined

  /** Whether the session is there by `regenerate()`. */
  get isRegenerated(): boolean {
    return this.#isRegenerated
  }

  /** Whether this request has moved the session: the id that the client has is dead. */
  get hasMoved(): boolean {
    return this.#hasMoved
  }

  /** What the presented id led to when the request came, until the request ends it. */
  get led(): Led | undefined {
    return this.#led
  }

  /** The stored session that `regenerate()` goes on from, until the move is made. */
  get departure(): Departure | undefined {
    return this.#departure
  }

  /** What the presented id led to, if the session of that had moved. */
  get trace(): SessionTrace | undefined {
    return this.#trace
  }

  /** What it led to, if that counts as expired here, and perhaps not elsewhere. */
  get expired(): SessionRecord | undefined {
    return this.#expired
  }

  /** What the request was to keep, and does not see. */
  get missed(): Missed | undefined {
    return this.#missed
  }

  /** The session starts over. */
  reset(status: 'new' | 'moved' | 'regenerated' | 'destroyed'): void {
    this.#isRegenerated = status === 'regenerated'
    if (status === 'destroyed') {
      this.#hasMoved = false
      this.#led = undefined
    }
    this.#departure = undefined
    this.#trace = undefined
    this.#expired = undefined
    this.#missed = undefined
  }

  /** There is something under the presented id. */
  lead({ id, publicId, handle }: Stored, entry: Entry): void {
    const isLate = isTrace(entry)
    const record = isLate || entry === 'unreadable' ? undefined : entry
    this.#led = { id, publicId, handle, isLate, record }
  }

  meetTrace(trace: SessionTrace): void {
    this.#trace = trace
  }

  meetExpired(record: SessionRecord): void {
    this.#expired = record
  }

  /** What counts as expired here has been ended elsewhere, too. */
  endedExpired(): void {
    this.#expired = undefined
  }

  depart(departure: Departure): void {
    this.#departure = departure
  }

  miss(successor: string, keep: Keep): void {
    this.#missed = { successor, keep }
  }

  /** The session has begun anew, and leaves nothing behind. */
  beganAnew(): void {
    this.#departure = undefined
    this.#missed = undefined
  }

  arrived(): void {
    this.#departure = undefined
    this.#hasMoved = true
  }
}

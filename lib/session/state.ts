import { gone } from '../events.ts'
import type { PresentedId } from './client.ts'
import type { SessionConfig } from './config.ts'
import { Identity } from './id.ts'
import { expiry } from './lifetime.ts'
import { Moving, type Departure, type Stored } from './moving.ts'
import { PresentedCookie } from './presented-cookie.ts'
import { isQuiet } from './trace.ts'
import { emptySnapshot, type Snapshot } from './snapshot.ts'
import { TrackedData } from './tracked-data.ts'
import { Use } from './use.ts'
import type { Status } from '../../types/events.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

/** Where the session of one request stands. It changes only by the transitions below. */
export class SessionState {
  readonly identity: Identity
  readonly data: TrackedData
  readonly cookie: PresentedCookie
  readonly moving: Moving = new Moving()
  readonly use: Use
  readonly #config: SessionConfig
  readonly #presented: PresentedId
  #status: Status = 'new'
  #record: SessionRecord | undefined
  #beganAt: number
  #mustSendId = false
  #isCreationUncertain = false
  #removed: string | undefined
  #statusAtCommit: Status | undefined

  /** @param publicId given if a session is looked up by it, and its id is not known */
  constructor(config: SessionConfig, presented: PresentedId, publicId?: string) {
    this.identity = new Identity(config, presented.id, publicId)
    this.data = new TrackedData(config.codec)
    this.cookie = new PresentedCookie(presented)
    this.use = new Use(presented.isUse)
    this.#config = config
    this.#presented = presented
    this.#beganAt = config.clock.now()
  }

  get status(): Status {
    return this.#status
  }

  /** The record as this request last read or wrote it. Changes are what differs from it. */
  get record(): SessionRecord | undefined {
    return this.#record
  }

  /** The reply must send the id: the client lacks it, or has it under an old secret or expiry. */
  get mustSendId(): boolean {
    return this.#mustSendId
  }

  /** What the session that this request removed is called. */
  get removed(): string | undefined {
    return this.#removed
  }

  /** The status with which the commit began. Undefined: it has not. */
  get statusAtCommit(): Status | undefined {
    return this.#statusAtCommit
  }

  /** What the store may have of the session, under the id that it has or goes on from. */
  get stored(): Stored | undefined {
    const mayBeStored =
      ['loaded', 'unreadable'].includes(this.#status) ||
      this.#isCreationUncertain ||
      this.identity.isAdopted
    return this.moving.departure ?? (mayBeStored ? this.identity : undefined)
  }

  get createdAt(): number {
    return this.#record?.createdAt ?? this.#beganAt
  }

  get expiresAt(): number {
    const { clock, lifetimes } = this.#config
    const { createdAt, record } = this
    return record?.expiresAt ?? expiry(clock.now(), createdAt, this.data.maxAge, lifetimes)
  }

  /** Returns what it holds now; nothing once it is gone. @throws HOLDFAST_DATA_UNSERIALIZABLE */
  snapshot(): Snapshot {
    return this.#status === 'gone' ? emptySnapshot : this.data.snapshot()
  }

  /** A live record was found under the presented id. */
  load(record: SessionRecord): void {
    this.#status = 'loaded'
    this.#record = record
    this.identity.hasRecord(record.version)
    this.data.load(record)
    this.cookie.idAccepted(this.data.attributes)
    this.#mustSendId = this.#presented.mustRenew
  }

  /** The presented id names no session. */
  rejectPresentedId(): void {
    this.startOver('new')
    this.cookie.idRejected()
  }

  /** There is a record under the id that this process cannot read. */
  markUnreadable(): void {
    this.#status = 'unreadable'
    this.data.load(undefined)
  }

  /** Goes on without a record, under an id yet to be minted. */
  startOver(status: 'new' | 'moved' | 'regenerated' | 'destroyed'): void {
    this.#status = status
    this.#record = undefined
    this.identity.renew()
    this.data.load(undefined)
    this.#mustSendId = false
    this.#isCreationUncertain = false
    this.moving.reset(status)
    this.#beganAt = this.#config.clock.now()
  }

  /** The presented id led to a trace. */
  meetTrace(trace: SessionTrace): void {
    this.startOver(isQuiet(trace, this.#config.clock.now()) ? 'moved' : 'new')
    this.moving.meetTrace(trace)
    this.cookie.idRejected()
  }

  /** Goes on from a stored session under an id yet to be minted. That ends with the move. */
  depart(departure: Departure): void {
    this.startOver('regenerated')
    this.moving.depart(departure)
  }

  /** The session that goes on is as old as the one that it goes on from, and lives as long. */
  keepLifetime(createdAt: number, maxAge: number | undefined): void {
    this.#beganAt = createdAt
    this.data.maxAge = maxAge
  }

  /** The move is made: the session that it departed from has ended. */
  arrived(departure: Departure): void {
    this.moving.arrived()
    this.recordRemoved(departure)
  }

  /** The record was written, with what the session held at the snapshot. */
  recordWritten(record: SessionRecord, snapshot: Snapshot): void {
    this.identity.hasRecord(record.version)
    this.data.written(record, snapshot)
    this.#status = 'loaded'
    this.#record = record
    this.#mustSendId = true
  }

  /** A record was to be created, and the answer was lost. */
  recordUncertain(): void {
    this.#isCreationUncertain = true
  }

  /** The store has confirmed that the record is live, with this expiry and these notes. */
  recordTouched(record: SessionRecord): void {
    this.#record = record
    this.use.touched()
  }

  /** The record was read again. What the request has changed, and not stored, stays. */
  recordReread(record: SessionRecord): void {
    this.data.reread(record)
    this.#record = record
  }

  /** This request has removed the record of an id. */
  recordRemoved({ id, handle }: Stored): void {
    this.#removed = handle
    this.cookie.sessionRemoved(id)
  }

  /** The session ended while the request ran. */
  markGone(): void {
    if (this.#status === 'gone') return
    this.#status = 'gone'
    const { sessionName } = this.#config
    const left = this.moving.departure ?? (this.#record && this.identity)
    if (gone.hasSubscribers && left) gone.publish({ sessionName, session: left.handle })
    this.cookie.idRejected()
  }

  /** The reply must send the id, which was announced, even if there is nothing left to store. */
  announceId(): void {
    this.#mustSendId = true
  }

  startCommit(): void {
    this.#statusAtCommit = this.#status
  }
}

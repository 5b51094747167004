import type { FastifyReply } from 'fastify'
import { inspect } from 'node:util'

import { fault, gone } from './diagnostics.ts'
import { SessionError, unavailableError } from './errors.ts'
import type { HeldReply } from './held-reply.ts'
import { mintId, publicIdOf } from './identifier.ts'
import { expiry } from './lifetime.ts'
import { merge, type Data } from './merge.ts'
import { cookieAttributes, isLifetime, type Config } from './options.ts'
import type { Reporter } from './reporter.ts'
import { Session, type SessionHost } from './session.ts'
import { isHandshake, type Carried } from './transport.ts'
import type { Status } from '../types/events.ts'
import type { CookieAttributes, SessionData, Transport } from '../types/session.ts'
import type { SessionRecord } from '../types/store.ts'

/** What a session held when an operation began. */
export interface Snapshot {
  readonly text: string
  readonly maxAge: number | undefined
}

/** What a unit of work has others do: the operations that reach the store. */
export interface Operations {
  update<Result>(work: UnitOfWork, change: (draft: SessionData) => Result): Promise<Result>
  save(work: UnitOfWork): Promise<void>
  regenerate(work: UnitOfWork, keep: readonly string[]): Promise<void>
  destroy(work: UnitOfWork): Promise<void>
  touch(work: UnitOfWork): void
}

/** One request's dealings with its session: what was read, what changed, what the client is owed. Touches no store. */
export class UnitOfWork implements SessionHost {
  readonly carried: Carried
  status: Status
  /** The record as this request last read or wrote it: the base that changes are told from. */
  record: SessionRecord | undefined
  /** An id that the client chose: it is not exchanged for another if it is taken. */
  adopted = false
  /** The client is owed an id that it does not have, or not for long enough. */
  owed = false
  touchAsked = false
  /** The request's cookie named a session that this request has removed. */
  cookieRemoved = false
  /** A cookie named the session that was asked for, and there is no session by it, or no more: the browser may hold a newer one by now, which an empty session must not replace. */
  cookieDead = false
  /** A failure of an operation by which the request can't be a success, even if the handler goes on. */
  fault: SessionError | undefined
  /** What is under way, an operation or the commit: the next waits for it. */
  pending: Promise<void> | undefined
  /** The request is being committed, or was. */
  committing = false
  /** The reply, while it waits for the commit. */
  heldReply: HeldReply | undefined
  /** How the commit ended. */
  committed: 'done' | 'failed' | undefined
  /** What is to bring the id to the client. Undefined: there is no client. */
  reply: FastifyReply | undefined
  /** `save()` has put on the reply what the client is to be told. The commit may know better. */
  announced = false
  /** It was still on the reply when that was sent. */
  delivered = false
  /** Undefined where nobody reads the log, and after a warning: there is one for a request. */
  reporter: Reporter | undefined
  /** The status with which the commit began. */
  endedAs: Status | undefined
  /** The public id of a session that this request had removed. */
  removed: string | undefined
  /** The public id of the record that was found and could not be decoded. */
  undecodable: string | undefined
  /** A record was to be created, and no answer came. */
  creationUncertain = false

  readonly #config: Config
  readonly #operations: Operations
  #id: string | undefined
  #idShown = false
  #publicId: string | undefined
  #session: Session | undefined
  #begun: number
  #maxAge: number | undefined
  /** The record's data, as it reads back from the session. */
  #baseText = ''
  #attributes: Readonly<CookieAttributes> | undefined
  #lateCheck = false

  constructor(config: Config, operations: Operations, carried: Carried, status: Status, publicId?: string) {
    this.#config = config
    this.#operations = operations
    this.#begun = config.clock.now()
    this.#id = carried.id
    this.#publicId = publicId
    this.carried = carried
    this.status = status
  }

  /** Takes up the record that was found. */
  load(record: SessionRecord): void {
    this.status = 'loaded'
    this.record = record
    this.#baseText = record.data
    this.#maxAge = record.maxAge
  }

  /** Takes up the record that was just written, from what the session held at the snapshot. */
  wrote(record: SessionRecord, snapshot: Snapshot): void {
    this.show(record.data, snapshot)
    const maxAge = this.#maxAge === snapshot.maxAge ? record.maxAge : this.#maxAge
    this.load(record)
    this.#maxAge = maxAge
    this.owed = true
  }

  /** The store has confirmed that the record is live, until then. */
  touched(expiresAt: number): void {
    this.record = { ...this.record as SessionRecord, expiresAt }
    this.touchAsked = false
  }

  /** Keeps what comes next waiting until this is over. */
  occupy(busy: Promise<unknown>): void {
    const pending = busy.then(() => {}, () => {}).then(() => {
      if (this.pending === pending) this.pending = undefined
    })
    this.pending = pending
  }

  /** Whether there may be a record under this session's id: then ending the session is for the store to do. */
  get mayBeStored(): boolean {
    return this.status === 'loaded' || this.creationUncertain || this.adopted
  }

  /** Whether what is stored under this session's id serves anybody: the client has the id, or will. */
  get isReachable(): boolean {
    return this.record !== undefined || this.adopted || this.reply === undefined || this.canBringId
  }

  /** Whether the reply can still bring the client an id: it has not been decided, taken over or begun, and answers no WebSocket handshake. */
  get canBringId(): boolean {
    const { reply } = this
    if (reply === undefined || this.endedAs !== undefined || reply.raw.headersSent) return false
    // A reply that waits for its commit counts as sent.
    return (this.committing || !reply.sent) && !isHandshake(reply.request.headers)
  }

  /** The store says that there is no such session: it ended while the request ran. */
  end(): void {
    this.status = 'gone'
    if (gone.hasSubscribers && this.record !== undefined) gone.publish({ sessionName: this.#config.sessionName, session: this.key })
    this.#distrustCookie()
  }

  /** Begins anew: what the request carried does not resolve. */
  forget(): void {
    this.restart('new')
    this.#distrustCookie()
  }

  #distrustCookie(): void {
    const { transport, cookie, id } = this.carried
    if (transport === 'cookie' || (cookie !== undefined && cookie === id)) this.cookieDead = true
  }

  /** Goes on without a record, under an id yet to be minted. */
  restart(status: 'new' | 'regenerated' | 'destroyed'): void {
    this.status = status
    this.record = undefined
    this.adopted = false
    this.owed = false
    this.creationUncertain = false
    this.#id = undefined
    this.#idShown = false
    this.#publicId = undefined
    this.#baseText = ''
    this.#maxAge = undefined
    this.#begun = this.#config.clock.now()
  }

  /** The id is taken: another one, unless the handler has seen this one and may have put it somewhere. */
  remint(): void {
    if (this.#idShown) throw new SessionError('HOLDFAST_ID_TAKEN')
    this.#id = undefined
    this.#publicId = undefined
  }

  // What the session shows.

  get id(): string {
    this.#idShown = true
    return this.wireId
  }

  get publicId(): string {
    this.#idShown = true
    return this.key
  }

  /** The id, for the reply: minted when it is needed. */
  get wireId(): string {
    return this.status === 'none' ? '' : this.#id ??= mintId(this.#config.generateId)
  }

  /** The id, for the store. */
  get key(): string {
    return this.status === 'none' ? '' : this.#publicId ??= publicIdOf(this.#config.sessionName, this.wireId)
  }

  /** The public id, if anybody has asked for it: for the log. */
  get knownKey(): string | undefined {
    return this.#publicId
  }

  get isNew(): boolean {
    return this.status !== 'none' && (this.#id === undefined || this.#id !== this.carried.id || this.adopted)
  }

  get transport(): Transport | undefined {
    return this.isNew || this.status === 'none' ? undefined : this.carried.transport
  }

  get createdAt(): number {
    return this.record?.createdAt ?? this.#begun
  }

  get expiresAt(): number {
    return this.record?.expiresAt ?? expiry(this.#begun, this.#begun, this.#maxAge, this.#config.lifetimes)
  }

  get maxAge(): number {
    return this.#maxAge ?? this.#config.lifetimes.idle / 1000
  }

  set maxAge(seconds: number | undefined) {
    this.#assertThere()
    if (seconds !== undefined && !isLifetime(seconds)) throw new SessionError('HOLDFAST_VALUE_INVALID')
    this.#maxAge = seconds
  }

  get attributes(): Readonly<CookieAttributes> {
    return this.#attributes ?? this.#config.cookie
  }

  options(attributes: CookieAttributes): void {
    this.#assertThere()
    try {
      this.#attributes = cookieAttributes(this.#config.sessionCookie, this.attributes, attributes)
    } catch (cause) {
      throw new SessionError('HOLDFAST_VALUE_INVALID', { cause })
    }
    if (this.committed !== undefined) this.#reportLate()
  }

  touch(): void {
    this.#assertThere()
    this.#operations.touch(this)
  }

  update<Result>(change: (draft: SessionData) => Result): Promise<Result> {
    return this.#operations.update(this, change)
  }

  save(): Promise<void> {
    return this.#operations.save(this)
  }

  regenerate(keep: readonly string[] = []): Promise<void> {
    return this.#operations.regenerate(this, keep)
  }

  destroy(): Promise<void> {
    return this.#operations.destroy(this)
  }

  #assertThere(): void {
    if (this.status === 'none') throw unavailableError()
  }

  // What changes after the commit.

  /** From now on the session says when it is changed. @param everyKey whether it costs something to notice more changes */
  watch(everyKey: boolean): void {
    if (this.#session !== undefined) Session.watch(this.#session, everyKey)
  }

  /** Something may have been changed. What is not stored by the end of the response, or soon after it if that is over, is lost. */
  changedLate(): void {
    if (this.#lateCheck || this.committed !== 'done' || this.reporter === undefined) return
    this.#lateCheck = true
    const { raw } = this.reply as FastifyReply
    if (raw.writableFinished || raw.destroyed) setImmediate(() => { this.#checkLate() })
    else raw.once('close', () => { this.#checkLate() })
  }

  #checkLate(): void {
    if (this.pending !== undefined) {
      void this.pending.then(() => { this.#checkLate() })
    } else {
      if (this.isUnstored()) this.#reportLate()
      // Only now: to look at an object is to be told that it may change.
      this.#lateCheck = false
    }
  }

  /** Once. */
  #reportLate(): void {
    this.reporter?.changedLate(this)
    this.reporter = undefined
  }

  /** Whether a key has another value than at the commit, by identity. */
  hasOtherValues(): boolean {
    return Session.differs(this.session)
  }

  // The data.

  /** Whether anybody has looked at the session. Until then nothing is parsed. */
  get accessed(): boolean {
    return this.#session !== undefined
  }

  get session(): Session {
    return this.#session ?? this.#showSession()
  }

  #showSession(): Session {
    const session = this.#buildSession()
    this.#session = session
    this.reporter?.shown(this)
    return session
  }

  #buildSession(): Session {
    const { codec, sessionName } = this.#config
    try {
      const session = new Session(this, codec.parse(this.#baseText))
      // What does not come back in the order in which it was stored would look like a change.
      if (Session.hidesKeys(session)) this.#baseText = codec.stringify(Session.read(session))
      if (this.status === 'none') Session.close(session)
      return session
    } catch {
      // A record that can't be decoded is as good as none: an id that does not resolve.
      this.undecodable = this.key
      if (fault.hasSubscribers) fault.publish({ sessionName, session: this.key, verb: 'get', code: 'HOLDFAST_DATA_UNDECODABLE' })
      this.forget()
      return new Session(this, {})
    }
  }

  /** Whether the record holds data that the serializer made. */
  isDecodable(): boolean {
    this.#session ??= this.#buildSession()
    return this.undecodable === undefined
  }

  /** The session's data as text; the empty text for none. @throws HOLDFAST_DATA_UNSERIALIZABLE */
  text(): string {
    return this.#session === undefined ? this.#baseText : this.#config.codec.stringify(Session.read(this.#session))
  }

  /** What an operation starts from. */
  snapshot(): Snapshot {
    return { text: this.text(), maxAge: this.#maxAge }
  }

  /** Whether there is anything that the record does not have. */
  changes({ text, maxAge }: Snapshot): boolean {
    return text !== this.#baseText || maxAge !== this.record?.maxAge
  }

  /** Whether there is anything that was never stored, be it that it cannot be. */
  isUnstored(): boolean {
    try {
      if (this.status === 'gone') return false
      const snapshot = this.snapshot()
      // A lifetime alone is nothing to store.
      return this.record === undefined ? snapshot.text !== '' : this.changes(snapshot)
    } catch {
      return true
    }
  }

  /** What the session holds now, be it that it cannot be stored. */
  held(): Data {
    return Session.read(this.session)
  }

  /** Takes out what the session held then. */
  drop(held: Data): void {
    this.#replace(held, {})
  }

  /**
   * Shows the handler what the data has come to by an operation. What the handler has changed since the snapshot stays,
   * and what is equal stays the very object that it may be holding.
   */
  show(text: string, snapshot: Snapshot): void {
    if (this.#session === undefined || text === snapshot.text) return
    const { codec } = this.#config
    this.#replace(codec.parse(snapshot.text), codec.parse(text))
  }

  #replace(base: Data, theirs: Data): void {
    const { session } = this
    const { same } = this.#config.codec
    Session.write(session, merge(base, Session.read(session), theirs, same), same)
  }
}

// It hangs on the request, which may be inspected and end up in a log: neither the id nor the data.
Object.defineProperty(UnitOfWork.prototype, inspect.custom, { value: () => 'UnitOfWork {}' })

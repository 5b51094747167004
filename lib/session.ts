import { inspect } from 'node:util'

import { SessionError, unavailableError } from './errors.ts'
import type { Data } from './merge.ts'
import type { CookieAttributes, SessionData, SessionMembers, Transport } from '../types/session.ts'

/** What a session asks of the request it belongs to. */
export interface SessionHost extends Omit<SessionMembers, 'get' | 'set' | 'data' | 'maxAge'> {
  get maxAge(): number
  set maxAge(seconds: number | undefined)
  /** The session was changed, or may have been, after `watch`. */
  changedLate(): void
}

/**
 * What a handler holds. Its own enumerable properties are the data and nothing else; the members live on a frozen
 * prototype, so that assigning to one throws. No input or output happens here.
 */
export class Session implements SessionMembers {
  readonly #host: SessionHost
  /** Stored keys that have a member's name. They must not hide the member, and are reached through `get`. */
  #hidden: Data | undefined
  #watched: { readonly everyKey: boolean, readonly values: Data } | undefined

  constructor(host: SessionHost, data: Data) {
    this.#host = host
    Session.#fill(this, data)
  }

  get id(): string { return this.#host.id }
  get publicId(): string { return this.#host.publicId }
  get isNew(): boolean { return this.#host.isNew }
  get transport(): Transport | undefined { return this.#host.transport }
  get createdAt(): number { return this.#host.createdAt }
  get expiresAt(): number { return this.#host.expiresAt }
  get maxAge(): number { return this.#host.maxAge }
  set maxAge(seconds: number | undefined) { this.#host.maxAge = seconds }

  get(key: string): any {
    return Object.hasOwn(this, key) ? (this as Data)[key] : this.#hidden?.[key]
  }

  set(key: string, value: unknown): void {
    if (isReserved(key)) throw new SessionError('HOLDFAST_KEY_RESERVED')
    if (!Object.isExtensible(this)) throw unavailableError()
    if (value === undefined) delete (this as Data)[key]
    else (this as Data)[key] = value
    this.#host.changedLate()
  }

  data(): SessionData { return { ...Session.read(this) } }
  options(attributes: CookieAttributes): void { this.#host.options(attributes) }
  touch(): void { this.#host.touch() }

  update<Result>(change: (draft: SessionData) => Result): Promise<Result> { return this.#host.update(change) }

  save(...callback: unknown[]): Promise<void> {
    refuseCallback(callback)
    return this.#host.save()
  }

  regenerate(keep?: readonly string[], ...callback: unknown[]): Promise<void> {
    refuseCallback([keep, ...callback])
    return this.#host.regenerate(keep)
  }

  destroy(...callback: unknown[]): Promise<void> {
    refuseCallback(callback)
    return this.#host.destroy()
  }

  /** The data of a session: what is set and is not undefined. */
  static read(session: Session): Data {
    const data = { ...session.#hidden, ...session as unknown as Data }
    for (const key of Object.keys(data)) {
      if (data[key] === undefined) delete data[key]
    }
    return data
  }

  /** Whether it has keys that hide behind its members. */
  static hidesKeys(session: Session): boolean {
    return session.#hidden !== undefined
  }

  /** Makes `data` what the session holds. A value for which `keep` answers true stays the very object that the handler may be holding. */
  static write(session: Session, data: Data, keep: (held: unknown, value: unknown) => boolean): void {
    const own = session as unknown as Data
    const held = { ...own }
    const watched = session.#watched
    if (watched !== undefined) Reflect.setPrototypeOf(session, Session.prototype)
    // All anew, in the order of the data: in another order the same data would look changed.
    for (const key of Object.keys(held)) delete own[key]
    session.#hidden = undefined
    const values = { ...data }
    for (const key of Object.keys(data)) {
      if (Object.hasOwn(held, key) && keep(held[key], data[key])) values[key] = held[key]
    }
    Session.#fill(session, values)
    if (watched !== undefined) Session.watch(session, watched.everyKey)
  }

  /**
   * From now on the session tells its host of changes. A new key is seen by a setter that stands behind all others.
   * With `everyKey`, so are those that are there, and objects when they are looked at, for they can be changed in place.
   */
  static watch(session: Session, everyKey: boolean): void {
    session.#watched = { everyKey, values: { ...session as unknown as Data } }
    // An app may have frozen it: then nothing changes.
    Reflect.setPrototypeOf(session, watchedMembers)
    if (!everyKey) return
    for (const [key, value] of Object.entries(session)) {
      Reflect.defineProperty(session, key, {
        get() {
          if (typeof value === 'object') session.#host.changedLate()
          return value
        },
        set(changed: unknown) {
          Object.defineProperty(session, key, { value: changed, writable: true, enumerable: true, configurable: true })
          session.#host.changedLate()
        },
        enumerable: true,
        configurable: true
      })
    }
  }

  /** Refuses every key from now on, with a coded error. */
  static close(session: Session): void {
    Object.setPrototypeOf(session, watchedMembers)
    Object.freeze(session)
  }

  /** Whether a watched session has other keys than when the watch began, or another value under one, by identity. */
  static differs(session: Session): boolean {
    const { values: before } = session.#watched as { values: Data }
    const own = session as unknown as Data
    const keys = Object.keys(own)
    return keys.length !== Object.keys(before).length || keys.some((key) => own[key] !== before[key])
  }

  /** A watched session has got a key, or a member of it was set. */
  static wasSet(session: object): void {
    if (#host in session) session.#host.changedLate()
  }

  static #fill(session: Session, data: Data): void {
    for (const key of Object.keys(data)) {
      if (isReserved(key)) (session.#hidden ??= { __proto__: null })[key] = data[key]
      else (session as unknown as Data)[key] = data[key]
    }
  }
}

// What is inspected ends up in logs: not a key nor a value of it.
Object.defineProperty(Session.prototype, inspect.custom, { value: () => 'Session {}' })

/** What a caller of another library may hand over. It would never be called, and whoever waits for it would wait for ever. */
function refuseCallback(given: readonly unknown[]): void {
  if (given.some((argument) => typeof argument === 'function')) throw new SessionError('HOLDFAST_CALLBACK_UNSUPPORTED')
}

function refuseAssignment(): never {
  throw new SessionError('HOLDFAST_KEY_RESERVED')
}

// A member is an accessor, with methods too: so that assigning to it throws in sloppy code as well.
for (const [name, member] of Object.entries(Object.getOwnPropertyDescriptors(Session.prototype))) {
  const { get, set, value } = member as Record<string, unknown>
  Reflect.defineProperty(Session.prototype, name, { get: get ?? (() => value), set: set ?? refuseAssignment } as PropertyDescriptor)
}
// Kept free for later: readable as undefined.
for (const name of ['signal', 'subject', 'cookie', 'reload', '__proto__']) {
  Object.defineProperty(Session.prototype, name, { get: () => undefined, set: refuseAssignment })
}
Object.freeze(Session.prototype)

/** Stands between the session and its members where it is watched or closed: whatever is set comes by here, but for a key that is there. */
const watchedMembers = new Proxy<object>(Object.freeze(Object.create(Session.prototype)), {
  set(members, key, value, session: object) {
    // Nothing else refuses than a session that is closed: in sloppy code too, which would not hear of it.
    if (!Reflect.set(members, key, value, session)) throw unavailableError()
    Session.wasSet(session)
    return true
  }
})

const reserved: ReadonlySet<string> = new Set(Object.getOwnPropertyNames(Session.prototype))

/** Whether a key is the name of a member. */
export function isReserved(key: string): boolean {
  return reserved.has(key)
}

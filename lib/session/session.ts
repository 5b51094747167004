import { inspect } from 'node:util'

import { SessionError, unavailableError } from '../errors.ts'
import { sealMembers } from './members.ts'
import type { Data } from './merge.ts'
import type { SessionInfo, SessionOperations } from './session-parts.ts'
import type {
  CookieAttributes,
  SessionData,
  SessionMembers,
  Transport
} from '../../types/session.ts'

/**
 * The object that a handler holds. Its own enumerable properties are the data and nothing else. The
 * members are on a sealed prototype, which inherits nothing: no name leads to what others share. It
 * does no input or output itself.
 */
export class Session implements SessionMembers {
  readonly #info: SessionInfo
  readonly #operations: SessionOperations
  /** Stored keys that have a member's name. They must not hide it, and are reached by `get`. */
  #hidden: Data | undefined

  constructor(info: SessionInfo, operations: SessionOperations, data: Data) {
    this.#info = info
    this.#operations = operations
    Session.#fill(this, data)
  }

  get id(): string {
    return this.#info.showId()
  }
  get publicId(): string {
    return this.#info.showPublicId()
  }
  get isNew(): boolean {
    return this.#info.isNew
  }
  get transport(): Transport | undefined {
    return this.#info.transport
  }
  get cookieWithheld(): boolean {
    return this.#operations.isCookieWithheld
  }
  get createdAt(): number {
    return this.#info.createdAt
  }
  get expiresAt(): number {
    return this.#info.expiresAt
  }
  get maxAge(): number {
    return this.#info.maxAge
  }
  set maxAge(seconds: number | undefined) {
    this.#info.maxAge = seconds
  }
  get subject(): string | undefined {
    return this.#info.subject
  }
  get authenticatedAt(): number | undefined {
    return this.#info.authenticatedAt
  }

  get signal(): AbortSignal {
    return this.#info.signal
  }

  get(key: string): any {
    return Object.hasOwn(this, key) ? (this as Data)[key] : this.#hidden?.[key]
  }

  set(key: string, value: unknown): void {
    if (isReserved(key)) throw new SessionError('HOLDFAST_KEY_RESERVED')
    if (!Object.isExtensible(this)) throw unavailableError()
    if (value === undefined) delete (this as Data)[key]
    else (this as Data)[key] = value
    this.#operations.changed()
  }

  data(): SessionData {
    return { __proto__: null, ...Session.read(this) } as SessionData
  }
  options(attributes: CookieAttributes): void {
    this.#operations.options(attributes)
  }
  touch(): void {
    this.#operations.touch()
  }
  update<Result>(change: (draft: SessionData) => Result): Promise<Result> {
    return this.#operations.update(change)
  }
  save(...callback: unknown[]): Promise<void> {
    refuseCallback(callback)
    return this.#operations.save()
  }

  reload(...callback: unknown[]): Promise<void> {
    refuseCallback(callback)
    return this.#operations.reload()
  }

  regenerate(keep?: unknown, options?: unknown, ...callback: unknown[]): Promise<void> {
    refuseCallback([keep, options, ...callback])
    return this.#operations.regenerate(keep, options)
  }

  signIn(subject: string, options?: unknown): Promise<boolean> {
    return this.#operations.signIn(subject, options)
  }

  reauthenticate(verify: () => unknown): Promise<boolean> {
    return this.#operations.reauthenticate(verify)
  }

  destroy(...callback: unknown[]): Promise<void> {
    refuseCallback(callback)
    return this.#operations.destroy()
  }

  /** Returns the data of a session: what is set and is not undefined. */
  static read(session: Session): Data {
    const data = { ...session.#hidden, ...(session as unknown as Data) }
    for (const key of Object.keys(data)) {
      if (data[key] === undefined) delete data[key]
    }
    return data
  }

  /** Whether it has keys that hide behind its members. */
  static hidesKeys(session: Session): boolean {
    return session.#hidden !== undefined
  }

  /**
   * Makes `data` what the session holds. A value that is the `same` as before stays the very object
   * that the handler may be holding.
   */
  static write(
    session: Session,
    data: Data,
    same: (held: unknown, value: unknown) => boolean
  ): void {
    const own = session as unknown as Data
    const held = { ...own }
    // Sets all keys anew, in their order: in another order the same data would look changed.
    for (const key of Object.keys(held)) delete own[key]
    session.#hidden = undefined
    const values = { ...data }
    for (const key of Object.keys(data)) {
      if (Object.hasOwn(held, key) && same(held[key], data[key])) values[key] = held[key]
    }
    Session.#fill(session, values)
  }

  /** Stores a sign-in that waits for the commit. Ignores any other object. */
  static async storeSignIn(session: object): Promise<void> {
    if (#info in session && session.#info.isSigningIn) await session.save()
  }

  /** Reports that a session was changed, or may have been. Ignores any other object. */
  static changed(session: object): void {
    if (#operations in session) session.#operations.changed()
  }

  static #fill(session: Session, data: Data): void {
    for (const key of Object.keys(data)) {
      if (isReserved(key)) (session.#hidden ??= { __proto__: null })[key] = data[key]
      else (session as unknown as Data)[key] = data[key]
    }
  }
}

Object.defineProperties(Session.prototype, {
  // What is inspected ends up in logs, which must show no key and no value.
  [inspect.custom]: { value: () => 'Session {}' },
  // A session inherits no toString().
  [Symbol.toPrimitive]: { value: () => '[object Session]' }
})

/** Refuses a callback, as other libraries take one: it would never be called. */
function refuseCallback(given: readonly unknown[]): void {
  if (given.some((argument) => typeof argument === 'function')) {
    throw new SessionError('HOLDFAST_CALLBACK_UNSUPPORTED')
  }
}

// Names that are kept free for later read as undefined.
sealMembers(Session.prototype, ['cookie'])
Object.freeze(Session)

/** The names that no key of the data can have. */
export const reserved: ReadonlySet<string> = new Set(Object.getOwnPropertyNames(Session.prototype))

/** Whether a key is the name of a member, or kept free for one. */
export function isReserved(key: string): boolean {
  return reserved.has(key)
}

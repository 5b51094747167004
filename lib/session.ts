import { inspect } from 'node:util'

import { SessionError } from './errors.ts'
import type { Data } from './merge.ts'
import type { CookieAttributes, SessionData, SessionMembers, Transport } from '../types/session.ts'

/** What a session asks of the request it belongs to. */
export interface SessionHost extends Omit<SessionMembers, 'get' | 'set' | 'data' | 'maxAge'> {
  get maxAge(): number
  set maxAge(seconds: number | undefined)
}

/**
 * What a handler holds. Its own enumerable properties are the data and nothing else; the members live on a frozen
 * prototype, so that assigning to one throws. No input or output happens here.
 */
export class Session implements SessionMembers {
  readonly #host: SessionHost
  /** Stored keys that have a member's name. They must not hide the member, and are reached through `get`. */
  #hidden: Data | undefined

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
    if (!Object.isExtensible(this)) throw new SessionError('HOLDFAST_SESSION_UNAVAILABLE')
    if (value === undefined) delete (this as Data)[key]
    else (this as Data)[key] = value
  }

  data(): SessionData { return { ...Session.read(this) } }
  options(attributes: CookieAttributes): void { this.#host.options(attributes) }
  touch(): void { this.#host.touch() }

  update<Result>(change: (draft: SessionData) => Result): Promise<Result> { return this.#host.update(change) }
  save(): Promise<void> { return this.#host.save() }
  regenerate(keep?: readonly string[]): Promise<void> { return this.#host.regenerate(keep) }
  destroy(): Promise<void> { return this.#host.destroy() }

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
    // All anew, in the order of the data: in another order the same data would look changed.
    for (const key of Object.keys(held)) delete own[key]
    session.#hidden = undefined
    const values = { ...data }
    for (const key of Object.keys(data)) {
      if (Object.hasOwn(held, key) && keep(held[key], data[key])) values[key] = held[key]
    }
    Session.#fill(session, values)
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

// Kept free for later: readable as undefined, refused on assignment.
for (const name of ['signal', 'subject', 'cookie', 'reload', '__proto__']) {
  Object.defineProperty(Session.prototype, name, { get: () => undefined })
}
Object.freeze(Session.prototype)

const reserved: ReadonlySet<string> = new Set(Object.getOwnPropertyNames(Session.prototype))

/** Whether a key is the name of a member. */
export function isReserved(key: string): boolean {
  return reserved.has(key)
}

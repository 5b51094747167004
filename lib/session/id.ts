import { hash, randomUUID } from 'node:crypto'

import { SessionError } from '../errors.ts'
import type { SessionConfig } from './config.ts'

const wellFormed = /^[A-Za-z0-9_-]{22,128}$/

/** Whether a text has the form of an id. Nothing else reaches the store. */
export function isWellFormed(text: string): boolean {
  return wellFormed.test(text)
}

/** The default for `generateId`: 122 bits from the system's generator. */
export function uuid(): string {
  return randomUUID()
}

/**
 * Makes a new id. A generator that fails, or makes an id of the wrong form, fails the request:
 * there is no weaker substitute.
 *
 * @throws HOLDFAST_ID_INVALID
 */
function mintId(generateId: () => string): string {
  let id: unknown
  try {
    id = generateId()
  } catch (cause) {
    throw new SessionError('HOLDFAST_ID_INVALID', { cause })
  }
  if (typeof id !== 'string' || !isWellFormed(id)) throw new SessionError('HOLDFAST_ID_INVALID')
  return id
}

/**
 * Returns the name under which a store keeps a session. The id cannot be computed from it, so a
 * dump of the store opens no session.
 */
export function publicIdOf(sessionName: string, id: string): string {
  return hash('sha256', `${sessionName}\0${id}`, 'base64url')
}

/** Whether a text has the form of a public id. */
export function isPublicId(text: string): boolean {
  return typeof text === 'string' && /^[A-Za-z0-9_-]{43}$/.test(text)
}

/** The id of a session: presented by the request, adopted, or minted once it is needed. */
export class Identity {
  readonly #config: SessionConfig
  readonly #presentedId: string | undefined
  #id: string | undefined
  #publicId: string | undefined
  #isShown = false
  #isAdopted = false

  /** @param publicId given where a session is found by it, and its id is not known */
  constructor(config: SessionConfig, presentedId: string | undefined, publicId?: string) {
    this.#config = config
    this.#presentedId = presentedId
    this.#id = presentedId
    this.#publicId = publicId
  }

  /** The id. A new session gets one when it is first asked for. */
  get id(): string {
    return (this.#id ??= mintId(this.#config.generateId))
  }

  /** A digest of the id: the store's key, and safe to show. */
  get publicId(): string {
    return (this.#publicId ??= publicIdOf(this.#config.sessionName, this.id))
  }

  /** The public id if anybody has needed it: for the log, which must not cost a digest. */
  get publicIdIfKnown(): string | undefined {
    return this.#publicId
  }

  /** Whether the request began the session. */
  get isNew(): boolean {
    return !this.isPresented || this.#isAdopted
  }

  /** Whether it is the id that the request presented. */
  get isPresented(): boolean {
    return this.#id !== undefined && this.#id === this.#presentedId
  }

  /** Whether the client chose the id. It is not replaced if it is taken. */
  get isAdopted(): boolean {
    return this.#isAdopted
  }

  /** Takes the id that the client presented, though no session has it. */
  adopt(): void {
    this.#isAdopted = true
  }

  /** Notes that the handler has seen the id, and may have put it somewhere. */
  show(): this {
    this.#isShown = true
    return this
  }

  /** Gives up the id: another is minted when it is needed. */
  renew(): void {
    this.#id = undefined
    this.#publicId = undefined
    this.#isShown = false
    this.#isAdopted = false
  }

  /** Whether another id may take its place: nobody has seen it, and the client did not choose it. */
  get isReplaceable(): boolean {
    return !this.#isShown && !this.#isAdopted
  }

  /** Gives up an id that is another session's. @throws HOLDFAST_ID_TAKEN the handler has seen it */
  replaceTaken(): void {
    if (this.#isShown) throw new SessionError('HOLDFAST_ID_TAKEN')
    this.renew()
  }
}

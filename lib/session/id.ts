import { hash, randomUUID } from 'node:crypto'

import { SessionError } from '../errors.ts'
import type { SessionConfig } from './config.ts'
import { handleOf, lineageOf, subjectOf, tagLength } from '../subject-key.ts'

/** What is made, and what an id is: of a session that is signed in, with what its subject has. */
const minted = /^[A-Za-z0-9_-]{22,128}$/
const wellFormed = /^[A-Za-z0-9_-]{22,128}(?:~[A-Za-z0-9_-]{16})?$/

/** Whether a text has the form of an id. Nothing else reaches the store. */
export function isWellFormed(text: string): boolean {
  return wellFormed.test(text)
}

/** Returns what an id has of the subject of its session. Undefined: there is none. */
export function tagIn(id: string): string | undefined {
  return id.at(-1 - tagLength) === '~' ? id.slice(-tagLength) : undefined
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
  if (typeof id !== 'string' || !minted.test(id)) throw new SessionError('HOLDFAST_ID_INVALID')
  return id
}

/**
 * Returns the name under which a store keeps a session. The id cannot be computed from it, so a
 * dump of the store opens no session. That of a session that is signed in begins with its subject.
 */
export function publicIdOf(sessionName: string, id: string): string {
  const digest = hash('sha256', `${sessionName}\0${id}`, 'base64url')
  const tag = tagIn(id)
  return tag === undefined ? digest : `${tag}.${digest}`
}

/** A sign-in that is yet to be stored. */
export interface SignIn {
  /** The stamp of the subject before the credentials were checked. */
  readonly stamp: string
  /** When it was taken, in epoch milliseconds. */
  readonly begunAt: number
  /** Who asked for it: `signIn()`, `reauthenticate()`, or the data, by the option `subject`. */
  readonly by: 'signIn' | 'reauthenticate' | 'data'
}

/** The id of a session: presented by the request, adopted, or minted once it is needed. */
export class Identity {
  readonly #config: SessionConfig
  readonly #presentedId: string | undefined
  #id: string | undefined
  #publicId: string | undefined
  #tag: string | undefined
  #lineage: string | undefined
  #signIn: SignIn | undefined
  #isRefused = false
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
    this.#id ??= mintId(this.#config.generateId) + (this.#tag === undefined ? '' : `~${this.#tag}`)
    return this.#id
  }

  /** What the session is called in lists and logs. */
  get handle(): string {
    const { publicId } = this
    return this.#lineage === undefined ? publicId : handleOf(publicId, this.#lineage)
  }

  /** The same, if anybody has needed the id: a log must not cost a digest. */
  get handleIfKnown(): string | undefined {
    return this.#publicId === undefined ? undefined : this.handle
  }

  /** What all versions of the session have in common, if it is signed in. */
  get lineage(): string | undefined {
    return this.#lineage
  }

  /** A digest of the id: the store's key, and safe to show. */
  get publicId(): string {
    return (this.#publicId ??= this.#config.publicIds.get(this.id))
  }

  /** The sign-in by which the session gets the id, until it is stored. */
  get signIn(): SignIn | undefined {
    return this.#signIn
  }

  /** Whether the store has refused the sign-in. */
  get isRefused(): boolean {
    return this.#isRefused
  }

  /** Notes that the store has refused the sign-in. */
  refuse(): void {
    this.#isRefused = true
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

  /** A record was found or written under the id. */
  hasRecord(version: string): void {
    if (subjectOf(this.publicId) !== undefined) this.#lineage = lineageOf(version)
    this.#signIn = undefined
  }

  /** Gives up the id: another is minted when it is needed. */
  renew(): void {
    this.#id = undefined
    this.#publicId = undefined
    this.#tag = undefined
    this.#lineage = undefined
    this.#signIn = undefined
    this.#isRefused = false
    this.#isShown = false
    this.#isAdopted = false
  }

  /** Gives up the id for one of a session of this subject. @param signIn if it begins with it */
  belongTo(tag: string, lineage: string, signIn: SignIn | undefined): void {
    this.renew()
    this.#tag = tag
    this.#lineage = lineage
    this.#signIn = signIn
  }

  /** Whether another id may take its place: nobody has seen it, and the client did not choose it. */
  get isReplaceable(): boolean {
    return !this.#isShown && !this.#isAdopted
  }

  /**
   * Gives up an id that is another session's.
   *
   * @param lineage another one, if that goes with the id: what may come late under the one must not
   *   be taken for what comes under the other
   * @throws HOLDFAST_ID_TAKEN the handler has seen it
   */
  replaceTaken(lineage: string | undefined): void {
    if (this.#isShown) throw new SessionError('HOLDFAST_ID_TAKEN')
    this.#lineage = lineage ?? this.#lineage
    this.#id = undefined
    this.#publicId = undefined
    this.#isAdopted = false
  }
}

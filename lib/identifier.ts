import { createHmac, createSecretKey, hash, hkdfSync, randomFillSync, randomUUID, timingSafeEqual, type KeyObject } from 'node:crypto'

import { SessionError } from './errors.ts'

const wellFormed = /^[A-Za-z0-9_-]{22,128}$/

/** Whether a text has the form of an id. Nothing else reaches the store. */
export function isWellFormed(text: string): boolean {
  return wellFormed.test(text)
}

/** The default for `generateId`: 122 bits from the system's generator. */
export function uuid(): string {
  return randomUUID()
}

/** A new id. A generator that fails, or makes an id of the wrong form, fails the request: nothing weaker steps in. */
export function mintId(generateId: () => string): string {
  let id: unknown
  try {
    id = generateId()
  } catch (cause) {
    throw new SessionError('HOLDFAST_ID_INVALID', { cause })
  }
  if (typeof id !== 'string' || !isWellFormed(id)) throw new SessionError('HOLDFAST_ID_INVALID')
  return id
}

/** The name under which a store keeps a session. The id can't be found from it, so a dump of the store opens no session. */
export function publicIdOf(registration: string, id: string): string {
  return hash('sha256', `${registration}\0${id}`, 'base64url')
}

/** Whether a text has the form of a public id. */
export function isPublicId(text: string): boolean {
  return typeof text === 'string' && /^[A-Za-z0-9_-]{43}$/.test(text)
}

/** Bytes of a token: 48 bits are enough to tell apart the writes of one session. */
const tokenBytes = 6
const pool = Buffer.alloc(tokenBytes * 128)
let left = 0

/** Names one write, in 8 characters. Drawn from the system's generator many at a time, each used once. */
export function mintToken(): string {
  if (left === 0) left = randomFillSync(pool).length
  left -= tokenBytes
  return pool.toString('base64url', left, left + tokenBytes)
}

/** Bytes that a secret has at least: as many as the signature has (RFC 2104, 3). */
const leastSecret = 32

/** Whether a value can sign ids. */
export function isSecret(value: unknown): value is string | Uint8Array {
  return typeof value === 'string' ? Buffer.byteLength(value) >= leastSecret : value instanceof Uint8Array && value.byteLength >= leastSecret
}

const signed = /^([A-Za-z0-9_-]{22,128})\.([A-Za-z0-9_-]{43})$/

/** What a rightly signed value says. */
export interface Unsigned {
  readonly id: string
  /** Signed under an old secret: to be signed anew. */
  readonly renew: boolean
}

/**
 * Signs ids, and tells its own from all others without asking the store: `id.signature`, HMAC-SHA-256 in base64url.
 * The keys are derived (HKDF, RFC 5869) from the secrets, for this plugin and registration: what was signed with
 * a secret elsewhere is worth nothing here.
 */
export class Signer {
  /** Newest first. */
  readonly #keys: readonly KeyObject[]

  constructor(secrets: ReadonlyArray<string | Uint8Array>, registration: string) {
    this.#keys = secrets.map((secret) => createSecretKey(Buffer.from(hkdfSync('sha256', secret, '', `fastify-holdfast\0${registration}`, 32))))
  }

  sign(id: string): string {
    return `${id}.${signature(this.#keys[0], id)}`
  }

  /** The id in a value that was signed here. Undefined: it was not. */
  unsign(value: string): Unsigned | undefined {
    const [, id, given] = signed.exec(value) ?? []
    if (id === undefined || given === undefined) return undefined
    // Compared as text: of the texts that decode to the same bytes only one is a signature. Both have 43 characters.
    const text = Buffer.from(given)
    const index = this.#keys.findIndex((key) => timingSafeEqual(text, Buffer.from(signature(key, id))))
    return index === -1 ? undefined : { id, renew: index > 0 }
  }
}

function signature(key: KeyObject, id: string): string {
  return createHmac('sha256', key).update(id).digest('base64url')
}

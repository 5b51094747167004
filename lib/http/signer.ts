import { createHmac, createSecretKey, hkdfSync, timingSafeEqual, type KeyObject } from 'node:crypto'

import { Recent } from '../recent.ts'

/** The fewest bytes of a secret: as many as the signature has (RFC 2104, 3). */
const minSecretBytes = 32

/** Whether a value can sign ids. */
export function isSecret(value: unknown): value is string | Uint8Array {
  return typeof value === 'string'
    ? Buffer.byteLength(value) >= minSecretBytes
    : value instanceof Uint8Array && value.byteLength >= minSecretBytes
}

const signed = /^([A-Za-z0-9_-]{22,128}(?:~[A-Za-z0-9_-]{16})?)\.([A-Za-z0-9_-]{43})$/

/** What a token with a right signature holds. */
export interface SignedId {
  readonly id: string
  /** Whether an old secret signed it: it is to be signed again. */
  readonly mustRenew: boolean
}

/**
 * Signs ids, and recognises its own without asking the store. A token is `id.signature`, with
 * HMAC-SHA-256 in base64url. The keys are derived from the secrets (HKDF, RFC 5869) for this plugin
 * and registration: what a secret signs elsewhere is no token here.
 */
export class Signer {
  /** Newest first. */
  readonly #keys: readonly KeyObject[]
  /** Of ids, by the newest. */
  readonly #signatures = new Recent((id) => signature(this.#keys[0], id))

  constructor(secrets: ReadonlyArray<string | Uint8Array>, sessionName: string) {
    this.#keys = secrets.map((secret) =>
      createSecretKey(
        Buffer.from(hkdfSync('sha256', secret, '', `fastify-holdfast\0${sessionName}`, 32))
      )
    )
  }

  sign(id: string): string {
    return `${id}.${this.#signatures.get(id)}`
  }

  /** Returns the id of a token that was signed here. Undefined: it was not. */
  verify(value: string): SignedId | undefined {
    const [, id, given] = signed.exec(value) ?? []
    if (id === undefined || given === undefined) return undefined
    // Compared as text, for several texts decode to the same bytes. Both have 43 characters.
    const text = Buffer.from(given)
    const isRight = (other: string): boolean => timingSafeEqual(text, Buffer.from(other))
    if (isRight(this.#signatures.get(id))) return { id, mustRenew: false }
    const [, ...older] = this.#keys
    return older.some((key) => isRight(signature(key, id))) ? { id, mustRenew: true } : undefined
  }
}

function signature(key: KeyObject, id: string): string {
  return createHmac('sha256', key).update(id).digest('base64url')
}

import { hash, randomUUID } from 'node:crypto'

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

/** Names one write: 48 random bits, to be unique among the writes of one session. */
export function mintToken(): string {
  return randomUUID().slice(24)
}

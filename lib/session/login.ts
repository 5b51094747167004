import { hash } from 'node:crypto'

import { SessionError } from '../errors.ts'
import { readHandle } from './handle.ts'
import type { Identity, SignIn } from './id.ts'
import type { Moving } from './moving.ts'
import { encodeNote, tolerance } from './notes.ts'
import type { TrackedData } from './tracked-data.ts'
import { mintToken } from './version.ts'
import { copyOf } from '../recent.ts'
import { tagLength } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'

/** Who is signed in to a session. */
export interface Login {
  readonly subject: string
  /** When the credentials were checked last, in epoch milliseconds. */
  readonly authenticatedAt: number
  /** What the app notes of the session, such as the device. */
  readonly info?: unknown
}

/** The most characters of a subject. */
const maxSubjectLength = 255

/** The most bytes of what the app notes of a session. */
const maxInfoBytes = 1024

/** Milliseconds from the stamp until the session is stored. The stamp is kept for longer. */
export const maxSignInTime: number = 30 * 60 * 1000

/**
 * Returns what stands for a subject in keys and ids: a digest, which is no secret. It is the same
 * whatever the option `secret` is, so that rotating that ends no session.
 */
export function tagOf(sessionName: string, subject: string): string {
  const digest = hash('sha256', `${sessionName}\0subject\0${subject}`, 'base64url')
  // A store keeps it, and a part of a string keeps the whole.
  return copyOf(digest.slice(0, tagLength))
}

/** @throws HOLDFAST_VALUE_INVALID */
export function checkSubject(subject: unknown): asserts subject is string {
  const isText = typeof subject === 'string' && Buffer.from(subject).toString() === subject
  if (!isText || subject === '' || subject.length > maxSubjectLength) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: `a subject is a well-formed string of 1 to ${maxSubjectLength} characters`
    })
  }
}

/** Returns what the app notes of a session, as it is read back. @throws HOLDFAST_VALUE_INVALID */
export function readInfo(info: unknown): unknown {
  if (info === undefined) return undefined
  let text: string | undefined
  try {
    text = JSON.stringify(info)
  } catch {}
  if (text === undefined || Buffer.byteLength(text) > maxInfoBytes) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: `info is what JSON keeps, in up to ${maxInfoBytes} bytes`
    })
  }
  return JSON.parse(text)
}

/** Returns a login as the notes have it. */
export function writeLogin({ subject, authenticatedAt, info }: Login): string {
  return encodeNote([subject, authenticatedAt, ...(info === undefined ? [] : [info])])
}

/** Returns the login that `writeLogin()` made a text of. Undefined: nobody is signed in. */
export function readLogin(text: string): Login | undefined {
  if (text === '') return undefined
  const [subject, authenticatedAt, info] = JSON.parse(decodeURIComponent(text)) as [
    string,
    number,
    unknown?
  ]
  return { subject, authenticatedAt, info }
}

/** What of a session says who is signed in. */
interface SignedIn {
  readonly identity: Identity
  readonly data: TrackedData
}

/** Returns who is signed in. Undefined: nobody. */
export function loginOf({ data }: Pick<SignedIn, 'data'>): Login | undefined {
  return readLogin(data.login)
}

/**
 * Has a session that goes on under a new id be that of a subject.
 *
 * @param lineage that which the session had, or a new one
 * @param signIn undefined: it has been signed in before
 */
export function belongTo(
  { identity, data }: SignedIn,
  { sessionName }: { readonly sessionName: string },
  login: Login,
  { lineage, signIn }: { readonly lineage: string; readonly signIn: SignIn | undefined }
): void {
  identity.belongTo(tagOf(sessionName, login.subject), lineage, signIn)
  data.login = writeLogin(login)
}

/**
 * Returns the lineage of a session that signs in: that of the session that it goes on from, if it
 * has been the same subject's. So a browser that signs in again has one session, and not two.
 */
export function lineageFor({ departure }: Moving, tag: string): string {
  const left = departure && !departure.isUnseen && readHandle(departure.handle)
  return left && left.subject === tag ? left.lineage : mintToken()
}

/** Has a session that goes on under a new id be that of nobody. */
export function belongToNobody({ identity, data }: SignedIn): void {
  identity.renew()
  data.login = ''
}

/** @throws HOLDFAST_SESSION_NOT_FRESH nobody was authenticated within so many seconds */
export function assertFresh(
  state: Pick<SignedIn, 'data'>,
  seconds: number,
  { clock }: { readonly clock: Clock }
): void {
  const age = clock.now() - (loginOf(state)?.authenticatedAt ?? -Infinity)
  // Of a time that is yet to come nothing is known: the clock has stepped back.
  if (age > seconds * 1000 || age < -tolerance) throw new SessionError('HOLDFAST_SESSION_NOT_FRESH')
}

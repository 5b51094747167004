import type { Link } from './former-store.ts'
import { SessionError } from '../errors.ts'
import type { SessionConfig } from '../session/config.ts'
import { expiry, isLifetime, nextTimeout } from '../session/lifetime.ts'
import { checkSubject, writeLogin } from '../session/login.ts'
import { noNotes, writeNotes } from '../session/notes.ts'
import { isReserved } from '../session/session.ts'
import { firstVersion } from '../session/version.ts'
import type { CarryOverOptions, FormerSession } from '../../types/migrate.ts'
import type { SessionRecord } from '../../types/store.ts'

/** What a former session becomes. */
export interface Draft {
  /** The serialised data. */
  readonly text: string
  readonly maxAge: number | undefined
  /** Whom the data names, by the option `subject`. Undefined: nobody. */
  readonly subject: string | undefined
  /** What leads to the former session, if that lives on, as notes have it. The empty text otherwise. */
  readonly link: string
}

/**
 * Returns what a former session becomes. Undefined: it is not to be carried over.
 *
 * @throws HOLDFAST_KEY_RESERVED, HOLDFAST_VALUE_INVALID, HOLDFAST_DATA_UNSERIALIZABLE,
 *   HOLDFAST_DATA_TOO_LARGE, and what the functions of the app throw; nothing was stored
 */
export function draftOf(
  { codec, subjectOf }: SessionConfig,
  options: CarryOverOptions,
  former: FormerSession,
  link: Link
): Draft | undefined {
  const { data = withoutCookie, maxAge: maxAgeOf } = options
  const given: unknown = data(former)
  if (given === undefined) return undefined
  if (!isPlain(given)) throw invalid('data of carryOver() returns an object, or undefined')
  if (Object.keys(given).some(isReserved)) {
    throw new SessionError('HOLDFAST_KEY_RESERVED', {
      detail: 'a former session has a key of such a name; rename it in data of carryOver()'
    })
  }
  const text = codec.stringify({ __proto__: null, ...given })
  codec.assertFits(text)
  const maxAge: unknown = maxAgeOf?.(former)
  if (maxAge !== undefined && !isLifetime(maxAge)) {
    throw invalid('maxAge of carryOver() returns an integer of seconds, or undefined')
  }
  const subject: unknown = subjectOf?.(codec.parse(text)) ?? undefined
  if (subject !== undefined) checkSubject(subject)
  return { text, maxAge, subject, link: options.sideBySide === true ? writeLink(link) : '' }
}

/**
 * Makes the record of a draft. When its user's credentials were checked is not known: no route
 * takes them for fresh.
 */
export function recordOf(
  { clock, lifetimes }: SessionConfig,
  { text, maxAge, link }: Draft,
  lineage: string,
  subject: string | undefined
): SessionRecord {
  const now = clock.now()
  const login = subject === undefined ? '' : writeLogin({ subject, authenticatedAt: 0 })
  const notes = writeNotes({ ...noNotes, login, former: link })
  return {
    data: text,
    version: firstVersion(notes !== undefined, lineage),
    createdAt: now,
    expiresAt: expiry(now, now, maxAge, lifetimes),
    ...nextTimeout(undefined, maxAge, true, lifetimes),
    ...(notes === undefined ? undefined : { notes })
  }
}

/** Returns it as the notes have it: without the dots that versions are made with. */
function writeLink({ sid, hasExpiry }: Link): string {
  return (hasExpiry ? '=' : '') + encodeURIComponent(sid).replaceAll('.', '%2E')
}

/** Returns what the notes have. */
export function readLink(text: string): Link {
  const hasExpiry = text.startsWith('=')
  return { sid: decodeURIComponent(hasExpiry ? text.slice(1) : text), hasExpiry }
}

function withoutCookie(former: FormerSession): Record<string, unknown> {
  const { cookie: _, ...data } = former
  return data
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return typeof (value as { readonly then?: unknown }).then !== 'function'
}

function invalid(detail: string): SessionError {
  return new SessionError('HOLDFAST_VALUE_INVALID', { detail })
}

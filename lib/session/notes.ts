import type { CookieUse } from './lifetime.ts'
import type { CookieAttributes } from '../../types/session.ts'
import type { SessionRecord } from '../../types/store.ts'

/** What a record notes of the session's cookie, of who is signed in, and of where it comes from. */
export interface Notes {
  /**
   * Until when the browser is known to have the cookie, in milliseconds after the session's
   * creation: stores may shift instants, but not what lies between two of them. Undefined: until
   * the session expires.
   */
  readonly heldFor: number | undefined
  /** Whether the cookie was sent once since. That reply may have been lost. */
  readonly isSentSince: boolean
  /** The cookie's own attributes, as text. The empty text for none. */
  readonly attributes: string
  /** Who is signed in, as text. The empty text for nobody. */
  readonly login: string
  /** The former session that it goes on from, if that lives on beside it, as text. */
  readonly former: string
}

export const noNotes: Notes = Object.freeze({
  heldFor: undefined,
  isSentSince: false,
  attributes: '',
  login: '',
  former: ''
})

/** The notes that were read last: a request reads those of its session several times. */
let last: { readonly text: string; readonly notes: Notes } = { text: '', notes: noNotes }

/** Reads the notes of a record. */
export function readNotes({ notes }: Pick<SessionRecord, 'notes'>): Notes {
  if (notes === undefined) return noNotes
  if (notes !== last.text) last = { text: notes, notes: parseNotes(notes) }
  return last.notes
}

function parseNotes(notes: string): Notes {
  const [, heldFor, sent, attributes = '', login = '', former = ''] =
    /^(-?\d+)?(!?)(?:&([^&]*))?(?:&([^&]*))?(?:&(.*))?$/.exec(notes) ?? []
  return {
    heldFor: heldFor === undefined ? undefined : Number(heldFor),
    isSentSince: sent === '!',
    attributes,
    login,
    former
  }
}

/** Returns the notes as a record keeps them: without white space. Undefined: there are none. */
export function writeNotes(notes: Notes): string | undefined {
  const { heldFor, isSentSince, attributes, login, former } = notes
  const rest = [attributes, login, former]
  while (rest.at(-1) === '') rest.pop()
  const text =
    (heldFor === undefined ? '' : String(heldFor)) +
    (isSentSince ? '!' : '') +
    rest.map((note) => `&${note}`).join('')
  return text === '' ? undefined : text
}

/** Returns attributes as the notes have them. */
export function writeAttributes(attributes: CookieAttributes): string {
  return Object.keys(attributes).length === 0 ? '' : encodeNote(attributes)
}

/** Returns a value as the notes have it: without the dots that versions are made with. */
export function encodeNote(value: object): string {
  return encodeURIComponent(JSON.stringify(value)).replaceAll('.', '%2E')
}

/** Returns the attributes that `writeAttributes()` made a text of. Anything else has none. */
export function readAttributes(text: string): CookieAttributes {
  try {
    return JSON.parse(decodeURIComponent(text)) as CookieAttributes
  } catch {
    return {}
  }
}

/** Milliseconds of difference that are none: the clocks of stores may differ by as much. */
export const tolerance = 1000

/**
 * Whether the browser's cookie is to be renewed: it may be told of an expiry that is far enough
 * from the one that it has, or it has one that the idle lifetime does not allow. Then the clock has
 * stepped back, and the browser's has not.
 *
 * @param expiresAt when the session ends from now on
 */
export function isCookieDue(record: SessionRecord, expiresAt: number, use: CookieUse): boolean {
  const latest = use.now + use.idle
  const { held } = whatIsHeld(record, use)
  return Math.min(expiresAt, latest) - held >= use.leastGain || held > latest + tolerance
}

/**
 * Makes the notes for when the expiry of `record` becomes `expiresAt`.
 *
 * @param isSent whether the reply sends the cookie to the browser that has it
 */
export function moveNotes(
  record: SessionRecord,
  expiresAt: number,
  isSent: boolean,
  use: CookieUse
): Pick<Notes, 'heldFor' | 'isSentSince'> {
  const latest = use.now + use.idle
  const { held: noted, isSentSince } = whatIsHeld(record, use)
  const held = Math.min(noted, latest)
  // A reply may be lost. Near the end of what the browser has, the next one sends the cookie again.
  const margin = Math.min(Math.max(3 * use.leastGain, use.idle / 4), use.idle / 2)
  const mustSendAgain = isSent && held - use.now < margin && !isSentSince
  const known = isSent && !mustSendAgain ? Math.min(expiresAt, latest) : held
  if (known >= expiresAt - tolerance) return noNotes
  return {
    heldFor: Math.floor(known - record.createdAt),
    isSentSince: mustSendAgain || (isSentSince && !isSent)
  }
}

/** Until when the browser is known to have the cookie, and whether it was sent since. */
function whatIsHeld(
  record: SessionRecord,
  { now }: CookieUse
): { readonly held: number; readonly isSentSince: boolean } {
  const { heldFor = Infinity, isSentSince } = readNotes(record)
  const held = record.createdAt + heldFor
  // One that should have run out was renewed since: the browser would not have sent it.
  return held > now && held < record.expiresAt
    ? { held, isSentSince }
    : { held: record.expiresAt, isSentSince: false }
}

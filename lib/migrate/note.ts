import { createHmac, hash } from 'node:crypto'

import type { FormerId } from './former-cookie.ts'
import type { SessionConfig } from '../session/config.ts'
import { maxCookieAge } from '../session/lifetime.ts'
import type { StoreClient } from '../session/store-client.ts'
import { firstVersion, nextVersion } from '../session/version.ts'
import { lineageOf } from '../subject-key.ts'
import type { SessionRecord } from '../../types/store.ts'

const claimed = 'claimed'
const carried = 'carried'
const ended = 'ended'

/**
 * Returns the key under which our store notes what became of a former session. No id leads there:
 * the keys of sessions have another form.
 */
export function noteKey({ sessionName }: SessionConfig, { sid }: FormerId): string {
  return `former-${hash('sha256', `${sessionName}\0${sid}`, 'base64url')}`
}

/** Returns what our store notes of a former session. Undefined: nothing. */
export async function readNote(
  config: SessionConfig,
  store: StoreClient,
  former: FormerId
): Promise<SessionRecord | undefined> {
  // Nothing moves from such a key.
  return (await store.get(noteKey(config, former))) as SessionRecord | undefined
}

/**
 * Makes a claim: the note of who is about to carry a former session over. It expires when its
 * maker has run out of time.
 */
export function claimOf({ clock, storeTimeout }: SessionConfig): SessionRecord {
  const now = clock.now()
  return { data: claimed, version: firstVersion(), createdAt: now, expiresAt: now + storeTimeout }
}

/**
 * Makes the note that follows a claim: the session was carried over. It is kept for longer than the
 * former session can live, so that one that is logged out is not carried over again.
 *
 * @param life milliseconds that the former session may still live. Undefined: it does not say
 * @param tag what the session's id has of its subject
 */
export function carriedNote(
  { clock, lifetimes }: SessionConfig,
  claim: SessionRecord,
  { life, tag, isUsed }: { life: number | undefined; tag: string | undefined; isUsed: boolean }
): SessionRecord {
  const now = clock.now()
  // A use on the other side makes it live longer.
  const longest = isUsed ? Infinity : Math.max(life ?? Infinity, lifetimes.idle)
  const seconds = Math.min(Math.ceil(longest / 1000), maxCookieAge)
  return {
    data: tag === undefined ? carried : `${carried} ${tag}`,
    version: nextVersion(claim.version),
    createdAt: claim.createdAt,
    expiresAt: now + seconds * 1000,
    maxAge: seconds
  }
}

/**
 * Makes the note that a former session has ended: nobody carries it over any more.
 *
 * @param before the note that it takes the place of, if there is one
 */
export function endedNote(
  { clock }: SessionConfig,
  before: SessionRecord | undefined
): SessionRecord {
  const now = clock.now()
  const version = before === undefined ? firstVersion() : nextVersion(before.version)
  const expiresAt = now + maxCookieAge * 1000
  return { data: ended, version, createdAt: now, expiresAt, maxAge: maxCookieAge }
}

/** Whether a note says that the session was carried over. */
export function isCarried({ data }: SessionRecord): boolean {
  return data.startsWith(carried)
}

/** Whether a note says that the session has ended. */
export function isEnded({ data }: SessionRecord): boolean {
  return data === ended
}

/**
 * Returns the id under which a former session goes on: the same for all who bring its cookie, and
 * another one for each claim, so that a claim that comes to nothing leaves no id that counts. Only
 * who has seen the cookie can compute it.
 */
export function idOf({ key }: FormerId, { data, version }: SessionRecord): string {
  const id = createHmac('sha256', key)
    .update(`fastify-holdfast carry-over\0${lineageOf(version)}`)
    .digest('base64url')
  const [, tag] = data.split(' ')
  return tag === undefined ? id : `${id}~${tag}`
}

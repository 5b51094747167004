import { andThen } from './waiting.ts'
import type { SessionFeed, SessionLook } from '../../types/feed.ts'
import type { MaybePromise } from '../../types/store.ts'

/**
 * Has a feed look at keys.
 *
 * @returns as many looks as there are keys
 * @throws TypeError the feed has returned something else
 */
export function looksOf(
  feed: SessionFeed,
  keys: readonly string[]
): MaybePromise<ReadonlyArray<SessionLook | undefined>> {
  return andThen(feed.look(keys), (looks: unknown) => {
    if (!Array.isArray(looks) || looks.length !== keys.length || !looks.every(isLook)) {
      throw new TypeError('feed.look() must return an array with a look for each key')
    }
    // A store in plain JavaScript may have null for what is not there.
    return looks.map((look: SessionLook | null | undefined) => look ?? undefined)
  })
}

function isLook(look: unknown): boolean {
  if (look === undefined || look === null) return true
  const { successor, version, createdAt, expiresAt } = look as Record<string, unknown>
  if (typeof successor === 'string') return true
  return typeof version === 'string' && isInstant(createdAt) && isInstant(expiresAt)
}

function isInstant(value: unknown): boolean {
  return typeof value === 'number' && value >= 0
}

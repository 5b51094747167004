import type { HttpConfig } from './config.ts'
import type { PresentedToken } from './request.ts'
import type { Withheld } from './withheld.ts'
import type { BeginsWith } from '../session/client.ts'

/**
 * Whether the id may be in the header. There every script on a page could read the id of an
 * HttpOnly session: only a client that speaks the header gets it there.
 */
export function sendsHeader(
  { sessionCookie, mirror }: HttpConfig,
  { transport, isBrowser }: PresentedToken
): boolean {
  if (mirror || sessionCookie === false) return true
  return transport === 'header' || (transport === undefined && !isBrowser)
}

/**
 * Whether the id may be in the cookie, and not over another session's that the request brought
 * beside the header, or that the browser kept back.
 *
 * @param isRegenerated whether the app has called `regenerate()`, as at a login
 */
export function sendsCookie(
  { transport, hasCookie, cookieId, id }: PresentedToken,
  withheld: Withheld | undefined,
  isRegenerated: boolean
): boolean {
  if (transport === 'header') {
    return hasCookie ? cookieId !== undefined && cookieId === id : withheld === undefined
  }
  return withheld !== 'path' || isRegenerated
}

/** What it takes for a session to begin, where the browser may hold another one's cookie. */
export function beginsWith(
  config: HttpConfig,
  presented: PresentedToken,
  withheld: Withheld | undefined
): BeginsWith {
  if (presented.transport === 'header' || withheld === undefined) return 'request'
  if (withheld === 'cross-site') return 'write'
  const isReached = presented.transport === undefined && !presented.isBrowser
  return isReached && config.sessionHeader !== false ? 'request' : 'regenerate'
}

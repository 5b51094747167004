import type { FastifyRequest } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import type { HttpConfig } from './config.ts'
import type { PresentedToken } from './request.ts'

/**
 * Why a browser may hold a session cookie that it did not send: the request comes from another
 * site, or it goes to a page outside the cookie's path.
 */
export type Withheld = 'cross-site' | 'path'

/**
 * Finds out why a browser may have kept the session cookie back. Undefined: it has no reason to.
 *
 * @param isStale whether the cookie that it sent names no session
 */
export function whyWithheld(
  { cookieReach }: HttpConfig,
  request: FastifyRequest,
  { hasCookie }: PresentedToken,
  isStale: boolean
): Withheld | undefined {
  if (cookieReach === undefined || (hasCookie && !isStale)) return undefined
  const { sameSite } = cookieReach
  if (!cookieReach.includesPath(request)) return 'path'
  if (hasCookie || sameSite === 'none' || !isCrossSite(request)) return undefined
  return sameSite === 'lax' && isTopLevelNavigation(request) ? undefined : 'cross-site'
}

/**
 * Whether a browser may have kept the session cookie back, although it sent others.
 *
 * @param request undefined past Fastify, where no route and no path of a page is known
 */
export function mayBeWithheld(
  config: HttpConfig,
  headers: IncomingHttpHeaders,
  request: FastifyRequest | undefined,
  presented: PresentedToken
): boolean {
  if (request !== undefined) return whyWithheld(config, request, presented, true) !== undefined
  return config.cookieReach?.sameSite !== 'none' && headers['sec-fetch-site'] === 'cross-site'
}

/**
 * Whether another site made a browser send this (Fetch Metadata, 2.3). Over plain http browsers do
 * not tell; there the Origin of a request that is not a GET or HEAD does (Fetch, 3.1). It is `null`
 * where the browser hides it.
 */
function isCrossSite({ headers, method, host }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site === 'cross-site'
  const { origin } = headers
  if (origin === undefined || method === 'GET' || method === 'HEAD') return false
  return hostnameOf(origin) !== hostnameOf(`http://${host}`)
}

/**
 * Whether a link or a redirect opens a page in a tab: from other sites, such requests alone carry a
 * cookie that is `SameSite=Lax` (RFC 6265bis, 5.8.3; Fetch Metadata, 2.1 and 2.2).
 */
function isTopLevelNavigation({ headers, method }: FastifyRequest): boolean {
  const { 'sec-fetch-mode': mode, 'sec-fetch-dest': destination = 'document' } = headers
  return (
    mode === 'navigate' && destination === 'document' && (method === 'GET' || method === 'HEAD')
  )
}

function hostnameOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname : undefined
}

import type { FastifyRequest } from 'fastify'

import type { CookieAttributes } from '../../types/session.ts'

/** Which requests browsers send the session cookie with. */
export class CookieReach {
  readonly #path: string
  #sameSite: CookieAttributes['sameSite']
  #hasRoute = false

  constructor({ path, sameSite }: CookieAttributes) {
    this.#path = path as string
    this.#sameSite = sameSite
  }

  /** Which requests from other sites bring it, as far as it is known. */
  get sameSite(): CookieAttributes['sameSite'] {
    return this.#sameSite
  }

  /** Learns what attributes a session's own cookie has: any visitor may have such a one. */
  learn({ sameSite }: CookieAttributes): void {
    if (sameSite === 'strict' || this.#sameSite === 'none') this.#sameSite = sameSite
  }

  /**
   * Looks for a route of the app within the cookie's path.
   *
   * @param routes what `app.printRoutes({ commonPrefix: false })` lists: a route on each line
   */
  readRoutes(routes: string): void {
    const urls = routes.split('\n').map((line) => /── (\S+)/.exec(line)?.[1] ?? '')
    this.#hasRoute ||= urls.some((url) => pathMatches(url, this.#path))
  }

  /**
   * Whether a request is within the cookie's path. If the app has no route there, it is behind a
   * proxy that takes the path off: then it cannot be told, and counts as true.
   */
  includesPath({ originalUrl, raw }: FastifyRequest): boolean {
    if (this.#path === '/') return true
    // With the option rewriteUrl Fastify keeps the URL that the client asked for.
    const isKnown = this.#hasRoute || 'originalUrl' in raw
    return !isKnown || pathMatches(originalUrl.split('?', 1)[0], this.#path)
  }
}

/** Whether a path is another one, or below it (RFC 6265, 5.1.4). */
export function pathMatches(path: string, prefix: string): boolean {
  return (
    path === prefix ||
    (path.startsWith(prefix) && (prefix.endsWith('/') || path[prefix.length] === '/'))
  )
}

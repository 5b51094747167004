/** The attributes of the session cookie, except its lifetime, which is that of the session. */
export interface CookieAttributes {
  /**
   * Host that the cookie is sent to, with its subdomains. Default: none; the cookie is sent only to
   * the host that set it.
   */
  domain?: string
  /** Path that the cookie is sent to, and all paths below it. Default: `'/'`. */
  path?: string
  /** Hides the cookie from scripts. Default: true. */
  httpOnly?: boolean
  /**
   * Which cross-site requests carry the cookie. `'none'` requires `secure: true`; `true` means
   * `'strict'`. Default: `'lax'`.
   */
  sameSite?: 'strict' | 'lax' | 'none' | true
  /**
   * Whether the cookie is sent over HTTPS only. `'auto'`: yes if this request came over HTTPS,
   * according to `request.protocol`. With `true`, no cookie is set on a request over HTTP, and a
   * warning is logged once. Default: `'auto'`.
   */
  secure?: boolean | 'auto'
  /**
   * Keeps a separate cookie for each site that embeds this one (CHIPS). Requires `secure: true`.
   * Default: false.
   */
  partitioned?: boolean
  /** Which cookies a browser keeps longest when it runs out of room (Chromium). Default: none. */
  priority?: 'low' | 'medium' | 'high'
  /**
   * Whether the cookie survives when the browser is closed. `false` leaves out Max-Age. Default:
   * true.
   */
  persistent?: boolean
}

/** What tells a cookie from others of the same name. */
export type CookieScope = Pick<CookieAttributes, 'domain' | 'path' | 'partitioned'>

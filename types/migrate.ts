/** A session as the former plugin keeps it: the data, and beside them its `cookie`. */
export interface FormerSession {
  readonly cookie?: {
    readonly expires?: Date | string | number | null | undefined
    readonly originalMaxAge?: number | null | undefined
  }
  readonly [key: string]: unknown
}

/** The store of the former plugin: what stores of express-session and of @fastify/session have. */
export interface FormerStore {
  get(
    sessionId: string,
    // oxlint-disable-next-line typescript/no-explicit-any -- as the types of those stores have it
    callback: (error: any, session?: any) => void
  ): unknown
  // oxlint-disable-next-line typescript/no-explicit-any -- as the types of those stores have it
  destroy(sessionId: string, callback: (error?: any) => void): unknown
  /**
   * Moves the expiry. With `sideBySide`, if the store has this method, using a session here counts
   * as use in the former plugin too.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- as the types of those stores have it
  touch?(sessionId: string, session: any, callback: (error?: any) => void): unknown
}

/** The options of `carryOver()`. */
export interface CarryOverOptions {
  /**
   * Name of the former cookie: by default `'connect.sid'` of express-session, `'sessionId'` of
   * @fastify/session.
   */
  readonly cookie: string
  /**
   * What the former cookie is signed with: one secret, or all that are still accepted. Give this or
   * `unsign`.
   */
  readonly secret?: string | Uint8Array | ReadonlyArray<string | Uint8Array>
  /**
   * Returns the former session id that a value of the cookie holds, already URL-decoded; undefined
   * if it is not rightly signed. For a signature of your own. Default: `id.signature` of
   * @fastify/session and `s:id.signature` of express-session, HMAC-SHA-256 with `secret`.
   */
  readonly unsign?: (value: string) => string | undefined
  /** The store of the former plugin, on the client or pool that it had. */
  readonly store: FormerStore
  /**
   * Returns the data of the new session; undefined to begin without. It must not change what it is
   * given. Default: all of the former data but `cookie`.
   */
  readonly data?: (former: FormerSession) => Record<string, unknown> | undefined
  /**
   * Returns the seconds of disuse after which the new session ends, for sessions that had a
   * lifetime of their own; undefined for the option `maxAge`. Default: the option `maxAge`.
   */
  readonly maxAge?: (former: FormerSession) => number | undefined
  /**
   * The scope of the former cookie, by which a reply clears it once its session was carried over.
   * Default: path `'/'`, and no domain.
   */
  readonly scope?: {
    readonly domain?: string
    readonly path?: string
    readonly partitioned?: boolean
  }
  /**
   * Whether processes of the former plugin still serve the same browsers. The former session and
   * its cookie then stay, a logout on either side ends both, and the two cookies need different
   * names. Default: false.
   */
  readonly sideBySide?: boolean
}

/** What `carryOver()` returns, for the option `carryOver`. */
export interface CarryOver {
  /** Name of the former cookie. */
  readonly cookie: string
  readonly sideBySide: boolean
}

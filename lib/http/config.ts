import type { SessionCookie } from './cookie.ts'
import type { ScopeConfig } from './cookie-scopes.ts'
import type { Signer } from './signer.ts'
import type { CookieAttributes } from '../../types/session.ts'

/** What requests and replies need of the configuration. */
export interface HttpConfig extends ScopeConfig {
  readonly sessionName: string
  readonly sessionHeader: string | false
  /** The same in lower case, as Node.js names it. */
  readonly headerKey: string | undefined
  /** The cookie by its name. */
  readonly cookie: SessionCookie | undefined
  /** What `otherCookies()` lists where a session's cookie has no attributes of its own. */
  readonly otherCookies: readonly CookieAttributes[]
  readonly mirror: boolean
  readonly replaceErrorReplies: boolean
  /** Undefined: ids travel as they are. */
  readonly signer: Signer | undefined
  /** The request headers that decide which session a request gets. */
  readonly varyNames: readonly string[]
}

import type { FastifyReply } from 'fastify'

import type { SessionCookie } from './cookie.ts'
import type { ScopeConfig } from './cookie-scopes.ts'
import type { VaryNames } from './headers.ts'
import type { Signer } from './signer.ts'
import type { AnswerFormer } from '../session/former.ts'
import type { CookieAttributes } from '../../types/session.ts'

/** What requests and replies need of the configuration. */
export interface HttpConfig extends ScopeConfig {
  readonly sessionName: string
  readonly sessionHeader: string | false
  /** The same in lower case, as Node.js names it. */
  readonly headerKey: string | undefined
  /** The cookie by its name. */
  readonly cookie: SessionCookie | undefined
  /** Asks the plugin that the app had before. Undefined: its sessions are not carried over. */
  readonly answerFormer: AnswerFormer | undefined
  /** The cookie of that plugin, if replies are to clear it. */
  readonly formerCookie: { clear(reply: FastifyReply): void } | undefined
  /** What `otherCookies()` lists where a session's cookie has no attributes of its own. */
  readonly otherCookies: readonly CookieAttributes[]
  readonly mirror: boolean
  readonly replaceErrorReplies: boolean
  /** Undefined: ids travel as they are. */
  readonly signer: Signer | undefined
  /** The request headers that decide which session a request gets. */
  readonly varyNames: VaryNames
}

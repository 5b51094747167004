import type { Withheld } from './withheld.ts'
import type { RequestSession } from '../session/request-session.ts'
import type { Clock } from '../../types/clock.ts'

/** What a result is put on the reply with. */
export interface Wording {
  /** The attributes of its own that the cookie has from now on, as a record notes them. */
  readonly attributes: string
  /** Those that the browser's has. */
  readonly formerAttributes: string
  readonly withheld: Withheld | undefined
  /** Whether the session is there by `regenerate()`. */
  readonly isRegenerated: boolean
  /** Whether the reply depends on the session, as that was looked at. */
  readonly isRead: boolean
  readonly clock: Clock
}

/** Says with what the result of a commit goes on the reply. */
export function wordingFor(
  { state, isOpened }: RequestSession,
  withheld: Withheld | undefined,
  clock: Clock
): Wording {
  return {
    attributes: state.data.attributes,
    formerAttributes: state.cookie.attributes,
    withheld,
    isRegenerated: state.moving.isRegenerated,
    isRead: isOpened,
    clock
  }
}

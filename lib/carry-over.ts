import { check } from './errors.ts'
import type { HttpConfig } from './http/config.ts'
import type { SerializeCookie } from './http/cookie-attributes.ts'
import type { SessionConfig } from './session/config.ts'
import type { CarryOver } from '../types/migrate.ts'

/** What a registration has of the sessions of the former plugin. */
export type Former = Pick<SessionConfig, 'former'> &
  Pick<HttpConfig, 'answerFormer' | 'formerCookie'>

/** What `carryOver()` of fastify-holdfast/migrate returns, as a registration takes it. */
export interface Connectable extends CarryOver {
  connect(serializeCookie: SerializeCookie): Former
}

const none: Former = { former: undefined, answerFormer: undefined, formerCookie: undefined }

/** Takes the option `carryOver`. @throws HOLDFAST_OPTION_INVALID */
export function connectFormer(
  carryOver: CarryOver | undefined,
  sessionCookie: string | false,
  serializeCookie: SerializeCookie
): Former {
  if (carryOver === undefined) return none
  const isOurs = typeof (carryOver as Partial<Connectable> | null)?.connect === 'function'
  check(isOurs, 'carryOver', 'what carryOver() of fastify-holdfast/migrate returns')
  check(
    sessionCookie !== false,
    'sessionCookie',
    'a name with carryOver: it is in a cookie that the former sessions go on'
  )
  const hasSameName = carryOver.cookie === sessionCookie
  check(
    !carryOver.sideBySide || !hasSameName,
    'sessionCookie',
    'another name than that of the former cookie with sideBySide: each side would replace the ' +
      'cookie of the other'
  )
  const connected = (carryOver as Connectable).connect(serializeCookie)
  // Ours takes the place of one that has its name.
  return hasSameName ? { ...connected, formerCookie: undefined } : connected
}

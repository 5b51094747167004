import { unavailableError } from '../errors.ts'
import type { SessionConfig } from './config.ts'
import { expiry } from './lifetime.ts'
import type { SessionInfo, SessionOperations } from './session-parts.ts'
import { Session } from './session.ts'
import { close } from './watch.ts'

/** Makes the session of a request that has none: it is empty, frozen, and refuses to change. */
export function unavailableSession({ clock, lifetimes }: SessionConfig): Session {
  const now = clock.now()
  const info: SessionInfo = {
    showId: () => '',
    showPublicId: () => '',
    isNew: false,
    isSigningIn: false,
    get signal(): AbortSignal {
      return AbortSignal.abort(unavailableError())
    },
    transport: undefined,
    createdAt: now,
    expiresAt: expiry(now, now, undefined, lifetimes),
    subject: undefined,
    authenticatedAt: undefined,
    get maxAge(): number {
      return lifetimes.idle / 1000
    },
    set maxAge(_seconds: number | undefined) {
      refuse()
    }
  }
  const operations: SessionOperations = {
    isCookieWithheld: false,
    options: refuse,
    touch: refuse,
    update: reject,
    save: reject,
    reload: reject,
    regenerate: reject,
    signIn: reject,
    reauthenticate: reject,
    destroy: reject,
    changed: refuse
  }
  const session = new Session(info, operations, {})
  close(session)
  return session
}

function refuse(): never {
  throw unavailableError()
}

async function reject(): Promise<never> {
  refuse()
}

import { unavailableError } from '../errors.ts'
import type { SessionConfig } from './config.ts'
import { expiry } from './lifetime.ts'
import { Session, type SessionInfo, type SessionOperations } from './session.ts'
import { close } from './watch.ts'

/** Makes the session of a request that has none: it is empty, frozen, and refuses to change. */
export function unavailableSession({ clock, lifetimes }: SessionConfig): Session {
  const now = clock.now()
  const info: SessionInfo = {
    showId: () => '',
    showPublicId: () => '',
    isNew: false,
    transport: undefined,
    createdAt: now,
    expiresAt: expiry(now, now, undefined, lifetimes),
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
    regenerate: reject,
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

import type { Reason } from './reasons.ts'
import type { Watched } from './watched.ts'
import { tolerance } from '../session/notes.ts'
import { sameLife } from '../session/version.ts'
import type { EndReason, SessionLook } from '../../types/feed.ts'

/** What is known besides of a look. */
interface Facts {
  /** When the look began: what it shows may be as old. */
  readonly begunAt: number
  /** How the session has ended, if that was told. */
  readonly reason: EndReason | undefined
  /** How it may have ended, if its time was not over. */
  readonly likely: EndReason | undefined
}

/** Takes what a look has shown of a session. @returns how it has ended; undefined if it lives */
export function judge(
  watched: Watched,
  look: Exclude<SessionLook, { readonly successor: string }> | undefined,
  { begunAt, reason, likely }: Facts
): Reason | undefined {
  if (look === undefined || !isSame(watched.version, look.version)) {
    if (reason !== undefined) return reason
    if (likely !== undefined && begunAt < watched.endsAt) return likely
    return begunAt + tolerance < watched.endsAt ? 'unknown' : reasonBy(begunAt, watched)
  }
  watched.version ||= look.version
  watched.lasts(look)
  return begunAt < watched.endsAt ? undefined : reasonBy(begunAt, watched)
}

/** Whether a record may be of the life that is watched. Of some the version is not known. */
export function isSame(watched: string, found: string | undefined = ''): boolean {
  return watched === '' || found === '' || sameLife(watched, found)
}

/** Which of its times is over. */
function reasonBy(now: number, { createdAt, config }: Watched): 'idle' | 'absolute' {
  return now + tolerance < createdAt + config.lifetimes.absolute ? 'idle' : 'absolute'
}

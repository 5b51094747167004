import type { EndNotice, EndReason, SessionLook } from '../../types/feed.ts'
import { tagLength } from '../subject-key.ts'

/** What the first character of a message says, which a server sends. */
const reasons: Readonly<Record<string, EndReason | undefined>> = {
  d: 'destroyed',
  a: 'all destroyed',
  l: 'limit'
}

/**
 * Reads a message: what has happened, and the key, or the subject, that it has happened to. After
 * the key of a session that has moved comes that of its successor.
 */
export function noticeOf(message: string): EndNotice {
  const reason = reasons[message.slice(0, 1)]
  const [name = '', successor] = message.slice(1).split(' ')
  if (name === '') return { reason }
  return name.length === tagLength ? { reason, subject: name } : { reason, key: name, successor }
}

/** A look at what the store cannot read, and so cannot say to have ended. */
export const unreadable: SessionLook = Object.freeze({
  version: '',
  createdAt: Infinity,
  expiresAt: Infinity
})

import { SessionError } from './errors.ts'
import { sessionPlugin } from './plugin.ts'
import { MemoryStore } from './stores/memory.ts'

export { sessionPlugin, sessionPlugin as default, MemoryStore, SessionError }
export type { MemoryStoreOptions } from './stores/memory.ts'
export type { Clock, Timer } from '../types/clock.ts'
export type { SessionErrorCode } from '../types/errors.ts'
export type { SessionEvents } from '../types/events.ts'
export type { EndNotice, EndReason, SessionFeed, SessionLook } from '../types/feed.ts'
export type * from '../types/fastify.ts'
export type { SerializerKeeps } from '../types/kept.ts'
export type { CarryOver } from '../types/migrate.ts'
export type { Serializer, SessionOptions } from '../types/options.ts'
export type {
  CookieAttributes,
  CookieScope,
  NamedSessions,
  RegenerateOptions,
  ReservedName,
  Session,
  SessionData,
  SessionDraft,
  SessionMembers,
  SignInOptions,
  Transport
} from '../types/session.ts'
export type {
  RawRequest,
  Sessions,
  StoredSession,
  SubjectSession,
  SubjectSessions
} from '../types/sessions.ts'
export type {
  ListedSession,
  MaybePromise,
  SessionPage,
  SessionRecord,
  SessionStore,
  SessionTrace,
  SubjectStore
} from '../types/store.ts'

/**
 * What `require('fastify-holdfast')` returns: the plugin, with the other exports on it, so that
 * both formats have one copy of each.
 */
const required: typeof sessionPlugin & {
  readonly sessionPlugin: typeof sessionPlugin
  readonly MemoryStore: typeof MemoryStore
  readonly SessionError: typeof SessionError
} = Object.assign(sessionPlugin, { sessionPlugin, MemoryStore, SessionError })

export { required as 'module.exports' }

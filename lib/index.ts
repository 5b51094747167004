import { SessionError } from './errors.ts'
import { sessionPlugin } from './plugin.ts'
import { MemoryStore } from './stores/memory.ts'

export { sessionPlugin, sessionPlugin as default, MemoryStore, SessionError }
export type { SessionErrorCode } from './errors.ts'
export type { MemoryStoreOptions } from './stores/memory.ts'
export type { Clock, Timer } from '../types/clock.ts'
export type { SessionEvents } from '../types/events.ts'
export type * from '../types/fastify.ts'
export type { Serializer, SessionOptions } from '../types/options.ts'
export type {
  CookieAttributes, NamedSessions, ReservedName, Session, SessionData, SessionDraft, SessionMembers, Sessions, StoredSession, Transport
} from '../types/session.ts'
export type { MaybePromise, SessionRecord, SessionStore } from '../types/store.ts'

/** What `require('fastify-holdfast')` answers: the plugin, with the other exports on it, so that both formats have one copy of each. */
const required: typeof sessionPlugin & {
  readonly sessionPlugin: typeof sessionPlugin
  readonly MemoryStore: typeof MemoryStore
  readonly SessionError: typeof SessionError
} = Object.assign(sessionPlugin, { sessionPlugin, MemoryStore, SessionError })

export { required as 'module.exports' }

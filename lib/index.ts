import '../types/fastify.ts'

export { sessionPlugin, sessionPlugin as default } from './plugin.ts'
export type { SessionEvents } from './diagnostics.ts'
export { SessionError, type SessionErrorCode } from './errors.ts'
export { MemoryStore, type MemoryStoreOptions } from './stores/memory.ts'
export type { Clock, Timer } from '../types/clock.ts'
export type { Serializer, SessionOptions } from '../types/options.ts'
export type {
  CookieAttributes, ReservedName, Session, SessionData, SessionMembers, Sessions, StoredSession, Transport
} from '../types/session.ts'
export type { MaybePromise, SessionRecord, SessionStore } from '../types/store.ts'

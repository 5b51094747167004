import { readFileSync } from 'node:fs'

import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync
} from 'fastify'
import whole, { MemoryStore, SessionError, sessionPlugin } from 'fastify-holdfast'
import type {
  Session,
  SessionData,
  SessionErrorCode,
  SessionOptions,
  SessionRecord,
  Sessions,
  SessionStore,
  SessionTrace,
  StoredSession
} from 'fastify-holdfast'
import { seedSession } from 'fastify-holdfast/testing'
import { carryOver } from 'fastify-holdfast/migrate'

import './data.ts'
import { expect, type Equal } from './expect.ts'

expect<Equal<typeof whole, typeof sessionPlugin>>()
expect<Equal<typeof sessionPlugin, FastifyPluginAsync<SessionOptions>>>()

// Every kind of app takes the plugin.
const app = Fastify()
await app.register(sessionPlugin)
await app.register(import('fastify-holdfast'), { maxAge: 60 })
await Fastify({ http2: true }).register(sessionPlugin, { maxAge: 60 })
await Fastify({ https: { key: readFileSync('key.pem') } }).register(sessionPlugin, { maxAge: 60 })
await Fastify({ loggerInstance: app.log as FastifyBaseLogger & { own: true } }).register(
  sessionPlugin,
  { maxAge: 60 }
)
await app.register(async (child: FastifyInstance) => {
  await child.register(sessionPlugin, { prefix: '/shop', sessionName: 'admin' })
})

// Options: all of them, and the wrong ones.
const store: SessionStore = new MemoryStore({ max: 10_000 })
const all: Required<SessionOptions> = {
  sessionHeader: 'X-Session-ID',
  sessionCookie: false,
  maxAge: 3600,
  absoluteTimeout: false,
  touchAfter: 0,
  store,
  storeTimeout: 2,
  replaceErrorReplies: true,
  carryOver: carryOver({
    cookie: 'connect.sid',
    secret: ['older', new Uint8Array(8)],
    store: {
      get: (sessionId, callback) => callback(null, { user: sessionId }),
      destroy: (_sessionId, callback) => callback()
    },
    data: ({ cookie, ...data }) => ({ ...data, until: cookie?.expires }),
    sideBySide: true
  }),
  formerCookies: [{ domain: 'example.com', path: '/', partitioned: true }],
  cookie: {
    domain: 'example.com',
    path: '/',
    httpOnly: true,
    sameSite: 'lax',
    secure: 'auto',
    partitioned: false,
    priority: 'high',
    persistent: true
  },
  generateId: () => crypto.randomUUID(),
  secret: ['of thirty-two bytes at the least', new Uint8Array(32)],
  saveUninitialized: false,
  mirror: true,
  adoptUnknownIds: (id) => id.startsWith('batch-'),
  serializer: JSON,
  maxBytes: 1024,
  subject: (data) => data.user,
  subjectSessions: { max: 5, whenFull: 'end-oldest' },
  sessionName: 'session',
  clock: { now: Date.now, setTimeout }
}
await app.register(sessionPlugin, all)
// @ts-expect-error: no such option
await app.register(sessionPlugin, { max_age: 60 })
// @ts-expect-error: seconds are a number
await app.register(sessionPlugin, { maxAge: '1h' })
// @ts-expect-error: the cookie's lifetime is the session's
await app.register(sessionPlugin, { cookie: { maxAge: 60 } })
// @ts-expect-error: true is the name of no header
await app.register(sessionPlugin, { sessionHeader: true })
// @ts-expect-error: which ids is for a function to say
await app.register(sessionPlugin, { adoptUnknownIds: true })
// @ts-expect-error: an asynchronous answer would be truthy whatever it came to
await app.register(sessionPlugin, { adoptUnknownIds: async () => true })
// @ts-expect-error: no store
await app.register(sessionPlugin, { store: new Map() })
// @ts-expect-error: an option that is not given is left out
await app.register(sessionPlugin, { maxAge: undefined } satisfies SessionOptions)

// A route opts out, and has no other word for it.
app.get('/health', { config: { session: false } }, async () => 'ok')
// @ts-expect-error: a session is there unless it is opted out of
app.get('/', { config: { session: true } }, async () => 'ok')

app.get('/pay', { config: { session: { fresh: 300 } } }, async () => 'ok')
app.get('/poll', { config: { session: { touch: false, fresh: 300 } } }, async () => 'ok')
// @ts-expect-error: seconds are a number
app.get('/pay', { config: { session: { fresh: '5m' } } }, async () => 'ok')

// The sessions of a subject.
app.get('/devices', async ({ session }) => {
  const { sessions, next } = await app.sessions.list('ada', { current: session })
  expect<Equal<typeof next, string | undefined>>()
  await app.sessions.destroyAll('ada', { except: session })
  // @ts-expect-error: it is the session that is spared
  await app.sessions.destroyAll('ada', { except: session.id })
  await app.sessions.destroyEverything()
  return sessions.map(({ publicId, isCurrent, lastUsedAt }) => [publicId, isCurrent, lastUsedAt])
})

// Without a request.
expect<Equal<typeof app.sessions, Sessions>>()
expect<Equal<typeof app.sessions.store, SessionStore>>()
expect<Equal<ReturnType<typeof app.sessions.get>, Promise<StoredSession | undefined>>>()
expect<Equal<StoredSession['data'], SessionData>>()
const counted = app.sessions.update('public-id', (draft) => (draft.cart ??= []).length)
expect<Equal<typeof counted, Promise<number>>>()
expect<Equal<ReturnType<typeof app.sessions.destroy>, Promise<boolean>>>()
expect<Equal<ReturnType<typeof app.sessions.publicIdOf>, string>>()

// A seeded session holds what a session may.
void seedSession(app, { user: 'ada', began: 1 }, { subject: 'ada' })
void seedSession(app, { operator: 'grace' }, { sessionName: 'admin' })
// @ts-expect-error: a key that was not declared
void seedSession(app, { usr: 'ada', began: 1 })
// @ts-expect-error: what JSON does not keep
void seedSession(app, { began: 1, since: new Date() })
// @ts-expect-error: what the other registration's sessions hold
void seedSession(app, { user: 'ada' }, { sessionName: 'admin' })

// What require() gives in JavaScript that is checked: a module that has the plugin.
declare const required: typeof import('fastify-holdfast')
app.register(required, { maxAge: 60 })
app.register(required)
Fastify({ http2: true }).register(required)
// @ts-expect-error: no such option
app.register(required, { max_age: 60 })
// A plugin that is written in place gets its types from Fastify, as without this one.
app.register(async (child) => {
  expect<Equal<typeof child.sessions, Sessions>>()
})
app.register((child, _options, done) => {
  child.get('/child', async ({ session }) => session.publicId)
  done()
})

// A second registration: one line types all that bears its name.
await app.register(sessionPlugin, {
  sessionName: 'admin',
  subject: (data) => data.operator ?? data.user
})
app.get('/admin', { config: { session: false } }, async ({ admin, session }) => {
  expect<Equal<typeof admin, Session<{ operator?: string; update?: number }>>>()
  admin.operator = 'grace'
  session.user = 'ada'
  // @ts-expect-error: what the other registration's sessions hold
  admin.user = 'ada'
  // @ts-expect-error: what the other registration's sessions hold
  session.operator = 'grace'
  // @ts-expect-error: a reserved name
  admin.update = 1
  expect<Equal<ReturnType<typeof admin.get<'operator'>>, string | undefined>>()
  return admin.update((draft) => draft.operator)
})
app.get('/no-admin', { config: { admin: false } }, async () => 'ok')
// @ts-expect-error: a session is there unless it is opted out of
app.get('/', { config: { admin: true } }, async () => 'ok')
expect<Equal<typeof app.admins, Sessions<{ operator?: string; update?: number }>>>()
const page = await app.sessions.list('ada')
await app.sessions.list('ada', { from: page.next, current: undefined })
// @ts-expect-error: a name that no registration was declared under
app.guests

// A store of one's own: with plain answers or promises, and no other.
class Plain implements SessionStore {
  readonly #records = new Map<string, SessionRecord>()
  get(key: string): SessionRecord | undefined {
    return this.#records.get(key)
  }
  create(key: string, record: SessionRecord): boolean {
    return this.#records.set(key, record).size > 0
  }
  async update(_key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    return record.version !== expectedVersion
  }
  touch(_key: string, expiresAt: number): number | undefined {
    return expiresAt
  }
  async delete(key: string): Promise<SessionRecord | SessionTrace | undefined> {
    return this.#records.get(key)
  }
  retire(key: string, { version, successor, expiresAt }: SessionTrace): boolean {
    expect<Equal<[typeof successor, typeof expiresAt], [string, number]>>()
    return this.#records.get(key)?.version === version && this.#records.delete(key)
  }
}
await app.register(sessionPlugin, { store: new Plain() })
class Traceless {
  get = (): undefined => undefined
  create = (): boolean => true
  update = (): boolean => true
  touch = (): undefined => undefined
  delete = (): undefined => undefined
}
class Movable extends Plain {
  move(key: string, record: SessionRecord, trace: SessionTrace): boolean {
    return this.create(trace.successor, record) && this.retire(key, trace)
  }
}
await app.register(sessionPlugin, { store: new Movable() })
// @ts-expect-error: a store without `retire`
await app.register(sessionPlugin, { store: new Traceless() })
// What is under a key is told apart by the successor.
const entry = await store.get('key')
// @ts-expect-error: a trace has no data
expect<Equal<typeof entry extends undefined ? never : NonNullable<typeof entry>['data'], string>>()
if (entry !== undefined) {
  if (entry.successor === undefined) expect<Equal<typeof entry, SessionRecord>>()
  else expect<Equal<typeof entry, SessionTrace>>()
}
// @ts-expect-error: a trace is no record
await store.create('key', { successor: 'other', version: 'v1', expiresAt: 0 })
class Boolish extends Plain {
  // @ts-expect-error: what was removed is the answer, not whether
  override async delete(_key: string): Promise<boolean> {
    return true
  }
}

// Errors are told apart by their code.
function cure(error: unknown): string {
  if (!(error instanceof SessionError)) throw error
  expect<Equal<typeof error.code, SessionErrorCode>>()
  // @ts-expect-error: no such code
  if (error.code === 'HOLDFAST_NO_SUCH_CODE') return 'never'
  return error.code === 'HOLDFAST_SESSION_GONE' ? 'sign in again' : error.message
}

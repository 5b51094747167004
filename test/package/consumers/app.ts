// The same program in each of the TypeScript projects: typed by one interface, and run.
import assert from 'node:assert/strict'

import Fastify from 'fastify'
import sessionPlugin, {
  MemoryStore,
  SessionError,
  type Session,
  type SessionOptions,
  type SessionStore
} from 'fastify-holdfast'

declare module 'fastify-holdfast' {
  interface SessionData {
    visits?: number
    cookie?: string
  }
  interface NamedSessions {
    admin: { operator?: string }
  }
}

const store: SessionStore = new MemoryStore()
const options: SessionOptions = { store, maxAge: 60 }

function count(session: Session): number {
  // @ts-expect-error: a reserved name
  session.cookie satisfies string | undefined
  // @ts-expect-error: a value of another type
  session.visits satisfies string | undefined
  return (session.visits = (session.visits ?? 0) + 1)
}

async function main(): Promise<void> {
  const app = Fastify()
  await app.register(sessionPlugin, options)
  await app.register(import('fastify-holdfast'), { sessionName: 'admin' })
  app.get('/', async ({ admin, session }) => {
    admin.operator = 'grace'
    return { visits: count(session), operator: await admin.update((draft) => draft.operator) }
  })
  app.get('/health', { config: { session: false, admin: false } }, async ({ session }) => ({
    ...session
  }))
  const first = await app.inject('/')
  const cookies = Object.fromEntries(first.cookies.map(({ name, value }) => [name, value]))
  assert.deepEqual((await app.inject({ url: '/', cookies })).json(), {
    visits: 2,
    operator: 'grace'
  })
  assert.deepEqual((await app.inject({ url: '/health', cookies })).json(), {})
  const publicId = app.sessions.publicIdOf(cookies['session_id'] as string)
  assert.equal((await app.sessions.get(publicId))?.data.visits, 2)
  assert.equal(await app.sessions.destroy(publicId), true)
  await assert.rejects(async () => {
    await Fastify().register(sessionPlugin, { maxAge: -1 })
  }, SessionError)
  await app.close()
  console.log('works')
}

void main()

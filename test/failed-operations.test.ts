import { inspect } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore, type Session, type SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { Browser, carriedBy } from './helpers/browser.ts'
import { nextTurn, WatchedStore } from './helpers/stores.ts'

interface World {
  readonly app: FastifyInstance
  readonly browser: Browser
  readonly clock: TestClock
  readonly store: WatchedStore
  /** Serves one request by this handler. */
  readonly visit: (handler: (session: Session) => unknown) => ReturnType<Browser['get']>
}

async function world(t: Test, options: SessionOptions = {}): Promise<World> {
  const clock = new TestClock()
  const store = new WatchedStore(new MemoryStore({ clock }))
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock, store, ...options })
  let handle: (session: Session) => unknown = () => {}
  app.get('/', async ({ session }) => {
    await handle(session)
    return 'done'
  })
  const browser = new Browser(app)
  return {
    app,
    browser,
    clock,
    store,
    visit(handler) {
      handle = handler
      return browser.get('/')
    }
  }
}

t.test('P8: a fault in an operation that nobody awaited fails the request, whatever succeeds after it', async (t) => {
  const { store, visit } = await world(t)
  await visit((session) => { session.a = 'old' })
  const reply = await visit(async (session) => {
    store.intercept = () => { throw new Error('connection refused') }
    void session.update((draft) => { draft.n = 1 })
    await nextTurn()
    store.intercept = (_call, pass) => pass()
    await session.save()
  })
  t.same([reply.statusCode, reply.json().code], [503, 'HOLDFAST_STORE_FAILED'])
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
})

t.test('an operation that nobody awaited, and that meets data too large, fails the request and not the process', async (t) => {
  const unhandled: unknown[] = []
  const note = (error: unknown): void => { unhandled.push(error) }
  process.on('unhandledRejection', note)
  t.teardown(() => { process.off('unhandledRejection', note) })
  const { app, store, visit, browser } = await world(t, { maxBytes: 100 })
  await visit((session) => { session.a = 'old' })
  const pass = store.intercept
  store.intercept = async (call, through) => {
    await nextTurn()
    return await pass(call, through)
  }
  const reply = await visit((session) => {
    void session.save()
    void session.update((draft) => { draft.a = 'x'.repeat(200) })
  })
  await nextTurn()
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
  t.same(unhandled, [])
  t.same((await app.sessions.get(app.sessions.publicIdOf(browser.cookies.get('session_id') as string)))?.data, { a: 'old' })
})

t.test('S24: a regenerate that would keep too much is refused, and carries nothing to a new id', async (t) => {
  const { app, browser, store, visit } = await world(t, { maxBytes: 100 })
  await visit((session) => { session.user = 'root' })
  const publicId = app.sessions.publicIdOf(browser.cookies.get('session_id') as string)
  store.taken()
  const reply = await visit(async (session) => {
    session.a = 'x'.repeat(60)
    await app.sessions.update(publicId, (draft) => { draft.b = 'y'.repeat(50) })
    await session.regenerate(['a', 'b'])
  })
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
  t.notOk(store.taken().includes('create'))
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
})

t.test('P10: an error about data that cannot be serialised quotes none of it', async (t) => {
  const { visit } = await world(t, {
    serializer: {
      stringify(data) {
        if (Object.hasOwn(data, 'user')) throw new Error(`cannot take ${String(data['user'])}`)
        return JSON.stringify(data)
      },
      parse: JSON.parse
    }
  })
  await visit(async (session) => {
    session.user = 'a secret'
    const error: unknown = await session.save().catch((thrown: unknown) => thrown)
    t.match(error, { code: 'HOLDFAST_DATA_UNSERIALIZABLE' })
    t.notOk(inspect(error).includes('a secret'))
    delete session.user
  })
})

t.test('a session with a short life of its own lives on while it is used', async (t) => {
  const { clock, visit } = await world(t)
  await visit((session) => {
    session.user = 'ada'
    session.maxAge = 50
  })
  for (let seconds = 0; seconds < 200; seconds += 6) {
    clock.advance(6000)
    await visit((session) => { t.equal(session.user, 'ada', `after ${seconds} s`) })
  }
})

t.test('P1: an id whose session has reached its absolute lifetime is not adopted with its data', async (t) => {
  const { app, clock, store } = await world(t)
  const id = 'chosen-by-the-client-000001'
  const createdAt = clock.now() - 2000 * 1000
  await store.create(app.sessions.publicIdOf(id), { data: '{"user":"ada"}', version: 'v', createdAt, expiresAt: clock.now() + 1000 * 1000 })
  const other = Fastify()
  t.teardown(() => other.close())
  await other.register(sessionPlugin, { clock, store, absoluteTimeout: 1000, adoptUnknownIds: () => true })
  other.get('/', async ({ session }) => await session.update((draft) => draft.user ?? 'nobody'))
  const reply = await other.inject({ url: '/', headers: { 'x-session-id': id } })
  t.equal(reply.body, 'nobody')
  t.not(reply.headers['x-session-id'], id)
})

t.test('fastify.sessions asks the store for nothing that is no public id', async (t) => {
  const { app, store } = await world(t)
  for (const key of ['', '*', '../../x', 'x'.repeat(44), '__proto__']) {
    t.equal(await app.sessions.get(key), undefined)
    t.equal(await app.sessions.destroy(key), false)
    await t.rejects(app.sessions.update(key, () => {}), { code: 'HOLDFAST_SESSION_GONE' })
  }
  t.same(store.taken(), [])
})

import { inspect } from 'node:util'

import Fastify from 'fastify'
import t from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { unhandled } from './helpers/serve.ts'
import { nextTurn } from './helpers/stores.ts'
import { world } from './helpers/world.ts'

t.test(
  'P8: a fault in an operation that nobody awaited fails the request, whatever succeeds after it',
  async (t) => {
    const { store, visit } = await world(t)
    await visit((session) => {
      session.a = 'old'
    })
    const reply = await visit(async (session) => {
      store.intercept = () => {
        throw new Error('connection refused')
      }
      void session.update((draft) => {
        draft.n = 1
      })
      await nextTurn()
      store.intercept = (_call, pass) => pass()
      await session.save()
    })
    t.same([reply.statusCode, reply.json().code], [503, 'HOLDFAST_STORE_FAILED'])
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  }
)

t.test(
  'an operation that nobody awaited, and that meets data too large, fails the request and not the process',
  async (t) => {
    const rejections = unhandled(t)
    const { store, stored, visit } = await world(t, { maxBytes: 100 })
    await visit((session) => {
      session.a = 'old'
    })
    const pass = store.intercept
    store.intercept = async (call, through) => {
      await nextTurn()
      return await pass(call, through)
    }
    const reply = await visit((session) => {
      void session.save()
      void session.update((draft) => {
        draft.a = 'x'.repeat(200)
      })
    })
    await nextTurn()
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
    t.same(rejections, [])
    t.same(await stored(), { a: 'old' })
  }
)

t.test(
  'S24: a regenerate that would keep too much is refused, and carries nothing to a new id',
  async (t) => {
    const { app, id, store, visit } = await world(t, { maxBytes: 100 })
    await visit((session) => {
      session.user = 'root'
    })
    const publicId = app.sessions.publicIdOf(id())
    store.taken()
    const reply = await visit(async (session) => {
      session.a = 'x'.repeat(60)
      await app.sessions.update(publicId, (draft) => {
        draft.b = 'y'.repeat(50)
      })
      await session.regenerate(['a', 'b'])
    })
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
    t.same(store.taken().slice(-3), ['retire', 'get', 'delete'], 'the successor is removed')
    t.match(await app.sessions.get(publicId), { data: { user: 'root' } })
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  }
)

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
    await visit((session) => {
      t.equal(session.user, 'ada', `after ${seconds} s`)
    })
  }
})

t.test(
  'P1: an id whose session has reached its absolute lifetime is not adopted with its data',
  async (t) => {
    const { app, clock, store } = await world(t)
    const id = 'chosen-by-the-client-000001'
    const createdAt = clock.now() - 2000 * 1000
    await store.create(app.sessions.publicIdOf(id), {
      data: '{"user":"ada"}',
      version: 'v',
      createdAt,
      expiresAt: clock.now() + 1000 * 1000
    })
    const other = await world(t, {
      clock,
      store,
      maxAge: 1000,
      absoluteTimeout: 1000,
      adoptUnknownIds: () => true
    })
    const reply = await other.visit(
      (session) => session.update((draft) => draft.user ?? 'nobody'),
      { 'x-session-id': id }
    )
    t.equal(reply.body, 'nobody')
    t.not(reply.headers['x-session-id'], id)
  }
)

t.test('fastify.sessions asks the store for nothing that is no public id', async (t) => {
  const { app, store } = await world(t)
  for (const key of ['', '*', '../../x', 'x'.repeat(44), '__proto__']) {
    t.equal(await app.sessions.get(key), undefined)
    t.equal(await app.sessions.destroy(key), false)
    await t.rejects(
      app.sessions.update(key, () => {}),
      { code: 'HOLDFAST_SESSION_GONE' }
    )
  }
  t.same(store.taken(), [])
})

t.test(
  'S24: data that the memory store has no room for is refused, and all that is stored stays',
  async (t) => {
    const rejections = unhandled(t)
    const app = Fastify()
    t.teardown(() => app.close())
    const store = new MemoryStore({ maxMemory: 10_000 })
    await app.register(sessionPlugin, { store })
    app.get('/:length', async ({ session, params }) => {
      const { length } = params as { length: string }
      const before = session.user?.length ?? 0
      if (length !== '0') session.user = 'x'.repeat(Number(length))
      return before
    })
    const other = await app.inject('/5000')
    const mine = await app.inject('/1000')
    for (const headers of [{ 'x-session-id': String(mine.headers['x-session-id']) }, {}]) {
      const reply = await app.inject({ url: '/20000', headers })
      t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    }
    for (const [{ headers }, length] of [
      [other, '5000'],
      [mine, '1000']
    ] as const) {
      const id = String(headers['x-session-id'])
      t.equal((await app.inject({ url: '/0', headers: { 'x-session-id': id } })).body, length)
    }
    t.equal(store.size, 2)
    t.same(rejections, [])
  }
)

import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'

import sessionPlugin, { type SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Jar } from './helpers/jar.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'

const site = 'https://app.example'
const stores = [...backends, later]
const minute = 60_000
const noUse = { config: { session: { touch: false } } }

/** An app with routes that are no use of the session, and a visitor who is signed in. */
async function visitor(
  over: Over,
  options: SessionOptions = {}
): Promise<{
  readonly app: FastifyInstance
  readonly jar: Jar
  readonly pass: (milliseconds: number) => Promise<void>
  /** The user that a page sees. */
  readonly visit: (path: string) => Promise<string>
  readonly expiresAt: () => Promise<number | undefined>
}> {
  const { app } = await over.serve({ maxAge: 900, ...options }, { trustProxy: true })
  app.get('/page', async ({ session }) => session.user ?? 'nobody')
  app.get('/poll', noUse, async ({ session }) => session.user ?? 'nobody')
  app.get('/poll/blind', noUse, async () => 'ok')
  app.get('/poll/write', noUse, async ({ session }) => {
    session.n = (session.n ?? 0) + 1
    return session.user ?? 'nobody'
  })
  app.get('/poll/update', noUse, async ({ session }) => {
    await session.update((draft) => {
      draft.n = (draft.n ?? 0) + 1
    })
    return 'ok'
  })
  app.get('/poll/save', noUse, async ({ session }) => {
    session.a = session.n
    await session.save()
    return 'ok'
  })
  app.get('/poll/touch', noUse, async ({ session }) => {
    session.touch()
    return session.user ?? 'nobody'
  })
  app.get('/poll/touch-and-save', noUse, async ({ session }) => {
    session.touch()
    await session.save()
    return session.user ?? 'nobody'
  })
  const clock = new TestClock()
  const jar = new Jar(app, clock)
  await jar.visit(`${site}/login`)
  const [id = ''] = (jar.cookies[0]?.value ?? '').split('.')
  return {
    app,
    jar,
    async pass(milliseconds) {
      await over.advance(milliseconds)
      clock.advance(milliseconds)
    },
    visit: async (path) => (await jar.visit(site + path)).body,
    async expiresAt() {
      const found = await app.sessions.get(app.sessions.publicIdOf(id))
      // Redis counts the time by its own clock.
      return found === undefined ? undefined : Math.round(found.expiresAt / 10_000) * 10_000
    }
  }
}

const polls = ['/poll', '/poll/blind', '/poll/write', '/poll/update', '/poll/save']

for (const path of polls) {
  for (const options of [{}, { touchAfter: 0 }, { secret: 'x'.repeat(32) }] as const) {
    const how = JSON.stringify(options)
    overEach(
      stores,
      t,
      `who only polls is signed out in time: ${path}, ${how}`,
      async (t, over) => {
        const user = await visitor(over, options)
        const expiresAt = await user.expiresAt()
        for (let count = 1; count < 15; count += 1) {
          await user.pass(minute)
          await user.visit(path)
          t.equal(await user.expiresAt(), expiresAt, `after ${count} minutes`)
          t.ok((user.jar.cookies[0]?.expiresAt ?? 0) <= (expiresAt ?? 0) + 10_000, 'nor the cookie')
        }
        t.match(await user.visit('/poll'), 'ada', 'the session is read')
        await user.pass(minute)
        t.equal(await user.visit('/poll'), 'nobody')
        t.equal(await user.visit('/page'), 'nobody')
        t.equal(await user.expiresAt(), undefined)
      }
    )
  }
}

overEach(stores, t, 'polls beside use do not shorten a session', async (t, over) => {
  const user = await visitor(over)
  for (let count = 0; count < 60; count += 1) {
    await user.pass(minute)
    t.equal(await user.visit('/poll'), 'ada')
    if (count % 10 === 9) t.equal(await user.visit('/page'), 'ada', `after ${count} minutes`)
  }
})

overEach(stores, t, 'what a poll writes is stored', async (t, over) => {
  const user = await visitor(over)
  await user.pass(5 * minute)
  for (const path of ['/poll/write', '/poll/update', '/poll/write']) await user.visit(path)
  t.match((await user.jar.visit(`${site}/read`)).json(), { user: 'ada', n: 3 })
})

for (const path of ['/poll/touch', '/poll/touch-and-save']) {
  overEach(stores, t, `session.touch() in a poll extends: ${path}`, async (t, over) => {
    const user = await visitor(over)
    for (let count = 0; count < 6; count += 1) {
      const before = (await user.expiresAt()) as number
      await user.pass(10 * minute)
      t.equal(await user.visit(path), 'ada')
      t.equal(await user.expiresAt(), before + 10 * minute)
    }
    t.equal(await user.visit('/page'), 'ada', 'the cookie too')
  })
}

overEach(stores, t, 'a poll by the header extends nothing either', async (t, over) => {
  const { app } = await over.serve({ maxAge: 900 })
  app.get('/poll', noUse, async ({ session }) => session.data())
  const headers = { 'x-session-id': await begin(app, 'mine') }
  for (let count = 1; count < 15; count += 1) {
    await over.advance(minute)
    t.same((await app.inject({ url: '/poll', headers })).json(), { a: 'mine' })
  }
  await over.advance(minute)
  t.same((await app.inject({ url: '/poll', headers })).json(), {})
  t.equal(await stored(app, headers['x-session-id']), undefined)
})

overEach(stores, t, 'a poll renews the signature, and extends nothing', async (t, over) => {
  const old = await over.serve({ maxAge: 900, secret: 'o'.repeat(32) })
  const { app } = await over.serve({ maxAge: 900, secret: ['n'.repeat(32), 'o'.repeat(32)] })
  app.get('/poll', noUse, async ({ session }) => session.data())
  const token = await begin(old.app, 'mine')
  await over.advance(10 * minute)
  const reply = await app.inject({ url: '/poll', cookies: { session_id: token } })
  t.match(setCookies(reply), [/Max-Age=(?:299|300);/])
  await over.advance(5 * minute)
  t.same((await app.inject({ url: '/poll', cookies: { session_id: token } })).json(), {})
})

overEach(stores, t, 'polls cost one read each, and no write', async (t, over) => {
  const user = await visitor(over)
  over.store.taken()
  for (let count = 0; count < 14; count += 1) {
    await user.pass(minute)
    t.same(setCookies(await user.jar.visit(`${site}/poll`)), [])
  }
  t.same(
    over.store.taken(),
    Array.from({ length: 14 }, () => 'get')
  )
})

t.test('a route may say that it is a use, which it is anyway', async (t) => {
  const { app, clock, store } = await serve(t, { touchAfter: 0 })
  app.get('/use', { config: { session: { touch: true } } }, async () => 'ok')
  const id = await begin(app)
  clock.advance(minute)
  store.taken()
  await app.inject({ url: '/use', cookies: { session_id: id } })
  t.same(store.taken(), ['get', 'touch'])
})

const wrong: readonly unknown[] = [
  true,
  null,
  0,
  '',
  'touch',
  {},
  [],
  { touch: undefined },
  { touch: 0 },
  { touch: 'no' },
  { touched: false },
  { touch: false, read: true },
  () => {}
]

t.test('a wrong setting of a route is refused when the route is registered', async (t) => {
  const { app } = await serve(t)
  for (const session of wrong) {
    t.throws(
      () => app.get('/wrong', { config: { session } } as object, async () => 'ok'),
      { code: 'HOLDFAST_OPTION_INVALID', message: /config\.session of the route \/wrong/ },
      `${typeof session} ${JSON.stringify(session)}`
    )
  }
})

t.test('each registration has the setting of its own name', async (t) => {
  const clock = new TestClock()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock })
  await app.register(sessionPlugin, { clock, sessionName: 'admin' })
  t.throws(
    () => app.get('/wrong', { config: { admin: { touch: 1 } } } as object, async () => 'ok'),
    { code: 'HOLDFAST_OPTION_INVALID' }
  )
  app.get('/poll', { config: { admin: { touch: false } } }, async () => 'ok')
  app.get('/begin', async ({ session, admin }) => {
    session.a = 1
    admin.a = 1
  })
  const cookies = Object.fromEntries(
    (await app.inject('/begin')).cookies.map(({ name, value }) => [name, value])
  )
  clock.advance(10 * minute)
  t.same(
    (await app.inject({ url: '/poll', cookies })).cookies.map(({ name }) => name),
    ['session_id']
  )
})

import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t from 'tap'

import type { Session, SessionRecord } from '../lib/index.ts'
import { recordOf } from '../lib/testing/conformance-tools.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Browser, carriedBy, idIn } from './helpers/browser.ts'
import { Jar } from './helpers/jar.ts'
import { begin, stored } from './helpers/serve.ts'

const stores = [...backends, later]
const second = 1000
const day = 24 * 3600

/** Whether an id is answered, by a request that is no use of the session. */
async function lives({ serve }: Over, id: string): Promise<boolean> {
  return (await stored((await serve()).app, id)) !== undefined
}

// A shorter lifetime.

overEach(
  stores,
  t,
  'a session set from a month to ten minutes ends after these',
  async (t, over) => {
    const { app } = await over.serve()
    app.get<{ Params: { seconds: string } }>('/for/:seconds', async ({ session, params }) => {
      session.maxAge = Number(params.seconds)
      session.a = params.seconds
    })
    const browser = new Browser(app)
    await browser.get(`/for/${30 * day}`)
    await over.advance(3600 * second)
    const reply = await browser.get('/for/600')
    t.equal(reply.cookies[0]?.maxAge, 600)
    await over.advance(60 * second)
    t.same((await browser.get('/read')).json(), { a: '600' }, 'a use a minute later')
    const id = idIn(browser)
    await over.advance(599 * second)
    t.equal(await lives(over, id), true)
    await over.advance(second)
    t.equal(await lives(over, id), false)
  }
)

for (const [kind, write] of Object.entries({
  assignment: (session: Session) => {
    session.maxAge = 60
  },
  'save()': async (session: Session) => {
    session.maxAge = 60
    await session.save()
  },
  'update()': async (session: Session) => {
    session.maxAge = 60
    await session.update((draft) => {
      draft.b = 'updated'
    })
  }
})) {
  overEach(
    stores,
    t,
    `P5: a touch that was on its way does not undo a shorter maxAge: ${kind}`,
    async (t, over) => {
      const { app } = await over.serve({ touchAfter: 0 })
      app.get('/shorter', async ({ session }) => write(session))
      const id = await begin(app)
      const headers = { 'x-session-id': id }
      let isFirst = true
      over.store.intercept = async (call, pass) => {
        if (call.verb === 'touch' && isFirst) {
          isFirst = false
          t.equal((await app.inject({ url: '/shorter', headers })).statusCode, 200)
        }
        return pass()
      }
      t.equal((await app.inject({ url: '/read', headers })).statusCode, 200)
      t.equal(isFirst, false)
      await over.advance(60 * second)
      t.equal(await lives(over, id), false)
    }
  )
}

// Another option, after a deployment.

for (const kind of ['x-session-id', 'cookie'] as const) {
  const headersOf = (id: string): Record<string, string> => ({
    [kind]: kind === 'cookie' ? `session_id=${id}` : id
  })

  overEach(stores, t, `a smaller option counts from the next use: ${kind}`, async (t, over) => {
    const { app: before } = await over.serve({ maxAge: 30 * day })
    const { app: after } = await over.serve({ maxAge: 600 })
    const headers = headersOf(await begin(before, 'one'))
    const unused = await begin(before, 'two')
    await over.advance(3600 * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'one' })
    await over.advance(599 * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'one' })
    await over.advance(600 * second)
    t.same((await after.inject({ url: '/read', headers })).json(), {})
    t.equal(await lives(over, unused), true, 'one that was not used since is as it was')
  })

  overEach(stores, t, `a larger option counts from the next use: ${kind}`, async (t, over) => {
    const { app: before } = await over.serve({ maxAge: 600 })
    const { app: after } = await over.serve({ maxAge: 3600 })
    const headers = headersOf(await begin(before))
    await over.advance(300 * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'old' })
    await over.advance(3599 * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'old' })
  })
}

overEach(
  stores,
  t,
  'while two versions run, a session lives as long as the last that used it says',
  async (t, over) => {
    const { app: long } = await over.serve({ maxAge: 3600, touchAfter: 1 })
    const { app: short } = await over.serve({ maxAge: 600, touchAfter: 1 })
    for (const [last, life] of [
      [short, 600],
      [long, 3600]
    ] as const) {
      const id = await begin(long)
      const headers = { 'x-session-id': id }
      for (const app of [short, long, short, long, last]) {
        await over.advance(10 * second)
        t.equal((await app.inject({ url: '/read', headers })).statusCode, 200)
      }
      await over.advance((life - 1) * second)
      t.equal(await lives(over, id), true)
      await over.advance(second)
      t.equal(await lives(over, id), false)
    }
  }
)

overEach(
  stores,
  t,
  'a smaller option does not touch a session that has a lifetime of its own',
  async (t, over) => {
    const { app: before } = await over.serve()
    before.get('/remember', async ({ session }) => {
      session.maxAge = 10 * day
      session.a = 'remembered'
    })
    const { app: after } = await over.serve({ maxAge: 600 })
    const browser = new Browser(before)
    await browser.get('/remember')
    const headers = { cookie: `session_id=${idIn(browser)}` }
    await over.advance(9 * day * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'remembered' })
    await over.advance(9 * day * second)
    t.same((await after.inject({ url: '/read', headers })).json(), { a: 'remembered' })
  }
)

overEach(stores, t, 'a poll that is no use changes no lifetime', async (t, over) => {
  const { app: before } = await over.serve({ maxAge: 3600 })
  const { app: after } = await over.serve({ maxAge: 600 })
  after.get('/poll', { config: { session: { touch: false } } }, async ({ session }) => session.a)
  const id = await begin(before)
  over.store.taken()
  await after.inject({ url: '/poll', headers: { 'x-session-id': id } })
  t.same(over.store.taken(), ['get'])
  await over.advance(3500 * second)
  await after.inject({ url: '/poll', headers: { 'x-session-id': id } })
  t.same(over.store.taken(), ['get'], 'nor near its end')
  await over.advance(100 * second)
  t.equal(await lives(over, id), false)
})

for (const [name, options] of Object.entries({
  plainly: {},
  'with touchAfter: 0': { touchAfter: 0 },
  'with a mirrored header': { mirror: true },
  signed: { secret: 'x'.repeat(32) }
})) {
  overEach(stores, t, `a poll that is no use cuts no session short, ${name}`, async (t, over) => {
    const signed = 'secret' in options ? options : {}
    const { app: before } = await over.serve({ maxAge: 3600, ...signed })
    const { app: after } = await over.serve({ maxAge: 60, ...options })
    const noUse = { config: { session: { touch: false } } }
    after.get('/poll', noUse, async ({ session }) => session.a)
    after.get('/poll/write', noUse, async ({ session }) => {
      session.b = 'written'
    })
    after.get('/poll/update', noUse, async ({ session }) => {
      await session.update((draft) => {
        draft.b = 'updated'
      })
    })
    for (const url of ['/poll', '/poll/write', '/poll/update']) {
      for (const kind of ['cookie', 'x-session-id']) {
        const id = await begin(before)
        const publicId = before.sessions.publicIdOf(id.split('.', 1)[0] as string)
        await over.advance(10 * second)
        const headers = { [kind]: kind === 'cookie' ? `session_id=${id}` : id }
        over.store.taken()
        t.equal((await after.inject({ url, headers })).statusCode, 200)
        if (url === '/poll' && name === 'plainly') t.same(over.store.taken(), ['get'])
        const record = recordOf(await over.store.get(publicId))
        t.match(record, { maxAge: undefined, defaultMaxAge: 3600 }, `${url}, ${kind}`)
        await over.advance(3589 * second)
        t.equal(await lives(over, id), true, `${url}, ${kind}`)
        await over.advance(second)
        t.equal(await lives(over, id), false, `${url}, ${kind}`)
      }
    }
  })
}

overEach(
  stores,
  t,
  'a request that is no use sets the lifetime that its handler says',
  async (t, over) => {
    const { app: before } = await over.serve({ maxAge: 3600 })
    const { app: after } = await over.serve({ maxAge: 600 })
    const noUse = { config: { session: { touch: false } } }
    after.get('/own', noUse, async ({ session }) => {
      session.maxAge = 60
    })
    after.get('/longer', noUse, async ({ session }) => {
      session.maxAge = 7200
    })
    const headers = async (): Promise<Record<string, string>> => ({
      'x-session-id': await begin(before)
    })
    const shorter = await headers()
    const longer = await headers()
    await over.advance(10 * second)
    await after.inject({ url: '/own', headers: shorter })
    await after.inject({ url: '/longer', headers: longer })
    await over.advance(60 * second)
    t.equal(await lives(over, shorter['x-session-id'] as string), false)
    await over.advance(3500 * second)
    t.equal(await lives(over, longer['x-session-id'] as string), true)
    await over.advance(30 * second)
    t.equal(await lives(over, longer['x-session-id'] as string), false)
  }
)

// Records of version 0.1.0, which say nothing of the option.

/** Begins a session whose record says nothing of its lifetime. */
async function beginOld({ store }: Over, app: FastifyInstance): Promise<string> {
  const id = await begin(app)
  const key = app.sessions.publicIdOf(id)
  const { defaultMaxAge, ...record } = recordOf(await store.delete(key)) as SessionRecord
  t.type(defaultMaxAge, 'number')
  t.equal(await store.create(key, record), true)
  return id
}

for (const kind of ['x-session-id', 'cookie'] as const) {
  overEach(
    stores,
    t,
    `a smaller option counts from the next use of an old record: ${kind}`,
    async (t, over) => {
      const { app: before } = await over.serve({ maxAge: 3600 })
      const { app: after } = await over.serve({ maxAge: 600 })
      for (const url of ['/read', '/look-away', '/write/new', '/update', '/touch']) {
        const id = await beginOld(over, before)
        await over.advance(10 * second)
        const headers = { [kind]: kind === 'cookie' ? `session_id=${id}` : id }
        t.equal((await after.inject({ url, headers })).statusCode, 200)
        await over.advance(599 * second)
        t.equal(await lives(over, id), true, url)
        await over.advance(second)
        t.equal(await lives(over, id), false, url)
      }
    }
  )
}

overEach(stores, t, 'a smaller maxAge counts in an old record', async (t, over) => {
  for (const touch of [true, false]) {
    const { app } = await over.serve({ maxAge: 3600 })
    app.get('/own', { config: { session: { touch } } }, async ({ session }) => {
      session.maxAge = 60
    })
    const id = await beginOld(over, app)
    await over.advance(10 * second)
    await app.inject({ url: '/own', headers: { 'x-session-id': id } })
    await over.advance(59 * second)
    t.equal(await lives(over, id), true)
    await over.advance(second)
    t.equal(await lives(over, id), false)
  }
})

overEach(stores, t, 'an old record is written no more often than another', async (t, over) => {
  const { app: before } = await over.serve({ maxAge: 3600 })
  const { app: after } = await over.serve({ maxAge: 600 })
  const noUse = { config: { session: { touch: false } } }
  after.get('/poll', noUse, async ({ session }) => session.a)
  const id = await beginOld(over, before)
  for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
    over.store.taken()
    await before.inject({ url: '/read', headers })
    await after.inject({ url: '/poll', headers })
    t.same(over.store.taken(), ['get', 'get'], Object.keys(headers).join())
  }
  t.match(recordOf(await over.store.get(before.sessions.publicIdOf(id))), {
    maxAge: undefined,
    defaultMaxAge: undefined
  })
  await over.advance(10 * second)
  over.store.taken()
  const headers = { 'x-session-id': id }
  await after.inject({ url: '/read', headers })
  t.same(over.store.taken(), ['get', 'update'])
  await after.inject({ url: '/read', headers })
  t.same(over.store.taken(), ['get'], 'once')
})

// A request that is under way when the lifetime ends.

const works: Readonly<Record<string, (session: Session) => unknown>> = {
  reading: (session) => session.a,
  writing: (session) => {
    session.b = 'written'
  },
  'save()': async (session) => {
    session.b = 'written'
    await session.save()
  },
  'update()': (session) =>
    session.update((draft) => {
      draft.b = 'written'
    }),
  'touch()': (session) => session.touch(),
  'regenerate()': async (session) => {
    await session.regenerate(['a'])
    session.b = 'written'
  }
}

for (const [name, work] of Object.entries(works)) {
  overEach(
    stores,
    t,
    `a request that came in time keeps its session, though it ends later: ${name}`,
    async (t, over) => {
      const { app } = await over.serve({ maxAge: 900 }, { trustProxy: true })
      app.get('/slow', async ({ session }) => {
        await over.advance(3 * second)
        await work(session)
        return 'done'
      })
      const jar = new Jar(app, over.clock)
      const site = 'https://app.example'
      await jar.visit(`${site}/write/old`)
      await over.advance(898 * second)
      const reply = await jar.visit(`${site}/slow`)
      t.equal(reply.statusCode, 200)
      t.equal(reply.cookies[0]?.maxAge, 900)
      await over.advance(890 * second)
      const expected = /reading|touch/.test(name) ? { a: 'old' } : { a: 'old', b: 'written' }
      t.same((await jar.visit(`${site}/read`)).json(), expected, 'and so does the browser')
    }
  )
}

overEach(stores, t, 'a request may take five minutes, or half the lifetime', async (t, over) => {
  for (const [maxAge, left, takes] of [
    [3600, 299, 300],
    [60, 29, 59]
  ] as const) {
    const { app } = await over.serve({ maxAge })
    app.get('/slow', async ({ session }) => {
      await over.advance(takes * second)
      session.b = 'written'
    })
    const id = await begin(app)
    await over.advance((maxAge - left) * second)
    await app.inject({ url: '/slow', headers: { 'x-session-id': id } })
    t.same(await stored(app, id), { a: 'old', b: 'written' }, `${maxAge}`)
  }
})

overEach(stores, t, 'the absolute lifetime ends also for a request under way', async (t, over) => {
  const { app } = await over.serve({ maxAge: 900, absoluteTimeout: 1000, touchAfter: 800 })
  app.get('/slow', async ({ session }) => {
    await over.advance(3 * second)
    session.b = 'written'
  })
  const id = await begin(app)
  await over.advance(500 * second)
  await app.inject({ url: '/touch', headers: { 'x-session-id': id } })
  await over.advance(498 * second)
  over.store.taken()
  const reply = await app.inject({ url: '/slow', headers: { 'x-session-id': id } })
  t.same(over.store.taken(), ['get', 'update', 'get'], 'nor is a use of it in vain')
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  t.equal(await lives(over, id), false)
})

overEach(
  stores,
  t,
  'a use that fails as the request comes is logged, and no more',
  async (t, over) => {
    const { app, log } = await over.serve({ maxAge: 900 })
    const id = await begin(app)
    await over.advance(898 * second)
    let failures = 0
    over.store.intercept = async (call, pass) => {
      if (call.verb !== 'touch' && call.verb !== 'update') return pass()
      failures += 1
      throw new Error('the store is down')
    }
    const reply = await app.inject({ url: '/read', headers: { 'x-session-id': id } })
    t.same([reply.statusCode, reply.json()], [200, { a: 'old' }])
    t.ok(failures > 0)
    t.match(log.join(), /the session could not be touched/)
  }
)

overEach(
  stores,
  t,
  'P2: a session that ends as its request comes is as good as unknown',
  async (t, over) => {
    const { app } = await over.serve({ maxAge: 900 })
    const id = await begin(app)
    await over.advance(898 * second)
    let isFirst = true
    over.store.intercept = async (call, pass): Promise<never> => {
      const result = await pass()
      if (call.verb === 'get' && isFirst) {
        isFirst = false
        await app.sessions.destroy(app.sessions.publicIdOf(id))
      }
      return result as never
    }
    const reply: LightMyRequestResponse = await app.inject({
      url: '/read',
      headers: { cookie: `session_id=${id}` }
    })
    t.same(reply.json(), {})
    const write = await app.inject({
      url: '/write/new',
      headers: { cookie: `session_id=${id}` }
    })
    t.not(write.cookies[0]?.value, id)
  }
)

overEach(
  stores,
  t,
  'createdAt is one number, at every request and without one',
  async (t, over) => {
    const { app } = await over.serve()
    app.get('/created', async ({ session }) => {
      session.a = 'value'
      return session.createdAt
    })
    const browser = new Browser(app)
    const first = Number((await browser.get('/created')).body)
    t.equal(first, over.clock.now())
    for (let count = 0; count < 60; count += 1) {
      await over.advance(7)
      t.equal(Number((await browser.get('/created')).body), first)
    }
    const session = await app.sessions.get(app.sessions.publicIdOf(idIn(browser)))
    t.equal(session?.createdAt, first)
  }
)

import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore, type SessionData, type SessionOptions } from '../lib/index.ts'
import { seedSession, TestBrowser, TestClock, type SeedOptions } from '../lib/testing/index.ts'
import { serve } from './helpers/serve.ts'
import { WatchedStore } from './helpers/stores.ts'

/** An app as a user has it: not ready yet, with a route that shows the session. */
function appWith(t: Test, options: SessionOptions = {}): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(sessionPlugin, options)
  app.register(async (app) => {
    const name = (options.sessionName ?? 'session') as 'session'
    app.get('/read', async (request) => ({
      isNew: request[name].isNew,
      transport: request[name].transport,
      maxAge: request[name].maxAge,
      data: request[name].data()
    }))
    app.get('/logout', async (request) => {
      await request[name].destroy()
    })
  })
  return app
}

interface Case {
  readonly registration?: SessionOptions
  readonly seed?: SeedOptions
  /** The name of the one header that is to come, and what stands before the id in it. */
  readonly carries: readonly [header: string, before: string]
}

const cases: Record<string, Case> = {
  'by default': { carries: ['cookie', 'session_id='] },
  'with a cookie name of its own': {
    registration: { sessionCookie: 'sid' },
    carries: ['cookie', 'sid=']
  },
  'with a cookie that asks for HTTPS': {
    registration: { sessionCookie: '__Host-sid', cookie: { secure: true } },
    carries: ['cookie', '__Host-sid=']
  },
  'where the header is off': {
    registration: { sessionHeader: false },
    carries: ['cookie', 'session_id=']
  },
  'where the cookie is off': {
    registration: { sessionCookie: false },
    carries: ['x-session-id', '']
  },
  'by the header': { seed: { transport: 'header' }, carries: ['x-session-id', ''] },
  'by a header name of its own': {
    registration: { sessionHeader: 'X-My-Session' },
    seed: { transport: 'header' },
    carries: ['x-my-session', '']
  },
  'of another registration': {
    registration: { sessionName: 'admin' },
    seed: { sessionName: 'admin' },
    carries: ['cookie', 'admin_id=']
  },
  'with ids of its own make': {
    registration: { generateId: () => 'made-by-the-test-0000001' },
    carries: ['cookie', 'session_id=made-by-the-test-0000001']
  }
}

for (const [name, { registration, seed, carries }] of Object.entries(cases)) {
  t.test(`a seeded session reaches the handler, ${name}`, async (t) => {
    const app = appWith(t, registration)
    const headers = await seedSession(app, { user: 'ada', cart: ['apple'] }, seed)
    t.same(Object.keys(headers), [carries[0]])
    t.ok(headers[carries[0]]?.startsWith(carries[1]))
    t.match((await app.inject({ url: '/read', headers })).json(), {
      isNew: false,
      transport: carries[0] === 'cookie' ? 'cookie' : 'header',
      maxAge: 3600,
      data: { user: 'ada', cart: ['apple'] }
    })
  })
}

t.test('a seeded session is one record of the store, made by one create', async (t) => {
  const store = new WatchedStore(new MemoryStore())
  const app = appWith(t, { store })
  const [ada, bob] = [
    await seedSession(app, { user: 'ada' }),
    await seedSession(app, { user: 'bob' })
  ]
  t.same(store.taken(), ['create', 'create'])
  t.same((await app.inject({ url: '/read', headers: ada })).json().data, { user: 'ada' })
  t.same((await app.inject({ url: '/read', headers: bob })).json().data, { user: 'bob' })
})

t.test('a session can be seeded with nothing in it', async (t) => {
  const app = appWith(t)
  const headers = await seedSession(app, {})
  t.match((await app.inject({ url: '/read', headers })).json(), { isNew: false, data: {} })
})

t.test('a seeded session ends as every other: by destroy, and by its own maxAge', async (t) => {
  const clock = new TestClock()
  const app = appWith(t, { clock })
  const headers = await seedSession(app, { user: 'ada' }, { maxAge: 60 })
  t.match((await app.inject({ url: '/read', headers })).json(), { isNew: false, maxAge: 60 })
  clock.advance(60_000)
  t.match((await app.inject({ url: '/read', headers })).json(), { isNew: true, data: {} })
  const other = await seedSession(app, { user: 'ada' })
  await app.inject({ url: '/logout', headers: other })
  t.match((await app.inject({ url: '/read', headers: other })).json(), { isNew: true, data: {} })
})

t.test('what a session cannot hold cannot be seeded, and stores nothing', async (t) => {
  const store = new WatchedStore(new MemoryStore())
  const app = appWith(t, { store, sessionCookie: false, maxBytes: 100 })
  await t.rejects(seedSession(app, { id: 'mine' } as unknown as SessionData), {
    code: 'HOLDFAST_KEY_RESERVED'
  })
  await t.rejects(seedSession(app, { user: 'a'.repeat(100) }), { code: 'HOLDFAST_DATA_TOO_LARGE' })
  await t.rejects(seedSession(app, {}, { maxAge: 0 }), { code: 'HOLDFAST_VALUE_INVALID' })
  await t.rejects(seedSession(app, {}, { transport: 'cookie' }), {
    code: 'HOLDFAST_OPTION_INVALID'
  })
  t.same(store.taken(), [])
})

t.test('a fault of the store surfaces', async (t) => {
  const store = new WatchedStore(new MemoryStore())
  store.intercept = () => {
    throw new Error('down')
  }
  await t.rejects(seedSession(appWith(t, { store }), { user: 'ada' }), {
    code: 'HOLDFAST_STORE_FAILED'
  })
})

t.test('an app without the plugin, or under another name, is told so', async (t) => {
  const app = appWith(t, { sessionName: 'admin' })
  await t.rejects(
    seedSession(app, {}),
    new TypeError(
      'This instance has no sessions of the name session: register fastify-holdfast on it, or set sessionName'
    )
  )
})

/** An app that sets the cookies it is told, and shows those it gets. */
function cookieApp(t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  app.post<{ Body: string[] }>('/set', async ({ body }, reply) => {
    reply.header('set-cookie', body)
  })
  app.get('/show', async ({ headers }) => ({
    cookie: headers.cookie,
    site: headers['sec-fetch-site'],
    mode: headers['sec-fetch-mode']
  }))
  return app
}

t.test('the test browser sends what it was given, as it was given, until it ends', async (t) => {
  const browser = new TestBrowser(cookieApp(t))
  const after = async (...lines: string[]): Promise<string | undefined> => {
    await browser.inject('/set', { method: 'POST', payload: lines })
    return (await browser.inject('/show')).json().cookie
  }
  t.equal((await browser.inject('/show')).json().cookie, undefined)
  t.equal(
    await after(
      'a=1; Path=/; Max-Age=60',
      'b=%20="x"; HttpOnly; Expires=Fri, 01 Jan 2100 00:00:00 GMT',
      'c=3'
    ),
    'a=1; b=%20="x"; c=3'
  )
  t.equal(
    await after('a=2; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT'),
    'a=2; b=%20="x"; c=3'
  )
  t.equal(await after('a=; Max-Age=0'), 'b=%20="x"; c=3')
  t.equal(await after('b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT'), 'c=3')
  t.equal(await after('c=; max-age=-1', 'no cookie'), undefined)
})

t.test('the test browser is a browser to the app, unless the test says otherwise', async (t) => {
  const browser = new TestBrowser(cookieApp(t))
  browser.cookies.set('a', '1')
  t.same((await browser.inject('/show')).json(), {
    cookie: 'a=1',
    site: 'same-origin',
    mode: 'navigate'
  })
  t.same(
    (
      await browser.inject('/show', { headers: { 'sec-fetch-mode': 'cors', cookie: 'b=2' } })
    ).json(),
    { cookie: 'b=2', site: 'same-origin', mode: 'cors' }
  )
})

t.test('the test browser takes replies in when the test lets it', async (t) => {
  const browser = new TestBrowser(cookieApp(t))
  const replies = [
    await browser.send('/set', { method: 'POST', payload: ['a=1'] }),
    await browser.send('/set', { method: 'POST', payload: ['a=2'] })
  ]
  t.equal(browser.cookies.size, 0)
  for (const reply of replies.toReversed()) t.equal(browser.receive(reply), reply)
  t.equal(browser.cookies.get('a'), '1')
})

/** An app that redirects, and shows what came to the end of it. */
function redirectingApp(t: Test): FastifyInstance {
  const app = cookieApp(t)
  const type = 'application/x-www-form-urlencoded'
  app.addContentTypeParser(type, { parseAs: 'string' }, (_request, body, done) => done(null, body))
  app.all<{ Params: { status: string }; Querystring: { to: string } }>(
    '/redirect/:status',
    async ({ params, query }, reply) => {
      reply.header('set-cookie', `on-${params.status}=1`)
      return reply.code(Number(params.status)).header('location', query.to).send()
    }
  )
  app.all('/end', async ({ body, headers, method, url }) => ({
    method,
    url,
    body,
    type: headers['content-type'],
    cookie: headers.cookie,
    host: headers.host
  }))
  app.all('/loop', async (_request, reply) => reply.redirect('/loop'))
  return app
}

t.test('the test browser takes what inject takes', async (t) => {
  const browser = new TestBrowser(redirectingApp(t))
  t.match((await browser.inject('/end')).json(), { method: 'GET', url: '/end' })
  t.match((await browser.inject('/end', { query: { a: '1' } })).json(), { url: '/end?a=1' })
  t.match((await browser.inject({ url: '/end', query: { a: '1' } })).json(), { url: '/end?a=1' })
  t.match((await browser.inject({ path: '/end' })).json(), { url: '/end' })
  t.match((await browser.inject({ url: { pathname: '/end' } })).json(), { url: '/end' })
  t.match((await browser.inject({ url: '/end', method: 'PUT', payload: { a: 1 } })).json(), {
    method: 'PUT',
    body: { a: 1 }
  })
})

t.test('the test browser follows redirects where it opens a page, and not otherwise', async (t) => {
  const app = redirectingApp(t)
  t.equal((await new TestBrowser(app).inject('/redirect/303?to=/end')).statusCode, 303)
  const cases = [
    ['POST', 301, 'GET'],
    ['POST', 302, 'GET'],
    ['POST', 303, 'GET'],
    ['POST', 307, 'POST'],
    ['POST', 308, 'POST'],
    ['PUT', 302, 'PUT'],
    ['PUT', 303, 'GET'],
    ['GET', 307, 'GET']
  ] as const
  for (const [method, status, then] of cases) {
    const reply = await new TestBrowser(app).open(`/redirect/${status}?to=../end%3Fa=1`, {
      method,
      ...(method === 'GET' ? {} : { payload: { a: 1 } })
    })
    const isSent = then !== 'GET'
    t.match(
      reply.json(),
      {
        method: then,
        url: '/end?a=1',
        body: isSent ? { a: 1 } : undefined,
        type: isSent ? 'application/json' : undefined,
        cookie: `on-${status}=1`
      },
      `${method}, ${status}`
    )
  }
  t.equal((await new TestBrowser(app).open('/redirect/303?to=/end', { method: 'HEAD' })).body, '')
})

t.test('the test browser stays with its app, and comes to an end', async (t) => {
  const browser = new TestBrowser(redirectingApp(t))
  for (const to of ['https://idp.example/', '//idp.example/end', 'http://', 'https://localhost/'])
    t.equal((await browser.open('/redirect/302', { query: { to } })).headers.location, to)
  t.equal((await browser.open('/redirect/304?to=/end')).statusCode, 304)
  const to = 'http://shop.example:8080/end'
  t.match(
    (await browser.open('/redirect/302', { query: { to }, authority: 'shop.example:8080' })).json(),
    {
      host: 'shop.example:8080'
    }
  )
  await t.rejects(browser.open('/loop'), {
    message: 'The app redirects more than 20 times'
  })
})

t.test('the test browser posts a form, and goes where it leads', async (t) => {
  const browser = new TestBrowser(redirectingApp(t))
  const form = { name: 'Ada & Co', size: ['s', 'm'] }
  t.match((await browser.submit('/end', form)).json(), {
    method: 'POST',
    body: 'name=Ada+%26+Co&size=s&size=m',
    type: 'application/x-www-form-urlencoded'
  })
  t.match((await browser.submit('/end')).json(), { method: 'POST', body: '' })
  t.match((await browser.submit('/redirect/303?to=/end', form)).json(), { method: 'GET' })
  t.match((await browser.submit({ url: '/redirect/307', query: { to: '/end' } }, form)).json(), {
    method: 'POST',
    body: 'name=Ada+%26+Co&size=s&size=m'
  })
})

t.test("seedSession returns no other session's headers where its id is taken", async (t) => {
  const { app } = await serve(t, { generateId: () => 'taken-taken-taken-taken' })
  await seedSession(app, { user: 'ada' })
  await t.rejects(seedSession(app, { user: 'bob' }), { code: 'HOLDFAST_ID_TAKEN' })
})

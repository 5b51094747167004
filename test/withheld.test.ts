import type { FastifyInstance, LightMyRequestResponse as Reply } from 'fastify'
import t from 'tap'

import type { SessionOptions } from '../lib/index.ts'
import { overEach, overEveryStore } from './helpers/attack.ts'
import { backends, later, memory } from './helpers/backends.ts'
import { carriedBy } from './helpers/browser.ts'
import { Jar, type Context } from './helpers/jar.ts'
import { serve, setCookies } from './helpers/serve.ts'
import { settle } from './helpers/waiting.ts'

const site = 'https://app.example'
const page = { from: `${site}/page` }
const foreign = { from: 'https://foreign.example.net/page' }
const trusting = { trustProxy: true }

/** Adds routes that get and post answer, also below /admin. */
function addRoutes(app: FastifyInstance): FastifyInstance {
  for (const path of ['', '/admin']) {
    const method = ['GET', 'POST'] as const
    app.route({ method: [...method], url: `${path}/nothing`, handler: async () => 'ok' })
    app.route({
      method: [...method],
      url: `${path}/look`,
      handler: async ({ session }) => ({ user: session.user, withheld: session.cookieWithheld })
    })
    app.route({
      method: [...method],
      url: `${path}/store`,
      async handler({ session }) {
        session.a = 'stored'
        return 'ok'
      }
    })
    app.route({
      method: [...method],
      url: `${path}/sign-in`,
      async handler({ session }) {
        await session.regenerate()
        session.user = 'ada'
        return 'ok'
      }
    })
  }
  return app
}

interface Row {
  readonly what: string
  readonly context: Context
  readonly sameSite?: 'strict' | 'lax' | 'none'
}

const post = { method: 'POST' } as const

/** Requests that bring the cookie if the browser has one. */
const carrying: readonly Row[] = [
  { what: 'a typed URL', context: {} },
  { what: 'a link of the same site', context: page },
  { what: 'a form of the same site', context: { ...page, ...post } },
  { what: 'a fetch of the same site', context: { ...page, destination: 'empty' } },
  {
    what: 'a fetch of another host of the site',
    context: { from: 'https://www.app.example/', destination: 'empty', ...post }
  },
  { what: 'a typed URL, under strict', context: {}, sameSite: 'strict' },
  {
    what: 'a form of the same site, under strict',
    context: { ...page, ...post },
    sameSite: 'strict'
  },
  { what: 'a link of another site', context: foreign },
  { what: 'a link of another site, by HEAD', context: { ...foreign, method: 'HEAD' } },
  { what: 'a link of another site, under none', context: foreign, sameSite: 'none' },
  {
    what: 'a form of another site, under none',
    context: { ...foreign, ...post },
    sameSite: 'none'
  },
  {
    what: 'a frame of another site, under none',
    context: { ...foreign, destination: 'iframe' },
    sameSite: 'none'
  },
  {
    what: 'an image of another site, under none',
    context: { ...foreign, destination: 'image' },
    sameSite: 'none'
  }
]

/** Requests from which browsers keep the cookie back. */
const withholding: readonly Row[] = [
  { what: 'a form of another site', context: { ...foreign, ...post } },
  { what: 'a frame of another site', context: { ...foreign, destination: 'iframe' } },
  {
    what: 'a form of another site in a frame',
    context: { ...foreign, ...post, destination: 'iframe' }
  },
  { what: 'an image of another site', context: { ...foreign, destination: 'image' } },
  { what: 'a fetch of another site', context: { ...foreign, destination: 'empty' } },
  {
    what: 'a fetch of another site, without CORS',
    context: { ...foreign, destination: 'empty', mode: 'no-cors', ...post }
  },
  {
    what: 'the same site over http',
    context: { from: 'http://app.example/page', destination: 'image' }
  },
  { what: 'a link of another site, under strict', context: foreign, sameSite: 'strict' },
  {
    what: 'a form of another site, under strict',
    context: { ...foreign, ...post },
    sameSite: 'strict'
  },
  {
    what: 'an image of another site, under strict',
    context: { ...foreign, destination: 'image' },
    sameSite: 'strict'
  }
]

function optionsOf({ sameSite = 'lax' }: Row): SessionOptions {
  return { cookie: { sameSite, ...(sameSite === 'none' && { secure: true }) } }
}

function isEmpty(reply: Reply): boolean {
  const { header, cookie } = carriedBy(reply)
  return header === undefined && cookie === undefined && setCookies(reply).length === 0
}

async function userIn(jar: Jar, url = `${site}/look`): Promise<string | undefined> {
  return (await jar.visit(url)).json<{ user?: string }>().user
}

for (const row of carrying) {
  overEveryStore(t, `a session begins, and its cookie goes out: ${row.what}`, async (t, serve) => {
    const { app, clock, store } = await serve(optionsOf(row), trusting)
    addRoutes(app)
    for (const path of ['/nothing', '/store', '/sign-in']) {
      store.taken()
      const reply = await new Jar(app, clock).visit(site + path, row.context)
      t.equal(reply.statusCode, 200)
      t.same(store.taken(), ['create'], path)
      t.equal(setCookies(reply).length, 1, path)
      t.match(carriedBy(reply), { header: undefined, cookie: /^[\w-]{36}$/ })
    }
  })

  overEveryStore(t, `a visitor stays who they are: ${row.what}`, async (t, serve) => {
    const { app, clock } = await serve(optionsOf(row), trusting)
    const jar = new Jar(addRoutes(app), clock)
    await jar.visit(`${site}/sign-in`)
    const { cookies } = jar
    for (const path of ['/nothing', '/look', '/store']) await jar.visit(site + path, row.context)
    t.same(
      jar.cookies.map(({ value }) => value),
      cookies.map(({ value }) => value)
    )
    t.equal(await userIn(jar), 'ada')
  })
}

for (const row of withholding) {
  overEveryStore(t, `S43: who only comes by begins nothing: ${row.what}`, async (t, serve) => {
    const { app, clock, store } = await serve(optionsOf(row), trusting)
    const jar = new Jar(addRoutes(app), clock)
    await jar.visit(`${site}/sign-in`)
    const { cookies } = jar
    store.taken()
    for (const visitor of [jar, new Jar(app, clock)]) {
      for (const path of ['/nothing', '/look']) {
        t.equal(visitor.cookieHeader(site + path, row.context), '', 'the browser keeps it back')
        const reply = await visitor.visit(site + path, row.context)
        t.equal(reply.statusCode, 200)
        t.ok(isEmpty(reply), path)
      }
    }
    t.same(store.taken(), [])
    t.same(jar.cookies, cookies)
    t.equal(await userIn(jar), 'ada')
  })

  overEveryStore(t, `what the app writes goes out: ${row.what}`, async (t, serve) => {
    const { app, clock, store } = await serve(optionsOf(row), trusting)
    addRoutes(app)
    for (const path of ['/store', '/sign-in']) {
      store.taken()
      const reply = await new Jar(app, clock).visit(site + path, row.context)
      t.same(store.taken(), ['create'], path)
      t.match(carriedBy(reply), { header: undefined, cookie: /^[\w-]{36}$/ }, path)
    }
  })

  t.test(`session.cookieWithheld is true: ${row.what}`, async (t) => {
    const { app, clock } = await serve(t, optionsOf(row), trusting)
    const jar = new Jar(addRoutes(app), clock)
    const reply = await jar.visit(`${site}/look`, row.context)
    t.equal(reply.json<{ withheld: boolean }>().withheld, true)
  })
}

t.test('session.cookieWithheld is false where the cookie comes, or would come', async (t) => {
  for (const row of carrying) {
    if (row.context.method === 'HEAD') continue
    const { app, clock } = await serve(t, optionsOf(row), trusting)
    const jar = new Jar(addRoutes(app), clock)
    for (const visit of ['without a cookie', 'with one']) {
      const reply = await jar.visit(`${site}/look`, row.context)
      t.equal(reply.json<{ withheld: boolean }>().withheld, false, `${row.what}, ${visit}`)
    }
  }
})

overEveryStore(t, 'a login by form_post signs the visitor in', async (t, serve) => {
  const { app, clock } = await serve({}, trusting)
  const jar = new Jar(addRoutes(app), clock)
  await jar.visit(`${site}/store`)
  const before = jar.cookies[0]?.value
  await jar.visit(`${site}/sign-in`, { ...foreign, ...post })
  t.equal(jar.cookies.length, 1)
  t.not(jar.cookies[0]?.value, before)
  t.equal(await userIn(jar), 'ada')
})

overEveryStore(
  t,
  'a bank that posts back does not sign the visitor out, if the app asks first',
  async (t, serve) => {
    for (const sameSite of ['lax', 'strict'] as const) {
      const { app, clock } = await serve({ cookie: { sameSite } }, trusting)
      const jar = new Jar(addRoutes(app), clock)
      app.post('/paid', async ({ session }, reply) => {
        if (session.cookieWithheld) return reply.type('text/html').send('<a href="/look">on</a>')
        session.a = 'paid'
        return 'ok'
      })
      await jar.visit(`${site}/sign-in`)
      t.match((await jar.visit(`${site}/paid`, { ...foreign, ...post })).body, '<a')
      t.equal(await userIn(jar), 'ada', sameSite)
    }
  }
)

t.test('who is no browser begins sessions as before', async (t) => {
  const { app } = await serve(t)
  addRoutes(app)
  for (const headers of [{}, { 'sec-fetch-mode': 'cors' }]) {
    for (const method of ['GET', 'POST'] as const) {
      const { header, cookie } = carriedBy(await app.inject({ method, url: '/nothing', headers }))
      t.match(header, /^[\w-]{36}$/)
      t.equal(cookie, header)
    }
  }
})

overEach([...backends, later], t, 'a page outside cookie.path begins nothing', async (t, over) => {
  for (const fastifyOptions of [trusting, { trustProxy: false }]) {
    const { app, clock, log } = await over.serve(
      { cookie: { path: '/admin' }, sessionHeader: false },
      fastifyOptions
    )
    addRoutes(app)
    const origin = fastifyOptions.trustProxy ? site : 'http://app.example'
    const jar = new Jar(app, clock)
    await jar.visit(`${origin}/admin/sign-in`)
    const { cookies } = jar
    over.store.taken()
    for (const context of [{}, { from: `${origin}/admin/look` }, { from: origin, ...post }]) {
      for (const path of ['/nothing', '/look', '/store', '/administration']) {
        t.ok(isEmpty(await jar.visit(origin + path, context)), path)
      }
    }
    t.same(over.store.taken(), [], 'no record')
    t.same(jar.cookies, cookies)
    t.equal(await userIn(jar, `${origin}/admin/look`), 'ada')
    await settle()
    t.match(log, [/outside cookie\.path/])
    t.equal(log.length, 1, 'one warning, of what was written')
  }
})

overEveryStore(t, 'within cookie.path sessions begin, whatever the query', async (t, serve) => {
  const { app, clock } = await serve({ cookie: { path: '/admin' } }, trusting)
  addRoutes(app).get('/admin', async () => 'ok')
  for (const path of ['/admin', '/admin?a=/b', '/admin/nothing', '/admin/nothing?next=/']) {
    const jar = new Jar(app, clock)
    await jar.visit(site + path)
    t.equal(jar.cookies.length, 1, path)
    t.not(jar.cookieHeader(`${site}/admin/look`), '')
  }
})

overEveryStore(t, 'a login page may be beside cookie.path', async (t, serve) => {
  const { app, clock } = await serve({ cookie: { path: '/admin' } }, trusting)
  const jar = new Jar(addRoutes(app), clock)
  await jar.visit(`${site}/sign-in`, { ...page, ...post })
  t.equal(await userIn(jar, `${site}/admin/look`), 'ada')
  t.equal(jar.cookies.length, 1)
})

t.test('session.cookieWithheld is true outside cookie.path, and false within', async (t) => {
  const { app, clock } = await serve(t, { cookie: { path: '/admin' } }, trusting)
  const jar = new Jar(addRoutes(app), clock)
  for (const [path, withheld] of [
    ['/look', true],
    ['/admin/look', false]
  ] as const) {
    t.same((await jar.visit(site + path)).json(), { withheld }, path)
  }
})

t.test('a proxy that takes cookie.path off is no reason to begin nothing', async (t) => {
  const { app, clock } = await serve(t, { cookie: { path: '/shop' } }, trusting)
  const jar = new Jar(addRoutes(app), clock)
  t.match(carriedBy(await jar.visit(`${site}/nothing`)).cookie, /^[\w-]{36}$/)
})

// Over plain http, but for localhost, browsers send no Sec-Fetch headers.
const plain = 'http://app.example'
const origins: ReadonlyArray<{
  readonly what: string
  readonly method: 'GET' | 'POST'
  readonly origin: string | undefined
  readonly begins: boolean
}> = [
  { what: 'another host', method: 'POST', origin: 'http://foreign.example.net', begins: false },
  { what: 'null', method: 'POST', origin: 'null', begins: false },
  {
    what: 'a host that ends alike',
    method: 'POST',
    origin: 'http://my-app.example',
    begins: false
  },
  { what: 'no URL', method: 'POST', origin: 'app.example', begins: false },
  { what: 'the app', method: 'POST', origin: plain, begins: true },
  { what: 'the app at another port', method: 'POST', origin: `${plain}:8080`, begins: true },
  { what: 'the app over https', method: 'POST', origin: 'https://app.example', begins: true },
  { what: 'no Origin', method: 'POST', origin: undefined, begins: true },
  { what: 'no Origin of a GET', method: 'GET', origin: undefined, begins: true }
]

for (const { what, method, origin, begins } of origins) {
  overEveryStore(t, `over plain http the Origin of a post tells: ${what}`, async (t, serve) => {
    const { app, store } = await serve({ sessionHeader: false })
    addRoutes(app)
    const headers = { host: 'app.example', ...(origin !== undefined && { origin }) }
    const { body } = await app.inject({ method, url: '/look', headers })
    t.equal(JSON.parse(body).withheld, !begins)
    store.taken()
    const reply = await app.inject({ method, url: '/nothing', headers })
    t.equal(isEmpty(reply), !begins)
    t.same(store.taken(), begins ? ['create'] : [])
    for (const url of ['/store', '/sign-in']) {
      t.match(carriedBy(await app.inject({ method, url, headers })).cookie, /^[\w-]{36}$/, url)
    }
  })
}

overEveryStore(t, 'over plain http a foreign form signs nobody out', async (t, serve) => {
  const { app, clock } = await serve({}, trusting)
  const jar = new Jar(addRoutes(app), clock)
  await jar.visit(`${plain}/sign-in`)
  for (const from of ['http://foreign.example.net/', 'https://foreign.example.net/']) {
    t.equal((await jar.visit(`${plain}/nothing`, { from, ...post })).statusCode, 200)
    t.equal(await userIn(jar, `${plain}/look`), 'ada', from)
  }
  await jar.visit(`${plain}/nothing`, { from: `${plain}/`, ...post })
  t.equal(await userIn(jar, `${plain}/look`), 'ada')
})

t.test("behind a proxy the Origin is held to the host of the proxy's", async (t) => {
  const { app } = await serve(t, {}, trusting)
  addRoutes(app)
  for (const [host, withheld] of [
    ['app.example', false],
    ['app.example:8443', false],
    ['other.example', true]
  ] as const) {
    const headers = { host: '10.0.0.1:3000', 'x-forwarded-host': host, origin: plain }
    const reply = await app.inject({ method: 'POST', url: '/look', headers })
    t.equal(reply.json<{ withheld: boolean }>().withheld, withheld, host)
  }
})

overEach([...backends, later], t, 'no reply of 400 or more begins a session', async (t, over) => {
  const { app, clock } = await over.serve({}, trusting)
  addRoutes(app)
  const refusals = ['/thrown', '/by-status', '/by-response', '/by-hook', '/looked', '/nowhere']
  app.get('/thrown', async () => {
    throw new Error('no')
  })
  app.get('/by-status', async (_request, reply) => reply.code(403).send('no'))
  app.get('/by-response', async () => new Response('no', { status: 400 }))
  app.get(
    '/by-hook',
    { onRequest: async (_request, reply) => reply.code(401).send('no') },
    async () => 'ok'
  )
  app.get('/looked', async ({ session }, reply) => {
    void session.user
    return reply.code(404).send('no')
  })
  app.get('/redirect', async (_request, reply) => reply.redirect('/look', 302))
  for (const path of refusals) {
    const jar = new Jar(app, clock)
    const reply = await jar.visit(site + path)
    t.ok(reply.statusCode >= 400)
    t.ok(isEmpty(reply), path)
  }
  t.same(over.store.taken(), [])
  t.match(carriedBy(await new Jar(app, clock).visit(`${site}/redirect`)).cookie, /^[\w-]{36}$/)
})

overEveryStore(t, 'a reply of 400 or more stores what was written', async (t, serve) => {
  const { app, clock } = await serve({}, trusting)
  addRoutes(app)
  app.route({
    method: ['GET', 'POST'],
    url: '/refuse',
    async handler({ session }, reply) {
      session.user = 'refused'
      return reply.code(422).send('no')
    }
  })
  for (const context of [{}, page, { ...foreign, ...post }]) {
    const jar = new Jar(app, clock)
    t.equal((await jar.visit(`${site}/refuse`, context)).statusCode, 422)
    t.equal(await userIn(jar), 'refused')
  }
})

overEach([memory, later], t, 'a foreign page that is refused signs nobody out', async (t, over) => {
  const { app, clock } = await over.serve({}, trusting)
  const jar = new Jar(addRoutes(app), clock)
  app.post('/refuse', async (_request, reply) => reply.code(403).send('no'))
  await jar.visit(`${site}/sign-in`)
  t.equal((await jar.visit(`${site}/refuse`, { ...foreign, ...post })).statusCode, 403)
  t.equal(await userIn(jar), 'ada')
})

overEveryStore(
  t,
  'attack: an update() that changes nothing, sent from another site, logs nobody out',
  async (t, serveOver) => {
    const { app, store } = await serveOver({ saveUninitialized: false })
    app.get('/tidy', async ({ session }) => ({
      found: await session.update((draft) => {
        delete draft.b
        return draft.a === undefined ? 'nothing' : 'something'
      }),
      isNew: session.isNew
    }))
    const foreignImage = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }
    for (const headers of [foreignImage, {}]) {
      const reply = await app.inject({ url: '/tidy', headers })
      t.same([reply.json(), setCookies(reply)], [{ found: 'nothing', isNew: true }, []])
    }
    t.same(store.taken(), [])
    // What has data begins one, and what has begun is changed.
    const { app: other } = await serveOver({ saveUninitialized: false })
    other.get('/count', async ({ session }) => session.update((draft) => (draft.n = 1)))
    t.equal(setCookies(await other.inject('/count')).length, 1)
  }
)

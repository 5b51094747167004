import type { IncomingHttpHeaders } from 'node:http'

import type { FastifyInstance, FastifyServerOptions, RouteHandlerMethod } from 'fastify'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import t, { type Test } from 'tap'

import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { certificate } from '../helpers/certificate.ts'
import { chromiumPath, skipChromium } from '../helpers/chromium.ts'
import { listen, serve } from '../helpers/serve.ts'
import { WatchedStore, type Verb } from '../helpers/stores.ts'
import { call, embed, form, link, takeForms, type Act } from './foreign.ts'
import { chromiumArguments } from './shop.ts'

if (skipChromium !== false) {
  t.plan(0, skipChromium)
  process.exit()
}

const browser = await chromium.launch({
  executablePath: chromiumPath as string,
  // The last of two equal arguments counts.
  args: [...chromiumArguments, '--host-resolver-rules=MAP *.example 127.0.0.1'],
  timeout: 120_000
})
t.teardown(() => browser.close())

const tls = certificate()
const minute = 60_000

/** A host of the app, a page of another site, and a window of the browser. */
interface World {
  readonly app: FastifyInstance
  readonly origin: string
  readonly foreign: string
  readonly context: BrowserContext
  readonly page: Page
  readonly clock: TestClock
  /** The calls of the store since the last time. */
  readonly taken: () => Verb[]
  /** The requests to the app, and the status of each reply. */
  readonly requests: string[]
  /** Serves the app anew, and returns its origin: cookies do not mind the port. */
  readonly deploy: (options: SessionOptions) => Promise<string>
  /** The user that a page of the app shows when its URL is typed. */
  readonly user: (origin?: string) => Promise<string | null>
  /** Lets time pass for the server and for the cookies of the window. */
  readonly pass: (seconds: number) => Promise<void>
  /** The session cookies of the window. */
  readonly held: () => Promise<Awaited<ReturnType<BrowserContext['cookies']>>>
}

async function world(t: Test, options: SessionOptions = {}, isPlain = false): Promise<World> {
  const clock = new TestClock()
  const store = new WatchedStore(new MemoryStore({ clock }))
  const requests: string[] = []
  const scheme = isPlain ? 'http' : 'https'
  const fastifyOptions = (isPlain ? {} : { https: tls }) as FastifyServerOptions
  const start = async (app: FastifyInstance, host: string): Promise<string> =>
    `${scheme}://${host}:${await listen(app)}`
  const create = async (options: SessionOptions): Promise<[FastifyInstance, string]> => {
    const { app } = await serve(t, { clock, store, ...options }, fastifyOptions)
    addRoutes(app)
    app.addHook('onResponse', async ({ method, url }, { statusCode }) => {
      if (url !== '/favicon.ico') requests.push(`${method} ${url} ${statusCode}`)
    })
    return [app, await start(app, 'www.app.example')]
  }
  const [app, origin] = await create(options)
  const other = (await serve(t, { clock }, fastifyOptions)).app
  other.get('/foreign', { config: { session: false } }, async (_request, reply) =>
    reply.type('text/html').send('<!doctype html><title>foreign</title>')
  )
  const foreign = `${await start(other, 'foreign.example')}/foreign`
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  t.teardown(() => context.close())
  context.setDefaultTimeout(60_000)
  const page = await context.newPage()
  const held = async (): ReturnType<World['held']> =>
    (await context.cookies()).filter(({ name }) => name === 'session_id')
  return {
    app,
    origin,
    foreign,
    context,
    page,
    clock,
    held,
    taken: () => store.taken(),
    requests,
    deploy: async (options) => (await create(options))[1],
    async user(at = origin) {
      await page.goto(`${at}/page`)
      return page.textContent('b')
    },
    async pass(seconds) {
      clock.advance(seconds * 1000)
      const cookies = await held()
      await context.clearCookies()
      const aged = cookies.map((cookie) => ({
        ...cookie,
        expires: cookie.expires === -1 ? -1 : cookie.expires - seconds
      }))
      const live = aged.filter(({ expires }) => expires === -1 || expires > Date.now() / 1000)
      await context.addCookies(live)
    }
  }
}

function addRoutes(app: FastifyInstance): void {
  takeForms(app)
  const show: RouteHandlerMethod = async ({ session }, reply) =>
    reply.type('text/html').send(`<!doctype html><b>${session.user ?? 'nobody'}</b>`)
  app.get('/page', show)
  app.post('/look', show)
  app.get<{ Params: { user: string } }>('/sign-in/:user', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.user
    return 'ok'
  })
  app.get('/sign-out', async ({ session }) => {
    await session.destroy()
    return 'ok'
  })
  app.get('/forget-me', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
    session.options({ persistent: false })
    return 'ok'
  })
  app.get('/image', async (_request, reply) =>
    reply.type('image/svg+xml').send('<svg xmlns="http://www.w3.org/2000/svg"/>')
  )
  app.post('/nothing', async () => 'ok')
  app.post('/refuse', async (_request, reply) => reply.code(403).send('no'))
}

const acts: ReadonlyArray<readonly [what: string, act: Act, request: string]> = [
  ['posts a form', form('/nothing'), 'POST /nothing 200'],
  ['posts a form to a page that looks', form('/look'), 'POST /look 200'],
  ['posts a form, and is refused', form('/refuse'), 'POST /refuse 403'],
  ['frames a page', embed('iframe', '/page'), 'GET /page 200'],
  ['embeds an image', embed('img', '/image'), 'GET /image 200'],
  ['embeds what is no image', embed('img', '/page'), 'GET /page 200'],
  ['fetches', call('/page', { mode: 'no-cors' }), 'GET /page 200'],
  ['fetches by CORS', call('/page', { mode: 'cors' }), 'GET /page 200'],
  ['posts by fetch', call('/nothing', { mode: 'no-cors', method: 'POST' }), 'POST /nothing 200'],
  ['links', link, 'GET /page 200']
]

for (const sameSite of ['lax', 'strict'] as const) {
  t.test(
    `S43: whatever a foreign page does, the visitor stays signed in: ${sameSite}`,
    async (t) => {
      const visitor = await world(t, { cookie: { sameSite } })
      const { page, origin } = visitor
      await page.goto(`${origin}/sign-in/ada`)
      const before = await visitor.held()
      t.equal(before.length, 1)
      visitor.taken()
      for (const [what, act, reply] of acts) {
        await page.goto(visitor.foreign)
        visitor.requests.splice(0)
        await act(page, origin)
        t.same(visitor.requests, [reply], what)
        t.notOk(visitor.taken().includes('create'), `no session begins: ${what}`)
        t.same(await visitor.held(), before, what)
        t.equal(await visitor.user(), 'ada', what)
      }
    }
  )
}

t.test('under none the cookie comes along from a foreign page', async (t) => {
  const visitor = await world(t, { cookie: { sameSite: 'none', secure: true } })
  const { page, origin } = visitor
  await page.goto(`${origin}/sign-in/ada`)
  // In frames, and for images and fetches, Chromium may block the cookies of other sites.
  for (const [what, act] of [
    ['posts a form', form('/look')],
    ['links', link]
  ] as const) {
    await page.goto(visitor.foreign)
    await act(page, origin)
    t.equal(await page.textContent('b'), 'ada', what)
    t.equal(await visitor.user(), 'ada', what)
  }
  t.equal((await visitor.held()).length, 1)
})

t.test('over plain http a foreign form leaves the visitor signed in', async (t) => {
  for (const path of ['/nothing', '/refuse']) {
    const visitor = await world(t, { sessionHeader: false }, true)
    const { page, origin } = visitor
    let sent: IncomingHttpHeaders = {}
    visitor.app.server.on('request', ({ method, headers }: { method: string; headers: object }) => {
      if (method === 'POST') sent = { ...headers }
    })
    await page.goto(`${origin}/sign-in/ada`)
    const before = await visitor.held()
    await page.goto(visitor.foreign)
    await form(path)(page, origin)
    t.equal(sent['sec-fetch-site'], undefined)
    t.equal(sent.cookie, undefined)
    t.equal(sent.origin, new URL(visitor.foreign).origin)
    t.same(await visitor.held(), before)
    t.equal(await visitor.user(), 'ada', path)
  }
})

const wide = { domain: 'app.example' }
const redeploys: ReadonlyArray<readonly [from: SessionOptions, to: SessionOptions, left: number]> =
  [
    [{}, { cookie: wide }, 1],
    [{ cookie: wide }, {}, 2],
    [{ cookie: wide }, { formerCookies: [wide] }, 1],
    [{}, { cookie: { path: '/', ...wide, partitioned: true, secure: true } }, 1],
    [{ cookie: { secure: true } }, { cookie: { secure: true, partitioned: true } }, 1]
  ]

for (const [from, to, left] of redeploys) {
  t.test(
    `a deployment signs nobody out: from ${JSON.stringify(from)} to ${JSON.stringify(to)}`,
    async (t) => {
      const visitor = await world(t, from)
      await visitor.page.goto(`${visitor.origin}/sign-in/ada`)
      const deployed = await visitor.deploy(to)
      t.equal(await visitor.user(deployed), 'ada', 'at once')
      visitor.clock.advance(2 * minute)
      t.equal(await visitor.user(deployed), 'ada', 'by the reply that touches')
      t.equal((await visitor.held()).length, left)
      t.equal(await visitor.user(deployed), 'ada')
      await visitor.page.goto(`${deployed}/sign-in/grace`)
      t.equal(await visitor.user(deployed), 'grace', 'a login works')
      t.equal((await visitor.held()).length, left)
      await visitor.page.goto(`${deployed}/sign-out`)
      t.equal(await visitor.user(deployed), 'nobody')
      await visitor.page.goto(`${deployed}/sign-in/edsger`)
      t.equal(await visitor.user(deployed), 'edsger')
    }
  )
}

t.test('a cookie that is to end with the browser stays one', async (t) => {
  const visitor = await world(t)
  await visitor.page.goto(`${visitor.origin}/forget-me`)
  for (let count = 0; count < 3; count += 1) {
    t.match(await visitor.held(), [{ expires: -1 }])
    await visitor.pass(120)
    t.equal(await visitor.user(), 'ada')
  }
  await visitor.page.goto(`${visitor.origin}/sign-in/ada`)
  t.match(await visitor.held(), [{ expires: -1 }], 'after a login too')
})

t.test('an active user keeps the cookie although others move the expiry', async (t) => {
  const visitor = await world(t, { maxAge: 600 })
  await visitor.page.goto(`${visitor.origin}/sign-in/ada`)
  const [cookie] = await visitor.held()
  const headers = { 'x-session-id': cookie?.value as string }
  for (let passed = 0; passed < 900; passed += 90) {
    for (const url of ['/update', '/touch', '/read']) {
      await visitor.pass(30)
      await visitor.app.inject({ url, headers })
    }
    t.equal(await visitor.user(), 'ada', `after ${passed} seconds`)
  }
  t.equal((await visitor.held())[0]?.value, cookie?.value)
})

t.test('a reply over http does not replace a cookie that is secure', async (t) => {
  const visitor = await world(t)
  const plain = await serve(t)
  plain.app.get('/plant', { config: { session: false } }, async (_request, reply) =>
    reply.header('set-cookie', 'session_id=planted; Path=/').send('ok')
  )
  await visitor.page.goto(`${visitor.origin}/sign-in/ada`)
  const before = await visitor.held()
  const reply = await visitor.page.goto(`http://www.app.example:${await listen(plain.app)}/plant`)
  t.match(await reply?.headerValue('set-cookie'), 'planted')
  t.same(await visitor.held(), before)
  t.equal(await visitor.user(), 'ada')
})

import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gunzipSync, gzipSync } from 'node:zlib'

import compress, { type FastifyCompressOptions } from '@fastify/compress'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest, LightMyRequestResponse } from 'fastify'
import Fastify from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { type SessionOptions } from '../../lib/index.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { overAnswers, overStores, type Beside } from '../helpers/ecosystem.ts'
import { setCookies, stored, unhandled } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'

const style = 'body { color: black }\n'.repeat(10_000)
const empty = { header: undefined, cookie: undefined }

type Registered = 'sessions' | 'static' | 'compress'

/** The options of the plugins. */
interface Settings {
  readonly sessions?: SessionOptions
  readonly compressing?: FastifyCompressOptions
}

/** A site with files and pages, its plugins registered in this order. */
async function site(
  t: Test,
  { store, clock, answer }: Beside,
  order: readonly Registered[],
  { sessions, compressing }: Settings = {}
): Promise<FastifyInstance> {
  const root = t.testdir({
    'style.css': style,
    'ready.css': style,
    'ready.css.gz': gzipSync(style)
  })
  const app = Fastify()
  t.teardown(() => app.close())
  for (const name of order) {
    if (name === 'sessions') await app.register(sessionPlugin, { clock, store, ...sessions })
    else if (name === 'static')
      await app.register(fastifyStatic, {
        root,
        prefix: '/public/',
        preCompressed: true,
        index: false
      })
    else await app.register(compress, { encodings: ['gzip'], ...compressing })
  }
  // Fastify counts a stream as sent once it is through: of an async function it has to be returned,
  // with sessions or without.
  app.get('/file', ({ session }, reply) => {
    session.n = (session.n ?? 0) + 1
    return answer(reply.sendFile('style.css'))
  })
  const json = (request: FastifyRequest, reply: FastifyReply): unknown => {
    request.session.a = 'x'
    return answer(reply, { style })
  }
  app.get('/json', json)
  app.get('/json-async', async (request, reply) => json(request, reply))
  app.get('/stream', ({ session }, reply) => {
    session.a = 'x'
    return answer(reply.type('text/css').send(Readable.from([style])))
  })
  app.get('/response', ({ session }, reply) => {
    session.a = 'x'
    const headers = { 'content-type': 'text/css', vary: 'Accept-Language' }
    return answer(reply, new Response(new Blob([style]).stream(), { headers }))
  })
  app.get('/log-in', async ({ session }) => {
    session.user = 'ada'
  })
  app.get('/look-away', (_request, reply) => answer(reply, { style }))
  // Members alone get the file: the others are sent a page.
  app.get(
    '/guarded',
    {
      async preHandler({ session }, reply) {
        if (session.user !== undefined) return
        session.b = 'sent away'
        return answer(reply.code(403).type('text/html').send('<p>log in</p>'))
      }
    },
    ({ session }, reply) => {
      session.a = 'x'
      return answer(reply.sendFile('style.css'))
    }
  )
  return app
}

function varies(reply: LightMyRequestResponse): string[] {
  const { vary } = reply.headers
  return vary === undefined ? [] : vary.toLowerCase().split(', ').toSorted()
}

for (const order of [
  ['sessions', 'static'],
  ['static', 'sessions']
] as const) {
  const name = `${order[0]} registered first`

  overStores(
    t,
    'a file begins a session by default, as every reply does, ' +
      `and later files write and send nothing, with ${name}`,
    async (t, over) => {
      const app = await site(t, over, order)
      const { store } = over
      const browser = new Browser(app)
      const first = await browser.get('/public/style.css')
      t.equal(first.body, style)
      t.equal(setCookies(first).length, 1)
      t.match(first.headers, {
        'cache-control': 'max-age=0, private',
        'content-type': /^text\/css/,
        'content-length': String(style.length),
        etag: String
      })
      t.same(store.taken(), ['create'])
      for (let time = 0; time < 3; time += 1) {
        const again = await browser.get('/public/style.css')
        t.equal(again.body, style)
        t.same(
          [carriedBy(again), varies(again), again.headers['cache-control']],
          [empty, ['accept-encoding'], 'public, max-age=0']
        )
        t.same(store.taken(), ['get'])
      }
    }
  )

  overStores(
    t,
    `with saveUninitialized: false files begin no session, with ${name}`,
    async (t, over) => {
      const app = await site(t, over, order, { sessions: { saveUninitialized: false } })
      const reply = await app.inject('/public/style.css')
      t.equal(reply.body, style)
      t.same(
        [carriedBy(reply), varies(reply), reply.headers['cache-control']],
        [empty, ['accept-encoding'], 'public, max-age=0']
      )
      t.same(over.store.taken(), [])
    }
  )

  overStores(
    t,
    `a file that is not modified, in part, not there, or asked for by HEAD, with ${name}`,
    async (t, over) => {
      const app = await site(t, over, order)
      const { store } = over
      const browser = new Browser(app)
      t.same(carriedBy(await browser.get('/public/missing.css')), empty, 'a 404 begins none')
      t.same(store.taken(), [])
      const { etag } = (await browser.get('/public/style.css')).headers
      store.taken()
      const headers = { 'if-none-match': String(etag) }
      const unmodified = await browser.get('/public/style.css', { headers })
      t.same(
        [unmodified.statusCode, unmodified.body, unmodified.headers.etag, carriedBy(unmodified)],
        [304, '', etag, empty]
      )
      const part = await browser.get('/public/style.css', { headers: { range: 'bytes=5-9' } })
      t.same(
        [part.statusCode, part.body, part.headers['content-range']],
        [206, style.slice(5, 10), `bytes 5-9/${style.length}`]
      )
      const head = await browser.get('/public/style.css', { method: 'HEAD' })
      t.same(
        [head.statusCode, head.body, head.headers['content-length']],
        [200, '', String(style.length)]
      )
      t.same(store.taken(), ['get', 'get', 'get'])
      await over.advance(61_000)
      const touched = await browser.get('/public/style.css', { headers })
      t.same(
        [touched.statusCode, touched.headers.etag, touched.headers['cache-control']],
        [304, etag, 'max-age=0, private']
      )
      t.equal(setCookies(touched).length, 1, 'a touch that is due is made, whatever the reply')
      t.same(store.taken(), ['get', 'touch'])
      const begun = await new Browser(app).get('/public/style.css', { headers })
      t.same(
        [begun.statusCode, setCookies(begun).length],
        [304, 1],
        'by default this begins a session too'
      )
    }
  )

  overAnswers(
    t,
    'sendFile() in a handler that wrote: stored before the first byte, ' +
      `and the file is whole, with ${name}`,
    async (t, over) => {
      const app = await site(t, over, order)
      const browser = new Browser(app)
      for (const n of [1, 2]) {
        const reply = await browser.get('/file')
        t.equal(reply.body, style)
        t.equal(setCookies(reply).length, 1)
        t.same(await stored(app, idIn(browser)), { n })
      }
    }
  )

  overAnswers(
    t,
    `what a hook sends is not overtaken by the file behind it, with ${name}`,
    async (t, over) => {
      const app = await site(t, over, order)
      const browser = new Browser(app)
      const refused = await browser.get('/guarded')
      t.same([refused.statusCode, refused.body], [403, '<p>log in</p>'])
      t.match(refused.headers, { 'content-type': /^text\/html/ })
      t.equal(refused.headers.etag, undefined)
      const id = idIn(browser)
      t.same(await stored(app, id), { b: 'sent away' })
      const admitted = await browser.get('/log-in')
      t.equal(admitted.statusCode, 200)
      t.equal((await browser.get('/guarded')).body, style)
    }
  )

  overAnswers(
    t,
    `a commit that fails: nothing of the file is left on the reply, with ${name}`,
    async (t, over) => {
      const rejections = unhandled(t)
      const app = await site(t, over, order)
      over.breakDown()
      for (const url of ['/public/style.css', '/public/ready.css', '/file']) {
        const reply = await app.inject({ url, headers: { 'accept-encoding': 'gzip' } })
        failed(t, reply, url)
        for (const name of [
          'etag',
          'last-modified',
          'cache-control',
          'accept-ranges',
          'content-encoding'
        ])
          t.equal(reply.headers[name], undefined, `${url}: ${name}`)
      }
      for (let turn = 0; turn < 20; turn += 1) await nextTurn()
      t.same(rejections, [])
    }
  )
}

overStores(t, 'files without sessions: their scope opts out', async (t, over) => {
  const { store, clock } = over
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { store, clock })
  await app.register(async (scope) => {
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, session: false }
    })
    await scope.register(fastifyStatic, {
      root: t.testdir({ 'style.css': style }),
      prefix: '/public/'
    })
  })
  app.get('/', async ({ session }) => {
    session.a = 'x'
  })
  const browser = new Browser(app)
  await browser.get('/')
  store.taken()
  for (const client of [browser, new Browser(app)]) {
    const reply = await client.get('/public/style.css')
    t.equal(reply.body, style)
    t.same([carriedBy(reply), reply.headers['cache-control']], [empty, 'public, max-age=0'])
  }
  t.same(store.taken(), [])
})

overStores(
  t,
  'files without sessions: the sessions are in a scope beside them',
  async (t, over) => {
    const { store, clock } = over
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(fastifyStatic, {
      root: join(t.testdir({ site: { 'style.css': style } }), 'site')
    })
    await app.register(async (scope) => {
      await scope.register(sessionPlugin, { store, clock })
      scope.get('/account', async ({ session }) => ({ n: (session.n = (session.n ?? 0) + 1) }))
    })
    const browser = new Browser(app)
    await browser.get('/account')
    t.same((await browser.get('/account')).json(), { n: 2 })
    store.taken()
    const reply = await browser.get('/style.css')
    t.same([reply.body, carriedBy(reply), store.taken()], [style, empty, []])
  }
)

const gzip = { 'accept-encoding': 'gzip' }

// A route that was there before it is none of compress's.
for (const order of [
  ['sessions', 'compress', 'static'],
  ['compress', 'static', 'sessions']
] as const) {
  for (const [way, compressing] of [
    ['at once', { syncThreshold: 1_000_000 }],
    ['as a stream', { syncThreshold: 0 }]
  ] as const) {
    overAnswers(
      t,
      `a reply compressed ${way} carries the session once, ` +
        `and varies by both, with ${order[0]} registered first`,
      async (t, over) => {
        const app = await site(t, over, order, { compressing })
        // As above: what is compressed as a stream is one.
        const more = way === 'at once' ? ['/json-async'] : []
        for (const url of ['/json', ...more, '/stream', '/response', '/file']) {
          const reply = await app.inject({ url, headers: gzip })
          t.equal(reply.headers['content-encoding'], 'gzip', url)
          const body = gunzipSync(reply.rawPayload).toString()
          t.equal(url.startsWith('/json') ? JSON.parse(body).style : body, style, url)
          const language = url === '/response' ? ['accept-language'] : []
          t.same(varies(reply), ['accept-encoding', ...language, 'cookie', 'x-session-id'], url)
          t.equal(setCookies(reply).length, 1, url)
          const data = await stored(app, carriedBy(reply).cookie as string)
          t.match(data, url === '/file' ? { n: 1 } : { a: 'x' }, url)
        }
      }
    )
  }

  overAnswers(
    t,
    `files, compressed as they go or beforehand, with ${order[0]} registered first`,
    async (t, over) => {
      const app = await site(t, over, order)
      const browser = new Browser(app)
      await browser.get('/json')
      for (const url of ['/public/style.css', '/public/ready.css']) {
        const reply = await browser.get(url, { headers: gzip })
        t.equal(reply.headers['content-encoding'], 'gzip', url)
        t.equal(gunzipSync(reply.rawPayload).toString(), style, url)
        t.same(
          [varies(reply), carriedBy(reply)],
          [['accept-encoding'], empty],
          `${url}: nobody looked at the session`
        )
        const begun = await app.inject({ url, headers: gzip })
        t.equal(gunzipSync(begun.rawPayload).toString(), style, url)
        t.same(
          [varies(begun), setCookies(begun).length],
          [['accept-encoding', 'cookie', 'x-session-id'], 1],
          `${url}: the reply sent an id`
        )
      }
      const plain = await browser.get('/look-away', { headers: gzip })
      t.same(
        [varies(plain), JSON.parse(gunzipSync(plain.rawPayload).toString()).style === style],
        [['accept-encoding'], true]
      )
    }
  )

  overAnswers(
    t,
    'a commit that fails is a readable 503, whatever was to be compressed, ' +
      `with ${order[0]} registered first`,
    async (t, over) => {
      const rejections = unhandled(t)
      for (const threshold of [0, 1024]) {
        const app = await site(t, over, order, { compressing: { threshold } })
        over.breakDown()
        const own = ['/json', '/json-async', '/stream', '/response', '/file']
        for (const url of [...own, '/public/style.css', '/public/ready.css']) {
          const reply = await app.inject({ url, headers: gzip })
          t.equal(reply.headers['content-encoding'], threshold === 0 ? 'gzip' : undefined, url)
          failed(t, reply, url)
        }
      }
      for (let turn = 0; turn < 20; turn += 1) await nextTurn()
      t.same(rejections, [])
    }
  )
}

function failed(t: Test, reply: LightMyRequestResponse, message: string): void {
  const body =
    reply.headers['content-encoding'] === 'gzip'
      ? gunzipSync(reply.rawPayload).toString()
      : reply.body
  t.equal(reply.statusCode, 503, message)
  t.equal(JSON.parse(body).code, 'HOLDFAST_STORE_FAILED', message)
  t.match(reply.headers['content-type'], /^application\/json/, message)
  t.same(setCookies(reply), [], message)
}

import { request } from 'node:http'
import { Readable } from 'node:stream'

import Fastify from 'fastify'
import t from 'tap'

import sessionPlugin, { MemoryStore } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, serve, setCookies, stored, unhandled } from './helpers/serve.ts'
import { nextTurn, slow, WatchedStore } from './helpers/stores.ts'
import { signal } from './helpers/waiting.ts'

function webStream(...chunks: readonly string[]): ReadableStream<Uint8Array> {
  return new Blob([...chunks]).stream()
}

t.test('streams carry the session, and come through whole', async (t) => {
  for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
    const { app } = await serve(t, { store })
    app.get('/node', async ({ session }, reply) => {
      session.a = 'x'
      return reply.send(Readable.from(['a', 'b', 'c']))
    })
    app.get('/web', async ({ session }, reply) => {
      session.a = 'x'
      return reply.send(webStream('a', 'b', 'c'))
    })
    app.get('/response', async ({ session }) => {
      session.a = 'x'
      return new Response(webStream('a', 'b', 'c'))
    })
    for (const url of ['/node', '/web', '/response']) {
      const reply = await app.inject(url)
      t.equal(reply.statusCode, 200, url)
      t.equal(reply.body, 'abc', url)
      t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' }, url)
      t.equal(setCookies(reply).length, 1)
    }
  }
})

t.test('P6: the write is stored before the first byte of the reply leaves', async (t) => {
  for (const url of ['/redirect', '/stream', '/plain'] as const) {
    const inner = new MemoryStore()
    const store = slow(inner)
    const { app } = await serve(t, { store })
    app.get('/redirect', async ({ session }, reply) => {
      session.a = 'new'
      return reply.redirect('/read')
    })
    app.get('/stream', async ({ session }, reply) => {
      session.a = 'new'
      return reply.send(Readable.from(['a']))
    })
    app.get('/plain', async ({ session }) => {
      session.a = 'new'
    })
    const id = await begin(app)
    const base = await app.listen({ port: 0, host: '127.0.0.1' })
    let reachedClient = false
    const [released, release] = signal()
    const arrived = new Promise<void>((resolve) => {
      store.intercept = async ({ verb }, pass) => {
        if (verb === 'update') {
          resolve()
          await released
        }
        return pass()
      }
    })
    const reply = fetch(`${base}${url}`, {
      headers: { cookie: `session_id=${id}` },
      redirect: 'manual'
    }).then((response) => {
      reachedClient = true
      return response
    })
    await arrived
    for (let turn = 0; turn < 20; turn += 1) await nextTurn()
    t.equal(reachedClient, false, `${url} waits for the store`)
    release()
    t.equal((await reply).status, url === '/redirect' ? 302 : 200)
    t.match(inner.get(app.sessions.publicIdOf(id)), { data: '{"a":"new"}' }, url)
  }
})

t.test('what a handler wrote before it failed is stored, and the reply is its own', async (t) => {
  const { app } = await serve(t)
  app.get('/throws', ({ session }) => {
    session.a = 'x'
    throw new Error('at once')
  })
  app.get('/rejects', async ({ session }) => {
    session.a = 'x'
    await nextTurn()
    throw Object.assign(new Error('later'), { statusCode: 418 })
  })
  app.get('/sends', async ({ session }, reply) => {
    session.a = 'x'
    return reply.send(new Error('sent'))
  })
  app.get<{ Querystring: { n: number } }>(
    '/validates',
    {
      schema: {
        querystring: { type: 'object', required: ['n'], properties: { n: { type: 'number' } } }
      },
      preValidation: async ({ session }) => {
        session.a = 'x'
      }
    },
    async () => 'valid'
  )
  for (const [url, statusCode, message] of [
    ['/throws', 500, 'at once'],
    ['/rejects', 418, 'later'],
    ['/sends', 500, 'sent'],
    ['/validates?n=none', 400, 'querystring/n must be number']
  ] as const) {
    const reply = await app.inject(url)
    t.same([reply.statusCode, reply.json().message], [statusCode, message], url)
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' }, url)
    t.equal(setCookies(reply).length, 1)
  }
})

t.test('error handlers and notFound handlers have the session', async (t) => {
  const { app } = await serve(t)
  app.setErrorHandler(async (error, { session }, reply) => {
    session.b = (error as Error).message
    return reply.code(422).send({ handled: true, ...session })
  })
  app.setNotFoundHandler(async ({ session }, reply) => {
    session.c = 'looked for'
    return reply.code(404).send('nothing here')
  })
  app.get('/fails', async ({ session }) => {
    session.a = 'x'
    throw new Error('failed')
  })
  app.get('/call-not-found', async ({ session }, reply) => {
    session.a = 'x'
    return reply.callNotFound()
  })
  const failed = await app.inject('/fails')
  t.same([failed.statusCode, failed.json()], [422, { handled: true, a: 'x', b: 'failed' }])
  t.same(await stored(app, carriedBy(failed).cookie as string), { a: 'x', b: 'failed' })
  for (const [url, data] of [
    ['/nowhere', { c: 'looked for' }],
    ['/call-not-found', { a: 'x', c: 'looked for' }]
  ] as const) {
    const reply = await app.inject(url)
    t.same([reply.statusCode, reply.body], [404, 'nothing here'], url)
    t.same(await stored(app, carriedBy(reply).cookie as string), data, url)
  }
})

t.test('a 404 that nobody wrote in begins no session, whoever says that it is one', async (t) => {
  const { app, store } = await serve(t)
  app.get('/call-not-found', async (_request, reply) => reply.callNotFound())
  app.get('/by-the-handler', async (_request, reply) => reply.code(404).send('nothing here'))
  app.get('/by-an-error', async () => {
    throw Object.assign(new Error('nothing here'), { statusCode: 404 })
  })
  for (const url of ['/nowhere', '/call-not-found', '/by-the-handler', '/by-an-error']) {
    const reply = await app.inject(url)
    t.equal(reply.statusCode, 404)
    t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    t.same(store.taken(), [], url)
  }
})

t.test('replies without a body', async (t) => {
  const { app } = await serve(t)
  app.get('/204', async ({ session }, reply) => {
    session.a = 'x'
    return reply.code(204).send()
  })
  app.get('/304', async ({ session }, reply) => {
    session.a = 'x'
    return reply.code(304).send()
  })
  for (const [method, url, statusCode] of [
    ['GET', '/204', 204],
    ['GET', '/304', 304],
    ['HEAD', '/204', 204],
    ['HEAD', '/write/x', 200]
  ] as const) {
    const reply = await app.inject({ method, url })
    t.same([reply.statusCode, reply.body], [statusCode, ''])
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' }, `${method} ${url}`)
  }
})

t.test('S41: a hijacked reply is left alone, and save() stores', async (t) => {
  const rejections = unhandled(t)
  const { app, log } = await serve(t)
  app.get('/hijack', async ({ session }, reply) => {
    reply.hijack()
    session.a = 'saved'
    await session.save()
    reply.raw.end('raw')
  })
  const id = await begin(app)
  const reply = await app.inject({ url: '/hijack', cookies: { session_id: id } })
  t.equal(reply.body, 'raw')
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  t.same(await stored(app, id), { a: 'saved' })
  await nextTurn()
  t.same(rejections, [])
  t.same(log, [])
})

t.test('S41: reply.raw.end() without hijack() makes no error', async (t) => {
  const rejections = unhandled(t)
  const { app } = await serve(t, { store: slow(new MemoryStore()) })
  app.get('/raw', (_request, reply) => {
    reply.raw.end('raw')
  })
  app.get('/raw-and-send', ({ session }, reply) => {
    session.a = 'x'
    reply.raw.end('raw')
    reply.send('too late')
  })
  for (const url of ['/raw', '/raw-and-send']) t.equal((await app.inject(url)).body, 'raw')
  for (let turn = 0; turn < 20; turn += 1) await nextTurn()
  t.same(rejections, [])
  t.equal((await app.inject('/read')).statusCode, 200)
})

t.test(
  'S42: a later onSend hook that throws: one commit, and at most one cookie of ours',
  async (t) => {
    for (const store of [new WatchedStore(new MemoryStore()), slow(new MemoryStore())]) {
      const { app } = await serve(t, { store })
      app.addHook('onSend', async (_request, reply) => {
        if (reply.statusCode === 200) throw new Error('a hook of the app')
      })
      const reply = await app.inject('/write/x')
      t.same([reply.statusCode, reply.json().message], [500, 'a hook of the app'])
      t.equal(setCookies(reply).length, 1)
      t.equal(carriedBy(reply).header, carriedBy(reply).cookie)
      t.same(store.taken(), ['create'])
      t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' })
    }
  }
)

t.test(
  'S42: an earlier onSend hook that throws: what was written is stored once, with the error',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onSend', async (_request, reply) => {
      if (reply.statusCode === 200) throw new Error('a hook of the app')
    })
    await app.register(sessionPlugin)
    app.get('/', async ({ session }) => {
      session.a = 'x'
    })
    const reply = await app.inject('/')
    t.equal(reply.statusCode, 500)
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' })
    t.equal(setCookies(reply).length, 1)
  }
)

t.test(
  'an onSend hook that changes the payload goes together with it, before and after',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onSend', async (_request, _reply, payload) => `${payload as string}, before`)
    await app.register(sessionPlugin, { store: slow(new MemoryStore()) })
    app.addHook('onSend', async (_request, _reply, payload) => `${payload as string}, after`)
    app.get('/', async ({ session }) => {
      session.a = 'x'
      return 'sent'
    })
    t.equal((await app.inject('/')).body, 'sent, before, after')
  }
)

t.test('a payload that cannot be serialised is an error reply, with the session', async (t) => {
  const { app } = await serve(t)
  app.get('/bigint', async ({ session }) => {
    session.a = 'x'
    return { n: 1n }
  })
  app.get(
    '/schema',
    {
      schema: {
        response: {
          200: { type: 'object', required: ['n'], properties: { n: { type: 'number' } } }
        }
      }
    },
    async ({ session }) => {
      session.a = 'x'
      return {}
    }
  )
  for (const url of ['/bigint', '/schema']) {
    const reply = await app.inject(url)
    t.equal(reply.statusCode, 500, url)
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' }, url)
  }
})

t.test(
  'session data that cannot be serialised is a coded error, and the record stays as it was',
  async (t) => {
    const { app, store } = await serve(t)
    app.get('/bigint', async ({ session }) => {
      session.a = 1n
    })
    app.get('/large', async ({ session }) => {
      session.a = 'x'.repeat(65_536)
    })
    const id = await begin(app)
    store.taken()
    for (const [url, code] of [
      ['/bigint', 'HOLDFAST_DATA_UNSERIALIZABLE'],
      ['/large', 'HOLDFAST_DATA_TOO_LARGE']
    ] as const) {
      const reply = await app.inject({ url, cookies: { session_id: id } })
      t.same([reply.statusCode, reply.json().code], [500, code])
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
      t.same(store.taken(), ['get'])
      t.same(await stored(app, id), { a: 'old' })
      store.taken()
    }
  }
)

t.test('a client that goes away does no harm, and what the handler wrote is stored', async (t) => {
  const rejections = unhandled(t)
  const { app } = await serve(t, { store: slow(new MemoryStore()) })
  const [reached, arrived] = signal()
  const [released, goOn] = signal()
  const over = new Promise<void>((resolve) => {
    app.addHook('onRequestAbort', async (_request) => {
      resolve()
    })
  })
  app.get('/slow', async ({ session }) => {
    session.a = 'written'
    arrived()
    await released
    return 'for nobody'
  })
  const id = await begin(app)
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const client = request(`${url}/slow`, { headers: { cookie: `session_id=${id}` } })
  client.on('error', () => {}).end()
  await reached
  client.destroy()
  await over
  goOn()
  for (let turn = 0; turn < 100; turn += 1) await nextTurn()
  t.same(rejections, [])
  t.same(await stored(app, id), { a: 'written' })
  t.equal((await app.inject('/read')).statusCode, 200)
})

t.test('a stream that fails half way does no harm', async (t) => {
  const rejections = unhandled(t)
  const { app } = await serve(t)
  app.get('/broken', async ({ session }, reply) => {
    session.a = 'written'
    return reply.send(
      Readable.from(
        (async function* () {
          yield 'a'
          throw new Error('half way')
        })()
      )
    )
  })
  const id = await begin(app)
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  await t.rejects(
    fetch(`${url}/broken`, { headers: { cookie: `session_id=${id}` } }).then((response) =>
      response.text()
    )
  )
  t.same(rejections, [])
  t.same(await stored(app, id), { a: 'written' })
})

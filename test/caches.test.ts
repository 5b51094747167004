import { once } from 'node:events'
import { connect } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'

import type { FastifyReply } from 'fastify'
import t from 'tap'

import sessionPlugin, { MemoryStore } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { overEveryStore } from './helpers/attack.ts'
import { begin, serve, setCookies } from './helpers/serve.ts'
import { WatchedStore } from './helpers/stores.ts'

const cacheControls: ReadonlyArray<[given: string | undefined, expected: string]> = [
  [undefined, 'private'],
  ['public', 'private'],
  ['public, max-age=60', 'max-age=60, private'],
  ['Public, S-MaxAge=60, max-age=60', 'max-age=60, private'],
  ['s-maxage=60', 'private'],
  ['s-maxage="60", must-revalidate', 'must-revalidate, private'],
  ['no-store', 'no-store'],
  ['public, no-store', 'no-store'],
  ['private, max-age=5', 'private, max-age=5'],
  ['PRIVATE', 'PRIVATE'],
  ['no-cache', 'no-cache, private'],
  // For these fields alone: it does not make the reply private.
  ['private="set-cookie", max-age=60', 'private="set-cookie", max-age=60, private']
]

for (const url of ['/write', '/destroy'] as const) {
  t.test(
    `S31: a reply that ${url === '/write' ? 'sends' : 'clears'} an id is kept out of shared caches`,
    async (t) => {
      for (const [given, expected] of cacheControls) {
        const { app } = await serve(t)
        app.addHook('onRequest', async (_request, reply) => {
          if (given !== undefined) reply.header('cache-control', given)
        })
        app.get('/destroy', async ({ session }) => {
          await session.destroy()
        })
        app.get('/write', async ({ session }) => {
          session.a = 'new'
        })
        const reply = await app.inject({ url, cookies: { session_id: await begin(app) } })
        t.equal(setCookies(reply).length, 1)
        t.equal(reply.headers['cache-control'], expected, `${given}`)
      }
    }
  )
}

t.test('S31: a quoted value is one value, with its commas', async (t) => {
  const { app } = await serve(t)
  app.get('/write', async ({ session }, reply) => {
    session.a = 'x'
    reply.header('cache-control', 'no-cache="set-cookie, x-session-id", public')
  })
  t.equal(
    (await app.inject('/write')).headers['cache-control'],
    'no-cache="set-cookie, x-session-id", private'
  )
})

t.test('S31: the header alone makes a reply private too', async (t) => {
  const { app } = await serve(t)
  app.get('/public', async ({ session }, reply) => {
    reply.header('cache-control', 'public, max-age=60')
    return { ...session }
  })
  const id = await begin(app)
  const reply = await app.inject({ url: '/public', headers: { 'x-session-id': id } })
  t.same(setCookies(reply), [])
  t.equal(reply.headers['x-session-id'], id)
  t.equal(reply.headers['cache-control'], 'max-age=60, private')
})

t.test(
  'S31: the id of one registration on the 503 of another is kept out of shared caches',
  async (t) => {
    const { app } = await serve(t)
    const store = new WatchedStore(new MemoryStore())
    await app.register(sessionPlugin, { store, sessionName: 'admin' })
    app.get('/both', async ({ session }, reply) => {
      session.a = 'x'
      reply.header('cache-control', 'public, max-age=60')
    })
    store.intercept = () => {
      throw new Error('down')
    }
    const reply = await app.inject('/both')
    t.equal(reply.statusCode, 503)
    t.same(
      reply.cookies.map(({ name }) => name),
      ['session_id']
    )
    t.equal(reply.headers['x-admin-id'], undefined)
    t.equal(reply.headers['cache-control'], 'private')
  }
)

t.test(
  'a reply that looked and sent nothing stays cacheable as the app said, by Vary',
  async (t) => {
    const { app } = await serve(t)
    app.get('/public', async ({ session }, reply) => {
      reply.header('cache-control', 'public, max-age=60')
      return { ...session }
    })
    const reply = await app.inject({ url: '/public', cookies: { session_id: await begin(app) } })
    t.same(reply.headers['cache-control'], 'public, max-age=60')
    t.equal(reply.headers['vary'], 'Cookie, X-Session-ID')
  }
)

t.test('a reply that neither looked nor sent has neither header', async (t) => {
  const { app } = await serve(t)
  app.get('/nothing', { config: { session: false } }, async () => 'nothing')
  app.get('/public', async (_request, reply) => {
    reply.header('cache-control', 'public').header('vary', 'Accept')
  })
  const cookies = { session_id: await begin(app) }
  for (const [url, given] of [
    ['/look-away', cookies],
    ['/nothing', cookies],
    ['/nothing', {}]
  ] as const) {
    const reply = await app.inject({ url, cookies: given })
    t.equal(reply.statusCode, 200)
    t.same([reply.headers['cache-control'], reply.headers['vary']], [undefined, undefined], url)
  }
  const reply = await app.inject({ url: '/public', cookies })
  t.same([reply.headers['cache-control'], reply.headers['vary']], ['public', 'Accept'])
})

const varies: ReadonlyArray<[given: string | string[] | undefined, expected: string]> = [
  [undefined, 'Cookie, X-Session-ID'],
  ['Accept', 'Accept, Cookie, X-Session-ID'],
  ['Accept, Origin', 'Accept, Origin, Cookie, X-Session-ID'],
  [['Accept', 'Origin'], 'Accept, Origin, Cookie, X-Session-ID'],
  ['cookie', 'cookie, X-Session-ID'],
  ['COOKIE,x-session-id', 'COOKIE,x-session-id'],
  ['*', '*'],
  ['Accept, *', 'Accept, *']
]

t.test('S32: what Vary holds is kept', async (t) => {
  for (const [given, expected] of varies) {
    const { app } = await serve(t)
    app.get('/vary', async ({ session }, reply) => {
      if (given !== undefined) reply.header('vary', given)
      return { ...session }
    })
    for (const cookies of [{ session_id: await begin(app) }, {}] as const) {
      const reply = await app.inject({ url: '/vary', cookies })
      t.equal([reply.headers['vary']].flat().join(', '), expected, `${given}`)
    }
  }
})

t.test(
  'S32: every way of looking at the session adds to Vary, when no id is sent too',
  async (t) => {
    const { app } = await serve(t)
    const looks: Record<string, (session: any) => unknown> = {
      'a key': (session) => session.a,
      'a missing key': (session) => session.nothing,
      in: (session) => 'a' in session,
      keys: (session) => Object.keys(session),
      spread: (session) => ({ ...session }),
      JSON: (session) => JSON.stringify(session),
      get: (session) => session.get('a'),
      data: (session) => session.data(),
      id: (session) => session.id,
      isNew: (session) => session.isNew,
      truthiness: (session) => (session ? 1 : 0)
    }
    for (const [name, look] of Object.entries(looks)) {
      app.get(`/${name.replace(' ', '-')}`, async (request) => {
        look(request.session)
        return 'looked'
      })
    }
    const cookies = { session_id: await begin(app) }
    for (const name of Object.keys(looks)) {
      const reply = await app.inject({ url: `/${name.replace(' ', '-')}`, cookies })
      t.equal(reply.body, 'looked')
      t.same(setCookies(reply), [], name)
      t.equal(reply.headers['vary'], 'Cookie, X-Session-ID', name)
    }
  }
)

t.test('Vary names the transports that there are', async (t) => {
  for (const [options, expected] of [
    [{ sessionHeader: false }, 'Cookie'],
    [{ sessionCookie: false }, 'X-Session-ID'],
    [{ sessionHeader: 'X-Shop' }, 'Cookie, X-Shop']
  ] as const) {
    const { app } = await serve(t, options)
    t.equal((await app.inject('/read')).headers['vary'], expected)
  }
})

t.test('S31, S32: on every kind of reply', async (t) => {
  const { app } = await serve(t)
  app.addHook('onRequest', async ({ session }, reply) => {
    session.a = 'new'
    reply.header('cache-control', 'public, max-age=60').header('vary', 'Accept')
  })
  app.get('/success', async () => 'ok')
  app.get('/redirect', async (_request, reply) => reply.redirect('/success'))
  app.get('/not-modified', async (_request, reply) => reply.code(304).send())
  app.get('/empty', async (_request, reply) => reply.code(204).send())
  app.get('/error', async () => {
    throw new Error('failed')
  })
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(['a', 'b'])))
  app.get('/web-stream', async (_request, reply) => reply.send(new Blob(['a']).stream()))
  app.get('/response', async () => new Response('a'))
  app.get('/refused', async () => {
    throw Object.assign(new Error('refused'), { statusCode: 403 })
  })
  app.get('/not-found', async (_request, reply) => reply.callNotFound())
  app.get(
    '/invalid',
    { schema: { querystring: { type: 'object', required: ['n'] } } },
    async () => 'valid'
  )
  app.get('/permanent', async (_request, reply) => reply.redirect('/success', 301))
  const kinds = [
    ['/success', 200],
    ['/redirect', 302],
    ['/permanent', 301],
    ['/not-modified', 304],
    ['/empty', 204],
    ['/error', 500],
    ['/refused', 403],
    ['/invalid', 400],
    ['/stream', 200],
    ['/web-stream', 200],
    ['/response', 200],
    ['/not-found', 404],
    ['/nowhere', 404]
  ] as const
  for (const [url, statusCode] of kinds) {
    // Fastify itself answers the HEAD of a web Response with 500.
    for (const method of url === '/response' ? (['GET'] as const) : (['GET', 'HEAD'] as const)) {
      const name = `${method} ${url}`
      const reply = await app.inject({ url, method })
      t.equal(reply.statusCode, statusCode, name)
      t.equal(setCookies(reply).length, 1, name)
      t.equal(reply.headers['cache-control'], 'max-age=60, private', name)
      t.equal(reply.headers['vary'], 'Accept, Cookie, X-Session-ID', name)
    }
  }
})

t.test('S32: on a reply whose commit failed too: it may tell of the session', async (t) => {
  const { app, store } = await serve(t)
  app.get('/refused', async ({ session }, reply) => {
    session.b = 'new'
    return reply
      .code(404)
      .header('cache-control', 'public, max-age=60')
      .send({ ...session })
  })
  const id = await begin(app)
  store.intercept = (call, pass) => {
    if (call.verb === 'update') throw new Error('no answer')
    return pass()
  }
  for (const [url, statusCode] of [
    ['/refused', 404],
    ['/write/new', 503]
  ] as const) {
    const reply = await app.inject({ url, cookies: { session_id: id } })
    t.equal(reply.statusCode, statusCode)
    t.equal(reply.headers['vary'], 'Cookie, X-Session-ID', url)
    t.same(setCookies(reply), [])
  }
})

t.test('a web Response carries its own headers and ours', async (t) => {
  const { app } = await serve(t)
  app.get('/response', async ({ session }, reply) => {
    session.a = 'x'
    reply.header('x-of-the-reply', 'kept')
    const headers = new Headers({
      'cache-control': 'public, max-age=60',
      vary: 'Accept',
      'content-type': 'text/html',
      'x-own': 'yes',
      etag: '"1"'
    })
    headers.append('set-cookie', 'theme=dark; Path=/')
    headers.append('set-cookie', 'lang=en')
    return reply.send(new Response('<p>body</p>', { status: 201, headers }))
  })
  app.get('/response-empty', async ({ session }) => {
    session.a = 'x'
    return new Response(null, { status: 204, headers: { vary: '*' } })
  })
  const reply = await app.inject('/response')
  t.equal(reply.statusCode, 201)
  t.equal(reply.body, '<p>body</p>')
  t.match(reply.headers, {
    'content-type': 'text/html',
    'x-own': 'yes',
    'x-of-the-reply': 'kept',
    etag: '"1"',
    'cache-control': 'max-age=60, private',
    vary: 'Accept, Cookie, X-Session-ID'
  })
  t.equal(reply.headers['content-type'], 'text/html')
  t.same(
    setCookies(reply)
      .map((line) => line.split('=')[0])
      .toSorted(),
    ['lang', 'session_id', 'theme']
  )
  t.equal(reply.headers['x-session-id'], carriedBy(reply).cookie)
  const empty = await app.inject('/response-empty')
  t.equal(empty.statusCode, 204)
  t.equal(empty.headers['vary'], '*')
  t.equal(empty.headers['cache-control'], 'private')
  t.equal(setCookies(empty).length, 1)
})

t.test('a web Response to a request that sends nothing stays as it is', async (t) => {
  const { app } = await serve(t)
  app.get(
    '/response',
    async () =>
      new Response('body', {
        status: 203,
        headers: { vary: 'Accept', 'cache-control': 'public', 'set-cookie': 'theme=dark' }
      })
  )
  const reply = await app.inject({ url: '/response', cookies: { session_id: await begin(app) } })
  t.equal(reply.statusCode, 203)
  t.equal(reply.body, 'body')
  t.same(
    [reply.headers['vary'], reply.headers['cache-control'], setCookies(reply)],
    ['Accept', 'public', ['theme=dark']]
  )
})

/** Headers that caches set above Cache-Control. */
const aimed = [
  'CDN-Cache-Control',
  'Vendor-CDN-Cache-Control',
  'Surrogate-Control',
  'Edge-Control',
  'X-Accel-Expires'
]

t.test(
  'S31: a reply that carries an id has no header left by which a cache would share it all the same',
  async (t) => {
    const { app } = await serve(t)
    app.addHook('onRequest', async (_request, reply) => {
      for (const name of aimed)
        reply.header(name, name.startsWith('X') ? '600' : 'public, max-age=600')
    })
    const reply = await app.inject('/write/new')
    for (const name of aimed) t.equal(reply.headers[name.toLowerCase()], undefined, name)
    const other = await app.inject({
      url: '/read',
      headers: { cookie: 'session_id=an-id-that-nobody-has-had' }
    })
    t.same(setCookies(other), [])
    t.equal(
      other.headers['x-accel-expires'],
      '600',
      "a reply without an id is the app's own affair"
    )
  }
)

t.test('S31: what an app hands on past Fastify lets no cache share an id', async (t) => {
  const { app } = await serve(t)
  app.get('/save', async ({ session }, reply) => {
    session.a = 'new'
    for (const name of aimed) reply.header(name, 'public, max-age=600')
    await session.save()
    return reply.getHeaders()
  })
  const { headers, body } = await app.inject('/save')
  const seen = JSON.parse(body) as Record<string, unknown>
  t.equal(seen['cache-control'], 'private')
  for (const name of aimed) {
    t.notOk(Object.hasOwn(seen, name.toLowerCase()), name)
    t.equal(headers[name.toLowerCase()], undefined, name)
  }
})

t.test('S31, S28: the 503 of a failed commit is kept by no cache', async (t) => {
  const { app, store } = await serve(t)
  app.get('/fresh/write', async ({ session }, reply) => {
    session.a = 'new'
    for (const name of aimed) reply.header(name, '600')
    reply.header('expires', new Date(Date.now() + 600_000).toUTCString())
  })
  const id = await begin(app)
  store.intercept = ({ verb }, pass) => {
    if (verb === 'update') throw new Error('connection refused')
    return pass()
  }
  const reply = await app.inject({ url: '/fresh/write', headers: { cookie: `session_id=${id}` } })
  t.equal(reply.statusCode, 503)
  for (const name of [...aimed, 'Expires'])
    t.equal(reply.headers[name.toLowerCase()], undefined, name)
})

/**
 * What a hook that runs after ours may do to make a reply public, by the API of Fastify and past
 * it.
 */
const publishers: Readonly<Record<string, (reply: FastifyReply) => void>> = {
  'reply.header': (reply) => {
    for (const name of ['Cache-Control', ...aimed]) reply.header(name, 'public, max-age=600')
    reply.header('Vary', 'Accept')
  },
  'reply.headers': (reply) => {
    reply.headers({
      'Cache-Control': 'public, max-age=600',
      'CDN-Cache-Control': 'public',
      Vary: 'Accept'
    })
  },
  'raw.setHeader': ({ raw }) => {
    for (const name of ['Cache-Control', ...aimed]) raw.setHeader(name, 'public, max-age=600')
    raw.setHeader('Vary', 'Accept')
  }
}

for (const [name, publish] of Object.entries(publishers)) {
  overEveryStore(
    t,
    `S31, S32: a later hook cannot make a reply public that carries an id, nor take off what it depends on: ${name}`,
    async (t, serveOver) => {
      const { app } = await serveOver()
      app.addHook('onSend', async (_request, reply) => {
        publish(reply)
      })
      app.get('/text', async ({ session }) => {
        session.a = 'x'
        return 'text'
      })
      app.get('/stream', async ({ session }, reply) => {
        session.a = 'x'
        return reply.send(Readable.from(['text']))
      })
      app.get('/empty', async ({ session }, reply) => {
        session.a = 'x'
        return reply.code(204).send()
      })
      app.get('/response', { exposeHeadRoute: false }, async ({ session }) => {
        session.a = 'x'
        return new Response('text', {
          headers: { 'cache-control': 'public', 'surrogate-control': 'max-age=600', vary: 'Accept' }
        })
      })
      app.get('/ends', async ({ session }) => {
        await session.destroy()
      })
      app.get('/fails', async ({ session }) => {
        session.a = 'x'
        throw new Error('expected')
      })
      const urls = ['/text', '/stream', '/empty', '/response', '/fails', '/ends']
      for (const url of urls) {
        // To a HEAD Fastify cannot send a Response.
        for (const method of url === '/response'
          ? (['GET'] as const)
          : (['GET', 'HEAD'] as const)) {
          const cookies = url === '/ends' ? { session_id: await begin(app) } : {}
          const { headers } = await app.inject({ method, url, cookies })
          t.equal(setCookies({ headers } as never).length, 1)
          // What stands on the reply goes before what stands on the raw response.
          const byReply = name !== 'raw.setHeader'
          // What a Response says goes before what stands on the reply.
          t.equal(
            headers['cache-control'],
            byReply && url !== '/response' ? 'max-age=600, private' : 'private',
            `${method} ${url}`
          )
          for (const other of aimed)
            t.equal(headers[other.toLowerCase()], undefined, `${method} ${url}, ${other}`)
          t.equal(
            headers['vary'],
            byReply || url === '/response'
              ? 'Accept, Cookie, X-Session-ID'
              : 'Cookie, X-Session-ID',
            `${method} ${url}`
          )
        }
      }
      const read = await app.inject({ url: '/read', cookies: { session_id: await begin(app) } })
      t.same(
        [setCookies(read), read.headers['cache-control']],
        [[], 'public, max-age=600'],
        "what carries no id is the app's own affair"
      )
      t.match(read.headers['vary'], /Cookie, X-Session-ID$/, 'but it depends on the session')
    }
  )
}

t.test(
  "S31: a head that the app writes itself is kept private in each form that Node takes, and the app's own object as it was",
  async (t) => {
    const { app } = await serve(t)
    const shared = Object.freeze({
      'Cache-Control': 'public, max-age=600',
      'Edge-Control': 'max-age=600'
    })
    const constant = Object.freeze({
      'cache-control': 'public, max-age=600',
      'edge-control': 'max-age=600'
    })
    const heads: Readonly<Record<string, (reply: FastifyReply) => unknown>> = {
      'an object': ({ raw }) => raw.writeHead(200, shared),
      'an object in lower case': ({ raw }) => raw.writeHead(200, constant),
      'an object, after a message': ({ raw }) => raw.writeHead(200, 'Fine', shared),
      'a list': ({ raw }) => raw.writeHead(200, Object.entries(shared).flat()),
      'what the reply has, and more': (reply) =>
        reply.raw.writeHead(200, { ...(reply.getHeaders() as object), ...shared }),
      'set one by one': ({ raw }) => {
        for (const [key, value] of Object.entries(shared)) raw.setHeader(key, value)
      }
    }
    app.get<{ Params: { form: string } }>('/:form', async ({ session, params }, reply) => {
      session.a = 'x'
      await session.save()
      reply.hijack()
      for (const cookie of [reply.getHeader('set-cookie')].flat())
        reply.raw.setHeader('set-cookie', cookie as string)
      heads[params.form]?.(reply)
      reply.raw.end('text')
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    for (const form of Object.keys(heads)) {
      const reply = await fetch(`${url}/${encodeURIComponent(form)}`)
      t.equal(await reply.text(), 'text')
      t.match(reply.headers.getSetCookie(), [/^session_id=/], form)
      t.same(
        reply.headers.get('cache-control')?.split(', ').toSorted(),
        ['max-age=600', 'private'],
        form
      )
      t.equal(reply.headers.get('edge-control'), null, form)
    }
  }
)

t.test(
  'S30: a web Response that brings a header and a cookie of ours replaces neither',
  async (t) => {
    const { app } = await serve(t)
    app.get('/', async ({ session }) => {
      session.a = 'x'
      const headers = new Headers({ 'x-session-id': 'of another server' })
      headers.append('set-cookie', 'session_id=of-another-server')
      headers.append('set-cookie', 'theme=dark')
      return new Response('text', { headers })
    })
    const reply = await app.inject('/')
    t.same(reply.cookies.map(({ name }) => name).toSorted(), ['session_id', 'theme'])
    t.match(carriedBy(reply).cookie, /^[\w-]{36}$/)
    t.equal(carriedBy(reply).header, carriedBy(reply).cookie)
  }
)

t.test('S31: HTTP/2 replies are kept private too', async (t) => {
  const { app } = await serve(t, {}, { http2: true } as never)
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'public')
  })
  app.get('/stream', async ({ session }, reply) => {
    session.a = 'x'
    return reply.send(Readable.from(['text']))
  })
  app.get('/empty-stream', async ({ session }, reply) => {
    session.a = 'x'
    return reply.send(Readable.from([]))
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => {
    client.close()
  })
  for (const path of ['/write/x', '/stream', '/empty-stream']) {
    const stream = client.request({ ':path': path })
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    stream.resume()
    t.match(headers['set-cookie'], [/^session_id=/], path)
    t.equal(headers['cache-control'], 'private', path)
  }
})

overEveryStore(
  t,
  'S28: a failed commit takes the trailers of the success off too, and leaves those of the error',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.setErrorHandler(async (error: { statusCode: number }, _request, reply) => {
      reply.trailer('x-error', async () => 'yes')
      return reply.code(error.statusCode).send('failed')
    })
    app.get('/', async ({ session }, reply) => {
      session.a = 'x'
      reply.trailer('content-md5', async () => 'of the success')
      return 'text'
    })
    t.same((await app.inject('/')).trailers, { 'content-md5': 'of the success' })
    store.intercept = async () => {
      throw new Error('down')
    }
    const reply = await app.inject('/')
    t.same([reply.statusCode, reply.body, reply.trailers], [503, 'failed', { 'x-error': 'yes' }])
    t.equal(reply.headers['trailer'], 'x-error')
  }
)

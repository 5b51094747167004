import { execFile } from 'node:child_process'
import { Agent, get } from 'node:http'
import { promisify } from 'node:util'

import fastifyCookie from '@fastify/cookie'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import sessionPlugin, { MemoryStore, type Session, type SessionOptions } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'
import { WatchedStore } from './helpers/stores.ts'

function bare(t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  return app
}

t.test('what is registered in a scope is there in the scope, beside it and below', async (t) => {
  const { app } = await serve(t)
  await app.register(async (child) => {
    child.get('/child', async ({ session }) => {
      session.a = child.sessions === app.sessions
    })
  })
  t.same(await stored(app, carriedBy(await app.inject('/child')).cookie as string), { a: true })
})

t.test('two registrations in one app are independent of each other', async (t) => {
  const store = new MemoryStore()
  const { app } = await serve(t, { store })
  await app.register(sessionPlugin, { store, sessionName: 'admin' })
  app.get('/both', async (request) => {
    request.session.a = 'user'
    request.admin.a = 'admin'
  })
  app.get('/read-both', async (request) => ({
    session: { ...request.session },
    admin: { ...request.admin }
  }))
  app.get('/admin-logout', async (request) => {
    await request.admin.destroy()
  })
  const first = await app.inject('/both')
  const cookies = Object.fromEntries(first.cookies.map(({ name, value }) => [name, value])) as {
    session_id: string
    admin_id: string
  }
  t.same(Object.keys(cookies).toSorted(), ['admin_id', 'session_id'])
  t.not(cookies.session_id, cookies.admin_id)
  t.same(
    [first.headers['x-session-id'], first.headers['x-admin-id']],
    [cookies.session_id, cookies.admin_id]
  )
  t.same(String(first.headers['vary']).split(', ').toSorted(), [
    'Cookie',
    'X-Admin-ID',
    'X-Session-ID'
  ])
  t.same((await app.inject({ url: '/read-both', cookies })).json(), {
    session: { a: 'user' },
    admin: { a: 'admin' }
  })
  const swapped = { session_id: cookies.admin_id, admin_id: cookies.session_id }
  t.same(
    (await app.inject({ url: '/read-both', cookies: swapped })).json(),
    { session: {}, admin: {} },
    'S21: ids are not interchangeable, on one store too'
  )
  await app.inject({ url: '/admin-logout', cookies })
  t.same((await app.inject({ url: '/read-both', cookies })).json(), {
    session: { a: 'user' },
    admin: {}
  })
})

t.test(
  'two registrations that one request would meet under one header or cookie name are refused',
  async (t) => {
    for (const names of [{ sessionCookie: 'session_id' }, { sessionHeader: 'x-session-id' }]) {
      const { app } = await serve(t)
      await t.rejects(
        async () => {
          await app.register(sessionPlugin, { sessionName: 'admin', ...names })
        },
        { code: 'HOLDFAST_OPTION_INVALID' }
      )
    }
  }
)

t.test('sibling scopes have registrations of their own under one name', async (t) => {
  const app = bare(t)
  const stores = [new MemoryStore(), new MemoryStore()]
  for (const [index, options] of (
    [{ sessionCookie: 'shop', maxAge: 60 }, { maxAge: 120 }] as SessionOptions[]
  ).entries()) {
    await app.register(
      async (scope) => {
        await scope.register(sessionPlugin, { store: stores[index] as MemoryStore, ...options })
        scope.get('/', async ({ session }) => {
          session.a = index
        })
      },
      { prefix: `/${index}` }
    )
  }
  app.get('/outside', async (request) => ({ session: 'session' in request }))
  t.match(setCookies(await app.inject('/0')), [/^shop=.*Max-Age=60;/])
  t.match(setCookies(await app.inject('/1')), [/^session_id=.*Max-Age=120;/])
  t.same(
    stores.map(({ size }) => size),
    [1, 1]
  )
  const outside = await app.inject('/outside')
  t.same([outside.json(), outside.headers['set-cookie']], [{ session: false }, undefined])
})

t.test('a second registration under one name is refused, in the scope and below it', async (t) => {
  const { app } = await serve(t)
  await t.rejects(
    async () => {
      await app.register(sessionPlugin, {})
    },
    { code: 'HOLDFAST_ALREADY_REGISTERED', message: /sessionName/ }
  )
  const { app: parent } = await serve(t)
  await t.rejects(
    async () => {
      await parent.register(async (child) => {
        await child.register(sessionPlugin, { sessionCookie: 'other', sessionHeader: 'X-Other' })
      })
    },
    { code: 'HOLDFAST_ALREADY_REGISTERED' }
  )
})

t.test(
  "the app's own @fastify/cookie goes together with it, before or after, on any hook",
  async (t) => {
    for (const order of ['before', 'after'] as const) {
      for (const hook of ['onRequest', 'preHandler', false] as const) {
        const app = bare(t)
        const cookie = {
          hook,
          secret: 'a-secret-of-the-app-of-32-bytes-or-more',
          parseOptions: {
            path: '/leaked',
            domain: 'leaked.example',
            maxAge: 7,
            signed: true,
            encode: () => 'leaked',
            decode: () => 'leaked'
          }
        } as const
        if (order === 'before') await app.register(fastifyCookie, cookie)
        await app.register(sessionPlugin)
        if (order === 'after') await app.register(fastifyCookie, cookie)
        app.get('/', async ({ session }, reply) => {
          reply.setCookie('theme', 'dark', { signed: false })
          const before = { ...session }
          session.a = 'x'
          session.n = (session.n ?? 0) + 1
          return before
        })
        const name = `${order}, ${hook}`
        const reply = await app.inject('/')
        const lines = setCookies(reply)
        const ours = lines.filter((line) => line.startsWith('session_id='))
        t.match(
          ours,
          [/^session_id=[\w-]{36}; Max-Age=3600; Path=\/; HttpOnly; SameSite=Lax$/],
          name
        )
        t.equal(ours.length, 1, name)
        t.equal(
          lines.filter((line) => line.startsWith('theme=')).length,
          1,
          `${name}: its own cookie is kept`
        )
        t.equal(lines.length, 2, name)
        const id = reply.headers['x-session-id'] as string
        t.same(
          (
            await app.inject({ url: '/', headers: { cookie: `theme=dark; session_id=${id}` } })
          ).json(),
          { a: 'x', n: 1 },
          name
        )
      }
    }
  }
)

// The body of a new Function is not strict, as CommonJS is not.
// oxlint-disable-next-line no-new-func, typescript/no-implied-eval
const sloppily = new Function('session', 'session.a = 1') as (session: object) => void

t.test(
  'a route that opted out has a session that is empty and frozen, asks no store and sends nothing',
  async (t) => {
    const { app, store } = await serve(t)
    app.get('/out', { config: { session: false } }, async ({ session }) => {
      const refusals: unknown[] = []
      const tries = [
        () => {
          session.a = 'x'
        },
        () => {
          sloppily(session)
        },
        () => {
          session.set('a', 'x')
        },
        () => {
          session.maxAge = 7
        },
        () => {
          session.touch()
        },
        () => {
          session.options({ path: '/' })
        },
        () => session.save(),
        () => session.update(() => {}),
        () => session.regenerate(),
        () => session.destroy()
      ]
      for (const attempt of tries) {
        try {
          await attempt()
          refusals.push('accepted')
        } catch (error) {
          refusals.push((error as { code?: string }).code ?? (error as Error).name)
        }
      }
      return {
        frozen: Object.isFrozen(session),
        data: session.data(),
        keys: Object.keys(session),
        truthy: Boolean(session),
        refusals
      }
    })
    const id = await begin(app)
    store.taken()
    for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }, {}] as const) {
      const reply = await app.inject({ url: '/out', headers })
      t.same(reply.json(), {
        frozen: true,
        data: {},
        keys: [],
        truthy: true,
        refusals: Array.from({ length: 10 }, () => 'HOLDFAST_SESSION_UNAVAILABLE')
      })
      t.same(
        [carriedBy(reply), reply.headers['vary'], reply.headers['cache-control']],
        [{ header: undefined, cookie: undefined }, undefined, undefined]
      )
    }
    t.same(store.taken(), [])
    t.same(await stored(app, id), { a: 'old' })
  }
)

t.test('a hook before ours cannot take an unresolved session for an empty one', async (t) => {
  const { store } = await serve(t)
  const app = bare(t)
  let asks = false
  app.addHook('onRequest', async (request, reply) => {
    if (asks && (request as { session?: Session }).session?.user === undefined)
      return reply.code(401).send('log in first')
  })
  await app.register(sessionPlugin, { store })
  app.get('/', async ({ session }) => ({ ...session }))
  t.equal((await app.inject('/')).statusCode, 200)
  asks = true
  const reply = await app.inject('/')
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_SESSION_UNAVAILABLE'])
  t.match(reply.json().message, /Register the plugin before/)
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
})

t.test(
  'whoever replies to a request that was not resolved may ask for its session, and finds none',
  async (t) => {
    for (const answer of ['an error', 'a reply', 'a failing store'] as const) {
      const app = bare(t)
      const seen: unknown[] = []
      const look = (request: object): void => {
        const { session } = request as { session: Session }
        seen.push([Object.isFrozen(session), { ...session }])
      }
      app.addHook('onRequest', async (_request, reply) => {
        if (answer === 'an error')
          throw Object.assign(new Error('too many requests'), { statusCode: 429 })
        if (answer === 'a reply') return reply.code(429).send()
      })
      const store = new WatchedStore(new MemoryStore())
      await app.register(sessionPlugin, { store })
      store.intercept = () => {
        throw new Error('down')
      }
      app.setErrorHandler(async (error: { statusCode: number }, request, reply) => {
        look(request)
        return reply.code(error.statusCode).send()
      })
      app.addHook('onSend', async (request) => {
        look(request)
      })
      app.addHook('onResponse', async (request) => {
        look(request)
      })
      app.get('/', async () => 'ok')
      const reply = await app.inject({
        url: '/',
        cookies: { session_id: 'unknown-to-the-store-0001' }
      })
      t.equal(reply.statusCode, answer === 'a failing store' ? 503 : 429, answer)
      t.same(
        seen,
        Array.from({ length: answer === 'a reply' ? 2 : 3 }, () => [true, {}]),
        answer
      )
    }
  }
)

t.test(
  'P13: a log serializer that asks for the session before any hook has run finds none, and ends no process',
  async (t) => {
    const seen: unknown[] = []
    const look = (request: object): void => {
      seen.push({ ...(request as { session?: Session }).session })
    }
    const { app } = await serve(
      t,
      {},
      {
        logger: {
          level: 'info',
          stream: { write() {} },
          serializers: {
            req(request) {
              look(request)
              return { url: request.url }
            }
          }
        }
      }
    )
    app.addHook('onRequest', async () => {})
    t.equal((await app.inject('/read')).statusCode, 200)
    t.same(seen[0], {})
  }
)

t.test('a request cannot be given another session', async (t) => {
  const { app, store } = await serve(t)
  app.get('/null', async (request) => {
    ;(request as unknown as { session: null }).session = null
  })
  const id = await begin(app)
  store.taken()
  const reply = await app.inject({ url: '/null', cookies: { session_id: id } })
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_SESSION_READONLY'])
  t.match(reply.json().message, /destroy\(\)/)
  t.same(await stored(app, id), { a: 'old' })
})

t.test('a callback is refused, for it would never be called', async (t) => {
  const { app, store } = await serve(t)
  const calls: Record<string, (session: any, callback: () => void) => unknown> = {
    save: (session, callback) => session.save(callback),
    reload: (session, callback) => session.reload(callback),
    destroy: (session, callback) => session.destroy(callback),
    regenerate: (session, callback) => session.regenerate(callback),
    'regenerate, keeping': (session, callback) => session.regenerate(['a'], callback)
  }
  app.get('/:name', (request, reply) => {
    const { name } = request.params as { name: string }
    calls[name]?.(request.session, () => {
      reply.send('called back')
    })
  })
  const id = await begin(app)
  for (const name of Object.keys(calls)) {
    store.taken()
    const reply = await app.inject({
      url: `/${encodeURIComponent(name)}`,
      cookies: { session_id: id }
    })
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_CALLBACK_UNSUPPORTED'], name)
    t.match(reply.json().message, /await/, name)
    t.same(store.taken(), ['get'], name)
  }
})

t.test('another plugin that answers in an earlier onRequest hook is let alone', async (t) => {
  for (const answer of ['reply', 'error'] as const) {
    const app = bare(t)
    app.addHook('onRequest', async (_request, reply) => {
      if (answer === 'error') throw new Error('refused')
      return reply.code(403).send('refused')
    })
    await app.register(sessionPlugin)
    app.get('/', async ({ session }) => {
      session.a = 'x'
    })
    const reply = await app.inject({
      url: '/',
      cookies: { session_id: 'unknown-to-the-store-0001' }
    })
    t.equal(reply.statusCode, answer === 'error' ? 500 : 403)
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    t.equal(reply.headers['vary'], undefined)
  }
})

t.test('a later hook that answers commits what it wrote', async (t) => {
  const { app } = await serve(t)
  app.addHook('preHandler', async ({ session }, reply) => {
    session.a = 'in the hook'
    return reply.send('answered')
  })
  const reply = await app.inject('/look-away')
  t.equal(reply.body, 'answered')
  t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'in the hook' })
})

t.test('handlers that answer by callback or by promise', async (t) => {
  const { app } = await serve(t)
  app.get('/callback', ({ session }, reply) => {
    session.a = 'callback'
    setImmediate(() => {
      reply.send('sent')
    })
  })
  app.get('/synchronous', ({ session }, reply) => {
    session.a = 'synchronous'
    reply.send('sent')
  })
  app.get('/promise', async ({ session }) => {
    session.a = 'promise'
    return 'sent'
  })
  app.get('/reply', async ({ session }, reply) => {
    session.a = 'reply'
    return reply.send('sent')
  })
  for (const name of ['callback', 'synchronous', 'promise', 'reply']) {
    const reply = await app.inject(`/${name}`)
    t.equal(reply.body, 'sent')
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: name })
  }
})

t.test('closing the app closes the store of its own, and not one that it was given', async (t) => {
  for (const given of [true, false]) {
    const store = new MemoryStore()
    const app = bare(t)
    await app.register(sessionPlugin, given ? { store } : {})
    app.get('/', async ({ session }) => {
      session.a = 'x'
    })
    await app.inject('/')
    const kept = app.sessions.store as MemoryStore
    t.equal(kept.size, 1)
    await app.close()
    t.equal(kept.size, given ? 1 : 0)
    t.equal(app.sessions.store === store, given)
  }
})

t.test('S18: the default store keeps no process alive, closed or not', async (t) => {
  for (const close of ['', 'await app.close()']) {
    const program = `
      import Fastify from 'fastify'
      import plugin from ${JSON.stringify(new URL('../lib/index.js', import.meta.url).href)}
      const app = Fastify()
      await app.register(plugin)
      app.get('/', async ({ session }) => { session.a = 'x' })
      await app.inject('/')
      ${close}
      console.log('done')`
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '--eval', program],
      { timeout: 20_000 }
    )
    t.equal(stdout, 'done\n')
  }
})

t.test('fastify.sessions works beside the requests', async (t) => {
  const { app } = await serve(t)
  const id = await begin(app)
  const publicId = app.sessions.publicIdOf(id)
  t.equal(await app.sessions.update(publicId, (draft) => (draft.n = 1)), 1)
  t.same((await app.inject({ url: '/read', cookies: { session_id: id } })).json(), {
    a: 'old',
    n: 1
  })
  t.equal(await app.sessions.destroy(publicId), true)
  t.same((await app.inject({ url: '/read', cookies: { session_id: id } })).json(), {})
})

t.test(
  "over a real socket, by Node's fetch, which is no browser's: it has the id in the header",
  async (t) => {
    const { app } = await serve(t)
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const first = await fetch(`${url}/write/x`)
    const id = first.headers.get('x-session-id') as string
    t.match(first.headers.getSetCookie(), [new RegExp(`^session_id=${id};`)])
    t.same(await (await fetch(`${url}/read`, { headers: { cookie: `session_id=${id}` } })).json(), {
      a: 'x'
    })
    t.same(await (await fetch(`${url}/read`, { headers: { 'x-session-id': id } })).json(), {
      a: 'x'
    })
  }
)

t.test('requests on one kept connection do not share a session', async (t) => {
  const { app } = await serve(t)
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => {
    agent.destroy()
  })
  const ask = (
    path: string,
    headers = {}
  ): Promise<{ body: string; id: string | undefined; port: number | undefined }> =>
    new Promise((resolve, reject) => {
      get(`${url}${path}`, { agent, headers }, (response) => {
        const port = response.socket.localPort
        let body = ''
        response
          .setEncoding('utf8')
          .on('data', (chunk: string) => {
            body += chunk
          })
          .on('end', () => {
            resolve({ body, id: response.headers['x-session-id'] as string | undefined, port })
          })
      }).on('error', reject)
    })
  const one = await ask('/write/one')
  const two = await ask('/write/two')
  t.not(one.id, two.id)
  const again = await ask('/read', { 'x-session-id': one.id })
  t.same(JSON.parse(again.body), { a: 'one' })
  t.same(JSON.parse((await ask('/read', { cookie: `session_id=${two.id}` })).body), { a: 'two' })
  t.same((await ask('/read')).body, '{}')
  t.equal(new Set([one.port, two.port, again.port]).size, 1, 'one connection')
})

t.test('a HEAD request commits as its GET does', async (t) => {
  const { app } = await serve(t)
  const reply = await app.inject({ method: 'HEAD', url: '/write/x' })
  t.equal(reply.statusCode, 200)
  t.equal(reply.body, '')
  t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' })
})

import { once } from 'node:events'
import { get, type ClientRequest } from 'node:http'
import { Readable } from 'node:stream'

import websocket from '@fastify/websocket'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'

import { SessionError, type Session, type SessionData, type SessionRecord } from '../lib/index.ts'
import { overEveryStore } from './helpers/attack.ts'
import { Browser, carriedBy, idIn } from './helpers/browser.ts'
import { begin, listen, serve, setCookies, stored, unhandled } from './helpers/serve.ts'
import { nextTurn } from './helpers/stores.ts'
import { settle, signal } from './helpers/waiting.ts'

const undeliverable = 'HOLDFAST_ID_UNDELIVERABLE'

/** Waits for a line of a log, and then a little for more. */
async function heard(log: readonly string[]): Promise<void> {
  for (let turn = 0; turn < 20_000 && log.length === 0; turn += 1) await nextTurn()
  await settle()
}

/** The messages of a log, which is emptied. */
function taken(log: readonly string[]): string[] {
  return (log as string[]).splice(0).map((line) => (JSON.parse(line) as { msg: string }).msg)
}

async function codeOf(operation: () => Promise<unknown>): Promise<string> {
  try {
    await operation()
    return 'done'
  } catch (error) {
    return error instanceof SessionError ? error.code : String(error)
  }
}

/** A client over a socket, which a test can end before it has its reply. */
async function visit(app: FastifyInstance, id: string): Promise<ClientRequest> {
  const headers = { cookie: `session_id=${id}` }
  const client = get({ port: await listen(app), host: '127.0.0.1', agent: false, headers })
  return client.on('error', () => {})
}

/** Has what follows run as in production. */
function inProduction(t: Test): void {
  const { NODE_ENV } = process.env
  process.env['NODE_ENV'] = 'production'
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = NODE_ENV
  })
}

/** Ways to change a session that holds { a: 'old', cart: [] }. */
const changes: Readonly<Record<string, (session: Session) => void>> = {
  'a new key': (session) => {
    session.b = 'late'
  },
  'another value': (session) => {
    session.a = 'late'
  },
  'a change within a value': (session) => {
    ;(session.cart as string[]).push('late')
  },
  'set()': (session) => {
    session.set('b', 'late')
  },
  'a delete by set()': (session) => {
    session.set('a', undefined)
  },
  maxAge: (session) => {
    session.maxAge = 7
  }
}

/** When a request may change its session too late; what it answers is done long after the reply. */
const moments: Readonly<
  Record<string, (app: FastifyInstance, change: (session: Session) => void) => (() => void) | void>
> = {
  'in a later onSend hook': (app, change) => {
    app.addHook('onSend', async ({ url, session }) => {
      if (url === '/') change(session)
    })
    app.get('/', async ({ session }) => ({ ...session }))
  },
  'in a later onSend hook that is the first to look': (app, change) => {
    app.addHook('onSend', async (request) => {
      if (request.url === '/') change(request.session)
    })
    app.get('/', async () => 'ok')
  },
  'after reply.send()': (app, change) => {
    app.get('/', ({ session }, reply) => {
      session.get('a')
      reply.send('ok')
      setImmediate(() => {
        change(session)
      })
    })
  },
  'in the stream of the reply': (app, change) => {
    app.get('/', async ({ session }, reply) =>
      reply.send(
        Readable.from(
          (async function* () {
            yield 'one'
            await nextTurn()
            change(session)
            yield 'two'
          })()
        )
      )
    )
  },
  'in an onResponse hook': (app, change) => {
    app.addHook('onResponse', async ({ url, session }) => {
      if (url === '/') change(session)
    })
    app.get('/', async ({ session }) => ({ ...session }))
  },
  'long after the reply': (app, change) => {
    let held!: Session
    app.get('/', async ({ session }) => {
      held = session
      return session.get('a')
    })
    return () => {
      change(held)
    }
  }
}

for (const [when, arrange] of Object.entries(moments)) {
  overEveryStore(
    t,
    `P13: a change ${when} is not stored, and is warned of once`,
    async (t, serveOver) => {
      for (const [what, change] of Object.entries(changes)) {
        const { app, log } = await serveOver()
        app.get('/begin', async ({ session }) => {
          session.a = 'old'
          session.cart = []
        })
        const later = arrange(app, change)
        const id = carriedBy(await app.inject('/begin')).cookie as string
        await settle()
        t.same(taken(log), [])
        await app.inject({ url: '/', cookies: { session_id: id } })
        await settle()
        later?.()
        await heard(log)
        const messages = taken(log)
        t.equal(messages.length, 1, what)
        t.match(messages[0], /not stored.*session\.update\(\) or session\.save\(\)/, what)
        t.same(await stored(app, id), { a: 'old', cart: [] }, what)
      }
    }
  )
}

t.test(
  'in production a new key is noticed at any time, and another value by the end of the response',
  async (t) => {
    inProduction(t)
    const cases = [
      ['long after the reply', 'a new key'],
      ['after reply.send()', 'a new key'],
      ['in a later onSend hook', 'another value'],
      ['in the stream of the reply', 'another value']
    ] as const
    for (const [when, what] of cases) {
      const { app, log } = await serve(t)
      app.get('/begin', async ({ session }) => {
        session.a = 'old'
      })
      const later = moments[when]?.(app, changes[what] as (session: Session) => void)
      const id = carriedBy(await app.inject('/begin')).cookie as string
      taken(log)
      await app.inject({ url: '/', cookies: { session_id: id } })
      await settle()
      later?.()
      await heard(log)
      t.match(
        taken(log).filter((line) => !line.includes('Secure')),
        [/not stored/],
        `${what} ${when}`
      )
    }
  }
)

overEveryStore(
  t,
  'what is read late, or stored by update() or save(), is warned of by nobody, and the session is as it always was',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    const seen: unknown[] = []
    const look = (session: Session): void => {
      seen.push(
        Object.keys(session),
        { ...session },
        JSON.stringify(session),
        'a' in session,
        session.get('a'),
        session.data(),
        structuredClone(session),
        Object.isFrozen(session)
      )
    }
    app.get('/begin', async ({ session }) => {
      session.a = 'old'
      session.cart = ['pear']
    })
    app.get('/', async ({ session }, reply) => {
      look(session)
      return reply.send(
        Readable.from(
          (async function* () {
            yield 'one'
            look(session)
            session.b = 'saved'
            await session.save()
            await session.update((draft) => {
              draft.n = (draft.n ?? 0) + 1
            })
            session.b = 'saved again'
            await session.save()
            yield 'two'
          })()
        )
      )
    })
    app.addHook('onResponse', async ({ session, url }) => {
      if (url === '/late') look(session)
    })
    app.get('/late', async ({ session }) => {
      look(session)
    })
    const id = carriedBy(await app.inject('/begin')).cookie as string
    for (const url of ['/', '/late'] as const) {
      seen.length = 0
      t.equal((await app.inject({ url, cookies: { session_id: id } })).statusCode, 200)
      await settle()
      t.equal(seen.length, 16)
      t.same(seen.slice(8), seen.slice(0, 8), 'it looks the same before the commit and after it')
    }
    await settle()
    t.same(taken(log), [])
    t.same(await stored(app, id), { a: 'old', cart: ['pear'], b: 'saved again', n: 1 })
  }
)

t.test('P13: a change after an update() that came after the reply is warned of too', async (t) => {
  const { app, log } = await serve(t)
  const [replied, goOn] = signal()
  app.get('/', async ({ session }) => {
    void replied.then(async () => {
      await session.update((draft) => {
        draft.n = 1
      })
      await settle()
      session.a = 'late'
    })
    return { ...session }
  })
  const id = await begin(app)
  await app.inject({ url: '/', cookies: { session_id: id } })
  await settle()
  goOn()
  await heard(log)
  t.match(taken(log), [/not stored/])
  t.same(await stored(app, id), { a: 'old', n: 1 })
})

overEveryStore(
  t,
  'what a socket changes and does not save is warned of when it closes',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    await app.register(websocket)
    await app.register(async (scope) => {
      scope.get('/changes', { websocket: true }, (socket, { session }) => {
        session.b = 'unsaved'
        socket.close()
      })
      scope.get('/saves', { websocket: true }, async (socket, { session }) => {
        session.b = 'saved'
        await session.save()
        socket.close()
      })
    })
    const id = await begin(app)
    const port = await listen(app)
    for (const [path, expected] of [
      ['changes', [/not stored.*session\.save\(\)/]],
      ['saves', []]
    ] as const) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/${path}`, {
        headers: { cookie: `session_id=${id}` }
      })
      await once(socket, 'close')
      if (expected.length > 0) await heard(log)
      else await settle()
      const messages = taken(log)
      t.equal(messages.length, expected.length, path)
      t.match(messages, expected, path)
    }
    t.same(await stored(app, id), { a: 'old', b: 'saved' })
  }
)

overEveryStore(
  t,
  'an operation that fails after the reply, and that nobody waits for, is logged',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const { app, store, log } = await serveOver()
    app.get('/', ({ session }, reply) => {
      reply.send('ok')
      setImmediate(() => {
        session.update((draft) => {
          draft.n = 1
        })
      })
    })
    const id = await begin(app)
    store.intercept = async ({ verb }, pass) => {
      if (verb === 'update') throw new Error('down')
      return pass()
    }
    t.equal((await app.inject({ url: '/', cookies: { session_id: id } })).statusCode, 200)
    await heard(log)
    t.match(taken(log), [/failed after its reply/])
    t.same(rejections, [])
  }
)

// Where no reply can bring a new id.

/** Begins a session, and does work on it where its reply is taken over, or on its way. */
async function pastTheReply(
  place: string,
  app: FastifyInstance,
  work: (session: Session) => Promise<unknown>
): Promise<{ id: string; result: unknown }> {
  let result: unknown
  const run = async (session: Session): Promise<void> => {
    result = await work(session)
  }
  if (place === 'a socket') {
    await app.register(websocket)
    await app.register(async (scope) => {
      scope.get('/socket', { websocket: true }, (socket, { session }) => {
        void run(session).then(() => {
          socket.close()
        })
      })
    })
    const id = await begin(app)
    const socket = new WebSocket(`ws://127.0.0.1:${await listen(app)}/socket`, {
      headers: { cookie: `session_id=${id}` }
    })
    await once(socket, 'close')
    return { id, result }
  }
  app.get('/hijack', async ({ session }, reply) => {
    reply.hijack()
    await run(session)
    reply.raw.end()
  })
  app.get('/stream', async ({ session }, reply) =>
    reply.send(
      Readable.from(
        (async function* () {
          yield 'one'
          await run(session)
        })()
      )
    )
  )
  app.get('/head-written', async ({ session }, reply) => {
    reply.hijack()
    reply.raw.writeHead(200).write('one')
    await run(session)
    reply.raw.end()
  })
  const [ran, over] = signal()
  app.get('/after', ({ session }, reply) => {
    reply.send('ok')
    setImmediate(() => {
      void run(session).then(over)
    })
  })
  const id = await begin(app)
  await app.inject({ url: `/${place}`, cookies: { session_id: id } })
  if (place === 'after') await ran
  return { id, result }
}

for (const place of ['a socket', 'hijack', 'stream', 'head-written', 'after']) {
  overEveryStore(
    t,
    `regenerate() where no reply can bring the new id removes nothing: ${place}`,
    async (t, serveOver) => {
      const { app, store } = await serveOver()
      const { id, result } = await pastTheReply(place, app, async (session) => {
        store.taken()
        return [
          await codeOf(() => session.regenerate()),
          await codeOf(() => session.regenerate(['a'])),
          store.taken(),
          { ...session }
        ]
      })
      t.same(result, [undeliverable, undeliverable, [], { a: 'old' }])
      t.same(await stored(app, id), { a: 'old' })
    }
  )
}

// save() before the reply is taken over.

overEveryStore(
  t,
  'save() before hijack() stores, and puts the header and the cookie on the reply',
  async (t, serveOver, advance) => {
    const { app, log } = await serveOver({ maxAge: 3600 })
    const page =
      (work: (session: Session) => unknown) =>
      async ({ session }: { session: Session }, reply: any): Promise<void> => {
        await work(session)
        await session.save()
        reply.hijack()
        reply.raw.writeHead(200, reply.getHeaders())
        reply.raw.end(JSON.stringify(session))
      }
    app.get('/page', page(() => {}) as never)
    app.get(
      '/login-page',
      page(async (session) => {
        await session.regenerate()
        session.user = 'ada'
      }) as never
    )
    app.get('/logout-page', page((session) => session.destroy()) as never)
    app.get(
      '/touch-page',
      page((session) => {
        session.touch()
      }) as never
    )

    const first = await app.inject('/page')
    t.ok(carriedBy(first).cookie, 'a session begins')
    t.equal(carriedBy(first).header, carriedBy(first).cookie)
    t.match(first.headers, { 'cache-control': 'private', vary: /Cookie/ })

    const browser = new Browser(app)
    await browser.get('/login-page')
    const id = idIn(browser)
    t.same(await stored(app, id), { user: 'ada' })
    for (let time = 0; time < 7; time += 1) {
      await advance(600_000)
      const reply = await browser.get('/page')
      t.equal(reply.body, '{"user":"ada"}', 'a page each ten minutes keeps the visitor signed in')
      t.match(setCookies(reply), [/Max-Age=3600/], 'and so does the cookie')
    }
    t.same(setCookies(await browser.get('/page')), [], 'what is not due costs nothing')
    t.match(
      setCookies(await browser.get('/touch-page')),
      [/Max-Age=3600/],
      'but what is asked for is done'
    )

    const goodbye = await browser.get('/logout-page')
    t.match(setCookies(goodbye), [/^session_id=; Max-Age=0/])
    t.equal(await stored(app, id), undefined)
    await settle()
    t.same(taken(log), [])
  }
)

overEveryStore(
  t,
  'touch() on a page that is hijacked keeps the session alive',
  async (t, serveOver, advance) => {
    const { app } = await serveOver({ maxAge: 3600 })
    app.get('/page', async ({ session }, reply) => {
      session.touch()
      reply.hijack()
      reply.raw.end('page')
    })
    app.get('/late', async ({ session }, reply) => {
      reply.hijack()
      session.touch()
      reply.raw.end('page')
    })
    for (const url of ['/page', '/late']) {
      const id = await begin(app)
      for (let time = 0; time < 7; time += 1) {
        await advance(600_000)
        await app.inject({ url, cookies: { session_id: id } })
        await settle()
      }
      t.same(await stored(app, id), { a: 'old' }, url)
    }
  }
)

overEveryStore(
  t,
  'touch() on a socket moves the expiry while it is open',
  async (t, serveOver, advance) => {
    const { app } = await serveOver({ maxAge: 3600 })
    await app.register(websocket)
    await app.register(async (scope) => {
      scope.get('/socket', { websocket: true }, (socket, { session }) => {
        socket.on('message', () => {
          session.touch()
        })
      })
    })
    const id = await begin(app)
    const publicId = app.sessions.publicIdOf(id)
    const socket = new WebSocket(`ws://127.0.0.1:${await listen(app)}/socket`, {
      headers: { cookie: `session_id=${id}` }
    })
    await once(socket, 'open')
    for (let time = 0; time < 7; time += 1) {
      await advance(600_000)
      const expiry = async (): Promise<number> =>
        (await app.sessions.get(publicId))?.expiresAt as number
      const before = await expiry()
      socket.send('here')
      // By some ten minutes: Redis counts milliseconds of its own.
      for (let tries = 0; tries < 1000 && (await expiry()) < before + 590_000; tries += 1)
        await nextTurn()
      t.ok((await expiry()) >= before + 590_000)
    }
    socket.close()
  }
)

overEveryStore(
  t,
  'P2: what save() put on the reply does not go out if the session ends before the commit',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/', async ({ session }) => {
      session.user = 'ada'
      await session.save()
      await app.sessions.destroy(session.publicId)
      return 'ok'
    })
    for (const cookies of [{ session_id: await begin(app) }, {}] as const) {
      const reply = await app.inject({ url: '/', cookies: { ...cookies } })
      t.equal(reply.statusCode, 200)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    }
  }
)

overEveryStore(
  t,
  'P2: of what save() put on the reply, nothing stays that the commit does not say again',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const ends = {
      regenerate: (session: Session) => session.regenerate(['a']),
      destroy: (session: Session) => session.destroy(),
      'destroy and begin anew': async (session: Session) => {
        await session.destroy()
        session.a = 'old'
      }
    }
    for (const [path, end] of Object.entries(ends)) {
      app.get(`/${path.replaceAll(' ', '-')}`, async ({ session }) => {
        session.b = 'new'
        await session.save()
        await end(session)
        return 'ok'
      })
    }
    for (const path of Object.keys(ends)) {
      for (const transport of ['header', 'cookie', 'both'] as const) {
        const id = await begin(app)
        const headers = {
          ...(transport === 'cookie' ? {} : { 'x-session-id': id }),
          ...(transport === 'header' ? {} : { cookie: `session_id=${id}` })
        }
        const reply = await app.inject({ url: `/${path.replaceAll(' ', '-')}`, headers })
        const { header, cookie } = carriedBy(reply)
        t.notOk([header, cookie].includes(id), `${path}, ${transport}`)
        if (header !== undefined && path !== 'destroy') t.equal(header, cookie)
        if (path !== 'destroy') t.same(await stored(app, cookie as string), { a: 'old' })
        t.equal(setCookies(reply).length <= 1, true)
      }
    }
  }
)

overEveryStore(
  t,
  'save() before a reply of Fastify: the cookie that it refreshed goes out',
  async (t, serveOver, advance) => {
    const { app } = await serveOver({ maxAge: 3600 })
    app.get('/', async ({ session }) => {
      await session.save()
      return 'ok'
    })
    const id = await begin(app)
    await advance(600_000)
    const reply = await app.inject({ url: '/', cookies: { session_id: id } })
    t.match(setCookies(reply), [/Max-Age=3600/])
    t.equal(setCookies(reply).length, 1)
  }
)

overEveryStore(
  t,
  'P8: where the commit fails after save(), the id that was stored goes out, for the other may be dead',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.get('/', async ({ session }, reply) => {
      await session.regenerate(['a'])
      await session.save()
      reply.header('cache-control', 'public')
      store.intercept = async () => {
        throw new Error('down')
      }
      session.user = 'grace'
      return 'ok'
    })
    const pass = store.intercept
    const reply = await app.inject({ url: '/', cookies: { session_id: await begin(app) } })
    store.intercept = pass
    t.same([reply.statusCode, reply.headers['cache-control']], [503, 'private'])
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'old' })
  }
)

overEveryStore(
  t,
  'P2: where the commit fails after save(), the id that the client has does not go out again',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.get('/', async ({ session }) => {
      session.touch()
      await session.save()
      store.intercept = async () => {
        throw new Error('down')
      }
      session.user = 'grace'
      return 'ok'
    })
    const id = await begin(app)
    const reply = await app.inject({
      url: '/',
      headers: { 'x-session-id': id, cookie: `session_id=${id}` }
    })
    t.equal(reply.statusCode, 503)
    t.same(
      carriedBy(reply),
      { header: undefined, cookie: undefined },
      'another login may have replaced its cookie'
    )
  }
)

overEveryStore(
  t,
  'P2: what save() put on the reply is taken off by what ends the session, whoever sends the reply',
  async (t, serveOver) => {
    const { app } = await serveOver()
    for (const [path, end] of Object.entries({
      destroy: (session: Session) => session.destroy(),
      regenerate: (session: Session) => session.regenerate()
    })) {
      app.get(`/${path}`, async ({ session }, reply) => {
        session.touch()
        await session.save()
        await end(session)
        reply.hijack()
        reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>)
        reply.raw.end()
      })
    }
    for (const path of ['destroy', 'regenerate']) {
      const reply = await app.inject({ url: `/${path}`, cookies: { session_id: await begin(app) } })
      t.same(setCookies(reply), [], path)
    }
  }
)

/** Ways in which an app can keep a session from being changed. */
const frozen: Readonly<Record<string, (session: Session) => unknown>> = {
  frozen: (session) => Object.freeze(session),
  sealed: (session) => Object.seal(session),
  'not extensible': (session) => Object.preventExtensions(session),
  'with a key that cannot be changed': (session) =>
    Object.defineProperty(session, 'b', { value: 'fixed', enumerable: true }),
  'with a hidden key that cannot be changed': (session) =>
    Object.defineProperty(session, 'n', { value: 0 })
}

t.test('regenerate() leaves an empty session the object that it is, also if frozen', async (t) => {
  const { app } = await serve(t, { saveUninitialized: false })
  app.get('/empty', async (request) => {
    const { session } = request
    Object.freeze(session)
    await session.regenerate()
    return { isSame: request.session === session }
  })
  t.same((await app.inject('/empty')).json(), { isSame: true })
})

t.test('a session that the app freezes makes no reply an error, and loses no id', async (t) => {
  const { app } = await serve(t)
  app.get<{ Params: { how: string } }>('/:how', async ({ session, params }) => {
    await session.regenerate(['a'])
    session.user = 'ada'
    frozen[params.how]?.(session)
    return 'ok'
  })
  for (const how of Object.keys(frozen)) {
    const reply = await app.inject({
      url: `/${encodeURIComponent(how)}`,
      cookies: { session_id: await begin(app) }
    })
    t.equal(reply.statusCode, 200, how)
    t.match(await stored(app, carriedBy(reply).cookie as string), { a: 'old', user: 'ada' }, how)
  }
})

overEveryStore(
  t,
  'P13: a property under a symbol, as tracing adds, keeps no change from being stored',
  async (t, serveOver) => {
    const { app } = await serveOver({ saveUninitialized: false })
    app.get<{ Params: { operation: string } }>(
      '/traced/:operation',
      async ({ session, params }) => {
        session.n = 0
        Object.defineProperty(session, Symbol('trace'), { value: 1 })
        if (params.operation === 'regenerate') await session.regenerate()
        if (params.operation === 'update') await session.update(count)
        session.user = 'ada'
        return 'ok'
      }
    )
    for (const operation of ['regenerate', 'update']) {
      const reply = await app.inject(`/traced/${operation}`)
      t.match(await stored(app, carriedBy(reply).cookie as string), { user: 'ada' }, operation)
    }
  }
)

const count = (draft: SessionData): void => {
  draft.n = 1
}

for (const [how, freeze] of Object.entries(frozen)) {
  overEveryStore(
    t,
    `P1: a session that the app has made ${how} is ended and changed all the same`,
    async (t, serveOver) => {
      const { app } = await serveOver({ saveUninitialized: false })
      app.get<{ Params: { operation: string } }>('/:operation', async (request) => {
        const { session, params } = request
        if (params.operation === 'merge') session.user = 'ada'
        freeze(session)
        if (params.operation === 'destroy') {
          await session.update(count)
          await session.destroy()
          await session.destroy()
        }
        if (params.operation === 'regenerate') await session.regenerate(['user'])
        if (params.operation === 'update') await session.update(count)
        if (params.operation === 'merge') await app.sessions.update(session.publicId, count)
        return { ...request.session.data(), isNew: request.session.isNew }
      })
      const send = async (
        operation: string
      ): Promise<{ reply: LightMyRequestResponse; id: string }> => {
        const id = await begin(app)
        return {
          id,
          reply: await app.inject({ url: `/${operation}`, cookies: { session_id: id } })
        }
      }

      const ended = await send('destroy')
      t.same([ended.reply.statusCode, ended.reply.json()], [200, { isNew: true }])
      t.equal(carriedBy(ended.reply).cookie, '', 'the cookie is cleared, and none is set')
      t.equal(await stored(app, ended.id), undefined)
      t.match(ended.reply.headers['vary'], 'Cookie', 'it depends on the session all the same')

      const moved = await send('regenerate')
      t.same([moved.reply.statusCode, moved.reply.json()], [200, { isNew: true }])
      t.equal(carriedBy(moved.reply).cookie, '', 'nothing was kept')

      for (const operation of ['update', 'merge']) {
        const { reply, id } = await send(operation)
        t.equal(reply.statusCode, 200, operation)
        const expected =
          operation === 'merge' ? { a: 'old', n: 1, user: 'ada' } : { a: 'old', n: 1 }
        t.match(await stored(app, id), expected, operation)
      }
    }
  )
}

t.test('in production, a session that the app has frozen and ended is not warned of', async (t) => {
  inProduction(t)
  const { app, log } = await serve(t)
  app.get('/', async ({ session }) => {
    Object.freeze(session)
    await session.destroy()
  })
  await app.inject({ url: '/', cookies: { session_id: await begin(app) } })
  await settle()
  t.same(
    taken(log).filter((message) => !message.includes('without Secure')),
    []
  )
})

overEveryStore(
  t,
  "the lines of a commit go to the request's logger, which a hook may have replaced",
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    app.addHook('preHandler', async (request) => {
      request.log = request.log.child({ tenant: 'acme' })
    })
    app.get('/spoilt', async ({ session }) => session.a ?? 'nothing')
    const id = await begin(app)
    const publicId = app.sessions.publicIdOf(id)
    const record = await app.sessions.store.get(publicId)
    await app.sessions.store.update(
      publicId,
      { ...(record as SessionRecord), data: 'spoilt', version: 'v' },
      (record as SessionRecord).version
    )
    taken(log)
    await app.inject({ url: '/spoilt', cookies: { session_id: id } })
    const line = log.find((text) => text.includes('cannot be read here')) as string
    t.equal((JSON.parse(line) as { tenant: string }).tenant, 'acme')
  }
)

overEveryStore(
  t,
  'a logger that throws makes the reply an error, and nothing of the session goes out',
  async (t, serveOver) => {
    const quiet = { info() {}, warn() {}, error() {}, fatal() {}, trace() {}, level: 'debug' }
    const logger = {
      ...quiet,
      silent() {},
      child: () => logger,
      debug() {
        throw new Error('the disk is full')
      }
    }
    const { app } = await serveOver({}, { logger: undefined, loggerInstance: logger } as object)
    const reply = await app.inject('/write/value')
    t.equal(reply.statusCode, 500)
    t.same(setCookies(reply), [])
    t.equal(reply.headers['x-session-id'], undefined)
  }
)

overEveryStore(
  t,
  'a lifetime alone, where nothing was to be stored, is nothing that was lost',
  async (t, serveOver) => {
    const { app, log } = await serveOver({ saveUninitialized: false })
    app.addHook('onRequest', async ({ session }) => {
      session.maxAge = 600
    })
    app.get('/ends', async ({ session }) => {
      await session.destroy()
      session.maxAge = 60
    })
    const id = await begin(app)
    for (const url of ['/read', '/nowhere', '/ends', '/read'])
      await app.inject({ url, cookies: { session_id: id } })
    await app.inject('/read')
    await settle()
    t.same(taken(log), [])
  }
)

overEveryStore(
  t,
  'P13: what is changed while the commit is under way is warned of, in production too',
  async (t, serveOver) => {
    inProduction(t)
    const { app, log } = await serveOver()
    app.get('/', ({ session }, reply) => {
      session.b = 'in time'
      reply.send('ok')
      session.a = 'late'
    })
    const id = await begin(app)
    taken(log)
    await app.inject({ url: '/', cookies: { session_id: id } })
    await heard(log)
    t.match(
      taken(log).filter((line) => !line.includes('Secure')),
      [/not stored/]
    )
    t.same(await stored(app, id), { a: 'old', b: 'in time' })
  }
)

overEveryStore(
  t,
  'a page that is hijacked and left by its client is warned of too',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    const [isChanged, changed] = signal()
    app.get('/', async ({ session }, reply) => {
      reply.hijack()
      reply.raw.writeHead(200).write('data: open')
      session.b = 'unsaved'
      changed()
    })
    const id = await begin(app)
    const client = await visit(app, id)
    await once(client, 'response')
    await isChanged
    client.destroy()
    await heard(log)
    t.match(taken(log), [/not stored.*session\.save\(\)/])
  }
)

overEveryStore(
  t,
  'a regenerate whose reply is taken over without save() is warned of',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    app.get('/', async ({ session }, reply) => {
      await session.regenerate()
      reply.hijack()
      reply.raw.end()
    })
    const id = await begin(app)
    const url = `http://127.0.0.1:${await listen(app)}/`
    await (await fetch(url, { headers: { cookie: `session_id=${id}` } })).text()
    await heard(log)
    t.match(taken(log), [/id the client did not get.*reply\.getHeaders\(\)/])
  }
)

overEveryStore(
  t,
  'attributes of the cookie that are set after the reply are warned of, once',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    app.get('/', ({ session }, reply) => {
      reply.send('ok')
      setImmediate(() => {
        session.options({ persistent: false })
        session.options({ persistent: true })
      })
    })
    await app.inject({ url: '/', cookies: { session_id: await begin(app) } })
    await heard(log)
    const warnings = taken(log)
    t.match(warnings, [/not stored/])
    t.equal(warnings.length, 1)
  }
)

overEveryStore(t, 'a touch that fails where no reply is sent is logged', async (t, serveOver) => {
  const rejections = unhandled(t)
  const { app, store, log } = await serveOver()
  app.get('/', async ({ session }, reply) => {
    await session.save()
    reply.hijack()
    store.intercept = async () => {
      throw new Error('down')
    }
    session.touch()
    reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>).end()
  })
  await app.inject('/')
  await heard(log)
  t.match(taken(log), [/could not be touched/])
  t.same(rejections, [])
})

t.test('in production a request whose commit failed is not warned of once more', async (t) => {
  inProduction(t)
  const { app, store, log } = await serve(t)
  const id = await begin(app)
  taken(log)
  store.intercept = ({ verb }, pass) => {
    if (verb === 'update') throw new Error('down')
    return pass()
  }
  t.equal((await app.inject({ url: '/write/x', cookies: { session_id: id } })).statusCode, 503)
  await settle()
  t.notMatch(taken(log).join(), /not stored/)
})

overEveryStore(
  t,
  'P2: what save() put on the reply is taken off when the session is found to have ended',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/page', async ({ session }, reply) => {
      session.touch()
      await session.save()
      await app.sessions.destroy(session.publicId)
      t.equal(
        await codeOf(() =>
          session.update((draft) => {
            draft.n = 1
          })
        ),
        'HOLDFAST_SESSION_GONE'
      )
      reply.hijack()
      reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>).end()
    })
    const reply = await app.inject({ url: '/page', cookies: { session_id: await begin(app) } })
    t.same([reply.statusCode, setCookies(reply)], [200, []])
  }
)

t.test('save() may be called any number of times before one reply', async (t) => {
  const { app } = await serve(t)
  app.get('/', async ({ session }) => {
    for (let n = 0; n < 10_000; n += 1) {
      session.n = n
      await session.save()
    }
    return 'ok'
  })
  const reply = await app.inject('/')
  t.same([reply.statusCode, setCookies(reply).length], [200, 1])
})

overEveryStore(
  t,
  'a visitor who leaves before the reply is nothing to warn of: the commit is still to come',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    const [released, goOn] = signal()
    const [reached, arrived] = signal()
    const left = new Promise<void>((resolve) => {
      app.addHook('onRequestAbort', async (_request) => {
        resolve()
      })
    })
    app.get('/', async ({ session }) => {
      session.a = 'new'
      arrived()
      await released
      return 'ok'
    })
    const id = await begin(app)
    const client = await visit(app, id)
    await reached
    client.destroy()
    await left
    await settle()
    goOn()
    for (
      let tries = 0;
      tries < 5000 && JSON.stringify(await stored(app, id)) !== '{"a":"new"}';
      tries += 1
    )
      await nextTurn()
    t.same(await stored(app, id), { a: 'new' })
    await settle()
    t.same(taken(log), [])
  }
)

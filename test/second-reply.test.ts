import { Readable } from 'node:stream'
import { mock } from 'node:test'

import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'

import sessionPlugin, { MemoryStore, type Session } from '../lib/index.ts'
import { systemClock } from '../lib/clock.ts'
import { TestClock } from '../lib/testing/index.ts'
import { overEveryStore } from './helpers/attack.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, logInto, serve, setCookies, stored, unhandled } from './helpers/serve.ts'
import { nextTurn, slow, type Verb } from './helpers/stores.ts'
import { settle, signal } from './helpers/waiting.ts'
import { Gate } from './races/gate.ts'

/** What a log says of replies that came too late. */
function refusals(log: readonly string[]): string[] {
  return log.filter((line) =>
    /FST_ERR_REP_ALREADY_SENT|Promise errored, but reply\.sent/.test(line)
  )
}

const guards = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const

for (const hook of guards) {
  overEveryStore(
    t,
    `P6: a guard in ${hook} that does not return its reply keeps the visitor out`,
    async (t, serveOver) => {
      for (const form of ['async', 'callback', 'async, and returns the reply'] as const) {
        const { app } = await serveOver()
        const ran: string[] = []
        const refuse = (request: FastifyRequest, reply: FastifyReply): FastifyReply | undefined => {
          if (request.session.user !== undefined) return undefined
          return reply.code(401).send('log in')
        }
        const asynchronous = async (
          request: FastifyRequest,
          reply: FastifyReply
        ): Promise<FastifyReply | undefined> => {
          const sent = refuse(request, reply)
          return form === 'async' ? undefined : sent
        }
        const callback = (
          request: FastifyRequest,
          reply: FastifyReply,
          ...rest: unknown[]
        ): void => {
          if (refuse(request, reply) === undefined) (rest.at(-1) as () => void)()
        }
        const byCallback =
          hook === 'preParsing'
            ? (
                request: FastifyRequest,
                reply: FastifyReply,
                payload: unknown,
                done: () => void
              ): void => {
                callback(request, reply, payload, done)
              }
            : (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
                callback(request, reply, done)
              }
        await app.register(async (scope) => {
          scope.addHook(
            hook as 'preHandler',
            (form === 'callback' ? byCallback : asynchronous) as never
          )
          scope.addHook('preHandler', async () => {
            ran.push('a later hook')
          })
          for (const method of ['GET', 'DELETE'] as const) {
            scope.route({
              method,
              url: '/protected',
              handler: async () => {
                ran.push('the handler')
                return 'SECRET'
              }
            })
          }
        })
        for (const method of ['GET', 'HEAD', 'DELETE'] as const) {
          const reply = await app.inject({ method, url: '/protected' })
          await settle()
          t.same(
            [reply.statusCode, reply.body],
            [401, method === 'HEAD' ? '' : 'log in'],
            `${form}, ${method}`
          )
          t.same(ran, [], `${form}, ${method}: nothing after it runs`)
        }
      }
    }
  )
}

/** How a handler may go on after it has replied. */
const sequels: Readonly<Record<string, (reply: FastifyReply) => unknown>> = {
  nothing: () => undefined,
  'the reply, returned': (reply) => reply,
  'another value, returned': () => 'SECOND',
  'another reply': (reply) => {
    reply.code(500).header('x-late', '1').type('text/late').send('SECOND')
  },
  'a redirect': (reply) => {
    reply.redirect('/late')
  },
  'an error': (reply) => {
    reply.send(new Error('SECOND'))
  },
  'a throw': () => {
    throw new Error('SECOND')
  }
}

for (const [name, sequel] of Object.entries(sequels)) {
  overEveryStore(t, `P6: the first reply wins over what follows: ${name}`, async (t, serveOver) => {
    const rejections = unhandled(t)
    const { app, log } = await serveOver()
    const first = (session: FastifyRequest['session'], reply: FastifyReply): void => {
      session.user = 'ada'
      reply.code(201).header('x-first', '1').header('set-cookie', 'theme=dark').send({ ok: true })
    }
    app.get('/at-once', async ({ session }, reply) => {
      first(session, reply)
      return sequel(reply)
    })
    app.get('/a-turn-later', async ({ session }, reply) => {
      first(session, reply)
      await Promise.resolve()
      return sequel(reply)
    })
    app.get('/synchronous', ({ session }, reply) => {
      first(session, reply)
      return sequel(reply)
    })
    for (const method of ['GET', 'HEAD'] as const) {
      for (const url of ['/at-once', '/a-turn-later', '/synchronous']) {
        const reply = await app.inject({ method, url })
        await settle()
        const message = `${method} ${url}`
        t.same(
          [reply.statusCode, reply.body],
          [201, method === 'HEAD' ? '' : '{"ok":true}'],
          message
        )
        t.match(
          reply.headers,
          { 'x-first': '1', 'content-type': 'application/json; charset=utf-8' },
          message
        )
        t.same(
          [reply.headers['x-late'], reply.headers['location']],
          [undefined, undefined],
          message
        )
        t.same(
          reply.cookies.map(({ name }) => name),
          ['theme', 'session_id'],
          message
        )
        t.same(await stored(app, carriedBy(reply).cookie as string), { user: 'ada' }, message)
        const isSecond = !['nothing', 'the reply, returned'].includes(name)
        t.equal(
          refusals((log as string[]).splice(0)).length,
          isSecond ? 1 : 0,
          `${message}: one warning, if any`
        )
      }
    }
    t.same(rejections, [])
  })
}

overEveryStore(
  t,
  'a second reply leaves neither its trailers nor its stream',
  async (t, serveOver) => {
    const { app } = await serveOver()
    let late!: Readable
    let waits = false
    app.get('/', async ({ session }, reply) => {
      session.user = 'ada'
      reply.trailer('x-first', async () => 'first')
      reply.send('first')
      late = new Readable({ read() {} })
      waits = !reply.raw.writableEnded
      if (waits) reply.trailer('x-late', async () => 'late').removeTrailer('x-first')
      reply.send(late)
    })
    const reply = await app.inject('/')
    await settle()
    t.same([reply.body, reply.trailers], ['first', { 'x-first': 'first' }])
    // After a reply that is written, Fastify leaves a stream alone.
    t.equal(late.destroyed, waits)
  }
)

overEveryStore(
  t,
  'what late code says of status, headers, serialising and errors is as if it had not been said',
  async (t, serveOver) => {
    for (const fails of [false, true]) {
      const { app, store } = await serveOver()
      app.setErrorHandler(async (_error, _request, reply) => reply.redirect('/sorry'))
      app.get('/', (request, reply) => {
        request.session.user = 'ada'
        reply.raw.setHeader('x-raw', '1')
        reply.raw.statusMessage = 'Fine'
        reply.send('first')
        if (reply.raw.writableEnded) return
        reply.raw.setHeader('x-raw', 'late')
        reply
          .code(418)
          .serializer(() => 'late')
          .removeHeader('content-type')
          .header('x-late', '1')
          .type('text/late')
        reply.raw.statusCode = 799
        reply.raw.statusMessage = 'Late'
        reply.raw.setHeader('x-late-too', '1')
        throw new Error('late')
      })
      if (fails)
        store.intercept = async () => {
          throw new Error('down')
        }
      const reply = await app.inject('/')
      t.same(
        [reply.statusCode, reply.statusMessage, reply.headers['location']],
        fails ? [302, 'Fine', '/sorry'] : [200, 'Fine', undefined]
      )
      t.same(
        [reply.headers['x-late'], reply.headers['x-late-too'], reply.headers['x-raw']],
        [undefined, undefined, '1']
      )
      if (!fails)
        t.same([reply.body, reply.headers['content-type']], ['first', 'text/plain; charset=utf-8'])
    }
  }
)

t.test(
  'P6: what goes to the raw response while the commit is under way ends no process, and hangs nobody',
  async (t) => {
    const rejections = unhandled(t)
    const { app } = await serve(t, { store: slow(new MemoryStore()) })
    const own = Symbol('of another plugin')
    let kept: unknown
    app.addHook('onResponse', async (_request, reply) => {
      kept = (reply as unknown as Record<symbol, unknown>)[own]
    })
    app.get('/', ({ session }, reply) => {
      session.user = 'ada'
      reply.send('first')
      ;(reply as unknown as Record<symbol, unknown>)[own] = 'kept'
      reply.raw.writeHead(418, { 'content-length': '4' })
      reply.raw.end('late')
    })
    const reply = await fetch(`${await app.listen({ port: 0, host: '127.0.0.1' })}/`)
    t.same([reply.status, await reply.text()], [418, 'late'])
    await settle()
    t.same([kept, rejections], ['kept', []])
  }
)

t.test('P6: a status that only Node would take does not end the process', async (t) => {
  const rejections = unhandled(t)
  const { app } = await serve(t, { store: slow(new MemoryStore()) })
  app.get('/', ({ session }, reply) => {
    session.user = 'ada'
    reply.raw.statusCode = 799
    reply.send('first')
    reply.code(200)
  })
  t.same([(await app.inject('/')).statusCode, rejections], [799, []])
})

t.test('P6: the stream of the first reply is not taken for that of a second', async (t) => {
  const { app } = await serve(t, { store: slow(new MemoryStore()) })
  app.get('/stream', async ({ session }, reply) => {
    session.user = 'ada'
    const stream = Readable.from(['first'])
    reply.send(stream)
    return stream
  })
  app.get('/response', async ({ session }, reply) => {
    session.user = 'ada'
    const response = new Response('first')
    reply.send(response)
    return response
  })
  for (const url of ['/stream', '/response']) {
    const reply = await app.inject(url)
    t.same([reply.statusCode, reply.body], [200, 'first'], url)
  }
})

/** Ends an object of the app, such as a row, if it is taken for a stream. */
class Row {
  destroyed = false
  destroy(): void {
    this.destroyed = true
  }
  toJSON(): object {
    return { row: 1 }
  }
}

overEveryStore(
  t,
  'an object that a late reply sends is not taken for a stream, whatever its methods',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const row = new Row()
    app.get('/', async ({ session }, reply) => {
      session.user = 'ada'
      reply.send('first')
      reply.send(row)
    })
    t.equal((await app.inject('/')).body, 'first')
    t.equal(row.destroyed, false)
  }
)

overEveryStore(
  t,
  'an operation that nobody awaited is part of the commit',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/bye', async ({ session }, reply) => {
      session.destroy()
      reply.send('bye')
    })
    app.get('/bye-by-callback', ({ session }, reply) => {
      session.destroy()
      reply.send('bye')
    })
    app.get('/chain', async ({ session }, reply) => {
      session.destroy()
      session.save()
      session.update((draft) => {
        draft.user = 'grace'
      })
      session.save()
      reply.send('changed')
    })
    for (const url of ['/bye', '/bye-by-callback']) {
      const id = await begin(app)
      const reply = await app.inject({ url, cookies: { session_id: id } })
      t.equal(reply.body, 'bye')
      t.match(setCookies(reply), [/^session_id=; Max-Age=0;/], url)
      t.equal(await stored(app, id), undefined)
    }
    const id = await begin(app)
    const reply = await app.inject({ url: '/chain', cookies: { session_id: id } })
    t.same([reply.statusCode, reply.body], [200, 'changed'])
    t.same(
      [await stored(app, id), await stored(app, carriedBy(reply).cookie as string)],
      [undefined, { user: 'grace' }]
    )
  }
)

overEveryStore(
  t,
  'a failing store under two replies: one error goes out, and nothing of either reply',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    for (const [name, sequel] of Object.entries(sequels)) {
      const { app, store } = await serveOver()
      const pass = store.intercept
      app.get('/at-once', async ({ session }, reply) => {
        session.user = 'ada'
        reply.trailer('x-first', async () => 'first')
        reply.header('location', '/first').send('FIRST')
        return sequel(reply)
      })
      app.get('/synchronous', ({ session }, reply) => {
        session.user = 'ada'
        reply.send('FIRST')
        return sequel(reply)
      })
      for (const url of ['/at-once', '/synchronous']) {
        store.intercept = async ({ verb }, next) => {
          if (verb === 'create') throw new Error('the store is down')
          return next()
        }
        const reply = await app.inject(url)
        await settle()
        store.intercept = pass
        t.same(
          [reply.statusCode, reply.json().code],
          [503, 'HOLDFAST_STORE_FAILED'],
          `${name}, ${url}`
        )
        t.same(
          [setCookies(reply), reply.headers['location'], reply.headers['x-late'], reply.trailers],
          [[], undefined, undefined, {}],
          `${name}, ${url}`
        )
      }
    }
    t.same(rejections, [])
  }
)

interface Commit {
  readonly change: (session: Session) => unknown
  readonly calls: readonly Verb[]
}

/** Each way in which a commit asks the store: what a handler does, and the calls that follow. */
const commits: Readonly<Record<string, Commit>> = {
  create: { change: write, calls: ['create'] },
  update: { change: write, calls: ['update'] },
  touch: { change: (session) => session.touch(), calls: ['touch'] },
  merge: { change: write, calls: ['update', 'get', 'update'] },
  regenerate: { change: (session) => session.regenerate(['a']), calls: ['create', 'retire'] },
  destroy: { change: (session) => session.destroy(), calls: ['delete'] }
}

function write(session: Session): void {
  session.user = 'ada'
}

for (const [name, { change, calls }] of Object.entries(commits)) {
  t.test(`P6: a reply at any point of a commit does not overtake it: ${name}`, async (t) => {
    const rejections = unhandled(t)
    const points = calls.flatMap((verb, nth) =>
      (['before', 'after'] as const).map((when) => ({ verb, nth, when }))
    )
    for (const { verb, nth, when } of points) {
      for (const [late, sequel] of Object.entries(sequels)) {
        const store = new MemoryStore()
        const gate = new Gate(store)
        const app = Fastify()
        t.teardown(() => app.close())
        await app.register(sessionPlugin, { store: gate })
        let first!: FastifyReply
        app.get('/begin', async ({ session }) => {
          session.a = 'old'
        })
        app.get('/', async ({ session }, reply) => {
          first = reply
          change(session)
          reply.code(202).send('first')
        })
        const id = (await app.inject('/begin')).cookies[0]?.value as string
        // Stops the request at each of its calls up to the point.
        let held = gate.hold(
          verb === calls[0] && nth === 0 ? verb : (calls[0] as Verb),
          nth === 0 ? when : 'before'
        )
        const pending = app
          .inject({ url: '/', cookies: name === 'create' ? {} : { session_id: id } })
          .then((reply) => reply)
        await held.reached
        if (name === 'merge') {
          // Another process: one has a session's writes wait for each other.
          const { app: other } = await serve(t, { store, clock: systemClock })
          await other.sessions.update(app.sessions.publicIdOf(id), (draft) => {
            draft.n = 1
          })
        }
        for (let call = 1; call <= nth; call += 1) {
          const next = gate.hold(calls[call] as Verb, call === nth ? when : 'before')
          held.release()
          held = next
          await held.reached
        }

        const message = `${when} ${verb}, then ${late}`
        t.equal(first.sent, true, message)
        replyAgain(first, sequel)
        for (let turn = 0; turn < 3; turn += 1) await nextTurn()
        held.release()
        const { statusCode, body, headers } = await pending
        t.same(
          [statusCode, body, headers['x-late'], headers['location']],
          [202, 'first', undefined, undefined],
          message
        )
        t.type(headers['set-cookie'], 'string', `${message}: its cookie goes out`)
      }
    }
    t.same(rejections, [])
  })
}

/** As Fastify does with what a handler comes to. */
function replyAgain(reply: FastifyReply, sequel: (reply: FastifyReply) => unknown): void {
  try {
    const value = sequel(reply)
    if (value !== undefined && value !== reply) reply.send(value)
  } catch (error) {
    reply.send(error)
  }
}

t.test(
  'P6: a guard that returns its reply keeps the handler from running until the last byte, however soon the store answers',
  async (t) => {
    const { app, store } = await serve(t)
    store.intercept = async (_call, pass) => pass()
    const ran: string[] = []
    app.get(
      '/',
      {
        preHandler: async ({ session }, reply) => {
          session.user = 'ada'
          return reply.send(
            Readable.from(
              (async function* () {
                yield 'log '
                await settle()
                yield 'in'
              })()
            )
          )
        }
      },
      async () => {
        ran.push('the handler')
        return 'SECRET'
      }
    )
    const reply = await app.inject('/')
    t.same([reply.statusCode, reply.body, ran], [200, 'log in', []])
  }
)

overEveryStore(
  t,
  'P6: whoever awaits the reply goes on when it has gone out, and not before',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const seen: unknown[] = []
    app.get('/', async ({ session }, reply) => {
      session.user = 'ada'
      reply.send(Readable.from(['first']))
      await reply
      seen.push(reply.raw.writableEnded)
      return reply
    })
    t.equal((await app.inject('/')).body, 'first')
    await settle()
    t.same(seen, [true])
  }
)

// Fastify's own reply, when time has run out.

for (const when of ['before', 'during', 'after'] as const) {
  t.test(
    `handlerTimeout ${when} the commit of a regenerate: the user stays signed in`,
    async (t) => {
      const rejections = unhandled(t)
      const gate = new Gate(new MemoryStore())
      const app = Fastify({ handlerTimeout: 1000 })
      t.teardown(() => app.close())
      await app.register(sessionPlugin, { store: gate, clock: new TestClock() })
      const [handlerGoesOn, letHandlerGoOn] = signal()
      const [committed, tellCommitted] = signal()
      const [hookGoesOn, letHookGoOn] = signal()
      const [begun, tellBegun] = signal()
      app.addHook('onSend', async (request, reply) => {
        if (when !== 'after' || request.url !== '/' || reply.statusCode !== 200) return
        tellCommitted()
        await hookGoesOn
      })
      app.get('/begin', async ({ session }) => {
        session.user = 'ada'
      })
      app.get('/read', async ({ session }) => ({ ...session }))
      app.get('/', async ({ session }) => {
        await session.regenerate(['user'])
        tellBegun()
        if (when === 'before') await handlerGoesOn
        return 'in time'
      })
      const id = (await app.inject('/begin')).cookies[0]?.value as string

      mock.timers.enable({ apis: ['setTimeout'] })
      t.teardown(() => {
        mock.timers.reset()
      })
      const creation = gate.hold('create')
      const pending = app.inject({ url: '/', cookies: { session_id: id } }).then((reply) => reply)
      await begun
      if (when === 'before') mock.timers.tick(1000)
      await creation.reached
      if (when === 'during') mock.timers.tick(1000)
      await settle()
      letHandlerGoOn()
      await settle()
      creation.release()
      if (when === 'after') {
        await committed
        mock.timers.tick(1000)
        letHookGoOn()
      }
      const reply = await pending
      await settle()
      mock.timers.reset()

      t.same(
        [reply.statusCode, reply.body],
        when === 'during' ? [200, 'in time'] : [503, reply.body]
      )
      const next = carriedBy(reply).cookie as string
      t.same((await app.inject({ url: '/read', cookies: { session_id: next } })).json(), {
        user: 'ada'
      })
      t.same((await app.inject({ url: '/read', cookies: { session_id: id } })).json(), {})
      t.same(rejections, [])
    }
  )
}

for (const when of ['before', 'during'] as const) {
  t.test(`handlerTimeout ${when} a commit that fails: one error, and no id`, async (t) => {
    const rejections = unhandled(t)
    const gate = new Gate(new MemoryStore())
    const app = Fastify({ handlerTimeout: 1000 })
    t.teardown(() => app.close())
    await app.register(sessionPlugin, { store: gate, clock: new TestClock() })
    const [handlerGoesOn, letHandlerGoOn] = signal()
    const [begun, tellBegun] = signal()
    app.get('/', async ({ session }) => {
      session.user = 'ada'
      tellBegun()
      if (when === 'before') await handlerGoesOn
      return 'in time'
    })
    await app.ready()
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => {
      mock.timers.reset()
    })
    const pass = gate.intercept
    const creation = gate.hold('create')
    gate.intercept = async (call, next) => {
      await pass(call, next)
      throw new Error('the store is down')
    }
    const pending = app.inject('/').then((reply) => reply)
    await begun
    if (when === 'before') mock.timers.tick(1000)
    await creation.reached
    mock.timers.tick(1000)
    letHandlerGoOn()
    await settle()
    creation.release()
    const reply = await pending
    mock.timers.reset()
    await settle()
    t.same(
      [reply.statusCode, reply.json().code, setCookies(reply)],
      [503, when === 'before' ? 'FST_ERR_HANDLER_TIMEOUT' : 'HOLDFAST_STORE_FAILED', []]
    )
    t.same(rejections, [])
  })
}

t.test(
  'P6: a second reply that an earlier onSend hook held up does not overtake the commit of the first',
  async (t) => {
    const gate = new Gate(new MemoryStore())
    const log: string[] = []
    const app = Fastify({ logger: logInto(log) })
    t.teardown(() => app.close())
    const [secondGoesOn, letSecondGoOn] = signal()
    app.addHook('onSend', async (_request, _reply, payload) => {
      if (payload === 'second') await secondGoesOn
    })
    await app.register(sessionPlugin, { store: gate })
    app.get('/', ({ session }, reply) => {
      session.user = 'ada'
      reply.send('first')
      reply.send('second')
    })
    const creation = gate.hold('create')
    const pending = app.inject('/').then((reply) => reply)
    await creation.reached
    letSecondGoOn()
    await settle()
    creation.release()
    const reply = await pending
    t.same([reply.statusCode, reply.body, setCookies(reply).length], [200, 'first', 1])
    t.equal(refusals(log).length, 1)
  }
)

t.test(
  'P6: two registrations commit one after the other, and nothing overtakes either',
  async (t) => {
    const rejections = unhandled(t)
    for (const name of ['session', 'admin'] as const) {
      for (const [late, sequel] of Object.entries(sequels)) {
        const gates = { session: new Gate(new MemoryStore()), admin: new Gate(new MemoryStore()) }
        const app = Fastify()
        t.teardown(() => app.close())
        await app.register(sessionPlugin, { store: gates.session })
        await app.register(sessionPlugin, { store: gates.admin, sessionName: 'admin' })
        let first!: FastifyReply
        app.get('/', async ({ session, admin }, reply) => {
          first = reply
          session.user = 'ada'
          admin.user = 'grace'
          reply.code(202).send('first')
        })
        const creation = gates[name].hold('create')
        const pending = app.inject('/').then((reply) => reply)
        await creation.reached
        replyAgain(first, sequel)
        await settle()
        creation.release()
        const reply = await pending
        t.same(
          [reply.statusCode, reply.body, reply.headers['x-late']],
          [202, 'first', undefined],
          `${name}, ${late}`
        )
        t.same(
          reply.cookies.map((cookie) => cookie.name),
          ['session_id', 'admin_id']
        )
      }
    }
    t.same(rejections, [])
  }
)

t.test(
  'P6: what another plugin has put before reply.send() stands there again after the commit',
  async (t) => {
    const { app } = await serve(t, { store: slow(new MemoryStore()) })
    const sent: unknown[] = []
    app.addHook('onRequest', async (_request, reply) => {
      const send = reply.send.bind(reply)
      reply.send = (payload) => {
        sent.push(payload)
        return send(payload)
      }
    })
    app.addHook('onSend', async (_request, reply) => {
      if (reply.statusCode === 200) throw new Error('a hook of the app')
    })
    app.setErrorHandler(async (_error, _request, reply) => {
      reply.code(500).send('failed')
    })
    app.get('/', async ({ session }, reply) => {
      session.user = 'ada'
      reply.send('first')
    })
    t.same([(await app.inject('/')).body, sent], ['failed', ['first', 'failed']])
  }
)

t.test('P6: a late hijack() does not keep the client from the error of a commit', async (t) => {
  const store = slow(new MemoryStore())
  const { app } = await serve(t, { store })
  store.create = async () => {
    await nextTurn()
    throw new Error('connection reset')
  }
  app.get('/late', (request, reply) => {
    request.session.a = 1
    reply.send('done')
    reply.hijack()
  })
  t.equal((await app.inject('/late')).statusCode, 503)
})

t.test('P6: a late stream of any age is ended', async (t) => {
  const { app } = await serve(t, { store: slow(new MemoryStore()) })
  const ended: string[] = []
  const streams = {
    destroy: {
      pipe() {},
      destroy() {
        ended.push('destroy')
      }
    },
    close: {
      pipe() {},
      close() {
        ended.push('close')
      }
    },
    abort: {
      pipe() {},
      abort() {
        ended.push('abort')
      }
    },
    none: { pipe() {} }
  }
  app.get('/', async ({ session }, reply) => {
    session.user = 'ada'
    reply.send('first')
    for (const stream of Object.values(streams)) reply.send(stream)
  })
  t.same([(await app.inject('/')).body, ended], ['first', ['destroy', 'close', 'abort']])
})

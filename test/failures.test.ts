import { Readable } from 'node:stream'

import type { LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import { carriedBy } from './helpers/browser.ts'
import { begin, serve, stored, unhandled, type Served } from './helpers/serve.ts'
import { nextTurn, type Verb } from './helpers/stores.ts'
import { settle } from './helpers/waiting.ts'

const secretOfTheStore = 'connection to 10.1.2.3 refused'

/** How a call fails; `silent` never answers. */
const faults = {
  throws: () => {
    throw new Error(secretOfTheStore)
  },
  rejects: () => Promise.reject(new Error(secretOfTheStore)),
  silent: () => new Promise<never>(() => {})
} as const
type Fault = keyof typeof faults
const kinds = Object.keys(faults) as Fault[]
const codes = {
  throws: 'HOLDFAST_STORE_FAILED',
  rejects: 'HOLDFAST_STORE_FAILED',
  silent: 'HOLDFAST_STORE_TIMEOUT'
} as const

/** Breaks a verb, for as long as the result is not called. */
function breaks({ store }: Served, verb: Verb, fault: Fault): () => void {
  const { intercept } = store
  store.intercept = (call, pass) => (call.verb === verb ? faults[fault]() : intercept(call, pass))
  return () => {
    store.intercept = intercept
  }
}

/** Asks, and lets the time-out run out if need be. */
async function ask(
  { app, clock }: Served,
  url: string,
  headers: Record<string, string> = {}
): Promise<LightMyRequestResponse> {
  const reply = app.inject({ url, headers }).then((answer) => answer)
  await settle()
  clock.advance(2000)
  return reply
}

/** That the reply is the coded error, and nothing of a success. */
function isOutage(t: Test, reply: LightMyRequestResponse, code: string, name: string): void {
  t.equal(reply.statusCode, 503, `${name}: ${reply.body}`)
  const body = reply.json()
  t.same(Object.keys(body).toSorted(), ['code', 'error', 'message', 'statusCode'], name)
  t.equal(body.code, code, name)
  t.notOk(reply.body.includes(secretOfTheStore), `${name}: S39`)
  t.same(carriedBy(reply), { header: undefined, cookie: undefined }, name)
  for (const header of ['cache-control', 'etag', 'last-modified', 'location', 'set-cookie'])
    t.equal(reply.headers[header], undefined, `${name}: ${header}`)
}

for (const fault of kinds) {
  t.test(`P8, S28: the store ${fault} in get: 503, and the handler does not run`, async (t) => {
    const rejections = unhandled(t)
    const served = await serve(t)
    const { app, log } = served
    let ran = 0
    app.get('/run', async () => {
      ran += 1
    })
    const id = await begin(app)
    for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
      const mend = breaks(served, 'get', fault)
      const reply = await ask(served, '/run', headers)
      isOutage(t, reply, codes[fault], fault)
      t.notOk(reply.body.includes(id))
      mend()
      t.equal(ran, 0)
      t.same(
        (await app.inject({ url: '/read', headers })).json(),
        { a: 'old' },
        'nobody is logged out'
      )
    }
    t.equal((await ask(served, '/run')).statusCode, 200, 'a request without an id needs no get')
    t.notOk(log.join('').includes(id), 'S38')
    await settle()
    t.same(rejections, [])
  })

  for (const { verb, url, transports, data } of [
    { verb: 'create', url: '/write-success', transports: ['none'], data: { a: 'old' } },
    { verb: 'update', url: '/write-success', transports: ['header', 'cookie'], data: { a: 'old' } },
    { verb: 'delete', url: '/logout', transports: ['header', 'cookie'], data: { a: 'old' } },
    { verb: 'create', url: '/login', transports: ['header', 'cookie'], data: { a: 'old' } },
    { verb: 'retire', url: '/login', transports: ['header', 'cookie'], data: { a: 'old' } }
  ] as const) {
    t.test(
      `P8, S28: the store ${fault} in ${verb} of ${url}: a coded 503 and nothing of the success`,
      async (t) => {
        const rejections = unhandled(t)
        const served = await serve(t)
        const { app, log } = served
        app.get('/write-success', async ({ session }, reply) => {
          session.a = 'new'
          reply
            .code(201)
            .header('cache-control', 'public, max-age=60')
            .header('etag', '"1"')
            .header('last-modified', 'now')
            .header('location', '/created')
          return { created: true }
        })
        const id = await begin(app)
        const carrying: Record<string, Record<string, string>> = {
          none: {},
          header: { 'x-session-id': id },
          cookie: { cookie: `session_id=${id}` }
        }
        for (const transport of transports) {
          const mend = breaks(served, verb, fault)
          isOutage(
            t,
            await ask(served, url, carrying[transport]),
            codes[fault],
            `${verb}, ${transport}`
          )
          mend()
        }
        t.same(await stored(app, id), data)
        t.equal((await app.inject('/write/again')).statusCode, 200, 'the next request goes well')
        t.notOk(log.join('').includes(id), 'S38')
        await settle()
        t.same(rejections, [])
      }
    )
  }

  t.test(`P8, S28: the store ${fault} in touch: the normal reply, without an id`, async (t) => {
    const rejections = unhandled(t)
    const served = await serve(t)
    const { app, log } = served
    const id = await begin(app)
    for (const headers of [{ cookie: `session_id=${id}` }, { 'x-session-id': id }]) {
      // By the header, the first touch writes: it notes that the browser's cookie was not renewed.
      served.clock.advance(60_000)
      await ask(served, '/touch', headers)
      const mend = breaks(served, 'touch', fault)
      for (const url of ['/touch', '/look-away'] as const) {
        served.clock.advance(60_000)
        const reply = await ask(served, url, headers)
        t.equal(reply.statusCode, 200, url)
        t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
      }
      mend()
      t.same((await app.inject({ url: '/read', headers })).json(), { a: 'old' })
    }
    t.notOk(log.join('').includes(id), 'S38')
    await settle()
    t.same(rejections, [])
  })

  t.test(
    `S28: the store ${fault} while an error is answered: the error stays as it is, without an id`,
    async (t) => {
      const served = await serve(t)
      const { app } = served
      app.get('/refused', async ({ session }, reply) => {
        session.a = 'new'
        return reply.code(422).header('cache-control', 'no-cache').send({ refused: true })
      })
      app.get('/fails', async ({ session }) => {
        session.a = 'new'
        throw new Error("the handler's own")
      })
      app.get('/response', async ({ session }) => {
        session.a = 'new'
        return new Response('refused', { status: 403 })
      })
      const id = await begin(app)
      for (const [verb, headers] of [
        ['create', {}],
        ['update', { cookie: `session_id=${id}` }]
      ] as const) {
        breaks(served, verb, fault)
        for (const [url, statusCode, body] of [
          ['/refused', 422, '{"refused":true}'],
          ['/fails', 500, /the handler's own/],
          ['/response', 403, 'refused']
        ] as const) {
          const reply = await ask(served, url, headers as Record<string, string>)
          t.equal(reply.statusCode, statusCode, url)
          t.match(reply.body, body, url)
          t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
        }
      }
      t.same(await stored(app, id), { a: 'old' })
    }
  )

  t.test(
    `S28: the store ${fault}: a stream that was meant for the success is destroyed`,
    async (t) => {
      const served = await serve(t)
      const { app } = served
      const node = new Readable({ read() {} })
      let cancelled: string[] = []
      const web = (name: string): ReadableStream =>
        new ReadableStream({
          cancel() {
            cancelled = [...cancelled, name]
          }
        })
      for (const [url, payload] of [
        ['/node', node],
        ['/web', web('web')],
        [
          '/response',
          new Response(web('response'), { headers: { etag: '"1"', 'cache-control': 'public' } })
        ]
      ] as const) {
        app.get(url, async ({ session }, reply) => {
          session.a = 'new'
          return reply.send(payload)
        })
      }
      breaks(served, 'create', fault)
      for (const url of ['/node', '/web', '/response'])
        isOutage(t, await ask(served, url), codes[fault], url)
      t.equal(node.destroyed, true)
      t.same(cancelled, ['web', 'response'])
    }
  )

  t.test(
    `S12: the store ${fault} as a session moves: save() rejects, and no half-made id goes out, even if the handler goes on`,
    async (t) => {
      for (const verb of ['retire', 'create'] as const) {
        const served = await serve(t)
        const { app } = served
        let rejected: unknown
        app.get('/login-anyway', async ({ session }) => {
          try {
            await session.regenerate(['a'])
            session.user = 'ada'
            await session.save()
          } catch (error) {
            rejected = error
          }
          return 'went on'
        })
        const id = await begin(app)
        breaks(served, verb, fault)
        const reply = await ask(served, '/login-anyway', { cookie: `session_id=${id}` })
        t.match(rejected, { code: codes[fault] })
        isOutage(t, reply, codes[fault], verb)
      }
    }
  )

  t.test(`P8: the store ${fault} in an operation that nobody awaits: 503`, async (t) => {
    const rejections = unhandled(t)
    const served = await serve(t)
    const { app } = served
    app.get('/update-unawaited', async ({ session }) => {
      void session.update((draft) => {
        draft.n = 1
      })
    })
    app.get('/destroy', async ({ session }) => {
      void session.destroy()
    })
    app.get('/save', async ({ session }) => {
      session.a = 'new'
      void session.save()
    })
    app.get('/regenerate', async ({ session }) => {
      void session.regenerate()
    })
    const id = await begin(app)
    for (const [url, verb] of [
      ['/update-unawaited', 'update'],
      ['/destroy', 'delete'],
      ['/save', 'update'],
      ['/regenerate', 'retire']
    ] as const) {
      const mend = breaks(served, verb, fault)
      isOutage(t, await ask(served, url, { cookie: `session_id=${id}` }), codes[fault], url)
      mend()
      t.same(await stored(app, id), { a: 'old' }, url)
    }
    await settle()
    t.same(rejections, [])
  })

  t.test(
    `a custom error handler sees the coded error when the store ${fault}, and its cause`,
    async (t) => {
      const served = await serve(t)
      const { app } = served
      app.setErrorHandler(async (error, _request, reply) => {
        const { code, statusCode, cause } = error as {
          code?: string
          statusCode?: number
          cause?: Error
        }
        return reply.code(statusCode ?? 500).send({ code, caused: cause?.message })
      })
      const id = await begin(app)
      const caused = fault === 'silent' ? {} : { caused: secretOfTheStore }
      for (const [verb, url, headers] of [
        ['get', '/read', { 'x-session-id': id }],
        ['create', '/write/x', {}],
        ['update', '/write/x', { 'x-session-id': id }],
        ['delete', '/logout', { 'x-session-id': id }]
      ] as const) {
        const mend = breaks(served, verb, fault)
        const reply = await ask(served, url, headers as Record<string, string>)
        t.same([reply.statusCode, reply.json()], [503, { code: codes[fault], ...caused }], verb)
        t.same(carriedBy(reply), { header: undefined, cookie: undefined })
        mend()
      }
    }
  )
}

/** Lets the first call of a verb take effect, and loses its answer. */
function loses(
  { store }: Served,
  verb: Verb,
  between: () => Promise<unknown> = async () => {}
): void {
  const { intercept } = store
  store.intercept = async (call, pass) => {
    const answer = await pass()
    if (call.verb !== verb) return answer
    store.intercept = intercept
    await between()
    throw new Error('the answer was lost')
  }
}

function counts({ app }: Served): void {
  app.get('/count', async ({ session }) => ({
    n: await session.update((draft) => (draft.n = (draft.n ?? 0) + 1))
  }))
}

t.test('P4: an update whose answer was lost is recognised, and not applied twice', async (t) => {
  const served = await serve(t)
  counts(served)
  const id = await begin(served.app)
  const headers = { 'x-session-id': id }
  t.same((await ask(served, '/count', headers)).json(), { n: 1 })
  loses(served, 'update')
  const reply = await ask(served, '/count', headers)
  t.same([reply.statusCode, reply.json()], [200, { n: 2 }])
  t.equal(carriedBy(reply).header, id)
  t.same(await stored(served.app, id), { a: 'old', n: 2 })
})

t.test('P4: it is recognised when others wrote in between', async (t) => {
  for (const others of [1, 3]) {
    const served = await serve(t)
    counts(served)
    const { app, clock, store } = served
    const { app: elsewhere } = await serve(t, { clock, store })
    const id = await begin(app)
    loses(served, 'update', async () => {
      for (let other = 0; other < others; other += 1)
        await elsewhere.sessions.update(app.sessions.publicIdOf(id), (draft) => {
          draft.n = (draft.n ?? 0) + 1
        })
    })
    const reply = await ask(served, '/count', { 'x-session-id': id })
    t.same([reply.statusCode, reply.json()], [200, { n: 1 }])
    t.same(await stored(app, id), { a: 'old', n: 1 + others })
  }
})

t.test(
  'P4: what can be known no more is not guessed: applied once, and the reply a coded 503 or a success',
  async (t) => {
    const served = await serve(t)
    counts(served)
    const { app, clock, store } = served
    const { app: elsewhere } = await serve(t, { clock, store })
    const id = await begin(app)
    loses(served, 'update', async () => {
      for (let other = 0; other < 50; other += 1)
        await elsewhere.sessions.update(app.sessions.publicIdOf(id), (draft) => {
          draft.n = (draft.n ?? 0) + 1
        })
    })
    const reply = await ask(served, '/count', { 'x-session-id': id })
    t.same(await stored(app, id), { a: 'old', n: 51 }, 'exactly once')
    isOutage(t, reply, 'HOLDFAST_OUTCOME_UNKNOWN', 'too many writes between')
  }
)

t.test(
  'a creation, a plain write, a touch and a removal whose answers were lost are one each',
  async (t) => {
    for (const [verb, url, after] of [
      ['create', '/write/new', { a: 'new' }],
      ['update', '/write/new', { a: 'new' }],
      ['touch', '/touch', { a: 'old' }],
      ['delete', '/logout', undefined]
    ] as const) {
      const served = await serve(t)
      const { app, store } = served
      const id = await begin(app)
      loses(served, verb)
      store.taken()
      const carrying = verb === 'touch' ? { cookie: `session_id=${id}` } : { 'x-session-id': id }
      const reply = await ask(served, url, verb === 'create' ? {} : carrying)
      t.equal(reply.statusCode, 200, verb)
      const { header, cookie } = carriedBy(reply)
      t.equal(cookie === undefined, verb === 'delete')
      t.same(await stored(app, header ?? id), after, verb)
      if (verb === 'create' || verb === 'update')
        t.equal(store.calls.filter((call) => call.verb === verb).length, 1, 'not made again')
    }
  }
)

t.test('a fault before the write took effect is made good by one more try', async (t) => {
  for (const fault of ['throws', 'rejects'] as const) {
    for (const [verb, url] of [
      ['create', '/write/new'],
      ['update', '/write/new'],
      ['touch', '/touch'],
      ['delete', '/logout']
    ] as const) {
      const served = await serve(t)
      const { app, store } = served
      const id = await begin(app)
      store.taken()
      const { intercept } = store
      store.intercept = (call, pass) => {
        if (call.verb !== verb) return pass()
        store.intercept = intercept
        return faults[fault]()
      }
      const reply = await ask(served, url, verb === 'create' ? {} : { cookie: `session_id=${id}` })
      t.equal(reply.statusCode, 200, `${fault} in ${verb}`)
      t.equal(store.calls.filter((call) => call.verb === verb).length, 2, `${fault} in ${verb}`)
      t.equal(carriedBy(reply).cookie === '', verb === 'delete')
    }
  }
})

t.test('all tries of one commit share one deadline', async (t) => {
  const served = await serve(t)
  const { app, clock, store } = served
  const id = await begin(app)
  let fail!: () => void
  let updates = 0
  store.intercept = (call, pass) => {
    if (call.verb !== 'update') return pass()
    updates += 1
    return updates > 1
      ? faults.silent()
      : new Promise((_resolve, reject) => {
          fail = () => {
            reject(new Error('late'))
          }
        })
  }
  let answered = false
  const reply = app
    .inject({ url: '/write/new', headers: { 'x-session-id': id } })
    .then((answer) => {
      answered = true
      return answer
    })
  await settle()
  clock.advance(1500)
  fail()
  await settle()
  t.equal(updates, 2)
  clock.advance(499)
  await settle()
  t.equal(answered, false)
  clock.advance(1)
  isOutage(t, await reply, 'HOLDFAST_STORE_TIMEOUT', 'the second try')
})

t.test(
  'a writer that waits for its turn in vain is answered 503 in time, and does not keep those behind it waiting',
  async (t) => {
    const served = await serve(t)
    const { app, clock, store } = served
    const headers = { 'x-session-id': await begin(app) }
    const write = (value: string): Promise<LightMyRequestResponse> =>
      app.inject({ url: `/write/${value}`, headers }).then((answer) => answer)
    // The first is refused, tries again, and meets a store that falls silent.
    let refusals = 1
    let asked = 0
    store.intercept = (call, pass) => {
      if (call.verb === 'update' && refusals > 0) {
        refusals -= 1
        return Promise.resolve(false) as Promise<never>
      }
      if (call.verb !== 'get' || refusals > 0) return pass()
      asked += 1
      return asked === 1 ? faults.silent() : pass()
    }
    const [first, second] = [write('first'), write('second')]
    await settle()
    t.same([refusals, asked], [0, 1])
    clock.advance(2000)
    isOutage(t, await first, 'HOLDFAST_STORE_TIMEOUT', 'who holds the turn')
    isOutage(t, await second, 'HOLDFAST_SESSION_BUSY', 'who waits for it')
    t.equal(asked, 1)
    refusals = 1
    t.equal((await write('third')).statusCode, 200)
    t.equal(refusals, 0)
    t.equal(
      await stored(app, headers['x-session-id']).then((data) => (data as { a: string }).a),
      'third'
    )
  }
)

t.test(
  'a store that blocks past the deadline before it promises an answer is a 503, whatever it promises',
  async (t) => {
    const served = await serve(t)
    const { app, clock, store } = served
    const headers = { 'x-session-id': await begin(app) }
    let refused = false
    store.intercept = (call, pass) => {
      if (call.verb === 'update') {
        refused = true
        return Promise.resolve(false) as Promise<never>
      }
      if (refused) {
        clock.advance(2000)
        return Promise.resolve(pass())
      }
      return pass()
    }
    isOutage(
      t,
      await app.inject({ url: '/write/new', headers }),
      'HOLDFAST_STORE_TIMEOUT',
      'blocked'
    )
  }
)

t.test(
  'a move whose answers were lost is found by its trace: the session goes on with all that it keeps',
  async (t) => {
    for (const verb of ['create', 'retire'] as const) {
      const served = await serve(t)
      const { app, store } = served
      app.get('/login-keeping', async ({ session }) => session.regenerate(['a']))
      const headers = { 'x-session-id': await begin(app) }
      let lost = 0
      store.intercept = async (call, pass) => {
        const answer = await pass()
        if (call.verb === verb && lost++ === 0) throw new Error(secretOfTheStore)
        return answer
      }
      const reply = await app.inject({ url: '/login-keeping', headers })
      t.equal(reply.statusCode, 200, verb)
      t.equal(await stored(app, headers['x-session-id']), undefined, verb)
      t.same(await stored(app, carriedBy(reply).header as string), { a: 'old' }, verb)
    }
  }
)

t.test(
  'regenerate() given no array ends nothing: a key that was meant to be kept is not lost',
  async (t) => {
    const { app } = await serve(t)
    app.get('/login-wrongly', async ({ session }) => {
      await t.rejects(session.regenerate('a' as unknown as 'all'), {
        code: 'HOLDFAST_VALUE_INVALID'
      })
    })
    const id = await begin(app)
    t.equal(
      (await app.inject({ url: '/login-wrongly', headers: { 'x-session-id': id } })).statusCode,
      200
    )
    t.same(await stored(app, id), { a: 'old' })
  }
)

t.test('a maxAge that is set while an update is under way is stored with the reply', async (t) => {
  const { app, store } = await serve(t)
  app.get('/remember', async ({ session }) => {
    const update = session.update((draft) => {
      draft.n = 1
    })
    await nextTurn()
    session.maxAge = 60
    await update
  })
  const id = await begin(app)
  store.intercept = async (_call, pass) => {
    await settle()
    return pass()
  }
  await app.inject({ url: '/remember', headers: { 'x-session-id': id } })
  t.match(await app.sessions.get(app.sessions.publicIdOf(id)), { maxAge: 60, data: { n: 1 } })
})

t.test('resolving and committing have a deadline each', async (t) => {
  const served = await serve(t)
  const { app, clock, store } = served
  const id = await begin(app)
  const releases: Array<() => void> = []
  store.intercept = async (_call, pass) => {
    await new Promise<void>((resolve) => {
      releases.push(resolve)
    })
    return pass()
  }
  const reply = app
    .inject({ url: '/write/new', headers: { 'x-session-id': id } })
    .then((answer) => answer)
  for (let call = 0; call < 2; call += 1) {
    await settle()
    clock.advance(1999)
    releases.shift()?.()
  }
  t.equal((await reply).statusCode, 200)
})

t.test('the late answer of a call that was given up is ignored', async (t) => {
  const rejections = unhandled(t)
  for (const late of ['answers', 'fails'] as const) {
    for (const [verb, url] of [
      ['get', '/read'],
      ['update', '/write/new'],
      ['touch', '/touch'],
      ['delete', '/logout']
    ] as const) {
      const served = await serve(t)
      const { app, store, log } = served
      const id = await begin(app)
      const { intercept } = store
      let release!: () => void
      store.intercept = async (call, pass) => {
        if (call.verb !== verb) return pass()
        await new Promise<void>((resolve) => {
          release = resolve
        })
        if (late === 'fails') throw new Error(secretOfTheStore)
        return pass()
      }
      const headers = { cookie: `session_id=${id}` }
      const reply = await ask(served, url, headers)
      t.equal(reply.statusCode, verb === 'touch' ? 200 : 503)
      const lines = log.length
      store.intercept = intercept
      release()
      await settle()
      t.equal(log.length, lines)
      const next = await app.inject({ url: '/read', headers })
      const effect = { get: { a: 'old' }, update: { a: 'new' }, touch: { a: 'old' }, delete: {} }[
        verb
      ]
      t.same(
        [next.statusCode, next.json()],
        [200, late === 'fails' ? { a: 'old' } : effect],
        `${verb} ${late} late`
      )
    }
  }
  t.same(rejections, [])
})

t.test('P10, S39: messages to clients name no id, no key and no cause', async (t) => {
  const served = await serve(t)
  const { app } = served
  const id = await begin(app, 'data-of-the-user')
  for (const fault of kinds) {
    for (const [verb, url] of [
      ['get', '/read'],
      ['update', '/write/new'],
      ['delete', '/logout']
    ] as const) {
      const mend = breaks(served, verb, fault)
      const { body } = await ask(served, url, { 'x-session-id': id })
      for (const secret of [id, app.sessions.publicIdOf(id), secretOfTheStore, 'data-of-the-user'])
        t.notOk(body.includes(secret), `${fault} in ${verb}`)
      mend()
    }
  }
})

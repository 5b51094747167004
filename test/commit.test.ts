import type { FastifyInstance, FastifyReply, LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import type { Session, SessionOptions } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { nextTurn, wraps, type Verb, type WatchedStore, type Wrap } from './helpers/stores.ts'
import { world, type World } from './helpers/world.ts'

interface Scene {
  readonly session: Session
  readonly reply: FastifyReply
  readonly store: WatchedStore
  /** Another request that ends, or counts in, the session of this one. */
  readonly logoutElsewhere: () => Promise<unknown>
  readonly countElsewhere: () => Promise<unknown>
}

type Handler = (scene: Scene) => unknown

interface Site extends World {
  /** Sends a request, without a browser, to a handler or to a URL. */
  readonly send: (
    to: Handler | string,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
}

const outage: WatchedStore['intercept'] = () => {
  throw new Error('outage')
}

const unknownId = 'an-id-that-nobody-has-ever-had'

async function serve(t: Test, wrap: Wrap, options?: SessionOptions): Promise<Site> {
  const site = await world(t, options, { wrap, before: replyEarly })
  const { app, store, route } = site
  app.get('/opted-out', { config: { session: false } }, async () => 'ok')
  const routeOf = (handler: Handler): string =>
    route((session, reply) =>
      handler({
        session,
        reply,
        store,
        logoutElsewhere: () => app.sessions.destroy(session.publicId),
        countElsewhere: () =>
          app.sessions.update(session.publicId, (draft) => {
            draft.n = 1
          })
      })
    )
  return {
    ...site,
    send: async (to, headers = {}) =>
      await app.inject({ url: typeof to === 'string' ? to : routeOf(to), headers })
  }
}

/** As another plugin that replies before ours has run. */
function replyEarly(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    if (request.url === '/early') return reply.send('too early')
  })
}

/** What a reply says of the session: `sent` is the id that the request carried. */
function told(
  reply: LightMyRequestResponse,
  sent: string | undefined
): { header: string; cookie: string } {
  const { header, cookie } = carriedBy(reply)
  const named = (id: string | undefined): string => {
    if (id === undefined) return '–'
    if (id === '') return 'cleared'
    return id === sent ? 'same id' : 'new id'
  }
  return { header: named(header), cookie: named(cookie) }
}

function idOf(reply: LightMyRequestResponse): string | undefined {
  const { header, cookie } = carriedBy(reply)
  return header ?? cookie
}

interface Row {
  readonly name: string
  /** What the request carries. A session that it names holds `{ a: 'old' }`. Default: nothing. */
  readonly carries?: 'cookie' | 'header' | 'dead cookie' | 'malformed cookie' | 'dead header'
  readonly options?: SessionOptions
  readonly url?: string
  /** Seconds between the session's beginning and the request. */
  readonly after?: number
  readonly handler?: Handler
  readonly status?: number
  readonly calls: readonly Verb[]
  /** Default: nothing on either. */
  readonly header?: string
  readonly cookie?: string
  /**
   * The data under the id that was carried, and under the new one that the reply told. Default:
   * there is none.
   */
  readonly old?: object
  readonly new?: object
}

const unsaved: SessionOptions = { saveUninitialized: false }
const old = { a: 'old' }
const write: Handler = ({ session }) => {
  session.b = 'mine'
}
const none: Handler = () => undefined

const table: readonly Row[] = [
  {
    name: 'unresolved: another plugin answered first',
    carries: 'cookie',
    url: '/early',
    calls: [],
    old
  },
  { name: 'unresolved: the route opted out', carries: 'cookie', url: '/opted-out', calls: [], old },
  { name: 'unresolved: the route opted out, no id carried', url: '/opted-out', calls: [] },

  { name: 'new, nothing written', calls: ['create'], header: 'new id', cookie: 'new id', new: {} },
  {
    name: 'new, nothing written nor looked at',
    url: '/look-away',
    calls: ['create'],
    header: 'new id',
    cookie: 'new id',
    new: {}
  },
  { name: 'new, nothing written, saveUninitialized off', options: unsaved, calls: [] },
  {
    name: 'new, nothing written, a cookie that does not resolve',
    carries: 'dead cookie',
    calls: ['get']
  },
  { name: 'new, nothing written, a malformed cookie', carries: 'malformed cookie', calls: [] },
  {
    name: 'new, nothing written, a header that does not resolve',
    carries: 'dead header',
    calls: ['get', 'create'],
    header: 'new id',
    cookie: 'new id',
    new: {}
  },

  {
    name: 'new, data written',
    handler: write,
    calls: ['create'],
    header: 'new id',
    cookie: 'new id',
    new: { b: 'mine' }
  },
  {
    name: 'new, data written, saveUninitialized off',
    options: unsaved,
    handler: write,
    calls: ['create'],
    header: 'new id',
    cookie: 'new id',
    new: { b: 'mine' }
  },
  {
    name: 'new, data written, a cookie that does not resolve',
    carries: 'dead cookie',
    handler: write,
    calls: ['get', 'create'],
    cookie: 'new id',
    new: { b: 'mine' }
  },

  { name: 'loaded, unchanged, by cookie', carries: 'cookie', calls: ['get'], old },
  {
    name: 'loaded, unchanged, by header',
    carries: 'header',
    calls: ['get'],
    header: 'same id',
    old
  },
  {
    name: 'loaded, an equal write is no change',
    carries: 'cookie',
    handler: ({ session }) => {
      session.a = 'old'
    },
    calls: ['get'],
    old
  },
  { name: 'loaded, a touch not yet due', carries: 'cookie', after: 59.999, calls: ['get'], old },
  {
    name: 'loaded, a touch due, by cookie',
    carries: 'cookie',
    after: 60,
    calls: ['get', 'touch'],
    cookie: 'same id',
    old
  },
  {
    name: 'loaded, a touch due, by header',
    carries: 'header',
    after: 60,
    // The record notes that the browser, if there is one, did not get the cookie anew.
    calls: ['get', 'update'],
    header: 'same id',
    cookie: 'same id',
    old
  },
  {
    name: 'loaded, a touch due, ended meanwhile',
    carries: 'cookie',
    after: 60,
    handler: ({ logoutElsewhere }) => logoutElsewhere(),
    calls: ['get', 'delete', 'touch']
  },
  {
    name: 'loaded, touch() called',
    carries: 'cookie',
    handler: ({ session }) => {
      session.touch()
    },
    calls: ['get', 'touch'],
    cookie: 'same id',
    old
  },
  {
    name: 'id owed by save() of a new session',
    options: unsaved,
    handler: ({ session }) => session.save(),
    calls: ['create', 'touch'],
    header: 'new id',
    cookie: 'new id',
    new: {}
  },
  {
    name: 'id owed by update() of a new session',
    handler: ({ session }) =>
      session.update((draft) => {
        draft.n = 1
      }),
    calls: ['create', 'touch'],
    header: 'new id',
    cookie: 'new id',
    new: { n: 1 }
  },
  {
    name: 'id owed by update() of a loaded session',
    carries: 'cookie',
    handler: ({ session }) =>
      session.update((draft) => {
        draft.n = 1
      }),
    calls: ['get', 'update', 'touch'],
    cookie: 'same id',
    old: { a: 'old', n: 1 }
  },
  {
    name: 'id owed, but ended since',
    handler: async ({ session, logoutElsewhere }) => {
      await session.save()
      await logoutElsewhere()
    },
    calls: ['create', 'delete', 'touch']
  },
  {
    name: 'loaded, a touch that fails',
    carries: 'cookie',
    after: 60,
    handler: ({ store }) => {
      store.intercept = outage
    },
    calls: ['get', 'touch', 'touch'],
    old
  },

  {
    name: 'loaded, changed, by cookie',
    carries: 'cookie',
    handler: write,
    calls: ['get', 'update'],
    cookie: 'same id',
    old: { a: 'old', b: 'mine' }
  },
  {
    name: 'loaded, changed, by header',
    carries: 'header',
    handler: write,
    calls: ['get', 'update'],
    header: 'same id',
    cookie: 'same id',
    old: { a: 'old', b: 'mine' }
  },
  {
    name: 'loaded, changed, and the version moved',
    carries: 'cookie',
    handler: async (scene) => {
      await scene.countElsewhere()
      write(scene)
    },
    calls: ['get', 'get', 'update', 'update', 'get', 'update'],
    cookie: 'same id',
    old: { a: 'old', b: 'mine', n: 1 }
  },
  {
    name: 'loaded, changed, and ended meanwhile',
    carries: 'header',
    handler: async (scene) => {
      await scene.logoutElsewhere()
      write(scene)
    },
    calls: ['get', 'delete', 'update', 'get']
  },

  {
    name: 'regenerated, nothing kept',
    carries: 'cookie',
    handler: ({ session }) => session.regenerate(),
    calls: ['get', 'create', 'retire'],
    cookie: 'new id',
    new: {}
  },
  {
    name: 'regenerated, something kept',
    carries: 'header',
    options: unsaved,
    handler: ({ session }) => session.regenerate(['a']),
    calls: ['get', 'create', 'retire'],
    header: 'new id',
    cookie: 'new id',
    new: old
  },
  {
    name: 'regenerated, nothing kept, saveUninitialized off',
    carries: 'cookie',
    options: unsaved,
    handler: ({ session }) => session.regenerate(),
    calls: ['get', 'delete'],
    cookie: 'cleared'
  },
  {
    name: 'regenerated, nothing kept, saveUninitialized off, no cookie',
    carries: 'header',
    options: unsaved,
    handler: ({ session }) => session.regenerate(),
    calls: ['get', 'delete']
  },
  {
    name: 'regenerated, then written to',
    carries: 'cookie',
    options: unsaved,
    handler: async (scene) => {
      await scene.session.regenerate()
      write(scene)
    },
    calls: ['get', 'create', 'retire'],
    cookie: 'new id',
    new: { b: 'mine' }
  },

  {
    name: 'destroyed, by this request',
    carries: 'cookie',
    handler: ({ session }) => session.destroy(),
    calls: ['get', 'delete'],
    cookie: 'cleared'
  },
  {
    name: 'destroyed, by this request, no cookie',
    carries: 'header',
    handler: ({ session }) => session.destroy(),
    calls: ['get', 'delete']
  },
  {
    name: 'destroyed, but already gone',
    carries: 'cookie',
    handler: async ({ session, logoutElsewhere }) => {
      await logoutElsewhere()
      await session.destroy()
    },
    calls: ['get', 'delete', 'delete']
  },
  { name: 'destroyed, never stored', handler: ({ session }) => session.destroy(), calls: [] },
  {
    name: 'destroyed, a cookie that does not resolve',
    carries: 'dead cookie',
    handler: ({ session }) => session.destroy(),
    calls: ['get']
  },
  {
    name: 'destroyed, then written to',
    carries: 'cookie',
    handler: async (scene) => {
      await scene.session.destroy()
      write(scene)
    },
    calls: ['get', 'delete', 'create'],
    cookie: 'new id',
    new: { b: 'mine' }
  },

  {
    name: 'gone',
    carries: 'header',
    handler: async ({ session, logoutElsewhere }) => {
      await logoutElsewhere()
      await session
        .update((draft) => {
          draft.n = 1
        })
        .catch(() => {})
      session.b = 'mine'
    },
    calls: ['get', 'delete', 'update', 'get']
  },
  {
    name: 'the commit failed',
    carries: 'header',
    handler: (scene) => {
      scene.store.intercept = outage
      write(scene)
    },
    status: 503,
    calls: ['get', 'update', 'get'],
    old
  }
]

/** Routes by which a 404, a preflight and a refused handshake can be written to. */
async function writable(t: Test, wrap: Wrap): Promise<Site> {
  const scene = await serve(t, wrap)
  scene.app.options('/', async ({ session, query }) => {
    if ('write' in (query as object)) session.a = 'written'
    return 'ok'
  })
  scene.app.get('/socket', async ({ session, query }, reply) => {
    if ('write' in (query as object)) session.a = 'written'
    return reply.code(303).send('not here')
  })
  scene.app.get('/refused', async ({ session, query }, reply) => {
    if ('write' in (query as object)) session.a = 'written'
    return reply.code(401).send('no')
  })
  scene.app.get('/fails', async ({ session, query }) => {
    if ('write' in (query as object)) session.a = 'written'
    throw new Error('of its own')
  })
  scene.app.setNotFoundHandler(async ({ session, query }, reply) => {
    if ('write' in (query as object)) session.a = 'written'
    return reply.code(404).send('no')
  })
  return scene
}

for (const [kind, wrap] of Object.entries(wraps)) {
  t.test(`the commit, on the ${kind}`, async (t) => {
    for (const row of table) {
      t.test(row.name, async (t) => {
        const { store, clock, send, stored } = await serve(t, wrap, row.options)
        let sent: string | undefined
        const headers: Record<string, string> = {}
        if (row.carries === 'cookie' || row.carries === 'header') {
          sent = idOf(
            await send(({ session }) => {
              session.a = 'old'
            })
          )
          t.ok(sent)
        } else if (row.carries !== undefined) {
          sent = row.carries === 'malformed cookie' ? 'malformed' : unknownId
        }
        if (row.carries?.endsWith('header') === true) headers['x-session-id'] = sent as string
        if (row.carries?.endsWith('cookie') === true)
          Object.assign(headers, { cookie: `session_id=${sent}` })
        clock.advance((row.after ?? 0) * 1000)
        const { intercept } = store
        store.taken()
        const reply = await send(row.url ?? row.handler ?? none, headers)
        t.same(store.taken(), row.calls, 'the store calls')
        store.intercept = intercept
        t.equal(reply.statusCode, row.status ?? 200)
        t.same(
          told(reply, sent),
          { header: row.header ?? '–', cookie: row.cookie ?? '–' },
          'the reply'
        )
        t.same(await stored(sent), row.old, 'stored under the carried id')
        const now = idOf(reply)
        t.same(await stored(now === sent ? '' : now), row.new, 'stored under the new id')
      })
    }
  })

  t.test(`a new session whose id is taken, on the ${kind}`, async (t) => {
    const taken = 'taken-taken-taken-taken'
    const free = 'free-free-free-free-free'

    async function contested(t: Test, ids: readonly string[]): Promise<Site> {
      const queue = [taken, ...ids]
      const scene = await serve(t, wrap, { generateId: () => queue.shift() ?? free })
      t.equal(
        idOf(
          await scene.send(({ session }) => {
            session.a = 'first'
          })
        ),
        taken
      )
      scene.store.taken()
      return scene
    }

    /** Sends while time passes, for the pauses between tries. */
    const sendInTime = async (
      { clock, send }: Site,
      handler: Handler
    ): Promise<LightMyRequestResponse> => {
      let reply: LightMyRequestResponse | undefined
      send(handler).then(
        (received) => {
          reply = received
        },
        (error: unknown) => {
          t.threw(error)
        }
      )
      for (;;) {
        await nextTurn()
        if (reply !== undefined) return reply
        clock.advance(10)
      }
    }

    const untouched = async (t: Test, { stored }: Site): Promise<void> => {
      t.same(await stored(taken), { a: 'first' }, 'the other session is as it was')
    }

    t.test('another is minted', async (t) => {
      const scene = await contested(t, [taken, taken, free])
      const reply = await sendInTime(scene, ({ session }) => {
        session.b = 'mine'
      })
      t.equal(reply.statusCode, 200)
      t.equal(idOf(reply), free)
      t.same(scene.store.taken().filter((verb) => verb === 'create').length, 3)
      await untouched(t, scene)
    })

    t.test('three times: a coded error', async (t) => {
      const scene = await contested(t, [taken, taken, taken, free])
      const reply = await sendInTime(scene, ({ session }) => {
        session.b = 'mine'
      })
      t.equal(reply.json().code, 'HOLDFAST_ID_TAKEN')
      t.equal(idOf(reply), undefined)
      t.same(scene.store.taken().filter((verb) => verb === 'create').length, 3)
      await untouched(t, scene)
    })

    for (const member of ['id', 'publicId'] as const) {
      t.test(`a coded error if the handler has read the ${member}`, async (t) => {
        const scene = await contested(t, [taken, free])
        const reply = await sendInTime(scene, ({ session }) => {
          session.b = session[member]
        })
        t.equal(reply.json().code, 'HOLDFAST_ID_TAKEN')
        t.equal(idOf(reply), undefined)
        await untouched(t, scene)
      })
    }
  })

  t.test(`S22: what does not begin a session, on the ${kind}`, async (t) => {
    const preflight = {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST' }
    } as const

    const cases = [
      { name: 'a 404', request: { url: '/no/such/page' }, status: 404 },
      { name: 'a CORS preflight', request: { url: '/', ...preflight }, status: 200 },
      {
        name: 'S40: a WebSocket handshake that was answered otherwise',
        request: {
          url: '/socket',
          headers: { connection: 'Upgrade', upgrade: 'WebSocket' }
        },
        status: 303
      },
      { name: 'a request that is refused', request: { url: '/refused' }, status: 401 },
      { name: 'a request that fails', request: { url: '/fails' }, status: 500 }
    ] as const
    for (const { name, request, status } of cases) {
      t.test(`${name} does not, unless it is written to`, async (t) => {
        const { app, store } = await writable(t, wrap)
        const reply = await app.inject(request)
        t.equal(reply.statusCode, status)
        t.same(store.taken(), [])
        t.same(told(reply, undefined), { header: '–', cookie: '–' })
        const written = await app.inject({ ...request, url: `${request.url}?write` })
        t.equal(written.statusCode, status)
        t.same(store.taken(), ['create'])
        t.same(told(written, undefined), { header: 'new id', cookie: 'new id' })
      })
    }

    t.test(
      'an OPTIONS request that is no preflight begins one, and an upgrade to something else',
      async (t) => {
        const { app, store } = await writable(t, wrap)
        await app.inject({ url: '/', method: 'OPTIONS' })
        t.same(store.taken(), ['create'])
        await app.inject({ url: '/socket', headers: { connection: 'Upgrade', upgrade: 'h2c' } })
        t.same(store.taken(), ['create'])
      }
    )
  })

  t.test(`an error reply commits too, on the ${kind}`, async (t) => {
    const { send, store, stored } = await serve(t, wrap)
    const failing: readonly [string, number, Handler][] = [
      [
        'thrown',
        500,
        () => {
          throw new Error('failed')
        }
      ],
      ['replied', 401, ({ reply }) => reply.code(401).send('no')]
    ]
    for (const [name, status, fail] of failing) {
      const reply = await send((scene) => {
        scene.session.n = 1
        return fail(scene)
      })
      t.equal(reply.statusCode, status, name)
      t.same(told(reply, undefined), { header: 'new id', cookie: 'new id' }, name)
      t.same(store.taken(), ['create'], name)
      t.same(await stored(idOf(reply)), { n: 1 }, name)
      store.taken()
    }
  })

  t.test(`the commit waits for operations that were not awaited, on the ${kind}`, async (t) => {
    const { send, stored } = await serve(t, wrap)
    const id = idOf(
      await send(({ session }) => {
        void session.update((draft) => {
          draft.n = 1
        })
        void session.update((draft) => {
          draft.n = (draft.n ?? 0) + 1
        })
        session.b = 'written after the calls'
      })
    ) as string
    t.same(await stored(id), { n: 2, b: 'written after the calls' })
    const reply = await send(
      ({ session }) => {
        void session.destroy()
      },
      { cookie: `session_id=${id}` }
    )
    t.same(told(reply, id), { header: '–', cookie: 'cleared' })
    t.equal(await stored(id), undefined)
  })

  t.test(
    `a failure of an operation that nobody awaited fails the reply, on the ${kind}`,
    async (t) => {
      const { send } = await serve(t, wrap)
      const reply = await send(({ session, store }) => {
        store.intercept = outage
        void session.update((draft) => {
          draft.n = 1
        })
      })
      t.equal(reply.statusCode, 503)
      t.same(told(reply, undefined), { header: '–', cookie: '–' })
    }
  )

  t.test(`one commit per request, on the ${kind}`, async (t) => {
    const { app, send, store } = await serve(t, wrap)
    app.addHook('onSend', async ({ url }) => {
      if (url.startsWith('/late')) throw new Error('a later hook of the app')
    })
    app.get('/late', async ({ session }) => {
      session.n = 1
    })
    const reply = await send('/late')
    t.equal(reply.statusCode, 500)
    t.same(store.taken(), ['create'])
    t.equal(reply.cookies.length, 1)
    // The reply to the commit's own error passes through onSend again.
    const failed = await send(({ session }) => {
      session.set('a', 1n)
    })
    t.equal(failed.statusCode, 500)
    t.equal(failed.json().code, 'HOLDFAST_DATA_UNSERIALIZABLE')
    t.same(store.taken(), [])
    t.same(told(failed, undefined), { header: '–', cookie: '–' })
  })
}

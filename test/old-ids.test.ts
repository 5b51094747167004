import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t from 'tap'

import { type Serializer, type Session, type SessionOptions } from '../lib/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later, moving } from './helpers/backends.ts'
import { Browser, carriedBy, idIn } from './helpers/browser.ts'
import { setCookies, stored } from './helpers/serve.ts'
import { nextTurn } from './helpers/stores.ts'
import { settle, signal } from './helpers/waiting.ts'

const stores = [...backends, later, moving]
const second = 1000

/** An app whose requests have a handler each. */
interface Scene {
  readonly app: FastifyInstance
  readonly visit: (
    id: string | undefined,
    work: (session: Session) => unknown,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** Begins a session that is signed in, and moves it. Returns its old id and its new one. */
  readonly moved: () => Promise<readonly [string, string]>
}

async function scene(over: Over, options: SessionOptions = {}): Promise<Scene> {
  const { app } = await over.serve(options)
  const works = new Map<string, (session: Session) => unknown>()
  app.get('/visit', async ({ session, headers }) => {
    return (await works.get(headers['x-work'] as string)?.(session)) ?? 'done'
  })
  let count = 0
  const visit: Scene['visit'] = (id, work, headers = {}) => {
    const key = String((count += 1))
    works.set(key, work)
    const cookie = id === undefined ? {} : { cookie: `session_id=${id}` }
    return app.inject({ url: '/visit', headers: { 'x-work': key, ...cookie, ...headers } })
  }
  return {
    app,
    visit,
    async moved() {
      const old = carriedBy(await visit(undefined, signIn)).cookie as string
      const fresh = carriedBy(await visit(old, stepUp)).cookie as string
      t.not(fresh, old)
      return [old, fresh]
    }
  }
}

function signIn(session: Session): void {
  session.user = 'ada'
}

const stepUp = (session: Session): Promise<void> =>
  session.regenerate('all', { keepLifetime: true })

const logouts: Readonly<Record<string, (session: Session) => Promise<unknown>>> = {
  'destroy()': (session) => session.destroy(),
  'regenerate(), then destroy()': async (session) => {
    await session.regenerate()
    await session.destroy()
  },
  'regenerate() that keeps, then destroy()': async (session) => {
    await session.regenerate(['a'])
    await session.destroy()
  },
  'regenerate(), and nothing else': (session) => session.regenerate(),
  'an update() that is refused, then destroy()': async (session) => {
    await session.update(() => {}).catch(() => {})
    await session.destroy()
  },
  'a save() that is refused, then destroy()': async (session) => {
    session.a = 'late'
    await session.save().catch(() => {})
    await session.destroy()
  },
  'a session of its own, stored, then destroy()': async (session) => {
    await session.regenerate().catch(() => {})
    session.user = 'eve'
    await session.save().catch(() => {})
    await session.destroy()
  }
}

for (const [name, logout] of Object.entries(logouts)) {
  overEach(stores, t, `P1: a logout by an old id ends what it became: ${name}`, async (t, over) => {
    for (const options of [{}, { saveUninitialized: false }]) {
      for (const wait of [0, 11]) {
        const { app, visit, moved } = await scene(over, options)
        const [old, fresh] = await moved()
        await over.advance(wait * second)
        const reply = await visit(old, logout)
        t.equal(reply.statusCode, 200, reply.body)
        t.equal(await stored(app, fresh), undefined, `${wait} seconds later`)
        const { cookie } = carriedBy(reply)
        t.ok(cookie === undefined || cookie === '' || !(await stored(app, cookie))?.user)
      }
    }
  })

  overEach(
    stores,
    t,
    `P1: a logout ends a session that moves while it runs: ${name}`,
    async (t, over) => {
      const { app, visit } = await scene(over)
      const old = carriedBy(await visit(undefined, signIn)).cookie as string
      let fresh = ''
      const reply = await visit(old, async (session) => {
        t.equal(session.user, 'ada')
        fresh = carriedBy(await visit(old, stepUp)).cookie as string
        await logout(session)
      })
      // Without destroy() it cannot be told from a second click, and says that it was too late.
      const isTold = name === 'regenerate(), and nothing else'
      t.equal(reply.statusCode, isTold ? 409 : 200, reply.body)
      t.equal((await stored(app, fresh)) === undefined, !isTold)
    }
  )
}

// A session that ends soon is used as its request comes.

for (const [name, work, left] of [
  ['a logout', (session: Session) => session.destroy(), undefined],
  [
    'a write',
    (session: Session) => {
      session.a = 'late'
    },
    { user: 'ada' }
  ]
] as const) {
  overEach(
    stores,
    t,
    `P1: a session that moves while a late use of it is on its way: ${name}`,
    async (t, over) => {
      const { app, visit } = await scene(over, { maxAge: 900 })
      const old = carriedBy(await visit(undefined, signIn)).cookie as string
      await over.advance(700 * second)
      const { intercept } = over.store
      let fresh = ''
      let isFirst = true
      over.store.intercept = async (call, pass) => {
        if (isFirst && (call.verb === 'touch' || call.verb === 'update')) {
          isFirst = false
          fresh = carriedBy(await visit(old, stepUp)).cookie as string
        }
        return intercept(call, pass)
      }
      const reply = await visit(old, work)
      t.equal(isFirst, false)
      t.equal(reply.statusCode, 200)
      t.same(await stored(app, fresh), left)
      if (left !== undefined) t.same(setCookies(reply), [], 'the cookie of the step-up stays')
    }
  )
}

// A session that this process cannot read, or that is too old here.

const reversed: Serializer = {
  stringify: (data) => `~${JSON.stringify(data)}`,
  parse: (text) => {
    if (!text.startsWith('~')) throw new Error('not mine')
    return JSON.parse(text.slice(1)) as Record<string, unknown>
  }
}

const strangers: Readonly<Record<string, SessionOptions>> = {
  'that cannot be read here': { serializer: reversed },
  'that is too old here': { maxAge: 60, absoluteTimeout: 60 }
}

for (const [kind, options] of Object.entries(strangers)) {
  overEach(
    stores,
    t,
    `P1: a login over a session ${kind} leaves a trace, and undoes no logout`,
    async (t, over) => {
      const there = await scene(over)
      const here = await scene(over, options)
      const begin = async (): Promise<string> => {
        const id = carriedBy(await there.visit(undefined, signIn)).cookie as string
        await over.advance(61 * second)
        return id
      }
      const login = (meanwhile: () => unknown) => async (session: Session) => {
        await session.regenerate()
        await meanwhile()
        session.user = 'grace'
      }

      const ended = await begin()
      const refused = await here.visit(
        ended,
        login(() => there.visit(ended, (session) => session.destroy()))
      )
      t.same([refused.statusCode, setCookies(refused)], [409, []], 'a logout is not undone')

      const written = await begin()
      const merged = await here.visit(
        written,
        login(() =>
          there.visit(written, (session) => {
            session.a = 'meanwhile'
          })
        )
      )
      t.equal(merged.statusCode, 200)
      const own = carriedBy(merged).cookie as string
      t.same(await stored(here.app, own), { user: 'grace' })
      t.equal(await stored(there.app, written), undefined)
      const late = await there.visit(written, (session) => {
        session.a = 'late'
      })
      t.same(setCookies(late), [], 'a late request begins nothing')
      await there.visit(written, (session) => session.destroy())
      t.equal(await stored(here.app, own), undefined, 'a late logout ends the login')

      const clicked = await begin()
      let first = ''
      const twice = await here.visit(
        clicked,
        login(async () => {
          const reply = await there.visit(clicked, async (session) => {
            await session.regenerate()
            session.user = 'ada'
          })
          first = carriedBy(reply).cookie as string
        })
      )
      t.equal(twice.statusCode, 200)
      t.same(await stored(there.app, first), { user: 'ada' }, 'the first login goes on')
    }
  )
}

// Several cookies.

overEach(
  stores,
  t,
  'P1: an old id beside a dead one leads where it leads alone',
  async (t, over) => {
    const { app, visit, moved } = await scene(over)
    const dead = 'a-dead-id-that-is-well-formed-01'
    for (const cookies of [(id: string) => [dead, id], (id: string) => [id, dead]]) {
      const [old, fresh] = await moved()
      const cookie = cookies(old)
        .map((id) => `session_id=${id}`)
        .join('; ')
      const late = await visit(
        undefined,
        (session) => {
          session.a = 'late'
        },
        { cookie }
      )
      t.same([late.statusCode, setCookies(late)], [200, []])
      await visit(undefined, (session) => session.destroy(), { cookie })
      t.equal(await stored(app, fresh), undefined)
    }
  }
)

for (const [kind, options] of Object.entries(strangers)) {
  overEach(stores, t, `a session ${kind}, beside a dead one, can be ended`, async (t, over) => {
    const there = await scene(over)
    const here = await scene(over, options)
    const id = carriedBy(await there.visit(undefined, signIn)).cookie as string
    await over.advance(61 * second)
    const cookie = `session_id=a-dead-id-that-is-well-formed-01; session_id=${id}`
    const away = await here.app.inject({ url: '/look-away', headers: { cookie } })
    t.equal(away.statusCode, 200)
    const reply = await here.visit(undefined, (session) => session.destroy(), { cookie })
    t.equal(reply.statusCode, 200)
    t.equal(await stored(there.app, id), undefined)
  })
}

// Outages after a move.

const movers: Readonly<Record<string, (session: Session) => Promise<unknown>>> = {
  'update()': (session) =>
    session.update((draft) => {
      draft.a = 'moved'
    }),
  'save()': (session) => session.save(),
  'save(), then regenerate()': async (session) => {
    await session.save()
    await session.regenerate('all')
  }
}

for (const [name, move] of Object.entries(movers)) {
  overEach(
    stores,
    t,
    `P8: an outage after a move tells the id that answers: ${name}`,
    async (t, over) => {
      for (const carrier of ['cookie', 'header'] as const) {
        const { app, visit } = await scene(over)
        const old = carriedBy(await visit(undefined, signIn)).cookie as string
        const { intercept } = over.store
        const given = carrier === 'cookie' ? {} : { 'x-session-id': old }
        const reply = await visit(
          carrier === 'cookie' ? old : undefined,
          async (session) => {
            await session.regenerate('all')
            await move(session)
            session.b = 'lost'
            over.store.intercept = () => {
              throw new Error('the store is down')
            }
          },
          given
        )
        over.store.intercept = intercept
        t.equal(reply.statusCode, 503)
        const told = carriedBy(reply)[carrier]
        t.not(told, old)
        t.match(await stored(app, told as string), { user: 'ada' }, carrier)
        t.equal(await stored(app, old), undefined)
      }
    }
  )
}

// A second click.

overEach(
  stores,
  t,
  'a second click that fails does not end the login of the first',
  async (t, over) => {
    const { app, visit } = await scene(over)
    const id = carriedBy(
      await visit(undefined, (session) => {
        session.a = 'visitor'
      })
    ).cookie as string
    const [reached, arrived] = signal()
    const [released, goOn] = signal()
    const click = visit(id, async (session) => {
      await session.regenerate()
      arrived()
      await released
      throw Object.assign(new Error('too many'), { statusCode: 429 })
    })
    await reached
    const first = await visit(id, async (session) => {
      await session.regenerate()
      session.user = 'ada'
    })
    goOn()
    const failed = await click
    t.same([failed.statusCode, setCookies(failed)], [429, []])
    t.same(await stored(app, carriedBy(first).cookie as string), { user: 'ada' })
  }
)

overEach(
  stores,
  t,
  'a second click beside a session that cannot be read here begins anew',
  async (t, over) => {
    const there = await scene(over, { serializer: reversed })
    const here = await scene(over)
    const [old, fresh] = await there.moved()
    const reply = await here.visit(old, async (session) => {
      await session.regenerate()
      session.user = 'grace'
    })
    t.equal(reply.statusCode, 200)
    t.same(await stored(there.app, fresh), { user: 'ada' })
    const kept = await here.visit(old, async (session) => {
      await session.regenerate(['user'])
      session.a = 'late'
    })
    t.same([kept.statusCode, kept.json().code], [503, 'HOLDFAST_DATA_UNDECODABLE'])
  }
)

// An id that was adopted, and what others have stored under it since.

overEach(
  stores,
  t,
  'a move from an adopted id keeps what others have stored there, and leaves a trace',
  async (t, over) => {
    const { app, visit } = await scene(over, { adoptUnknownIds: () => true })
    const id = 'chosen-by-the-client-000001'
    const headers = { 'x-session-id': id }
    const reply = await visit(
      undefined,
      async (session) => {
        session.b = 'mine'
        await session.regenerate(['a', 'b'])
        await visit(
          undefined,
          (other) => {
            other.a = 'theirs'
          },
          headers
        )
        session.user = 'ada'
      },
      headers
    )
    const own = carriedBy(reply).header as string
    t.same(await stored(app, own), { a: 'theirs', b: 'mine', user: 'ada' })
    await visit(undefined, (session) => session.destroy(), headers)
    t.equal(await stored(app, own), undefined, 'a logout by the old id ends it')

    const other = await visit(
      undefined,
      async (session) => {
        session.b = 'mine'
        await session.regenerate(['b'])
      },
      { 'x-session-id': 'chosen-by-the-client-000002' }
    )
    t.same(await stored(app, carriedBy(other).header as string), { b: 'mine' }, 'nobody was there')
    const browser = new Browser(app)
    t.equal(idIn(browser), '')
  }
)

overEach(
  stores,
  t,
  'P1: a move from an adopted id meets what has become of the session there',
  async (t, over) => {
    const { app, visit } = await scene(over, { adoptUnknownIds: () => true })
    let count = 0
    for (const keep of [[], ['b']] as const) {
      for (const [meanwhile, ends] of [
        [stepUp, false],
        [(other: Session) => other.destroy(), true]
      ] as const) {
        const id = `chosen-by-the-client-00001${(count += 1)}`
        const headers = { 'x-session-id': id }
        const reply = await visit(
          undefined,
          async (session) => {
            session.b = 'mine'
            await session.regenerate(keep)
            await visit(undefined, signIn, headers)
            await visit(undefined, meanwhile, headers)
            session.c = 'new'
          },
          headers
        )
        // Of nothing that it has seen there is a trace: it begins like any new session.
        const isLate = !ends && keep.length > 0
        t.equal(reply.statusCode, isLate ? 409 : 200, `${keep} ${ends}`)
        if (isLate) continue
        const kept = keep.length > 0 ? { b: 'mine' } : {}
        t.same(await stored(app, carriedBy(reply).header as string), { ...kept, c: 'new' })
      }
    }
  }
)

overEach(
  stores.filter(({ name }) => name !== 'MemoryStore' && name !== moving.name),
  t,
  'P1: of two that adopt an id, the second begins anew if the session moves before its turn',
  async (t, over) => {
    const { app, visit } = await scene(over, { adoptUnknownIds: () => true })
    const elsewhere = await scene(over)
    const id = 'chosen-by-the-client-000001'
    const headers = { 'x-session-id': id }
    const { intercept } = over.store
    let read = 0
    over.store.intercept = async (call, pass) => {
      while (call.verb === 'create' && read < 2) await nextTurn()
      const answer = await intercept(call, pass)
      if (call.verb === 'get') read += 1
      if (call.verb !== 'create') return answer
      await settle()
      over.store.intercept = intercept
      await elsewhere.visit(undefined, stepUp, headers)
      return answer
    }
    const replies = await Promise.all(
      (['a', 'b'] as const).map(async (key) => {
        const reply = await visit(undefined, (session) => session.set(key, 'new'), headers)
        t.equal(reply.statusCode, 200)
        return { key, own: carriedBy(reply).header as string }
      })
    )
    const anew = replies.filter(({ own }) => own !== undefined && own !== id)
    t.equal(anew.length, 1)
    for (const { key, own } of anew) t.same(await stored(app, own), { [key]: 'new' })
  }
)

// A move that has caught up with others, and then comes too late.

/** Runs what is given before the next calls by which a session moves. */
function beforeMoves({ store }: Over, ...steps: ReadonlyArray<() => Promise<unknown>>): void {
  const { intercept } = store
  const left = [...steps]
  store.intercept = async (call, pass) => {
    if (call.verb === 'retire' || call.verb === 'move') {
      const step = left.shift()
      store.intercept = intercept
      await step?.()
      if (left.length > 0) beforeMoves({ store } as Over, ...left)
    }
    return intercept(call, pass)
  }
}

for (const { how, work, status } of [
  { how: 'moves with it', work: (other: Session) => other.regenerate(['a']), status: 409 },
  { how: 'moves without it', work: (other: Session) => other.regenerate(), status: 200 }
] as const) {
  overEach(
    stores,
    t,
    `P1: a move catches up with a key that it is to keep, and another request ${how}`,
    async (t, over) => {
      const { app, visit } = await scene(over, { storeTimeout: 1000 })
      const id = carriedBy(await visit(undefined, signIn)).cookie as string
      let count = 0
      const late = visit(id, async (session) => {
        await session.regenerate(['a'])
        beforeMoves(
          over,
          () =>
            visit(id, (other) => {
              other.a = 'theirs'
            }),
          () => visit(id, work)
        )
        await session.update((draft) => {
          draft.n = count += 1
        })
        return session.data()
      })
      let reply: LightMyRequestResponse | undefined
      void late.then((answer) => {
        reply = answer
      })
      // It pauses before it tries again.
      while (reply === undefined) {
        await nextTurn()
        over.clock.advance(1)
      }
      t.equal(reply.statusCode, status, reply.body)
      if (status === 409) {
        t.same(setCookies(reply), [])
        return
      }
      t.same(reply.json(), { n: count }, 'it begins with nothing of theirs')
      t.same(await stored(app, carriedBy(reply).cookie as string), { n: count })
    }
  )
}

overEach(
  stores,
  t,
  'P1: a late request that moves twice ends all that its browser may hold',
  async (t, over) => {
    for (const [name, end] of Object.entries({
      'destroy()': (session: Session) => session.destroy(),
      'regenerate(), and nothing else': (session: Session) => session.regenerate()
    })) {
      const { app, visit, moved } = await scene(over, { saveUninitialized: false })
      const [old, fresh] = await moved()
      let own = ''
      const reply = await visit(old, async (session) => {
        await session.regenerate()
        session.user = 'eve'
        await session.save()
        own = session.id as string
        t.same(await stored(app, own), { user: 'eve' }, name)
        await end(session)
      })
      t.equal(reply.statusCode, 200, name)
      t.same([await stored(app, own), await stored(app, fresh)], [undefined, undefined], name)
    }
  }
)

overEach(stores, t, 'P1: an error reply to a late regenerate() ends nothing', async (t, over) => {
  for (const keep of [[], ['a']] as const) {
    const { app, visit, moved } = await scene(over)
    const [old, fresh] = await moved()
    const reply = await visit(old, async (session) => {
      await session.regenerate(keep)
      throw Object.assign(new Error('too many'), { statusCode: 429 })
    })
    t.same([reply.statusCode, setCookies(reply)], [429, []])
    t.same(await stored(app, fresh), { user: 'ada' })
  }
  const { app, visit } = await scene(over, { saveUninitialized: false })
  const old = carriedBy(await visit(undefined, signIn)).cookie as string
  let fresh = ''
  const reply = await visit(old, async (session) => {
    await session.regenerate()
    fresh = carriedBy(await visit(old, stepUp)).cookie as string
    throw Object.assign(new Error('too many'), { statusCode: 429 })
  })
  t.same([reply.statusCode, setCookies(reply)], [429, []])
  t.same(await stored(app, fresh), { user: 'ada' })
  const alone = await visit(fresh, async (session) => {
    await session.regenerate()
    throw Object.assign(new Error('too many'), { statusCode: 429 })
  })
  t.same([alone.statusCode, carriedBy(alone).cookie], [429, ''], 'one that is not late ends')
  t.equal(await stored(app, fresh), undefined)
})

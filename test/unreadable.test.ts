import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t from 'tap'

import { SessionError, type Serializer, type Session, type SessionStore } from '../lib/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Browser, idIn } from './helpers/browser.ts'
import { begin, setCookies, stored, type Served } from './helpers/serve.ts'

const stores = [...backends, later]
const second = 1000
const code = 'HOLDFAST_DATA_UNDECODABLE'

/** A serializer that the default one cannot read. */
const reversed: Serializer = {
  stringify: (data) => `~${JSON.stringify(data)}`,
  parse: (text) => {
    if (!text.startsWith('~')) throw new Error('not mine')
    return JSON.parse(text.slice(1)) as Record<string, unknown>
  }
}

/** Two apps on one store, of which the second cannot read what the first has stored. */
interface Scene {
  readonly writer: Served
  readonly reader: Served
  readonly id: string
}

type Open = (over: Over) => Promise<Scene>

const kinds: Readonly<Record<string, Open>> = {
  'of another serializer': async (over) => {
    const writer = await over.serve({ serializer: reversed })
    return { writer, reader: await over.serve(), id: await begin(writer.app) }
  },
  'that the store cannot open': async (over) => {
    const writer = await over.serve()
    const id = await begin(writer.app)
    const { store } = over
    const sealed: SessionStore = {
      async get(key) {
        const entry = await store.get(key)
        if (entry?.successor !== undefined || entry?.data !== '{"a":"old"}') return entry
        throw new SessionError(code, { cause: new Error('the key is away') })
      },
      create: (...given) => store.create(...given),
      update: (...given) => store.update(...given),
      touch: (...given) => store.touch(...given),
      delete: (...given) => store.delete(...given),
      retire: (...given) => store.retire(...given)
    }
    return { writer, reader: await over.serve({ store: sealed }), id }
  }
}

/** The id that a reply sets; empty if there is none. */
function idOf(reply: LightMyRequestResponse): string {
  return reply.cookies.at(-1)?.value ?? ''
}

/** Has a handler run, with the session that cannot be read. */
async function visit(
  app: FastifyInstance,
  id: string,
  work: (session: Session) => unknown
): Promise<LightMyRequestResponse> {
  let error: unknown
  const handlers = works.get(app) ?? []
  handlers.push(async (session) => {
    try {
      return (await work(session)) ?? 'done'
    } catch (caught) {
      error = caught
      throw caught
    }
  })
  const reply = await app.inject({ url: '/visit', headers: { cookie: `session_id=${id}` } })
  if (error !== undefined && reply.statusCode < 500) throw error
  return reply
}

const works = new WeakMap<FastifyInstance, Array<(session: Session) => unknown>>()

function addVisits(app: FastifyInstance): void {
  const handlers: Array<(session: Session) => unknown> = []
  works.set(app, handlers)
  app.get('/visit', async ({ session }) => handlers.shift()?.(session))
}

const refused: Readonly<Record<string, (session: Session) => unknown>> = {
  'reading a key': (session) => session.a,
  'asking for a key': (session) => 'a' in session,
  'listing the keys': (session) => Object.keys(session),
  'spreading it': (session) => ({ ...session }),
  'JSON of it': (session) => JSON.stringify(session),
  'setting a key': (session) => {
    session.b = 'mine'
  },
  'deleting a key': (session) => delete session.a,
  'defining a key': (session) => Object.defineProperty(session, 'b', { value: 'mine' }),
  'describing a key': (session) => Object.hasOwn(session, 'b'),
  'get()': (session) => session.get('a'),
  'set()': (session) => session.set('b', 'mine'),
  'data()': (session) => session.data(),
  'options()': (session) => session.options({ path: '/a' }),
  'touch()': (session) => session.touch(),
  maxAge: (session) => {
    session.maxAge = 60
  },
  createdAt: (session) => session.createdAt,
  'save()': (session) => session.save(),
  'update()': (session) =>
    session.update((draft) => {
      draft.b = 'mine'
    }),
  'regenerate() that keeps a key': (session) => session.regenerate(['a']),
  'regenerate() that keeps all': (session) => session.regenerate('all', { keepLifetime: true })
}

for (const [kind, open] of Object.entries(kinds)) {
  overEach(
    stores,
    t,
    `S27: a session ${kind} is not replaced, and nobody is told that it is empty`,
    async (t, over) => {
      const { writer, reader, id } = await open(over)
      addVisits(reader.app)
      for (const [name, work] of Object.entries(refused)) {
        const reply = await visit(reader.app, id, work)
        t.same([reply.statusCode, reply.json().code], [503, code], name)
        t.same(setCookies(reply), [], name)
        const caught = await visit(reader.app, id, async (session) => {
          await Promise.resolve(session)
            .then(work)
            .catch(() => {})
          return 'caught'
        }).catch(() => undefined)
        t.same(caught === undefined ? [] : setCookies(caught), [], `${name}, caught`)
        t.same(await stored(writer.app, id), { a: 'old' }, name)
      }
      t.ok(reader.log.some((line) => line.includes('the stored session cannot be read here')))
      t.notOk(reader.log.some((line) => line.includes('old') || line.includes(id)))
    }
  )

  overEach(stores, t, `S27: a session ${kind} goes on where nobody looks`, async (t, over) => {
    const { writer, reader, id } = await open(over)
    const headers = { cookie: `session_id=${id}` }
    const reply = await reader.app.inject({ url: '/look-away', headers })
    t.same([reply.statusCode, setCookies(reply)], [200, []])
    const { app } = await over.serve({ serializer: reversed })
    app.addHook('onSend', async ({ session }) => {
      t.type(session.publicId, 'string')
    })
    t.same(await stored(writer.app, id), { a: 'old' })
  })

  overEach(
    stores,
    t,
    `a session ${kind}, and a live one beside it, are as none`,
    async (t, over) => {
      const { writer, reader, id } = await open(over)
      const other = await begin(reader.app, 'other')
      const headers = { cookie: `session_id=${other}; session_id=${id}` }
      const reply = await reader.app.inject({ url: '/read', headers })
      t.same([reply.json(), setCookies(reply)], [{}, []])
      t.same(await stored(writer.app, id), { a: 'old' })
      t.same(await stored(reader.app, other), { a: 'other' })
    }
  )

  overEach(stores, t, `P1: a session ${kind} ends by destroy()`, async (t, over) => {
    const { writer, reader, id } = await open(over)
    const browser = new Browser(reader.app)
    browser.cookies.set('session_id', id)
    const reply = await browser.get('/logout')
    t.equal(reply.statusCode, 200)
    t.equal(browser.cookies.has('session_id'), false, 'the cookie is cleared')
    t.equal(await stored(writer.app, id), undefined)
  })

  overEach(stores, t, `a session ${kind} ends, and another begins`, async (t, over) => {
    for (const how of ['destroy', 'regenerate'] as const) {
      const { writer, reader, id } = await open(over)
      reader.app.get('/anew', async ({ session }) => {
        await session[how]()
        session.b = 'new'
        t.same({ ...session }, { b: 'new' })
        t.same(session.data(), { b: 'new' })
        return session.get('b')
      })
      const browser = new Browser(reader.app)
      browser.cookies.set('session_id', id)
      t.equal((await browser.get('/anew')).body, 'new', how)
      t.not(idIn(browser), id)
      t.same((await browser.get('/read')).json(), { b: 'new' })
      t.equal(await stored(writer.app, id), undefined, how)
    }
  })

  overEach(
    stores,
    t,
    `P1: a session ${kind} ends, though an operation on it was tried before`,
    async (t, over) => {
      for (const name of ['update()', 'save()', 'regenerate() that keeps a key']) {
        for (const how of ['destroy', 'regenerate'] as const) {
          for (const isAwaited of [true, false]) {
            const { writer, reader, id } = await open(over)
            addVisits(reader.app)
            const tried = `${name}, ${how}(), awaited: ${isAwaited}`
            const reply = await visit(reader.app, id, async (session) => {
              const trial = Promise.resolve(refused[name]?.(session)).catch(() => {})
              if (isAwaited) await trial
              await session[how]()
            })
            t.equal(reply.statusCode, 200, tried)
            const [cookie, ...others] = reply.cookies
            t.same(others, [], tried)
            // A new beginning is a session of its own.
            if (how === 'destroy') t.match(cookie, { value: '', maxAge: 0 }, tried)
            else t.not(cookie?.value ?? id, id, tried)
            t.equal(await stored(writer.app, id), undefined, tried)
          }
        }
      }
    }
  )

  overEach(stores, t, `a session ${kind}, without its request`, async (t, over) => {
    const { writer, reader, id } = await open(over)
    const { sessions } = reader.app
    const publicId = sessions.publicIdOf(id)
    await t.rejects(sessions.get(publicId), { code })
    await t.rejects(
      sessions.update(publicId, () => {}),
      { code }
    )
    await t.rejects(sessions.fromRequest({ headers: { cookie: `session_id=${id}` } }), { code })
    t.same(await stored(writer.app, id), { a: 'old' })
    t.equal(await sessions.destroy(publicId), true)
    t.equal(await stored(writer.app, id), undefined)
  })
}

// What becomes of it while a request is to replace it.

for (const [name, meanwhile, outcome] of [
  ['ends', '/logout', 409],
  ['moves', '/login', 200],
  ['can be read again', '/write/new', 200]
] as const) {
  for (const verb of ['get', 'delete'] as const) {
    overEach(
      stores,
      t,
      `P1: a session that the store cannot open ${name} before the ${verb} of its replacement`,
      async (t, over) => {
        const { writer, reader, id } = await (kinds['that the store cannot open'] as Open)(over)
        const headers = { cookie: `session_id=${id}` }
        addVisits(reader.app)
        let then = ''
        const reply = await visit(reader.app, id, async (session) => {
          await session.regenerate()
          session.b = 'new'
          const { intercept } = over.store
          over.store.intercept = async (call, pass) => {
            if (call.verb !== verb) return intercept(call, pass)
            over.store.intercept = intercept
            const other = await writer.app.inject({ url: meanwhile, headers })
            then = idOf(other)
            return intercept(call, pass)
          }
        })
        t.equal(reply.statusCode, outcome)
        if (outcome === 409) t.same(setCookies(reply), [])
        else t.same(await stored(writer.app, idOf(reply)), { b: 'new' })
        t.equal(await stored(writer.app, id), undefined)
        if (name === 'moves') t.same(await stored(writer.app, then), { user: 'ada' })
      }
    )
  }
}

overEach(
  stores,
  t,
  'P1: a late request does not leave behind what the store cannot open',
  async (t, over) => {
    const { writer, reader, id } = await (kinds['that the store cannot open'] as Open)(over)
    addVisits(reader.app)
    const { app: mover } = await over.serve()
    mover.get('/move', async ({ session }) => session.regenerate('all'))
    mover.get('/write-and-move', async ({ session }) => {
      session.a = 'old'
      return session.regenerate('all')
    })
    const move = async (url: string, from: string): Promise<string> =>
      idOf(await mover.inject({ url, headers: { cookie: `session_id=${from}` } }))
    const keep = async (session: Session): Promise<void> => {
      await session.regenerate(['a'])
      session.b = 'late'
    }
    const fresh = await move('/move', id)
    const late = await visit(reader.app, id, keep)
    t.same([late.statusCode, late.json().code, setCookies(late)], [503, code, []])
    t.same(await stored(writer.app, fresh), { a: 'old' })

    const empty = idOf(await reader.app.inject('/touch'))
    let then = ''
    const meanwhile = await visit(reader.app, empty, async (session) => {
      await keep(session)
      then = await move('/write-and-move', empty)
    }).catch((error: unknown) => error)
    t.match(meanwhile, { statusCode: 409 })
    t.same(await stored(writer.app, then), { a: 'old' })
  }
)

overEach(
  stores,
  t,
  "regenerate('all') of what cannot be read back leaves the session as it is",
  async (t, over) => {
    const { app } = await over.serve({
      serializer: {
        stringify: (data) => JSON.stringify(data),
        parse: (text) => {
          if (text.includes('bad')) throw new Error('not this')
          return JSON.parse(text) as Record<string, unknown>
        }
      }
    })
    app.get('/step-up', async ({ session }) => {
      session.a = 'bad'
      await session.regenerate('all')
    })
    const id = await begin(app)
    const reply = await app.inject({ url: '/step-up', headers: { cookie: `session_id=${id}` } })
    t.same([reply.statusCode, reply.json().code], [503, code])
    t.same(setCookies(reply), [])
    t.same(await stored(app, id), { a: 'old' })
  }
)

overEach(
  stores,
  t,
  'a write that meets the record of another serializer is a coded error, and replaces nothing',
  async (t, over) => {
    const both: Serializer = {
      stringify: (data) => JSON.stringify(data),
      parse: (text) => JSON.parse(text.replace(/^~/, '')) as Record<string, unknown>
    }
    const { app: before } = await over.serve({ serializer: both })
    const { app: after } = await over.serve({ serializer: reversed })
    const { app: reads } = await over.serve({
      serializer: {
        stringify: (data) => reversed.stringify(data),
        parse: (text) => both.parse(text)
      }
    })
    t.ok(after)
    const id = await begin(before)
    const headers = { cookie: `session_id=${id}` }
    const { app: old } = await over.serve()
    old.get('/meanwhile', async ({ session }) => {
      session.b = 'mine'
      t.equal((await reads.inject({ url: '/write/theirs', headers })).statusCode, 200)
      return 'done'
    })
    const reply = await old.inject({ url: '/meanwhile', headers })
    t.same([reply.statusCode, reply.json().code], [503, code])
    t.same(setCookies(reply), [])
    t.same(await stored(reads, id), { a: 'theirs' })
  }
)

overEach(
  stores,
  t,
  'P1: a session that is too old here, and not elsewhere, ends by destroy() and regenerate()',
  async (t, over) => {
    for (const url of ['/logout', '/login']) {
      const { app: long } = await over.serve({ maxAge: 3600 })
      const { app: short } = await over.serve({ maxAge: 60, absoluteTimeout: 60 })
      const id = await begin(long)
      await over.advance(61 * second)
      const browser = new Browser(short)
      browser.cookies.set('session_id', id)
      t.same((await browser.get('/read')).json(), {})
      browser.cookies.set('session_id', id)
      t.same(await stored(long, id), { a: 'old' })
      t.equal((await browser.get(url)).statusCode, 200)
      t.not(browser.cookies.get('session_id'), id)
      t.equal(await stored(long, id), undefined, url)
    }
  }
)

overEach(
  stores,
  t,
  'a serializer changes under load in two deployments: nobody is signed out, no key is lost',
  async (t, over) => {
    const json: Serializer = {
      stringify: (data) => JSON.stringify(data),
      parse: (text) => JSON.parse(text) as Record<string, unknown>
    }
    const parse: Serializer['parse'] = (text) =>
      text.startsWith('~') ? reversed.parse(text) : json.parse(text)
    const versions = await Promise.all(
      [
        { serializer: json },
        {
          serializer: {
            stringify: (data: object) => json.stringify(data as Record<string, unknown>),
            parse
          }
        },
        {
          serializer: {
            stringify: (data: object) => reversed.stringify(data as Record<string, unknown>),
            parse
          }
        },
        { serializer: reversed }
      ].map(async (options) => {
        const { app } = await over.serve(options)
        app.get<{ Params: { key: string } }>('/add/:key', async ({ session, params }) => {
          session.set(params.key, 'written')
          return session.user
        })
        return app
      })
    )
    const visitors = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const reply = await (versions[0] as FastifyInstance).inject('/login')
        return { cookie: `session_id=${reply.cookies[0]?.value}`, keys: [] as string[] }
      })
    )
    let count = 0
    for (const running of [[0], [0, 1], [1], [1, 2], [2], [2, 3], [3]]) {
      for (let round = 0; round < 2; round += 1) {
        await Promise.all(
          visitors.flatMap(({ cookie, keys }, index) =>
            running.map(async (version) => {
              const key = `k${(count += 1)}`
              keys.push(key)
              const app = versions[version] as FastifyInstance
              const reply = await app.inject({ url: `/add/${key}`, headers: { cookie } })
              t.same([reply.statusCode, reply.body], [200, 'ada'], `${running} ${index}`)
              for (const { value } of reply.cookies) t.equal(`session_id=${value}`, cookie)
            })
          )
        )
      }
    }
    for (const { cookie, keys } of visitors) {
      const reply = await (versions[3] as FastifyInstance).inject({
        url: '/read',
        headers: { cookie }
      })
      t.same(Object.keys(reply.json() as object).toSorted(), ['user', ...keys].toSorted())
    }
  }
)

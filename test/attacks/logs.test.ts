import { inspect } from 'node:util'

import Fastify, { type FastifyBaseLogger } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { overEveryStore, type Serve } from '../helpers/attack.ts'
import { carriedBy } from '../helpers/browser.ts'
import { logInto, stored, type Served } from '../helpers/serve.ts'
import { WatchedStore, type Verb } from '../helpers/stores.ts'

const secret = 'a-secret-that-is-in-no-log-of-any-level'
const userData = 'data-of-the-user'

/** What must not be seen: every id and signature that went over the wire, the data, the secret. */
class Secrets {
  readonly #seen = new Set([userData, secret])

  add(value: string | undefined): void {
    for (const part of value?.split('.') ?? []) {
      if (part !== '') this.#seen.add(part)
    }
  }

  get size(): number {
    return this.#seen.size
  }

  in(text: string): string[] {
    return [...this.#seen].filter((value) => text.includes(value))
  }
}

interface Scene extends Served {
  readonly secrets: Secrets
  readonly lines: string[]
  readonly inspected: string[]
  readonly ask: (
    url: string,
    wire?: string
  ) => Promise<{ wire: string | undefined; statusCode: number; body: string }>
}

/** An app that logs everything, and inspects what an app may come to log. */
async function scene(serveOver: Serve, options: SessionOptions): Promise<Scene> {
  const lines: string[] = []
  const inspected: string[] = []
  const secrets = new Secrets()
  const served = await serveOver(options, { logger: logInto(lines, 'trace') })
  const { app } = served
  app.setErrorHandler(async (error, request, reply) => {
    inspected.push(inspect(error, { depth: 20, showHidden: true }))
    request.log.error({ err: error, session: inspect(request.session) }, 'the app logs it too')
    return reply.send(error)
  })
  app.addHook('preHandler', async (request) => {
    secrets.add(request.session.id)
    // Node's own request has the headers, the cookie among them, which are not ours to hide.
    const own = Reflect.ownKeys(request)
      .map((key) => Reflect.get(request, key) as unknown)
      .filter((value) => value !== request.raw)
    inspected.push(
      inspect(own, { depth: 2, showHidden: true }),
      inspect(request.session, { depth: 20, showHidden: true, getters: true }),
      inspect(app.sessions, { depth: 3 })
    )
  })
  app.get('/secret', async ({ session }) => {
    session.user = userData
    secrets.add(session.id)
    return 'written'
  })
  app.get('/unserialisable', async ({ session }) => {
    session.a = { user: userData, n: 1n }
  })
  app.get('/too-large', async ({ session }) => {
    session.a = userData.repeat(10_000)
  })
  app.get('/update-fails', async ({ session }) => {
    await session.update((draft) => {
      draft.user = userData
      throw new Error('of the app')
    })
  })
  app.get('/update-async', async ({ session }) => {
    await session.update(async (draft) => {
      draft.user = userData
    })
  })
  app.get('/reserved', async ({ session }) => {
    session.set('id' as string, userData)
  })
  app.get('/save', async ({ session }) => {
    session.user = userData
    await session.save()
    await session.update((draft) => {
      draft.n = 1
    })
  })
  app.get('/keep', async ({ session }) => {
    await session.regenerate(['user'])
  })
  const ask: Scene['ask'] = async (url, wire) => {
    const reply = await app.inject({
      url,
      headers: wire === undefined ? {} : { 'x-session-id': wire, cookie: `session_id=${wire}` }
    })
    const { header, cookie } = carriedBy(reply)
    secrets.add(header)
    secrets.add(cookie)
    return { wire: header ?? cookie, statusCode: reply.statusCode, body: reply.body }
  }
  return { ...served, secrets, lines, inspected, ask }
}

const urls = [
  '/secret',
  '/read',
  '/touch',
  '/save',
  '/unserialisable',
  '/too-large',
  '/update-fails',
  '/update-async',
  '/reserved',
  '/keep',
  '/login',
  '/secret',
  '/logout',
  '/write/x',
  '/look-away'
] as const

function isSilent(t: Test, { secrets, lines, inspected }: Scene): void {
  t.same(
    lines.filter((line) => secrets.in(line).length > 0),
    [],
    'in no line of the log'
  )
  t.same(
    inspected.flatMap((text) => secrets.in(text)),
    [],
    'in nothing that was inspected'
  )
  t.ok(lines.length > 2 && inspected.length > 2 && secrets.size > 2, 'there was something to see')
}

for (const options of [{}, { secret }]) {
  const name = 'secret' in options ? ', with a secret' : ''
  overEveryStore(
    t,
    `P10, S38: the whole life cycle at level trace shows no id, signature or data${name}`,
    async (t, serveOver, advance) => {
      const played = await scene(serveOver, options)
      const { ask, lines } = played
      for (const url of urls) {
        let { wire } = await ask('/secret')
        wire = (await ask(url, wire)).wire ?? wire
        await advance(60_000)
        await ask(url, wire)
        await ask(url)
      }
      const { wire } = await ask('/secret')
      await advance(3_600_000)
      for (const dead of [wire, `${wire}x`, '../etc/passwd', 'a'.repeat(500)]) {
        for (const url of ['/read', '/secret']) await ask(url, dead)
      }
      isSilent(t, played)
      t.ok(
        lines.some((line) => line.includes('session committed')),
        'the commit is told'
      )
    }
  )

  overEveryStore(t, `P10, S38: nor does a store that fails${name}`, async (t, serveOver) => {
    const played = await scene(serveOver, options)
    const { ask, store } = played
    for (const verb of [
      'get',
      'create',
      'update',
      'touch',
      'delete'
    ] as const satisfies readonly Verb[]) {
      for (const url of urls) {
        const { wire } = await ask('/secret')
        store.intercept = (call, pass) => {
          if (call.verb === verb) throw new Error(`connection refused, ${call.key}`)
          return pass()
        }
        await ask(url, wire)
        await ask(url)
        store.intercept = (_call, pass) => pass()
      }
    }
    isSilent(t, played)
  })
}

overEveryStore(
  t,
  'S38: an undecodable record is told of without its data',
  async (t, serveOver) => {
    const played = await scene(serveOver, {})
    const { app, ask, clock, store } = played
    const { wire } = (await ask('/secret')) as { wire: string }
    const key = app.sessions.publicIdOf(wire)
    const now = clock.now()
    await store.delete(key)
    await store.create(key, {
      data: `{"user":"${userData}`,
      version: 'v',
      createdAt: now,
      expiresAt: now + 3_600_000
    })
    t.same((await ask('/read', wire)).statusCode, 503)
    isSilent(t, played)
    t.ok(played.lines.some((line) => line.includes('cannot be read here') && line.includes(key)))
  }
)

t.test('S38: JSON of the session is its data, and no more', async (t) => {
  const clock = new TestClock()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock, secret })
  app.get('/', async ({ session }) => {
    session.user = userData
    return JSON.stringify({ session })
  })
  t.equal((await app.inject('/')).body, JSON.stringify({ session: { user: userData } }))
})

t.test(
  'S38: no code of ours brings the secret or an id into an inspection of the app',
  async (t) => {
    const clock = new TestClock()
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(sessionPlugin, {
      clock,
      secret,
      store: new WatchedStore(new MemoryStore({ clock }))
    })
    let id!: string
    app.get('/', async ({ session }) => {
      ;({ id } = session)
    })
    await app.inject('/')
    const shown = inspect(app.sessions, { depth: 20, showHidden: true })
    t.notOk(shown.includes(id))
    t.notOk(shown.includes(secret))
  }
)

interface Line {
  level: number
  msg: string
  session?: string
  removed?: string
  status?: string
  outcome?: string
}

overEveryStore(
  t,
  'each commit is one line at level debug: the public id, the status and the outcome',
  async (t, serveOver) => {
    const lines: string[] = []
    const { app, store } = await serveOver({}, { logger: logInto(lines, 'debug') })
    app.get('/out', { config: { session: false } }, async () => 'no session')
    const committed = async (
      url: string,
      id?: string
    ): Promise<[Line | undefined, string | undefined]> => {
      lines.length = 0
      const reply = await app.inject({
        url,
        headers: id === undefined ? {} : { 'x-session-id': id }
      })
      const found = lines
        .map((line) => JSON.parse(line) as Line)
        .filter(({ msg }) => msg === 'session committed')
      t.ok(found.length <= 1, 'one line')
      return [found[0], carriedBy(reply).header]
    }
    const key = (id: string | undefined): string => app.sessions.publicIdOf(id as string)
    const [created, id] = await committed('/write/x')
    t.match(created, { level: 20, session: key(id), status: 'new', outcome: 'created' })
    t.match((await committed('/read', id))[0], {
      session: key(id),
      status: 'loaded',
      outcome: 'nothing'
    })
    t.match((await committed('/touch', id))[0], {
      session: key(id),
      status: 'loaded',
      outcome: 'touched'
    })
    t.match((await committed('/write/y', id))[0], {
      session: key(id),
      status: 'loaded',
      outcome: 'updated'
    })
    const [regenerated, next] = await committed('/login', id)
    t.match(regenerated, {
      session: key(next),
      removed: key(id),
      status: 'regenerated',
      outcome: 'created'
    })
    const [destroyed] = await committed('/logout', next)
    t.match(destroyed, { removed: key(next), status: 'destroyed', outcome: 'nothing' })
    t.equal(destroyed?.session, undefined, 'no id is minted for the log')
    const [, other] = await committed('/write/x')
    store.intercept = (call, pass) => {
      if (call.verb === 'update') throw new Error('no answer')
      return pass()
    }
    t.match((await committed('/write/z', other))[0], {
      session: key(other),
      status: 'loaded',
      outcome: 'failed'
    })
    t.equal((await committed('/out', other))[0], undefined, 'no session, no line')
    t.same(await stored(app, other as string), { a: 'x' })
  }
)

t.test('with the level above debug nothing is made for the log', async (t) => {
  const app = Fastify({ logger: { level: 'info', stream: { write() {} } } })
  t.teardown(() => app.close())
  await app.register(sessionPlugin)
  let called = 0
  app.addHook('onRequest', async (request) => {
    const log: FastifyBaseLogger = Object.create(request.log)
    log.debug = (() => {
      called += 1
    }) as FastifyBaseLogger['debug']
    request.log = log
  })
  app.get('/', async ({ session }) => {
    session.a = 1
  })
  t.equal((await app.inject('/')).statusCode, 200)
  t.equal(called, 0)
})

t.test('a logger without levels is asked plainly, and one that is off does no harm', async (t) => {
  const told: unknown[] = []
  const nothing = (): void => {}
  const loggerInstance: any = {
    debug: (_details: object, message: string) => {
      told.push(message)
    },
    info: nothing,
    warn: nothing,
    error: nothing,
    fatal: nothing,
    trace: nothing,
    silent: nothing,
    level: 'debug',
    child: () => loggerInstance
  }
  // Fastify asks for no level, and for no `isLevelEnabled`.
  const { level: _level, ...plain } = { ...loggerInstance, child: () => plain }
  const unsure = { ...plain, isLevelEnabled: () => undefined, child: () => unsure }
  for (const options of [
    { loggerInstance },
    { loggerInstance: plain },
    { loggerInstance: unsure },
    { logger: false }
  ]) {
    const app = Fastify(options as object)
    t.teardown(() => app.close())
    await app.register(sessionPlugin)
    app.get('/', async ({ session }) => {
      session.a = 1
    })
    t.equal((await app.inject('/')).statusCode, 200)
  }
  t.same(told, ['session committed', 'session committed', 'session committed'])
})

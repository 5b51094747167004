import { isDeepStrictEqual } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { nextTurn, slow, type WatchedStore } from '../helpers/stores.ts'

/** What may befall a store call, as the store sees it. */
const fates = {
  'fails before it takes effect': async () => { throw new Error('connection refused') },
  'takes effect, and its answer is lost': async (pass: () => unknown) => {
    await pass()
    throw new Error('connection reset')
  },
  'never answers': () => new Promise<never>(() => {}),
  'takes effect, and never answers': async (pass: () => unknown) => {
    await pass()
    return await new Promise<never>(() => {})
  }
} as const

/** Every path through the store: what a request does, and what is stored if it does it (null: the session is gone). */
const paths: Record<string, { readonly url: string, readonly done: Record<string, unknown> | null }> = {
  read: { url: '/read', done: { a: 'old', n: 0 } },
  touch: { url: '/touch', done: { a: 'old', n: 0 } },
  write: { url: '/write', done: { a: 'new', n: 0 } },
  update: { url: '/update', done: { a: 'old', n: 1 } },
  'update, then write': { url: '/update-then-write', done: { a: 'new', n: 1 } },
  save: { url: '/save', done: { a: 'new', n: 0 } },
  regenerate: { url: '/regenerate', done: null },
  destroy: { url: '/destroy', done: null }
}

async function serve(store: WatchedStore, clock: TestClock): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(sessionPlugin, { store, clock })
  app.get('/begin', async ({ session }) => Object.assign(session, { a: 'old', n: 0 }))
  app.get('/read', async ({ session }) => ({ ...session }))
  app.get('/touch', async ({ session }) => { session.touch() })
  app.get('/write', async ({ session }) => { session.a = 'new' })
  app.get('/update', async ({ session }) => { await session.update((draft) => { draft.n = (draft.n ?? 0) + 1 }) })
  app.get('/update-then-write', async ({ session }) => {
    await session.update((draft) => { draft.n = (draft.n ?? 0) + 1 })
    session.a = 'new'
  })
  app.get('/save', async ({ session }) => {
    session.a = 'new'
    await session.save()
  })
  app.get('/regenerate', async ({ session }) => {
    await session.regenerate()
    session.a = 'new'
  })
  app.get('/destroy', async ({ session }) => { await session.destroy() })
  return app
}

function isAmong(data: unknown, allowed: readonly unknown[]): boolean {
  return allowed.some((one) => isDeepStrictEqual(one, data))
}

for (const [name, { url, done }] of Object.entries(paths)) {
  t.test(`P4, P8: ${name}, with a fault at each of its store calls, is done once or answers 503, and everything works again afterwards`, async (t) => {
    for (const [befalls, befall] of Object.entries(fates)) {
      for (let place = 0; ; place += 1) {
        const clock = new TestClock()
        const store = slow(new MemoryStore({ clock }))
        const usual = store.intercept
        const app = await serve(store, clock)
        const browser = new Browser(app)
        await browser.get('/begin')
        const id = browser.cookies.get('session_id') as string
        store.taken()

        let calls = 0
        let struck: string | undefined
        store.intercept = (call, pass) => {
          if (calls++ !== place) return usual(call, pass)
          struck = call.verb
          return befall(pass)
        }
        let reply
        void browser.send(url).then((answer) => { reply = answer })
        while (reply === undefined) {
          await nextTurn()
          clock.advance(100)
        }
        store.intercept = usual
        if (struck === undefined) break
        const what = `${struck}, call ${place + 1}, ${befalls}`

        const { statusCode } = reply as { statusCode: number }
        const { cookie } = carriedBy(reply)
        t.ok([200, 503].includes(statusCode), `${what}: ${statusCode}`)
        const stored = (await app.sessions.get(app.sessions.publicIdOf(id)))?.data ?? null
        if (statusCode === 200 || struck === 'touch') t.same(stored, done, `${what}: done`)
        else t.ok(isAmong(stored, [{ a: 'old', n: 0 }, done, ...name === 'update, then write' ? [{ a: 'old', n: 1 }] : []]), `${what}: done or not: ${JSON.stringify(stored)}`)
        if (statusCode === 503) {
          t.match((reply as { body: string }).body, 'HOLDFAST_STORE_', what)
          t.equal(cookie, undefined, `${what}: no id`)
        }
        t.equal((await browser.get('/read')).statusCode, 200, `${what}: works again`)
        await app.close()
      }
    }
  })
}

t.test('an update whose answer is lost is found among the writes that others have made since, and not made again', async (t) => {
  const clock = new TestClock()
  const store = slow(new MemoryStore({ clock }))
  const app = await serve(store, clock)
  t.teardown(() => app.close())
  const browser = new Browser(app)
  await browser.get('/begin')
  for (const [others, statusCode, n] of [[3, 200, 4], [9, 503, 10]] as const) {
    await app.sessions.update(app.sessions.publicIdOf(browser.cookies.get('session_id') as string), (draft) => { draft.n = 0 })
    const usual = store.intercept
    store.intercept = async (call, pass) => {
      const answer = await usual(call, pass)
      if (call.verb !== 'update') return answer
      store.intercept = usual
      for (let count = 0; count < others; count += 1) t.equal((await browser.send('/update')).statusCode, 200)
      throw new Error('connection reset')
    }
    const reply = await browser.send('/update')
    t.equal(reply.statusCode, statusCode)
    if (statusCode === 503) t.equal(reply.json().code, 'HOLDFAST_OUTCOME_UNKNOWN')
    t.equal((await browser.get('/read')).json().n, n, `${others} others and this one, each once`)
  }
})

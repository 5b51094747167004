import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, type Backend } from '../helpers/backends.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { nextTurn, type Aging } from '../helpers/stores.ts'
import { Gate } from './gate.ts'

interface World extends Pick<Aging, 'advance'> {
  readonly app: FastifyInstance
  readonly browser: Browser
  readonly gate: Gate
  readonly clock: TestClock
}

/** An app over a store that can be stopped at any call, and a browser that has a session with a: 'old', n: 0. */
async function world(t: Test, backend: Backend, options: SessionOptions = {}): Promise<World> {
  const clock = new TestClock()
  const { store, advance } = await backend.open(clock)
  const gate = new Gate(store)
  const app = await serve(t, { clock, store: gate, ...options })
  const browser = new Browser(app)
  await browser.get('/write/a/old')
  await browser.get('/update')
  await browser.get('/set-n/0')
  gate.taken()
  return { app, browser, gate, clock, advance }
}

async function serve(t: Test, options: SessionOptions): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, options)
  app.get<{ Params: { key: 'a' | 'b', value: string } }>('/write/:key/:value', async ({ session, params }) => {
    session[params.key] = params.value
    return 'written'
  })
  app.get<{ Params: { n: string } }>('/set-n/:n', async ({ session, params }) => { session.n = Number(params.n) })
  app.get('/delete/a', async ({ session }) => { delete session.a })
  app.get('/update', async ({ session }) => ({ n: await session.update((draft) => draft.n = (draft.n ?? 0) + 1) }))
  app.get('/update-then-write', async ({ session }) => {
    await session.update((draft) => { draft.n = (draft.n ?? 0) + 1 })
    session.b = 'written afterwards'
  })
  app.get('/read', async ({ session }) => ({ ...session }))
  app.get('/touch', async ({ session }) => { session.touch() })
  app.get('/save-twice', async ({ session }) => {
    session.a = 'saved'
    await session.save()
    session.b = 'saved too'
    await session.save()
  })
  app.get('/save-and-redirect', async ({ session }, reply) => {
    session.a = 'saved'
    await session.save()
    return reply.redirect('/read')
  })
  app.get('/login', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
  })
  app.get('/login-and-save', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
    await session.save()
  })
  app.get('/login-keeping-a', async ({ session }) => {
    await session.regenerate(['a'])
    session.user = 'ada'
  })
  app.get('/logout', async ({ session }) => { await session.destroy() })
  return app
}

/** A test on each kind of store. */
function test(name: string, body: (t: Test, backend: Backend) => Promise<void>): void {
  for (const backend of backends) t.test(`${name} (${backend.name})`, { skip: backend.skip }, async (t) => { await body(t, backend) })
}

/** Lets time pass until something is done: writers that collide pause at random. */
async function passingTime<T>(clock: TestClock, work: Promise<T>): Promise<T> {
  let done = false
  void work.finally(() => { done = true })
  while (!done) {
    await nextTurn()
    clock.advance(1)
  }
  return work
}

async function read(browser: Browser): Promise<Record<string, unknown>> {
  return (await browser.get('/read')).json()
}

test('P3: two requests that write different keys both take effect', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/a/slow')
  await held.reached
  await browser.get('/write/b/fast')
  held.release()
  t.equal((await slow).statusCode, 200)
  t.same(await read(browser), { a: 'slow', b: 'fast', n: 0 })
})

test('P3: a delete is not undone by a request that writes another key', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/b/slow')
  await held.reached
  await browser.get('/delete/a')
  held.release()
  await slow
  t.same(await read(browser), { b: 'slow', n: 0 })
})

test('P3: a delete wins over a concurrent change of the same key, in either order', async (t, backend) => {
  for (const [first, second] of [['/delete/a', '/write/a/changed'], ['/write/a/changed', '/delete/a']] as const) {
    const { browser, gate } = await world(t, backend)
    const held = gate.hold('update')
    const slow = browser.send(second)
    await held.reached
    await browser.get(first)
    held.release()
    await slow
    t.same(await read(browser), { n: 0 }, `${first}, then ${second}`)
  }
})

test('P4: a hundred concurrent updates count a hundred', async (t, backend) => {
  const { browser, clock } = await world(t, backend, { storeTimeout: 1e6 })
  const replies = await passingTime(clock, Promise.all(Array.from({ length: 100 }, () => browser.send('/update'))))
  t.same(replies.map((reply) => reply.json().n).toSorted((one, other) => one - other), Array.from({ length: 100 }, (_, index) => index + 1))
  t.equal((await read(browser))['n'], 100)
})

test('P4: concurrent updates of several processes all count', async (t, backend) => {
  const clock = new TestClock()
  const { store } = await backend.open(clock)
  const apps = await Promise.all([1, 2, 3].map(() => serve(t, { clock, store, storeTimeout: 1e6 })))
  const browser = new Browser(apps[0])
  await browser.get('/set-n/0')
  const headers = { cookie: `session_id=${browser.cookies.get('session_id')}` }
  const updates = await passingTime(clock, Promise.all(Array.from({ length: 30 }, (_, index) => (apps[index % 3]).inject({ url: '/update', headers }))))
  t.same(updates.map(({ statusCode }) => statusCode), Array.from({ length: 30 }, () => 200))
  t.equal((await read(browser))['n'], 30)
})

test('P4: an update folds in what another request stored, and a plain change after it is stored too', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/update-then-write')
  await held.reached
  await browser.get('/write/a/fast')
  held.release()
  await slow
  t.same(await read(browser), { a: 'fast', b: 'written afterwards', n: 1 })
})

for (const [late, verb] of [['/write/a/late', 'update'], ['/touch', 'touch'], ['/update', 'update'], ['/save-twice', 'update']] as const) {
  for (const end of ['/logout', '/login', '/login-keeping-a'] as const) {
    test(`P1, P2: ${end}, and then the slow ${late} of an earlier request, brings nothing back and sends no id`, async (t, backend) => {
      const { app, browser, gate } = await world(t, backend)
      const dead = browser.cookies.get('session_id') as string
      const held = gate.hold(verb)
      const slow = browser.send(late)
      await held.reached
      await browser.get(end)
      const now = browser.cookies.get('session_id')
      held.release()
      const reply = browser.receive(await slow)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
      t.equal(browser.cookies.get('session_id'), now)
      t.equal(await app.sessions.get(app.sessions.publicIdOf(dead)), undefined)
      if (now !== undefined) t.same(await read(browser), { user: 'ada', ...end === '/login-keeping-a' ? { a: 'old' } : {} })
    })
  }
}

test('P1, P2: a request that only reads while the session is logged out answers, and sends no id', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('get', 'after')
  const slow = browser.send('/read')
  await held.reached
  await browser.get('/logout')
  held.release()
  const reply = await slow
  t.equal(reply.statusCode, 200)
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
})

test('P2: a request with the old cookie that arrives after a login, and is answered after it, leaves the new cookie alone', async (t, backend) => {
  for (const url of ['/read', '/touch', '/logout'] as const) {
    const { app, browser, gate } = await world(t, backend)
    const stale = new Browser(app)
    stale.cookies.set('session_id', browser.cookies.get('session_id') as string)
    await browser.get('/login')
    const held = gate.hold('get')
    const late = stale.send(url)
    await held.reached
    held.release()
    const reply = await late
    t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    browser.receive(reply)
    t.same(await read(browser), { user: 'ada' })
  }
})

test('P2: a rolling read that ends after a newer login sends no cookie', async (t, backend) => {
  const { browser, gate } = await world(t, backend, { touchAfter: 0 })
  const held = gate.hold('touch')
  const rolling = browser.send('/read')
  await held.reached
  await browser.get('/login')
  held.release()
  browser.receive(await rolling)
  t.equal((await read(browser))['user'], 'ada')
})

test('of two concurrent regenerates that keep a key, one goes on with it and the other is refused', async (t, backend) => {
  const { app, browser, gate } = await world(t, backend)
  const held = gate.hold('delete')
  const slow = browser.send('/login-keeping-a')
  await held.reached
  const fast = await browser.get('/login-keeping-a')
  held.release()
  const loser = browser.receive(await slow)
  t.equal(fast.statusCode, 200)
  t.same([loser.statusCode, loser.json().code], [409, 'HOLDFAST_SESSION_GONE'])
  t.same(carriedBy(loser), { header: undefined, cookie: undefined })
  t.same(await read(browser), { a: 'old', user: 'ada' })
  t.equal(new Set(gate.calls.filter(({ verb }) => verb === 'create').map(({ key }) => key)).size, 1)
  t.ok(app)
})

test('two concurrent regenerates that keep nothing both go on, each with a session of its own', async (t, backend) => {
  const { app, browser, gate } = await world(t, backend)
  const held = gate.hold('delete')
  const slow = browser.send('/login')
  await held.reached
  const fast = browser.send('/login')
  const [one, other] = [await fast, (held.release(), await slow)].map((reply) => carriedBy(reply).cookie as string) as [string, string]
  t.not(one, other)
  for (const id of [one, other]) t.same((await app.sessions.get(app.sessions.publicIdOf(id)))?.data, { user: 'ada' })
})

test('a regenerate keeps what another request has just stored', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('delete')
  const slow = browser.send('/login-keeping-a')
  await held.reached
  await browser.get('/write/a/newer')
  held.release()
  browser.receive(await slow)
  t.same(await read(browser), { a: 'newer', user: 'ada' })
})

test('of two concurrent destroys one clears the cookie, and the other, late, does not', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('delete')
  const slow = browser.send('/logout')
  await held.reached
  t.equal(carriedBy(await browser.get('/logout')).cookie, '')
  await browser.get('/login')
  held.release()
  const late = browser.receive(await slow)
  t.equal(late.statusCode, 200)
  t.same(carriedBy(late), { header: undefined, cookie: undefined })
  t.same(await read(browser), { user: 'ada' })
})

test('P1: an update that meets a destroy is refused, and counts nowhere', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/update')
  await held.reached
  await browser.get('/logout')
  held.release()
  const reply = await slow
  t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'])
  t.same(await read(browser), {})
})

test('P1: a session that expires while a request runs is not brought back by it', async (t, backend) => {
  for (const [url, verb, statusCode] of [['/write/a/late', 'update', 200], ['/touch', 'touch', 200], ['/update', 'update', 409], ['/login-keeping-a', 'delete', 409], ['/logout', 'delete', 200]] as const) {
    const { browser, gate, advance } = await world(t, backend, { storeTimeout: 7200 })
    const held = gate.hold(verb)
    const slow = browser.send(url)
    await held.reached
    await advance(3600 * 1000)
    held.release()
    const reply = await slow
    t.equal(reply.statusCode, statusCode, url)
    t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    t.same(await read(browser), {}, url)
  }
})

test('P6: what a redirect promises is stored before the client sees the redirect', async (t, backend) => {
  const { browser } = await world(t, backend)
  const redirect = await browser.get('/save-and-redirect')
  t.equal(redirect.statusCode, 302)
  t.equal((await read(browser))['a'], 'saved')
})

test('P9: what a request changes is invisible to others until it is committed', async (t, backend) => {
  const { browser, gate } = await world(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/a/slow')
  await held.reached
  t.equal((await read(browser))['a'], 'old')
  held.release()
  await slow
  t.equal((await read(browser))['a'], 'slow')
})

test('an adopted id that dies and is adopted again takes nothing of its former life from a request that still holds it', async (t, backend) => {
  const { app, gate } = await world(t, backend, { adoptUnknownIds: () => true })
  const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
  await app.inject({ url: '/write/a/first-life', headers })
  const held = gate.hold('update')
  const slow = new Browser(app).send('/write/b/first-life', { headers })
  await held.reached
  await app.inject({ url: '/logout', headers })
  await app.inject({ url: '/write/a/second-life', headers })
  held.release()
  t.equal((await slow).headers['x-session-id'], undefined)
  t.same((await app.inject({ url: '/read', headers })).json(), { a: 'second-life' })
})

test('two first requests under one adopted id both take effect', async (t, backend) => {
  const { app, gate } = await world(t, backend, { adoptUnknownIds: () => true })
  const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
  const held = gate.hold('create')
  const slow = new Browser(app).send('/write/a/slow', { headers })
  await held.reached
  await app.inject({ url: '/write/b/fast', headers })
  held.release()
  t.equal((await slow).headers['x-session-id'], headers['x-session-id'])
  t.same((await app.inject({ url: '/read', headers })).json(), { a: 'slow', b: 'fast' })
})

test('a minted id that is taken is exchanged for another, and its owner keeps everything', async (t, backend) => {
  const ids = ['minted-by-the-test-000001', 'minted-by-the-test-000001', 'minted-by-the-test-000002']
  const { app, browser } = await world(t, backend, { generateId: () => ids.shift() as string })
  const reply = await app.inject('/write/b/other')
  t.equal(reply.headers['x-session-id'], 'minted-by-the-test-000002')
  t.same(await read(browser), { a: 'old', n: 0 })
})

test('P1, P2: a destroy that a handler begins after its reply waits for the commit, and is final; a regenerate is refused', async (t, backend) => {
  for (const end of ['destroy', 'regenerate'] as const) {
    for (const when of ['before', 'after'] as const) {
      const { app, browser, gate } = await world(t, backend)
      let tell!: (outcome: unknown) => void
      const outcome = new Promise<unknown>((resolve) => { tell = resolve })
      const late = await serve(t, { store: gate, clock: new TestClock() })
      late.get('/reply-then-end', async ({ session }, reply) => {
        session.a = 'written before the end'
        reply.send('sent')
        await session[end]().then(() => { tell('done') }, ({ code }: { code: string }) => { tell(code) })
        return reply
      })
      const id = browser.cookies.get('session_id') as string
      const held = gate.hold('update', when)
      const reply = new Browser(late).send('/reply-then-end', { headers: { cookie: `session_id=${id}` } })
      await held.reached
      held.release()
      t.equal(carriedBy(await reply).cookie, id, 'what the commit confirmed')
      t.equal(await outcome, end === 'destroy' ? 'done' : 'HOLDFAST_ID_UNDELIVERABLE')
      const stored = await app.sessions.get(app.sessions.publicIdOf(id))
      if (end === 'destroy') t.equal(stored, undefined, 'destroy is final')
      else t.match(stored, { data: { a: 'written before the end' } }, 'no reply would have brought the new id')
      t.notOk(gate.calls.some(({ verb }) => verb === 'create'), 'nothing is created in its place')
    }
  }
})

test('P2: a late request with a dead id in header and cookie leaves the cookie of a newer login alone', async (t, backend) => {
  const { app, browser } = await world(t, backend)
  const id = browser.cookies.get('session_id') as string
  await browser.get('/login')
  const reply = await new Browser(app).get('/read', { headers: { 'x-session-id': id, cookie: `session_id=${id}` } })
  t.equal(carriedBy(reply).cookie, undefined)
})

test('P1: a new session whose creation got no answer is not alive after destroy', async (t, backend) => {
  const { app, gate, clock } = await world(t, backend)
  let id = ''
  const other = await serve(t, { store: gate, clock })
  other.get('/create-and-destroy', async ({ session }) => {
    id = session.id
    session.a = 'new'
    await session.save().catch(() => {})
    await session.destroy()
  })
  const held = gate.hold('create', 'after')
  const reply = new Browser(other).send('/create-and-destroy')
  await held.reached
  clock.advance(2000)
  t.equal((await reply).statusCode, 503, 'a fault that the handler goes on after is one all the same')
  t.equal(await app.sessions.get(app.sessions.publicIdOf(id)), undefined)
})

test('P8: a login whose id could not be confirmed is no success: the client would have lost its session', async (t, backend) => {
  const { browser, gate, clock } = await world(t, backend)
  const held = gate.hold('touch')
  const reply = browser.send('/login-and-save')
  await held.reached
  clock.advance(2000)
  t.equal((await reply).statusCode, 503)
})

import t, { type Test } from 'tap'

import '../helpers/data.ts'
import type { SessionOptions, SessionTrace } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, moving, type Backend } from '../helpers/backends.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { nextTurn, type Aging } from '../helpers/stores.ts'
import { world, type World } from '../helpers/world.ts'
import { signal } from '../helpers/waiting.ts'
import { Gate } from './gate.ts'

interface Scene extends World, Pick<Aging, 'advance'> {
  readonly gate: Gate
  /** Another process over the same store, with the same browser. */
  readonly elsewhere: World
}

/**
 * A world over a store that can be stopped at any call, whose browser has a session with a: 'old',
 * n: 0. Where a write is held, others of its process wait for it: they are sent elsewhere.
 */
async function begin(t: Test, backend: Backend, options: SessionOptions = {}): Promise<Scene> {
  const clock = new TestClock()
  const { store, advance } = await backend.open(clock)
  const gate = new Gate(store)
  const scene = await serve(t, { clock, store: gate, ...options })
  const elsewhere = await serve(t, { clock, store: gate, ...options })
  await scene.browser.get('/write/a/old')
  await scene.browser.get('/update')
  await scene.browser.get('/set-n/0')
  elsewhere.browser.cookies.set('session_id', idIn(scene.browser))
  gate.taken()
  return { ...scene, elsewhere, gate, advance }
}

/** A world with the routes whose requests are raced here. */
async function serve(t: Test, options: SessionOptions): Promise<World> {
  const scene = await world(t, options)
  const { app } = scene
  app.get<{ Params: { key: 'a' | 'b'; value: string } }>(
    '/write/:key/:value',
    async ({ session, params }) => {
      session[params.key] = params.value
      return 'written'
    }
  )
  app.get<{ Params: { n: string } }>('/set-n/:n', async ({ session, params }) => {
    session.n = Number(params.n)
  })
  app.get('/delete/a', async ({ session }) => {
    delete session.a
  })
  app.get('/update-then-write', async ({ session }) => {
    await session.update((draft) => {
      draft.n = (draft.n ?? 0) + 1
    })
    session.b = 'written afterwards'
  })
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
  app.get('/login-and-save', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
    await session.save()
  })
  app.get('/login-keeping-a', async ({ session }) => {
    await session.regenerate(['a'])
    session.user = 'ada'
  })
  return scene
}

/** A test on each kind of store. */
function test(name: string, body: (t: Test, backend: Backend) => Promise<void>): void {
  for (const backend of [...backends, moving])
    t.test(`${name} (${backend.name})`, { skip: backend.skip }, async (t) => {
      await body(t, backend)
    })
}

/** Lets time pass until something is done: writers that collide pause at random. */
async function passingTime<T>(clock: TestClock, work: Promise<T>): Promise<T> {
  let done = false
  void work.finally(() => {
    done = true
  })
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
  const { browser, elsewhere, gate } = await begin(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/a/slow')
  await held.reached
  await elsewhere.browser.get('/write/b/fast')
  held.release()
  t.equal((await slow).statusCode, 200)
  t.same(await read(browser), { a: 'slow', b: 'fast', n: 0 })
})

test('P3: a delete is not undone by a request that writes another key', async (t, backend) => {
  const { browser, elsewhere, gate } = await begin(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/b/slow')
  await held.reached
  await elsewhere.browser.get('/delete/a')
  held.release()
  await slow
  t.same(await read(browser), { b: 'slow', n: 0 })
})

test('P3: a delete wins over a concurrent change of the same key, in either order', async (t, backend) => {
  for (const [first, second] of [
    ['/delete/a', '/write/a/changed'],
    ['/write/a/changed', '/delete/a']
  ] as const) {
    const { browser, elsewhere, gate } = await begin(t, backend)
    const held = gate.hold('update')
    const slow = browser.send(second)
    await held.reached
    await elsewhere.browser.get(first)
    held.release()
    await slow
    t.same(await read(browser), { n: 0 }, `${first}, then ${second}`)
  }
})

test('P4: a hundred concurrent updates count a hundred', async (t, backend) => {
  const { browser, clock } = await begin(t, backend, { storeTimeout: 1e6 })
  const replies = await passingTime(
    clock,
    Promise.all(Array.from({ length: 100 }, () => browser.send('/update')))
  )
  t.same(
    replies.map((reply) => reply.json().n).toSorted((one, other) => one - other),
    Array.from({ length: 100 }, (_, index) => index + 1)
  )
  t.equal((await read(browser))['n'], 100)
})

test('P4: concurrent updates of several processes all count', async (t, backend) => {
  const clock = new TestClock()
  const { store } = await backend.open(clock)
  const worlds = await Promise.all(
    [1, 2, 3].map(() => serve(t, { clock, store, storeTimeout: 1e6 }))
  )
  const { browser, id } = worlds[0]
  await browser.get('/set-n/0')
  const headers = { cookie: `session_id=${id()}` }
  const updates = await passingTime(
    clock,
    Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        worlds[index % 3].app.inject({ url: '/update', headers })
      )
    )
  )
  t.same(
    updates.map(({ statusCode }) => statusCode),
    Array.from({ length: 30 }, () => 200)
  )
  t.equal((await read(browser))['n'], 30)
})

test('P4: an update folds in what another request stored, and a plain change after it is stored too', async (t, backend) => {
  const { browser, elsewhere, gate } = await begin(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/update-then-write')
  await held.reached
  await elsewhere.browser.get('/write/a/fast')
  held.release()
  await slow
  t.same(await read(browser), { a: 'fast', b: 'written afterwards', n: 1 })
})

for (const [late, verb] of [
  ['/write/a/late', 'update'],
  ['/touch', 'touch'],
  ['/update', 'update'],
  ['/save-twice', 'update']
] as const) {
  for (const end of ['/logout', '/login', '/login-keeping-a'] as const) {
    test(`P1, P2: ${end}, and then the slow ${late} of an earlier request, brings nothing back and sends no id`, async (t, backend) => {
      const { app, browser, gate } = await begin(t, backend)
      const dead = idIn(browser)
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
      if (now !== undefined)
        t.same(await read(browser), {
          user: 'ada',
          ...(end === '/login-keeping-a' ? { a: 'old' } : {})
        })
    })
  }
}

test('P1, P2: a request that only reads while the session is logged out answers, and sends no id', async (t, backend) => {
  const { browser, gate } = await begin(t, backend)
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
    const { app, browser, gate } = await begin(t, backend)
    const stale = new Browser(app)
    stale.cookies.set('session_id', idIn(browser))
    await browser.get('/login')
    const held = gate.hold('get')
    const late = stale.send(url)
    await held.reached
    held.release()
    const reply = await late
    // A logout by the old id ends what it has become.
    t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    browser.receive(reply)
    t.same(await read(browser), url === '/logout' ? {} : { user: 'ada' })
  }
})

test('P2: a rolling read that ends after a newer login sends no cookie', async (t, backend) => {
  const { browser, gate } = await begin(t, backend, { touchAfter: 0 })
  const held = gate.hold('touch')
  const rolling = browser.send('/read')
  await held.reached
  await browser.get('/login')
  held.release()
  browser.receive(await rolling)
  t.equal((await read(browser))['user'], 'ada')
})

test('of two concurrent regenerates that keep a key, one goes on with it and the other is refused', async (t, backend) => {
  const { app, browser, gate } = await begin(t, backend)
  const held = gate.hold('retire')
  const slow = browser.send('/login-keeping-a')
  await held.reached
  const fast = await browser.get('/login-keeping-a')
  held.release()
  const loser = browser.receive(await slow)
  t.equal(fast.statusCode, 200)
  t.same([loser.statusCode, loser.json().code], [409, 'HOLDFAST_SESSION_GONE'])
  t.same(carriedBy(loser), { header: undefined, cookie: undefined })
  t.same(await read(browser), { a: 'old', user: 'ada' })
  // What moves in one step creates nothing that could be left.
  if (gate.move !== undefined) return
  const created = gate.calls.filter(({ verb }) => verb === 'create')
  t.equal(created.length, 2)
  const alive = await Promise.all(created.map(({ key }) => app.sessions.get(key)))
  t.equal(alive.filter(Boolean).length, 1, 'who is refused leaves nothing')
})

test('two concurrent regenerates that keep nothing both go on, each with a session of its own', async (t, backend) => {
  const { browser, gate, stored } = await begin(t, backend)
  const held = gate.hold('retire')
  const slow = browser.send('/login')
  await held.reached
  const fast = browser.send('/login')
  const one = carriedBy(await fast).cookie
  held.release()
  const other = carriedBy(await slow).cookie
  t.ok(one)
  t.ok(other)
  t.not(one, other)
  t.same(await stored(one), { user: 'ada' })
  t.same(await stored(other), { user: 'ada' })
})

test('a regenerate keeps what another request has just stored', async (t, backend) => {
  const { browser, gate } = await begin(t, backend)
  const held = gate.hold('retire')
  const slow = browser.send('/login-keeping-a')
  await held.reached
  await browser.get('/write/a/newer')
  held.release()
  browser.receive(await slow)
  t.same(await read(browser), { a: 'newer', user: 'ada' })
})

test('P1: a logout or an end by the old id while a session moves is final, at whichever call it comes', async (t, backend) => {
  for (const how of ['/logout', 'by its public id'] as const) {
    for (const [verb, when] of [
      ['create', 'before'],
      ['create', 'after'],
      ['retire', 'before'],
      ['retire', 'after']
    ] as const) {
      const { app, browser, elsewhere, gate } = await begin(t, backend)
      const id = idIn(browser)
      const held = gate.hold(verb, when)
      const slow = browser.send('/login-keeping-a')
      await held.reached
      if (how === '/logout') t.equal((await elsewhere.browser.get(how)).statusCode, 200)
      else t.equal(await app.sessions.destroy(app.sessions.publicIdOf(id)), true)
      held.release()
      const reply = await slow
      const hasMoved = when === 'after' && (verb === 'retire' || gate.move !== undefined)
      t.equal(reply.statusCode, hasMoved ? 200 : 409, `${how}, ${when} ${verb}`)
      for (const { key } of [...gate.calls]) t.equal(await app.sessions.get(key), undefined)
    }
  }
})

test('P1: an end by the old id leaves the trace: a late request begins nothing', async (t, backend) => {
  const { app, browser, elsewhere } = await begin(t, backend)
  const old = app.sessions.publicIdOf(idIn(browser))
  await browser.get('/login')
  t.equal(await app.sessions.destroy(old), true)
  const late = await elsewhere.browser.get('/write/a/late')
  t.same(carriedBy(late), { header: undefined, cookie: undefined })
})

test('P8: a move of which nobody knows whether it came about is left as it is', async (t, backend) => {
  const { app, browser, gate, clock } = await begin(t, backend)
  const old = app.sessions.publicIdOf(idIn(browser))
  const held = gate.hold('retire', 'after')
  const reply = browser.send('/login-keeping-a')
  await held.reached
  clock.advance(2000)
  t.equal((await reply).statusCode, 503)
  const { successor } = (await gate.get(old)) as SessionTrace
  t.match(await app.sessions.get(successor), { data: { a: 'old', user: 'ada' } })
  t.equal(await app.sessions.destroy(old), true, 'it can be ended')
  t.equal(await app.sessions.get(successor), undefined)
})

test('of two concurrent destroys one clears the cookie, and the other, late, does not', async (t, backend) => {
  const { browser, gate } = await begin(t, backend)
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
  const { browser, gate } = await begin(t, backend)
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
  for (const [url, verb, statusCode] of [
    ['/write/a/late', 'update', 200],
    ['/touch', 'touch', 200],
    ['/update', 'update', 409],
    ['/login-keeping-a', 'retire', 409],
    ['/logout', 'delete', 200]
  ] as const) {
    const { browser, gate, advance } = await begin(t, backend, { storeTimeout: 7200 })
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
  const { browser } = await begin(t, backend)
  const redirect = await browser.get('/save-and-redirect')
  t.equal(redirect.statusCode, 302)
  t.equal((await read(browser))['a'], 'saved')
})

test('P9: what a request changes is invisible to others until it is committed', async (t, backend) => {
  const { browser, gate } = await begin(t, backend)
  const held = gate.hold('update')
  const slow = browser.send('/write/a/slow')
  await held.reached
  t.equal((await read(browser))['a'], 'old')
  held.release()
  await slow
  t.equal((await read(browser))['a'], 'slow')
})

test('an adopted id that dies and is adopted again takes nothing of its former life from a request that still holds it', async (t, backend) => {
  const { app, elsewhere, gate } = await begin(t, backend, { adoptUnknownIds: () => true })
  const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
  await app.inject({ url: '/write/a/first-life', headers })
  const held = gate.hold('update')
  const slow = new Browser(app).send('/write/b/first-life', { headers })
  await held.reached
  await app.inject({ url: '/logout', headers })
  await elsewhere.app.inject({ url: '/write/a/second-life', headers })
  held.release()
  t.equal((await slow).headers['x-session-id'], undefined)
  t.same((await app.inject({ url: '/read', headers })).json(), { a: 'second-life' })
})

test('two first requests under one adopted id both take effect', async (t, backend) => {
  const { app, elsewhere, gate } = await begin(t, backend, { adoptUnknownIds: () => true })
  const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
  const held = gate.hold('create')
  const slow = new Browser(app).send('/write/a/slow', { headers })
  await held.reached
  await elsewhere.app.inject({ url: '/write/b/fast', headers })
  held.release()
  t.equal((await slow).headers['x-session-id'], headers['x-session-id'])
  t.same((await app.inject({ url: '/read', headers })).json(), { a: 'slow', b: 'fast' })
})

test('a minted id that is taken is exchanged for another, and its owner keeps everything', async (t, backend) => {
  const ids = [
    'minted-by-the-test-000001',
    'minted-by-the-test-000001',
    'minted-by-the-test-000002'
  ]
  const { app, browser } = await begin(t, backend, { generateId: () => ids.shift() as string })
  const reply = await app.inject('/write/b/other')
  t.equal(reply.headers['x-session-id'], 'minted-by-the-test-000002')
  t.same(await read(browser), { a: 'old', n: 0 })
})

test('P1, P2: a destroy that a handler begins after its reply waits for the commit, and is final; a regenerate is refused', async (t, backend) => {
  for (const end of ['destroy', 'regenerate'] as const) {
    for (const when of ['before', 'after'] as const) {
      const { app, browser, gate } = await begin(t, backend)
      const [outcome, tell] = signal<unknown>()
      const { app: late } = await serve(t, { store: gate, clock: new TestClock() })
      late.get('/reply-then-end', async ({ session }, reply) => {
        session.a = 'written before the end'
        reply.send('sent')
        await session[end]().then(
          () => {
            tell('done')
          },
          ({ code }: { code: string }) => {
            tell(code)
          }
        )
        return reply
      })
      const id = idIn(browser)
      const held = gate.hold('update', when)
      const reply = new Browser(late).send('/reply-then-end', {
        headers: { cookie: `session_id=${id}` }
      })
      await held.reached
      held.release()
      t.equal(carriedBy(await reply).cookie, id, 'what the commit confirmed')
      t.equal(await outcome, end === 'destroy' ? 'done' : 'HOLDFAST_ID_UNDELIVERABLE')
      const stored = await app.sessions.get(app.sessions.publicIdOf(id))
      if (end === 'destroy') t.equal(stored, undefined, 'destroy is final')
      else
        t.match(
          stored,
          { data: { a: 'written before the end' } },
          'no reply would have brought the new id'
        )
      t.notOk(
        gate.calls.some(({ verb }) => verb === 'create'),
        'nothing is created in its place'
      )
    }
  }
})

test('P2: a late request with a dead id in header and cookie leaves the cookie of a newer login alone', async (t, backend) => {
  const { app, browser } = await begin(t, backend)
  const id = idIn(browser)
  await browser.get('/login')
  const reply = await new Browser(app).get('/read', {
    headers: { 'x-session-id': id, cookie: `session_id=${id}` }
  })
  t.equal(carriedBy(reply).cookie, undefined)
})

test('P1: a new session whose creation got no answer is not alive after destroy', async (t, backend) => {
  const { app, gate, clock } = await begin(t, backend)
  let id = ''
  const { app: other } = await serve(t, { store: gate, clock })
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
  t.equal(
    (await reply).statusCode,
    503,
    'a fault that the handler goes on after is one all the same'
  )
  t.equal(await app.sessions.get(app.sessions.publicIdOf(id)), undefined)
})

test('P8: a login whose id could not be confirmed is no success: the client would have lost its session', async (t, backend) => {
  const { browser, gate, clock } = await begin(t, backend)
  const held = gate.hold('touch')
  const reply = browser.send('/login-and-save')
  await held.reached
  clock.advance(2000)
  t.equal((await reply).statusCode, 503)
})

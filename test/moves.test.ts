import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'

import type { Session } from '../lib/index.ts'
import { overEach, overEveryStore } from './helpers/attack.ts'
import { backends, later, moving } from './helpers/backends.ts'
import { Browser, carriedBy, idIn } from './helpers/browser.ts'
import { nextTurn } from './helpers/stores.ts'
import { begin, setCookies, stored, type Served } from './helpers/serve.ts'
import { deferred } from '../lib/session/waiting.ts'

/**
 * A handler that has called `regenerate(['a'])` and waits, such as for the hash of a password, and
 * then signs in.
 */
function slowLogin({ app }: Served): {
  readonly reached: Promise<void>
  readonly goOn: () => void
} {
  const reached = deferred()
  const goOn = deferred()
  app.get('/slow-login', async ({ session }) => {
    await session.regenerate(['a'])
    reached.resolve()
    await goOn.promise
    session.user = 'ada'
    return 'welcome'
  })
  return { reached: reached.promise, goOn: goOn.resolve }
}

overEveryStore(
  t,
  'P1: a logout while a login waits ends the session: the login is a 409, and nothing comes back',
  async (t, serveOver) => {
    for (const how of ['/logout', 'by its public id'] as const) {
      const served = await serveOver()
      const { app } = served
      const { reached, goOn } = slowLogin(served)
      const browser = new Browser(app)
      await browser.get('/write/mine')
      const id = idIn(browser)
      const login = browser.send('/slow-login')
      await reached
      if (how === '/logout') {
        const goodbye = await browser.send(how)
        t.equal(goodbye.statusCode, 200)
        t.equal(carriedBy(goodbye).cookie, '', 'the cookie is cleared')
      } else {
        t.equal(await app.sessions.destroy(app.sessions.publicIdOf(id)), true)
      }
      goOn()
      const reply = await login
      t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'])
      t.same(setCookies(reply), [], 'no cookie is set or cleared')
      t.equal(await stored(app, id), undefined)
    }
  }
)

overEveryStore(
  t,
  'P1: an end by the old id, after the session has moved, ends what it went on as',
  async (t, serveOver) => {
    for (const hops of [1, 3]) {
      const { app } = await serveOver()
      const browser = new Browser(app)
      await browser.get('/write/mine')
      const old = idIn(browser)
      for (let hop = 0; hop < hops; hop += 1) await browser.get('/login')
      t.same(await stored(app, idIn(browser)), { user: 'ada' })
      t.equal(await app.sessions.destroy(app.sessions.publicIdOf(old)), true, `${hops} hops`)
      t.equal(await stored(app, idIn(browser)), undefined)
      t.equal(await app.sessions.destroy(app.sessions.publicIdOf(old)), false, 'it has ended')
      t.same((await browser.get('/read')).json(), {})
    }
  }
)

overEveryStore(
  t,
  'a late request with the old id writes nothing, begins nothing, and leaves the new cookie alone',
  async (t, serveOver, advance) => {
    const { app } = await serveOver()
    const browser = new Browser(app)
    await browser.get('/write/mine')
    const late = new Browser(app)
    late.cookies.set('session_id', idIn(browser))
    await browser.get('/login')
    for (const url of ['/write/late', '/read', '/touch', '/look-away']) {
      const reply = await late.send(url)
      t.equal(reply.statusCode, 200, url)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    }
    const refused = await late.send('/update')
    t.same([refused.statusCode, refused.json().code], [409, 'HOLDFAST_SESSION_GONE'])
    t.same(setCookies(refused), [])
    t.same(await stored(app, idIn(browser)), { user: 'ada' }, 'nor reads the session')
    await advance(10_000)
    const anew = await late.send('/write/anew')
    t.match(
      carriedBy(anew).cookie,
      /^[\w-]{36}$/,
      'who lost the reply with the new id begins anew after ten seconds'
    )
  }
)

overEveryStore(
  t,
  'a login that is clicked twice begins anew the second time, and so does one after a logout',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const browser = new Browser(app)
    await browser.get('/write/mine')
    const second = new Browser(app)
    second.cookies.set('session_id', idIn(browser))
    await browser.get('/login')
    const reply = await second.get('/login')
    t.equal(reply.statusCode, 200)
    t.same((await second.get('/read')).json(), { user: 'ada' })
    t.same((await browser.get('/read')).json(), { user: 'ada' }, 'the first goes on too')

    const third = new Browser(app)
    third.cookies.set('session_id', idIn(browser))
    await browser.get('/login')
    await browser.get('/logout')
    t.equal((await third.get('/login')).statusCode, 200)
    t.same((await third.get('/read')).json(), { user: 'ada' })
    t.same((await browser.get('/read')).json(), {}, 'the logout is not undone')
  }
)

overEach(
  [...backends, later, moving],
  t,
  'a browser that lost the reply of a move may begin anew, though a clock has stepped back',
  async (t, { serve, clock, advance }) => {
    const { app } = await serve()
    const browser = new Browser(app)
    await browser.get('/write/old')
    const old = idIn(browser)
    await browser.get('/login')
    const write = async (): Promise<string[]> => {
      const headers = { cookie: `session_id=${old}` }
      return setCookies(await app.inject({ url: '/write/late', headers }))
    }
    t.same(await write(), [], 'its reply may be on its way')
    clock.advance(-3600_000)
    await advance(10_001)
    t.equal((await write()).length, 1)
  }
)

overEveryStore(
  t,
  'a login that is clicked twice does not leave behind what the first one kept',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    const works: Array<(session: Session) => unknown> = []
    app.get('/visit', async ({ session }) => (await works.shift()?.(session)) ?? 'done')
    const visit = async (
      browser: Browser,
      work: (session: Session) => unknown
    ): Promise<readonly [number, string[]]> => {
      works.push(work)
      const reply = await browser.get('/visit')
      return [reply.statusCode, setCookies(reply)]
    }
    const keep = async (session: Session): Promise<void> => {
      await session.regenerate(['a', 'user'])
      session.user = 'ada'
    }
    const twice = async (): Promise<readonly [Browser, Browser]> => {
      const browser = new Browser(app)
      await browser.get('/write/mine')
      const second = new Browser(app)
      second.cookies.set('session_id', idIn(browser))
      return [browser, second]
    }

    const [first, second] = await twice()
    await visit(first, keep)
    store.taken()
    t.same(await visit(second, keep), [409, []])
    t.same(store.taken(), ['get', 'get'], 'it looks where the session is')
    t.same(
      await visit(second, async (session) => {
        await session.regenerate(['a'])
        await session.regenerate(['a', 'b'])
        await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
      }),
      [200, []]
    )
    t.same((await first.get('/read')).json(), { a: 'mine', user: 'ada' })
    await visit(second, async (session) => {
      await session.regenerate(['a'])
      session.a = 'its own'
      session.user = 'grace'
    })
    t.same((await second.get('/read')).json(), { a: 'its own', user: 'grace' }, 'it has all')
    t.same((await first.get('/read')).json(), { a: 'mine', user: 'ada' })

    const [third, fourth] = await twice()
    await visit(third, async (session) => {
      await session.regenerate()
      session.user = 'ada'
    })
    const [status] = await visit(fourth, keep)
    t.equal(status, 200, 'the first one kept nothing')

    const [fifth, sixth] = await twice()
    await visit(fifth, keep)
    await visit(sixth, async (session) => {
      await session.regenerate(['a'])
      await session.destroy()
    })
    t.same((await fifth.get('/read')).json(), {}, 'a logout ends what the session became')
  }
)

overEveryStore(
  t,
  'P8: a store that fails as the session moves: 503, and the user is signed in as before',
  async (t, serveOver) => {
    for (const verb of ['create', 'retire', 'move'] as const) {
      const { app, store } = await serveOver()
      if ((store.move !== undefined) !== (verb === 'move')) continue
      app.get('/step-up', async ({ session }) => session.regenerate(['a']))
      const browser = new Browser(app)
      await browser.get('/write/mine')
      const { intercept } = store
      store.intercept = (call, pass) => {
        if (call.verb !== verb) return intercept(call, pass)
        throw new Error('out of order')
      }
      const reply = await browser.get('/step-up')
      t.same([reply.statusCode, setCookies(reply)], [503, []], verb)
      store.intercept = intercept
      t.same((await browser.get('/read')).json(), { a: 'mine' }, verb)
    }
  }
)

overEveryStore(
  t,
  'P1: a creation whose answer was lost is not made again under its id: the late one revives nothing',
  async (t, serveOver) => {
    const { app, store } = await serveOver({ saveUninitialized: false })
    const { intercept } = store
    let late: (() => unknown) | undefined
    store.intercept = (call, pass) => {
      if (call.verb !== 'create' || late !== undefined) return intercept(call, pass)
      late = pass
      throw new Error('the connection is reset; the server gets to it later')
    }
    const browser = new Browser(app)
    t.equal((await browser.get('/login')).statusCode, 200)
    t.same((await browser.get('/read')).json(), { user: 'ada' })
    const id = idIn(browser)
    await browser.get('/logout')
    await late?.()
    browser.cookies.set('session_id', id)
    t.same((await browser.get('/read')).json(), {})
  }
)

overEveryStore(
  t,
  'a move takes along what others have written to the keys that it keeps',
  async (t, serveOver) => {
    const served = await serveOver()
    const { app } = served
    const { reached, goOn } = slowLogin(served)
    const browser = new Browser(app)
    await browser.get('/write/mine')
    const login = browser.send('/slow-login')
    await reached
    await browser.send('/write/theirs')
    await browser.send('/update')
    goOn()
    browser.receive(await login)
    t.same(await stored(app, idIn(browser)), { a: 'theirs', user: 'ada' })
  }
)

overEveryStore(t, 'two moves of one session at once: one comes about', async (t, serveOver) => {
  const served = await serveOver()
  const { app } = served
  const { reached, goOn } = slowLogin(served)
  app.get('/step-up', async ({ session }) => session.regenerate(['a']))
  const browser = new Browser(app)
  await browser.get('/write/mine')
  const login = browser.send('/slow-login')
  await reached
  await browser.get('/step-up')
  goOn()
  t.equal((await login).statusCode, 409)
  t.same((await browser.get('/read')).json(), { a: 'mine' })
})

overEveryStore(
  t,
  'two moves of one session at once that keep nothing: both begin a session',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    const browser = new Browser(app)
    const second = new Browser(app)
    app.get('/meanwhile', async ({ session }) => {
      await session.regenerate()
      await second.get('/login')
      store.taken()
      session.user = 'ada'
    })
    await browser.get('/write/mine')
    second.cookies.set('session_id', idIn(browser))
    t.equal((await browser.get('/meanwhile')).statusCode, 200)
    const tries = store.move === undefined ? ['create', 'retire'] : ['move']
    const anew = store.move === undefined ? [] : ['create']
    t.same(store.taken(), [...tries, 'get', 'get', ...anew])
    t.not(idIn(browser), idIn(second))
    for (const { cookies } of [browser, second])
      t.same(await stored(app, cookies.get('session_id') ?? ''), { user: 'ada' })
  }
)

overEveryStore(
  t,
  'a move that collides again and again pauses in between, and takes all along',
  async (t, serveOver) => {
    const { app, store, clock } = await serveOver({ storeTimeout: 1000 })
    app.get('/step-up', async ({ session }) => session.regenerate(['n']))
    const browser = new Browser(app)
    await browser.get('/update')
    const publicId = app.sessions.publicIdOf(idIn(browser))
    const { intercept } = store
    let collisions = 0
    store.intercept = async (call, pass) => {
      const isStep = call.verb === 'move' || call.verb === 'retire'
      if (isStep && collisions++ < 3) {
        await app.sessions.update(publicId, (draft) => {
          draft.n = (draft.n ?? 0) + 1
        })
      }
      return intercept(call, pass)
    }
    let reply: LightMyRequestResponse | undefined
    void browser.get('/step-up').then((answer) => {
      reply = answer
    })
    while (reply === undefined) {
      await nextTurn()
      clock.advance(1)
    }
    t.equal(reply.statusCode, 200)
    t.same(await stored(app, idIn(browser)), { n: 4 })
  }
)

overEveryStore(
  t,
  'regenerate() twice is one move; after save() it is another; destroy() ends what it departed from',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.get('/twice', async ({ session }) => {
      session.user = 'ada'
      await session.regenerate(['a', 'user'])
      session.n = 1
      await session.regenerate(['a', 'n'])
    })
    app.get('/again', async ({ session }) => {
      await session.regenerate(['a'])
      await session.save()
      await session.regenerate(['a'])
    })
    app.get('/nothing', async ({ session }) => {
      await session.regenerate(['a'])
      await session.destroy()
    })
    const browser = new Browser(app)
    await browser.get('/write/mine')
    for (const [url, holds] of [
      ['/twice', { a: 'mine', n: 1 }],
      ['/again', { a: 'mine' }]
    ] as const) {
      const before = idIn(browser)
      await browser.get(url)
      t.not(idIn(browser), before)
      t.equal(await stored(app, before), undefined, url)
      t.same(await stored(app, idIn(browser)), holds, url)
    }
    const before = idIn(browser)
    store.taken()
    await browser.get('/nothing')
    t.same(store.taken(), ['get', 'delete'])
    t.equal(await stored(app, before), undefined)
    t.equal(idIn(browser), '')
  }
)

overEveryStore(
  t,
  'what a move costs: read, and create and retire or one step',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    const id = await begin(app)
    store.taken()
    await app.inject({ url: '/login', headers: { cookie: `session_id=${id}` } })
    const step = store.move === undefined ? ['create', 'retire'] : ['move']
    t.same(store.taken(), ['get', ...step])
  }
)

overEveryStore(
  t,
  'P1: a move from an id that was adopted, and so not read, ends what is stored there by then',
  async (t, serveOver) => {
    const { app, store } = await serveOver({ adoptUnknownIds: () => true })
    const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
    app.get('/adopted-login', async ({ session }) => {
      await session.regenerate()
      await app.inject({ url: '/write/meanwhile', headers })
      store.taken()
      session.user = 'ada'
    })
    const reply = await app.inject({ url: '/adopted-login', headers })
    t.same(store.taken().slice(0, 1), ['get'], 'it reads what is there')
    t.equal(await stored(app, headers['x-session-id']), undefined)
    t.same(await stored(app, carriedBy(reply).header as string), { user: 'ada' })
  }
)

overEveryStore(
  t,
  'P1: a session that ends as its move catches up with others is a 409, also if the store fails',
  async (t, serveOver) => {
    for (const { verb, fails } of [
      { verb: 'update', fails: false },
      { verb: 'delete', fails: true }
    ] as const) {
      const served = await serveOver()
      const { app, store } = served
      if (store.move !== undefined) return
      const { reached, goOn } = slowLogin(served)
      const browser = new Browser(app)
      await browser.get('/write/mine')
      const id = idIn(browser)
      const login = browser.send('/slow-login')
      await reached
      if (verb === 'update') await browser.send('/write/theirs')
      else await app.sessions.destroy(app.sessions.publicIdOf(id))
      const { intercept } = store
      store.intercept = async (call, pass) => {
        if (call.verb !== verb) return intercept(call, pass)
        if (fails) throw new Error('out of order')
        store.intercept = intercept
        await store.delete(call.key)
        return intercept(call, pass)
      }
      goOn()
      const reply = await login
      t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'], verb)
      t.same(setCookies(reply), [], verb)
      store.intercept = intercept
    }
  }
)

overEveryStore(
  t,
  'P1: a request that has moved its session, which then ends, is a 409 and sends no id',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/twice', async ({ session }) => {
      await session.regenerate(['a'])
      await session.save()
      const { publicId } = session
      await session.regenerate(['a'])
      t.equal(await app.sessions.destroy(publicId), true)
      return 'done'
    })
    const browser = new Browser(app)
    await browser.get('/write/mine')
    const reply = await browser.get('/twice')
    t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'])
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  }
)

overEach(
  [...backends, later, moving],
  t,
  'P2: a write whose answer is lost, and that has gone along with its session, is done',
  async (t, { store, serve }) => {
    const { app } = await serve()
    app.get('/login-keeping-a', async ({ session }) => {
      await session.regenerate(['a'])
      session.user = 'ada'
      return 'welcome'
    })
    const browser = new Browser(app)
    await browser.get('/write/older')
    const id = idIn(browser)
    let isFirst = true
    store.intercept = async (call, pass) => {
      if (call.verb !== 'update' || !isFirst) return pass()
      isFirst = false
      await pass()
      browser.receive(await browser.send('/login-keeping-a'))
      throw new Error('the answer is lost')
    }
    const slow = await browser.send('/write/newer')
    t.equal(slow.statusCode, 200)
    t.same(setCookies(slow), [], 'its reply has no id, for that is an old one')
    t.not(idIn(browser), id)
    t.same((await browser.get('/read')).json(), { a: 'newer', user: 'ada' })
  }
)

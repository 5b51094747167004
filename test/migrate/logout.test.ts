import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import t from 'tap'

import { carryOver, type CarryOverOptions } from '../../lib/migrate/index.ts'
import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { overEach, type Over } from '../helpers/attack.ts'
import { backends, later, moving } from '../helpers/backends.ts'
import { formerSecret, ofExpress, ofFastify, OldStore } from '../helpers/former.ts'
import { nextTurn } from '../helpers/stores.ts'
import { serve, setCookies, type Served } from '../helpers/serve.ts'

const stores = [...backends, later, moving]
const crossSite = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }

interface Scene extends Served {
  readonly old: OldStore
  /** Former ids, other ones in each scene. */
  readonly ada: string
  readonly bob: string
  /** Sends a request with these cookies. */
  readonly send: (
    url: string,
    cookies: readonly string[],
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** Begins a session of ours and returns its cookie. */
  readonly begin: () => Promise<string>
}

let count = 0

async function moveIn(
  over: Over,
  former: Partial<CarryOverOptions> = {},
  options: SessionOptions = {}
): Promise<Scene> {
  const [ada, bob] = [`ada-${(count += 1)}`, `bob-${count}`]
  const old = new OldStore()
  old.put(ada, { user: 'ada' })
  old.put(bob, { user: 'bob' })
  const served = await over.serve({
    carryOver: carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old, ...former }),
    ...options
  })
  const { app } = served
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  app.get('/saved', async ({ session }) => {
    session.a = 'saved'
    await session.save()
    Object.assign(session, { a: 1n })
    return 'never'
  })
  app.get('/leave', async ({ session }) => {
    await session.regenerate([])
    return 'left'
  })
  const send: Scene['send'] = (url, cookies, headers = {}) =>
    app.inject({ url, headers: { ...headers, cookie: cookies.join('; ') } })
  return {
    ...served,
    old,
    ada,
    bob,
    send,
    begin: async () => ourCookie(await send('/write/x', []))
  }
}

function ourCookie(reply: LightMyRequestResponse): string {
  const line = setCookies(reply).find((each) => /^session_id=[^;]/.test(each)) ?? ''
  return line.split(';', 1)[0] as string
}

for (const url of ['/logout', '/leave'])
  for (const sideBySide of [false, true]) {
    const how = `${url}${sideBySide ? ', side by side' : ''}`
    overEach(
      stores,
      t,
      `P1, S47: a logout ends every former session that the browser has (${how})`,
      async (t, over) => {
        const { old, ada, bob, send, begin } = await moveIn(
          over,
          { sideBySide },
          { saveUninitialized: false }
        )
        const ours = await begin()
        const former = [ofExpress(ada).cookie, ofFastify(bob).cookie]
        await send('/who', [ours, ...former])
        const reply = await send(url, [ours, ...former])
        t.equal(reply.statusCode, 200)
        t.same([...old.sessions], [])
        for (const user of [ada, bob]) {
          // A process of the former plugin stores it again.
          old.put(user, { user })
          t.equal((await send('/who', [ours, ofExpress(user).cookie])).payload, 'nobody')
          t.equal((await send('/who', [ofExpress(user).cookie])).payload, 'nobody')
          t.notOk(old.sessions.has(user), 'and it goes once more')
        }
        t.equal((await send('/who', former)).payload, 'nobody')
        const lines = setCookies(reply).filter((line) => line.startsWith('connect.sid=;'))
        t.equal(lines.length, sideBySide ? 0 : 1)
      }
    )
  }

overEach(
  stores,
  t,
  'P1: a logout wins over another request that is about to carry over',
  async (t, over) => {
    for (const verb of ['create', 'update'] as const) {
      const { store, old, ada, send, begin } = await moveIn(over, {}, { storeTimeout: 1e6 })
      const ours = await begin()
      let hasLoggedOut = false
      store.intercept = async (call, pass) => {
        // The first create is the claim; the session follows under it.
        const isHeld = call.verb === verb && (verb === 'update' || !call.key.startsWith('former-'))
        if (isHeld && !hasLoggedOut) {
          hasLoggedOut = true
          await send('/logout', [ours, ofExpress(ada).cookie])
        }
        return pass()
      }
      t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'nobody', verb)
      t.ok(hasLoggedOut)
      store.intercept = (_call, pass) => pass()
      old.put(ada, { user: 'ada' })
      t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'nobody')
    }
  }
)

overEach(stores, t, 'P1: a logout ends what a former session has become, too', async (t, over) => {
  const { ada, send, begin } = await moveIn(over)
  const former = ofExpress(ada).cookie
  const carried = ourCookie(await send('/who', [former]))
  await send('/logout', [await begin(), former])
  for (const cookie of [carried, former]) t.equal((await send('/who', [cookie])).payload, 'nobody')
})

overEach(stores, t, 'P8: a logout needs no former store', async (t, over) => {
  const { old, ada, send, begin, log } = await moveIn(over)
  const cookies = [await begin(), ofExpress(ada).cookie]
  old.intercept = (verb, pass) => {
    if (verb === 'destroy') throw new Error('the former store is down')
    return pass()
  }
  t.equal((await send('/logout', cookies)).statusCode, 200)
  t.match(log.join(), /could not be removed/)
  t.equal((await send('/who', cookies)).payload, 'nobody')
  t.ok(old.sessions.has(ada))
  old.intercept = (_verb, pass) => pass()
  t.equal((await send('/who', cookies)).payload, 'nobody')
  t.notOk(old.sessions.has(ada), 'what is left of it goes with the next request')
})

overEach(
  stores,
  t,
  'P8: a logout that fails there, side by side, can be repeated',
  async (t, over) => {
    const { old, ada, send, begin } = await moveIn(over, { sideBySide: true })
    const cookies = [await begin(), ofExpress(ada).cookie]
    old.intercept = (verb, pass) => {
      if (verb === 'destroy') throw new Error('the former store is down')
      return pass()
    }
    t.equal((await send('/logout', cookies)).statusCode, 503)
    t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'nobody', 'it is noted')
    old.intercept = (_verb, pass) => pass()
    t.equal((await send('/logout', cookies)).statusCode, 200)
    t.equal((await send('/who', cookies)).payload, 'nobody')
    t.notOk(old.sessions.has(ada))
  }
)

overEach(stores, t, 'of several former cookies the live one counts', async (t, over) => {
  const { old, ada, bob, send } = await moveIn(over)
  const former = ['gone', bob, 'never', 'more', bob].map((each) => ofExpress(each).cookie)
  const forged = Array.from({ length: 20 }, (_, n) => `connect.sid=${n}`)
  for (const _ of [1, 2]) t.equal((await send('/who', [...forged, ...former])).payload, 'bob')
  const both = [ofExpress(ada).cookie, ofExpress(bob).cookie]
  const reply = await send('/who', both)
  t.equal(reply.payload, 'nobody', 'of two none does: somebody else may have set one')
  t.notMatch(setCookies(reply).join(), 'connect.sid')
  t.ok(old.sessions.has(ada))
  await send('/logout', [ofExpress(bob).cookie])
  t.equal((await send('/who', both)).payload, 'ada')
})

overEach(
  stores,
  t,
  'P1, S47: a logout ends the session of a cookie that stands behind many others',
  async (t, over) => {
    const { old, ada, send, begin } = await moveIn(over)
    const planted = Array.from({ length: 9 }, (_, n) => ofExpress(`planted-${n}`).cookie)
    const cookies = [...planted, ofExpress(ada).cookie]
    const reply = await send('/who', cookies)
    t.equal(reply.payload, 'nobody', 'of so many none counts')
    t.notMatch(setCookies(reply).join(), 'connect.sid')
    t.same(old.calls, [])
    t.equal((await send('/logout', [await begin(), ...cookies])).statusCode, 200)
    t.notOk(old.sessions.has(ada))
    t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'nobody')
  }
)

overEach(stores, t, 'all cookies of one former id lead to one session', async (t, over) => {
  const secret = ['a newer one', formerSecret]
  const { ada, send } = await moveIn(over, { secret })
  const cookies = [ofExpress, ofFastify].flatMap((headersOf) =>
    secret.map((each) => headersOf(ada, each).cookie)
  )
  const ids = new Set<string>()
  for (const cookie of cookies) {
    const reply = await send('/who', [cookie])
    t.equal(reply.payload, 'ada')
    ids.add(ourCookie(reply))
  }
  t.equal(ids.size, 1)
})

overEach(stores, t, 'P8: a former cookie stays until ours has arrived', async (t, over) => {
  const { ada, send } = await moveIn(over)
  const reply = await send('/saved', [ofExpress(ada).cookie])
  t.equal(reply.statusCode, 500)
  t.same(setCookies(reply), [])
  t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'ada')
})

overEach(
  stores,
  t,
  'S32: a request of another site carries nothing over a cookie that was kept back',
  async (t, over) => {
    const { old, ada, send, begin } = await moveIn(over)
    const reply = await send('/who', [ofExpress(ada).cookie], crossSite)
    t.equal(reply.payload, 'nobody')
    t.same(setCookies(reply), [])
    t.same(old.calls, [])
    t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'ada')
    t.ok(await begin())
    const { app, bob } = await moveIn(over)
    const headers = { ...crossSite, ...ofExpress(bob) }
    t.equal(await app.sessions.fromRequest({ headers }), undefined)
  }
)

overEach(
  stores,
  t,
  'of two live sessions of ours none counts, and no former one',
  async (t, over) => {
    const { old, ada, send, begin } = await moveIn(over)
    const cookies = [await begin(), await begin(), ofExpress(ada).cookie]
    t.equal((await send('/who', cookies)).payload, 'nobody')
    t.ok(old.sessions.has(ada))
  }
)

overEach(
  stores,
  t,
  'side by side, nothing is written to a session of @fastify/session, which ends when it expires',
  async (t, over) => {
    const { clock, old, ada, send } = await moveIn(over, { sideBySide: true })
    old.put(ada, { user: 'ada' }, { originalMaxAge: 7_200_000, expires: clock.now() + 7_200_000 })
    const cookies = [ofFastify(ada).cookie]
    for (const _ of Array.from({ length: 4 })) {
      t.equal((await send('/who', cookies)).payload, 'ada')
      await over.advance(1_800_000)
    }
    t.equal((await send('/who', cookies)).payload, 'nobody')
    t.notOk(old.calls.includes('touch'))
  }
)

overEach(stores, t, 'side by side, a short life there is moved in time', async (t, over) => {
  const { clock, old, ada, send } = await moveIn(over, { sideBySide: true })
  const life = { originalMaxAge: 40_000 }
  old.put(ada, { user: 'ada' }, { ...life, expires: clock.now() + 40_000 })
  for (const _ of Array.from({ length: 4 })) {
    t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'ada')
    await over.advance(25_000)
  }
  t.ok(old.calls.includes('touch'))
  const lives = { carl: { expires: clock.now() + 40_000 }, dora: undefined }
  for (const [user, cookie] of Object.entries(lives)) {
    old.put(user, { user, cookie })
    for (const _ of [1, 2]) {
      t.equal((await send('/who', [ofExpress(user).cookie])).payload, user)
      await over.advance(30_000)
    }
    await send('/logout', [ofExpress(user).cookie])
  }
})

overEach(stores, t, 'without touch, a use here stays here', async (t, over) => {
  const store: CarryOverOptions['store'] = {
    get: (...given) => old.get(...given),
    destroy: (...given) => old.destroy(...given)
  }
  const scene = await moveIn(over, { sideBySide: true, store })
  const { clock, old, ada, send } = scene
  old.put(ada, { user: 'ada' }, { originalMaxAge: 3_600_000, expires: clock.now() + 3_600_000 })
  t.equal((await send('/who', [ofFastify(ada).cookie])).payload, 'ada')
  await over.advance(100_000)
  t.equal((await send('/who', [ofFastify(ada).cookie])).payload, 'ada')
  t.same(old.calls, ['get', 'get', 'get'])
})

overEach(stores, t, 'S32: another site logs nobody out by the former cookie', async (t, over) => {
  for (const sideBySide of [false, true]) {
    const { ada, send } = await moveIn(over, { sideBySide })
    const ours = ourCookie(await send('/who', [ofExpress(ada).cookie]))
    await send('/logout', [ofExpress(ada).cookie], crossSite)
    t.equal((await send('/who', [ours])).payload, 'ada')
  }
})

overEach(
  stores,
  t,
  'P8: a former cookie that the browser kept back for once is taken over later',
  async (t, over) => {
    const { old, ada, send } = await moveIn(over)
    // A link of another site brought none that is SameSite=Strict, and an empty session began.
    const empty = ourCookie(await send('/who', []))
    t.ok(empty)
    const reply = await send('/who', [empty, ofExpress(ada).cookie])
    t.equal(reply.payload, 'ada')
    const ours = ourCookie(reply)
    t.ok(ours)
    t.not(ours, empty)
    t.equal((await send('/who', [ours])).payload, 'ada')
    t.notOk(old.sessions.has(ada))
  }
)

overEach(stores, t, 'P8: what was not taken over keeps its cookie', async (t, over) => {
  const { old, ada, send, begin } = await moveIn(over, {
    data: ({ user, isAdult }) => (isAdult === true ? { user } : undefined)
  })
  const former = ofExpress(ada).cookie
  const cookies = [await begin(), former]
  const header = { 'x-session-id': cookies[0]?.split('=', 2)[1] as string }
  for (const reply of [
    await send('/write/y', cookies),
    await send('/write/y', [former], header),
    await send('/who', [former]),
    await send('/write/y', [ourCookie(await send('/write/y', [former])), former])
  ]) {
    t.equal(reply.statusCode, 200)
    t.notMatch(setCookies(reply).join(), 'connect.sid')
  }
  t.ok(old.sessions.has(ada))
})

overEach(stores, t, 'a former cookie that leads nowhere is cleared', async (t, over) => {
  const { send, begin } = await moveIn(over)
  const reply = await send('/write/x', [ofExpress('gone').cookie])
  t.match(setCookies(reply).join(), 'connect.sid=;')
  t.ok(await begin())
})

overEach(
  stores,
  t,
  'S5: no cookie is cleared where a cache may keep the reply',
  async (t, over) => {
    const { app, ada, send } = await moveIn(over, {}, { sessionHeader: false })
    app.get('/public', async ({ session }, reply) => {
      void reply.header('cache-control', 'public, max-age=3600')
      return session.user ?? 'nobody'
    })
    const ours = ourCookie(await send('/who', [ofExpress(ada).cookie]))
    for (const _ of [1, 2]) {
      const reply = await send('/public', [ours, ofExpress(ada).cookie])
      const isPublic = /public/.test(String(reply.headers['cache-control']))
      t.not(isPublic, setCookies(reply).length > 0)
      await over.advance(60_000)
    }
  }
)

overEach(stores, t, 'P1: a logout holds for as long as a cookie can', async (t, over) => {
  const { old, ada, send, begin } = await moveIn(over)
  old.put(ada, { user: 'ada' }, { originalMaxAge: 90 * 86_400_000 })
  old.intercept = (verb, pass) => {
    if (verb === 'destroy') throw new Error('the former store is down')
    return pass()
  }
  await send('/logout', [await begin(), ofExpress(ada).cookie])
  await over.advance(80 * 86_400_000)
  t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'nobody')
})

overEach(
  stores,
  t,
  'P8: a commit that fails leaves the former cookie of a session that was just taken over',
  async (t, over) => {
    const { ada, bob, send } = await moveIn(over)
    await send('/logout', [ofExpress(ada).cookie])
    const reply = await send('/saved', [ofExpress(ada).cookie, ofExpress(bob).cookie])
    t.equal(reply.statusCode, 500)
    t.same(setCookies(reply), [])
  }
)

overEach(
  stores,
  t,
  'P8: a request that is slower than the one that carries over is not logged out',
  async (t, over) => {
    const { old, ada, send } = await moveIn(over)
    const cookies = [ofExpress('gone').cookie, ofExpress(ada).cookie]
    let isFirst = true
    old.intercept = async (verb, pass) => {
      if (verb === 'get' && isFirst) {
        isFirst = false
        t.equal((await send('/who', cookies)).payload, 'ada')
      }
      return pass()
    }
    const reply = await send('/who', cookies)
    t.equal(reply.payload, 'ada')
    t.notMatch(setCookies(reply).join(), 'connect.sid')
  }
)

overEach(stores, t, 'P2: a session of ours that was emptied stays', async (t, over) => {
  const { app, old, ada, send } = await moveIn(over)
  app.get('/empty', async ({ session }) => {
    for (const key of Object.keys(session.data())) Reflect.deleteProperty(session, key)
    return 'emptied'
  })
  app.get('/domain', async ({ session }) => {
    session.options({ domain: 'example.com' })
    return 'set'
  })
  const former = ofExpress(ada).cookie
  for (const url of ['/empty', '/domain']) {
    let ours = ourCookie(await send('/write/x', []))
    if (url === '/domain') ours = ourCookie(await send(url, [])) || ours
    await send(url, [ours])
    t.equal((await send('/who', [ours, former])).payload, 'nobody', url)
    t.ok(old.sessions.has(ada))
  }
})

overEach(stores, t, 'P2: what a session of ours is emptied to is written to', async (t, over) => {
  const { app, ada, send } = await moveIn(over, { sideBySide: true })
  app.get('/fresh', async ({ session }) => {
    await session.regenerate([])
    return 'fresh'
  })
  const former = ofExpress(ada).cookie
  const first = ourCookie(await send('/who', [former]))
  const second = ourCookie(await send('/fresh', [first, former]))
  t.ok(second)
  t.equal((await send('/write/z', [second, former])).payload, 'written')
  t.equal((await send('/read', [second, former])).json().a, 'z')
})

const newIds: Readonly<Record<string, SessionOptions>> = {
  '/fresh': {},
  '/sign-in': {},
  '/again': {},
  '/named': { subject: ({ user }) => user }
}
function addNewIds(app: FastifyInstance): void {
  app.get('/fresh', async ({ session }) => session.regenerate())
  app.get('/sign-in', async ({ session }) => session.signIn('bob'))
  app.get('/again', async ({ session }) => session.reauthenticate(() => true))
  app.get('/named', async ({ session }) => {
    session.user = 'bob'
    return 'named'
  })
}
for (const [url, options] of Object.entries(newIds)) {
  overEach(
    stores,
    t,
    `P1: who goes on under a new id has left the former session (${url})`,
    async (t, over) => {
      const { app, ada, send, begin } = await moveIn(over, {}, options)
      addNewIds(app)
      const former = ofExpress(ada).cookie
      const user = url === '/named' ? 'bob' : 'nobody'
      const before = url === '/again' ? ourCookie(await send('/sign-in', [])) : await begin()
      const ours = ourCookie(await send(url, [before, former]))
      t.equal((await send('/who', [ours, former])).payload, user)
      t.equal((await send('/who', [former])).payload, 'nobody')
    }
  )
  overEach(
    stores,
    t,
    `P1: and what the former session has become in another request (${url})`,
    async (t, over) => {
      const { app, ada, send, begin } = await moveIn(over, {}, options)
      addNewIds(app)
      const former = ofExpress(ada).cookie
      const before = url === '/again' ? ourCookie(await send('/sign-in', [])) : await begin()
      const became = ourCookie(await send('/who', [former]))
      const ours = ourCookie(await send(url, [before, former]))
      for (const cookies of [[former], [became], [became, former]]) {
        t.equal((await send('/who', cookies)).payload, 'nobody')
      }
      t.equal((await send('/who', [ours])).payload, url === '/named' ? 'bob' : 'nobody')
    }
  )
  overEach(
    stores,
    t,
    `P8: who goes on from what the former session has become stays (${url})`,
    async (t, over) => {
      const { app, ada, send } = await moveIn(over, {}, options)
      addNewIds(app)
      const former = ofExpress(ada).cookie
      let ours = ourCookie(await send('/who', [former]))
      // The second time, a trace leads there.
      for (const path of url === '/again' ? ['/sign-in', url, url] : [url, url]) {
        const reply = await send(path, [ours, former])
        t.equal(reply.statusCode, 200)
        ours = ourCookie(reply) || ours
        await send('/write/kept', [ours])
        t.equal((await send('/read', [ours, former])).json().a, 'kept', path)
      }
    }
  )
}

for (const sideBySide of [false, true]) {
  overEach(
    stores,
    t,
    `P1: data that names nobody any more is a logout, and ends former sessions${sideBySide ? ', side by side' : ''}`,
    async (t, over) => {
      const options: SessionOptions = { subject: ({ user }) => user }
      const { app, old, ada, send } = await moveIn(over, { sideBySide }, options)
      addNewIds(app)
      app.get('/unset', async ({ session }) => {
        delete session.user
        return 'unset'
      })
      const isNobody = async (former: string, others: readonly string[]): Promise<void> => {
        for (const cookies of [[former], ...others.flatMap((one) => [[one], [one, former]])]) {
          t.equal((await send('/who', cookies)).payload, 'nobody')
        }
      }
      // Those that came when the login did not bring the cookie, as with a path of its own.
      for (const isTakenOver of [true, false]) {
        const sid = isTakenOver ? ada : 'second'
        old.put(sid, { user: 'ada' })
        const former = ofExpress(sid).cookie
        const before = ourCookie(await send('/named', []))
        const became = isTakenOver ? ourCookie(await send('/who', [former])) : ''
        const ours = ourCookie(await send('/unset', [before, former]))
        await isNobody(former, isTakenOver ? [ours, became] : [ours])
        t.notOk(old.sessions.has(sid), 'nor does it live on the former side')
      }
      // What a former session has become, and goes on as nobody's.
      old.put('third', { user: 'ada' })
      const former = ofExpress('third').cookie
      const became = ourCookie(await send('/who', [former]))
      const ours = ourCookie(await send('/unset', [became, former]))
      await isNobody(former, [ours, became])
      t.notOk(old.sessions.has('third'))
    }
  )
}

overEach(stores, t, 'an empty former session settles', async (t, over) => {
  const { old, send } = await moveIn(over)
  old.put('empty', {})
  const cookies = [ofFastify('empty').cookie]
  const ours = ourCookie(await send('/who', cookies))
  const reply = await send('/who', [ours, ...cookies])
  t.same(setCookies(reply), [])
  await over.advance(60_000)
  t.match(setCookies(await send('/who', [ours, ...cookies])).join(), 'connect.sid=;')
})

t.test('a full MemoryStore takes sessions over', async (t) => {
  const clock = new TestClock()
  const old = new OldStore()
  const store = new MemoryStore({ clock, max: 3 })
  const former = carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old })
  const { app } = await serve(t, { clock, store, carryOver: former })
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  for (const _ of [1, 2, 3]) {
    const { headers } = await app.inject('/write/x')
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string
    await app.inject({ url: '/read', headers: { cookie } })
  }
  old.put('ada', { user: 'ada' })
  t.equal((await app.inject({ url: '/who', headers: ofExpress('ada') })).payload, 'ada')
})

overEach(stores, t, 'P8: an answer about the note that is wrong or lost', async (t, over) => {
  for (const isMade of [true, false]) {
    const { store, ada, send } = await moveIn(over)
    let isFirst = true
    store.intercept = async (call, pass) => {
      if (call.verb !== 'update' || !call.key.startsWith('former-') || !isFirst) return pass()
      isFirst = false
      // The client of the store has sent it twice; or the claim has expired meanwhile.
      if (isMade) await pass()
      else await store.delete(call.key)
      return false as never
    }
    const reply = await send('/who', [ofExpress(ada).cookie])
    t.equal(reply.payload, 'ada', isMade ? 'made' : 'not made')
    t.notOk(isFirst)
    store.intercept = (_call, pass) => pass()
    t.equal((await send('/who', [ourCookie(reply)])).payload, 'ada')
  }
})

for (const url of ['/who', '/logout'])
  overEach(
    [later],
    t,
    `P8: a store that keeps no note does not hold a request (${url})`,
    async (t, over) => {
      const { store, old, ada, send, begin } = await moveIn(over)
      const cookies = [...(url === '/logout' ? [await begin()] : []), ofExpress(ada).cookie]
      store.intercept = async (call, pass) => {
        if (!call.key.startsWith('former-')) return pass()
        if (call.verb === 'create' && url === '/logout') return false as never
        if (call.verb !== 'update') return pass()
        await store.delete(call.key)
        return false as never
      }
      let isDone = false
      const visit = send(url, cookies).finally(() => (isDone = true))
      while (!isDone) {
        await nextTurn()
        over.clock.advance(20)
      }
      const reply = await visit
      t.equal(reply.json().code, 'HOLDFAST_STORE_TIMEOUT')
      t.same(setCookies(reply), [])
      t.ok(old.sessions.has(ada))
    }
  )

overEach(stores, t, 'P8: a store that fails to list a session takes none over', async (t, over) => {
  const { store, old, ada, send } = await moveIn(over, {}, { subject: ({ user }) => user })
  store.intercept = async (call, pass) => {
    if (call.verb === 'create' && !call.key.startsWith('former-')) throw new Error('it is down')
    return pass()
  }
  t.equal((await send('/who', [ofExpress(ada).cookie])).statusCode, 503)
  t.ok(old.sessions.has(ada))
  store.intercept = (_call, pass) => pass()
  await over.advance(3000)
  t.equal((await send('/who', [ofExpress(ada).cookie])).payload, 'ada')
})

t.test('the former cookie is cleared in the scope that it had', async (t) => {
  for (const [scope, expected] of [
    [{ path: '/shop', domain: 'example.com' }, /Domain=example\.com; Path=\/shop; (?!.*Secure)/],
    [{ partitioned: true }, /Secure.*Partitioned|Partitioned.*Secure/]
  ] as const) {
    const old = new OldStore()
    const former = carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old, scope })
    const { app } = await serve(t, { carryOver: former })
    const reply = await app.inject({ url: '/write/x', headers: ofExpress('gone') })
    t.match(setCookies(reply).join('\n'), expected)
  }
})

overEach(stores, t, 'what is taken over is published as created, once', async (t, over) => {
  const { app, ada, send } = await moveIn(over)
  const published: unknown[] = []
  const hear = (message: unknown): void => void published.push(message)
  subscribe('fastify-holdfast:created', hear)
  t.teardown(() => unsubscribe('fastify-holdfast:created', hear))
  app.get('/public-id', async ({ session }) => session.publicId)
  const { payload: session } = await send('/public-id', [ofExpress(ada).cookie])
  await send('/who', [ofExpress(ada).cookie])
  t.same(published, [{ sessionName: 'session', session }])
})

t.test('where the former cookie had a prefix, it is cleared as browsers demand', async (t) => {
  const old = new OldStore()
  const cookie = '__Host-sid'
  const former = carryOver({ cookie, secret: formerSecret, store: old })
  const { app } = await serve(t, { carryOver: former })
  const headers = { cookie: ofExpress('gone').cookie.replace('connect.sid', cookie) }
  const reply = await app.inject({ url: '/write/x', headers })
  t.match(setCookies(reply).join(), /__Host-sid=; Max-Age=0; Path=\/;.* Secure/)
})

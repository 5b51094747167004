import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'

import { carryOver, type CarryOverOptions } from '../../lib/migrate/index.ts'
import type { SessionOptions } from '../../lib/index.ts'
import { overEach, type Over } from '../helpers/attack.ts'
import { backends, later, moving } from '../helpers/backends.ts'
import { formerSecret, ofExpress, ofFastify, OldStore } from '../helpers/former.ts'
import { setCookies, type Served } from '../helpers/serve.ts'

const stores = [...backends, later, moving]
const sid = 'Gk3hR0pYxJw-6yF2sAqTn8vLz1bCe4dU'
const secret = 'a secret of ours that has 32 bytes'

interface Moved extends Served {
  readonly old: OldStore
  /** Sends the former cookie. */
  readonly visit: (url: string, headers?: Record<string, string>) => Promise<LightMyRequestResponse>
}

/** An app that has moved in, and a former session of Ada's. */
async function moveIn(
  over: Over,
  former: Partial<CarryOverOptions> = {},
  options: SessionOptions = {}
): Promise<Moved> {
  const old = new OldStore()
  old.put(sid, { user: 'ada', n: 7 })
  const served = await over.serve({
    secret,
    carryOver: carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old, ...former }),
    ...options
  })
  served.app.get('/who', async ({ session }) => session.user ?? 'nobody')
  return {
    ...served,
    old,
    visit: (url, headers = ofExpress(sid)) => served.app.inject({ url, headers })
  }
}

for (const [name, headersOf] of Object.entries({ ofExpress, ofFastify })) {
  overEach(stores, t, `a former session goes on under our cookie (${name})`, async (t, over) => {
    const { app, old, visit } = await moveIn(over)
    const reply = await visit('/read', headersOf(sid))
    t.same(reply.json(), { user: 'ada', n: 7 })
    const [sent, ...others] = setCookies(reply)
    t.match(sent, /^session_id=[\w-]{43}\.[\w-]{43}; Max-Age=3600; Path=\//)
    t.same(others, [])
    t.same([...old.sessions], [], 'the former session is gone')
    const cookie = sent?.split(';', 1)[0] as string
    const next = await app.inject({ url: '/read', headers: { cookie } })
    t.same(next.json(), { user: 'ada', n: 7 })
    t.same(setCookies(next), [])
    t.equal((await visit('/who', headersOf(sid))).payload, 'ada', 'if that reply was lost')
    const both = { cookie: `${cookie}; ${headersOf(sid).cookie}` }
    t.same(setCookies(await visit('/read', both)), [])
    await over.advance(60_000)
    const [renewed, cleared, ...rest] = setCookies(await visit('/read', both))
    t.match(renewed, /^session_id=/)
    t.match(cleared, /^connect\.sid=; Max-Age=0; Path=\/; Expires=Thu, 01 Jan 1970 00:00:00 GMT/)
    t.same(rest, [], 'once ours has arrived, where no cache keeps the reply')
    t.same(old.calls, ['get', 'destroy'])
  })
}

overEach(stores, t, 'four first requests at once are four of one session', async (t, over) => {
  // Time passes while a real server is asked.
  const { app, old, visit } = await moveIn(over, {}, { storeTimeout: 1e6 })
  let done = false
  const visits = Promise.all(['/who', '/write/b', '/who', '/update'].map((url) => visit(url)))
  void visits.finally(() => (done = true))
  while (!done) {
    await new Promise(setImmediate)
    over.clock.advance(1)
  }
  const replies = await visits
  t.same(
    replies.map(({ payload }) => payload),
    ['ada', 'written', 'ada', '{"n":8}']
  )
  const ids = replies.map((reply) => reply.cookies.find(({ name }) => name === 'session_id')?.value)
  t.equal(new Set(ids).size, 1)
  t.same(old.calls.filter((verb) => verb === 'destroy').length, 1)
  const cookies = { session_id: ids[0] as string }
  t.same((await app.inject({ url: '/read', cookies })).json(), { user: 'ada', n: 8, a: 'b' })
})

overEach(stores, t, 'a logout ends it, and the former cookie too', async (t, over) => {
  const { old, visit } = await moveIn(over)
  t.equal((await visit('/who')).payload, 'ada')
  t.equal((await visit('/logout')).statusCode, 200)
  t.equal((await visit('/who')).payload, 'nobody')
  // A call that came late, or another process, has put it back.
  old.put(sid, { user: 'ada' })
  t.equal((await visit('/who')).payload, 'nobody')
})

overEach(stores, t, 'a cookie of the same name gives way to ours', async (t, over) => {
  const { app, visit } = await moveIn(over, {}, { sessionCookie: 'connect.sid' })
  const reply = await visit('/who')
  t.equal(reply.payload, 'ada')
  const [line, ...others] = setCookies(reply)
  t.match(line, /^connect\.sid=[\w-]{43}\.[\w-]{43}; Max-Age=3600/)
  t.same(others, [])
  const cookie = line?.split(';', 1)[0] as string
  t.equal((await app.inject({ url: '/who', headers: { cookie } })).payload, 'ada')
})

overEach(stores, t, 'a live session of ours wins over the former cookie', async (t, over) => {
  const { app, old } = await moveIn(over)
  const [own] = setCookies(await app.inject('/write/ours'))
  const cookie = `${own?.split(';', 1)[0]}; ${ofExpress(sid).cookie}`
  t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { a: 'ours' })
  t.same(old.calls, [])
  const stale = `session_id=${'x'.repeat(36)}.${'x'.repeat(43)}; ${ofExpress(sid).cookie}`
  t.equal((await app.inject({ url: '/who', headers: { cookie: stale } })).payload, 'ada')
})

overEach(stores, t, 'who logs in takes a new id; the former cookie is dead', async (t, over) => {
  const { app, visit } = await moveIn(over)
  const reply = await visit('/login')
  const cookies = {
    session_id: reply.cookies.find(({ name }) => name === 'session_id')?.value ?? ''
  }
  t.equal((await app.inject({ url: '/who', cookies })).payload, 'ada')
  t.equal((await visit('/who')).payload, 'nobody')
})

overEach(stores, t, 'a request past Fastify finds the former session', async (t, over) => {
  const { app } = await moveIn(over)
  const found = await app.sessions.fromRequest({ headers: ofExpress(sid) })
  t.same(found?.data, { user: 'ada', n: 7 })
  t.equal(await app.sessions.destroy(found?.publicId as string), true)
  t.equal(await app.sessions.fromRequest({ headers: ofExpress(sid) }), undefined)
})

overEach(stores, t, 'it begins now, with the idle timeout of the plugin', async (t, over) => {
  const { app, clock, visit } = await moveIn(over, {}, { maxAge: 600 })
  const now = clock.now()
  await visit('/read')
  const found = await app.sessions.fromRequest({ headers: ofExpress(sid) })
  // A server's clock may shift an instant a little.
  t.ok(Math.abs((found?.createdAt ?? 0) - now) < 1000)
  t.ok(Math.abs((found?.expiresAt ?? 0) - now - 600_000) < 1000)
  t.equal(found?.maxAge, undefined)
})

overEach(stores, t, 'the app says what the data and the lifetime become', async (t, over) => {
  const { app, old, visit } = await moveIn(over, {
    data: ({ user, n }) => (user === undefined ? undefined : { user, c: n }),
    maxAge: ({ cookie }) => (cookie?.originalMaxAge ?? 0) / 1000
  })
  t.same((await visit('/read')).json(), { user: 'ada', c: 7 })
  const found = await app.sessions.fromRequest({ headers: ofExpress(sid) })
  t.equal(found?.maxAge, 3600)
  old.put('guest', { n: 1 })
  t.same((await visit('/read', ofExpress('guest'))).json(), {})
  t.ok(old.sessions.has('guest'), 'what is not carried over stays')
})

overEach(stores, t, 'who is signed in is listed, and destroyAll() ends it', async (t, over) => {
  const { app, visit } = await moveIn(over, {}, { subject: ({ user }) => user })
  app.get('/fresh', { config: { session: { fresh: 60 } } }, async () => 'fresh')
  t.equal((await visit('/who')).payload, 'ada')
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
  t.equal((await visit('/fresh')).statusCode, 401, 'when the password was checked is not known')
  await app.sessions.destroyAll('ada')
  t.equal((await visit('/who')).payload, 'nobody')
})

overEach(
  stores,
  t,
  'destroyAll() wins over a session that is being carried over',
  async (t, over) => {
    const { app, old, visit } = await moveIn(over, {}, { subject: ({ user }) => user })
    let isDone = false
    const { store } = over
    store.intercept = async (call, pass) => {
      if (call.verb === 'create' && call.key.includes('.') && !isDone) {
        isDone = true
        await app.sessions.destroyAll('ada')
      }
      return pass()
    }
    t.equal((await visit('/who')).payload, 'nobody')
    t.ok(isDone)
    t.notOk(old.sessions.has(sid))
  }
)

for (const whenFull of ['refuse', 'end-oldest'] as const)
  overEach(
    stores,
    t,
    `over the limit of a user it goes on, and is listed (${whenFull})`,
    async (t, over) => {
      const options = {
        subject: ({ user }: { user?: string }) => user,
        subjectSessions: { max: 1, whenFull }
      }
      const { app, old, visit } = await moveIn(over, {}, options)
      old.put('second', { user: 'ada' })
      t.equal((await visit('/who')).payload, 'ada')
      t.equal((await visit('/who', ofExpress('second'))).payload, 'ada')
      t.equal((await app.sessions.list('ada')).sessions.length, 2)
      t.equal((await visit('/who')).payload, 'ada')
      await app.sessions.destroyAll('ada')
      for (const each of [sid, 'second'])
        t.equal((await visit('/who', ofExpress(each))).payload, 'nobody')
    }
  )

t.test('a store that cannot touch may have what has expired', async (t) => {
  for (const [expires, expected] of [
    [new Date(0), 'nobody'],
    ['2001-01-01T00:00:00Z', 'nobody'],
    [new Date(8e15), 'ada'],
    [null, 'ada']
  ]) {
    overEach(backends.slice(0, 1), t, `${String(expires)}`, async (t, over) => {
      const old = new OldStore()
      const store: CarryOverOptions['store'] = {
        get: (...given) => old.get(...given),
        destroy: (...given) => old.destroy(...given)
      }
      const { visit } = await moveIn(over, { store })
      old.put(sid, { user: 'ada' }, { expires })
      t.equal((await visit('/who')).payload, expected)
    })
  }
})

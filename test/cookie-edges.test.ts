import t from 'tap'

import { MemoryStore } from '../lib/index.ts'
import { moveNotes } from '../lib/session/notes.ts'
import { TestClock } from '../lib/testing/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'
import { slow } from './helpers/stores.ts'

const https = { 'x-forwarded-proto': 'https' }

t.test(
  "a session's own attributes that a deployment does not allow any more count for nothing",
  async (t) => {
    const clock = new TestClock()
    const store = new MemoryStore({ clock })
    const trusting = { trustProxy: true }
    const before = await serve(t, { clock, store, cookie: { secure: true } }, trusting)
    const after = await serve(t, { clock, store }, trusting)
    before.app.get('/embedded', async ({ session }) => {
      session.a = 'kept'
      session.options({ sameSite: 'none' })
    })
    after.app.get('/not-remembered', async ({ session }) => {
      session.options({ persistent: false })
    })
    const reply = await before.app.inject({ url: '/embedded', headers: https })
    t.match(setCookies(reply).at(-1), 'SameSite=None')
    const headers = { ...https, cookie: `session_id=${carriedBy(reply).cookie}` }
    const touched = await after.app.inject({ url: '/touch', headers })
    t.match(setCookies(touched).at(-1), /Max-Age=3600.*SameSite=Lax/)
    const own = await after.app.inject({ url: '/not-remembered', headers })
    t.equal(own.statusCode, 200)
    t.match(setCookies(own).at(-1), /^session_id=[^;]+; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
    t.same((await after.app.inject({ url: '/read', headers })).json(), { a: 'kept' })
  }
)

t.test('notes of a cookie that nobody can read count for nothing', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock })
  const { app } = await serve(t, { clock, store })
  for (const notes of ['&%E0%A4%A', '&not-json', '?', '12!&%5B%5D', '-', '!']) {
    const id = await begin(app)
    const key = app.sessions.publicIdOf(id)
    const record = store.get(key)
    store.delete(key)
    if (record?.data !== undefined) store.create(key, { ...record, notes })
    const headers = { cookie: `session_id=${id}` }
    const reply = await app.inject({ url: '/touch', headers })
    t.match(setCookies(reply).at(-1), /Max-Age=3600; Path=\/; HttpOnly; SameSite=Lax$/, notes)
    t.same((await app.inject({ url: '/read', headers })).json(), { a: 'old' }, notes)
  }
})

t.test('options() while an update is under way holds, and is stored with the reply', async (t) => {
  const clock = new TestClock()
  const { app } = await serve(t, { clock, store: slow(new MemoryStore({ clock })) })
  app.get('/both', async ({ session }) => {
    const updated = session.update((draft) => {
      draft.n = 1
    })
    await Promise.resolve()
    session.options({ persistent: false })
    await updated
  })
  const headers = { cookie: `session_id=${await begin(app)}` }
  t.notMatch(setCookies(await app.inject({ url: '/both', headers })).at(-1), 'Max-Age')
  t.notMatch(setCookies(await app.inject({ url: '/touch', headers })).at(-1), 'Max-Age')
})

t.test('outside cookie.path, save() of a session that holds nothing does nothing', async (t) => {
  for (const sessionHeader of [false, 'X-Session-ID'] as const) {
    const { app, store } = await serve(t, { sessionHeader, cookie: { path: '/admin' } })
    app.get('/admin', async () => 'within')
    app.get('/save', async ({ session }) => session.save())
    app.get('/save-data', async ({ session }) => {
      session.a = 'lost'
      await t.rejects(session.save(), { code: 'HOLDFAST_ID_UNDELIVERABLE' })
    })
    const headers = {
      'sec-fetch-site': 'same-origin',
      cookie: 'session_id=unknown-to-the-store-01'
    }
    for (const url of ['/save', '/save-data']) {
      const reply = await app.inject({ url, headers })
      t.equal(reply.statusCode, 200, url)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined }, url)
    }
    t.same(store.taken(), ['get', 'get'])
  }
})

t.test('outside cookie.path, a client that gets the header begins a session in it', async (t) => {
  const { app } = await serve(t, { cookie: { path: '/admin' } })
  app.get('/admin', async () => 'within')
  const { header, cookie } = carriedBy(await app.inject('/write/by-header'))
  t.equal(cookie, undefined)
  t.same(await stored(app, header as string), { a: 'by-header' })
  const withoutHeader = await serve(t, { sessionHeader: false, cookie: { path: '/admin' } })
  withoutHeader.app.get('/admin', async () => 'within')
  t.same(setCookies(await withoutHeader.app.inject('/write/lost')), [])
  t.same(withoutHeader.store.taken(), [])
})

t.test('that a cookie may be lost is noted until it was sent once more', async (t) => {
  const second = 1000
  const record = {
    data: '',
    version: 'v1',
    createdAt: 0,
    expiresAt: 700 * second,
    notes: `${600 * second}!`
  }
  const use = { now: 550 * second, idle: 600 * second, leastGain: 60 * second }
  t.same(
    moveNotes(record, 760 * second, false, use),
    { heldFor: 600 * second, isSentSince: true },
    'another client has moved the expiry'
  )
  t.match(moveNotes(record, 760 * second, true, use), { heldFor: undefined, isSentSince: false })
})

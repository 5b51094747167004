import t from 'tap'

import sessionPlugin from '../../lib/index.ts'
import { overEveryStore } from '../helpers/attack.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { begin, setCookies, stored } from '../helpers/serve.ts'
import { signal } from '../helpers/waiting.ts'

/** The request headers that carry an id, one transport after the other. */
function carrying(id: string): ReadonlyArray<Record<string, string>> {
  return [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]
}

const unknownId = '00000000-0000-4000-8000-000000000000'

overEveryStore(
  t,
  'P1, P7, S3: an id that was destroyed, regenerated or has expired is as unknown as any, also after a later login of the same user',
  async (t, serveOver, advance) => {
    const { app, store } = await serveOver()
    const [destroyed, regenerated, expired] = [await begin(app), await begin(app), await begin(app)]
    await app.inject({ url: '/logout', headers: { 'x-session-id': destroyed } })
    await app.inject({ url: '/login', headers: { 'x-session-id': regenerated } })
    await advance(3_600_000)
    const live = carriedBy(await app.inject('/login')).header as string
    for (const url of ['/read', '/write/mine', '/touch', '/update', '/login', '/logout']) {
      for (const [index] of carrying(unknownId).entries()) {
        const seen = []
        for (const id of [unknownId, destroyed, regenerated, expired]) {
          store.taken()
          const reply = await app.inject({
            url,
            headers: carrying(id)[index] as Record<string, string>
          })
          const { header, cookie } = carriedBy(reply)
          t.not(header, id)
          t.not(cookie, id)
          t.equal(await stored(app, id), undefined, `${url} brings nothing back`)
          const {
            'content-length': _length,
            date: _date,
            'x-session-id': _header,
            'set-cookie': _cookie,
            ...others
          } = reply.headers
          seen.push(
            JSON.stringify([
              reply.statusCode,
              reply.body,
              others,
              header?.length,
              cookie?.length,
              store.taken()
            ])
          )
        }
        t.equal(new Set(seen).size, 1, `${url}: none is told from another`)
      }
    }
    t.same((await app.inject({ url: '/read', headers: { 'x-session-id': live } })).json(), {
      user: 'ada'
    })
  }
)

overEveryStore(
  t,
  'S2: whatever is written under an unknown id, no record can be reached by it',
  async (t, serveOver) => {
    const { app } = await serveOver()
    for (const url of ['/write/x', '/update', '/login', '/touch']) {
      for (const headers of carrying(unknownId)) {
        const { cookie } = carriedBy(await app.inject({ url, headers }))
        t.not(cookie, unknownId)
        t.equal(await stored(app, unknownId), undefined, url)
      }
    }
  }
)

overEveryStore(
  t,
  'S11: at login the id is another, the old one opens nothing when the reply comes, and the CSRF secret of before is gone',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/csrf', async ({ session }) => {
      session.set('_csrf', 'a secret that the attacker knows')
      session.cart = ['apple']
    })
    app.get('/sign-in', async ({ session }) => {
      const before = session.id
      await session.regenerate(['cart'])
      session.user = 'ada'
      return { other: session.id !== before, ...session }
    })
    const planted = carriedBy(await app.inject('/csrf')).header as string
    for (const headers of carrying(planted).slice(0, 1)) {
      const reply = await app.inject({ url: '/sign-in', headers })
      t.same(reply.json(), { other: true, cart: ['apple'], user: 'ada' })
      const { header } = carriedBy(reply)
      t.not(header, planted)
      t.same(await stored(app, header as string), { cart: ['apple'], user: 'ada' })
      t.equal(await stored(app, planted), undefined, "the attacker's id opens nothing")
    }
  }
)

for (const [end, url] of [
  ['destroy()', '/logout'],
  ['regenerate()', '/login']
] as const) {
  for (const late of ['write', 'touch', 'update', 'save', 'regenerate', 'destroy'] as const) {
    overEveryStore(
      t,
      `P1, P2, S14: a slow request that does ${late} after ${end} leaves the id dead, and sends none`,
      async (t, serveOver) => {
        const { app } = await serveOver()
        const [reached, arrived] = signal()
        const [released, goOn] = signal()
        app.get('/slow', async ({ session }) => {
          const { user: _read } = session
          arrived()
          await released
          if (late === 'write') session.a = 'late'
          else if (late === 'touch') session.touch()
          else if (late === 'update')
            await session.update((draft) => {
              draft.a = 'late'
            })
          else if (late === 'save') Object.assign(session, { a: 'late' }, await session.save())
          else if (late === 'regenerate') await session.regenerate(['a'])
          else await session.destroy()
        })
        const browser = new Browser(app)
        await browser.get('/write/old')
        const id = idIn(browser)
        const slow = browser.send('/slow')
        await reached
        await browser.get(url)
        const held = browser.cookies.get('session_id')
        goOn()
        const reply = await slow
        browser.receive(reply)
        t.equal(await stored(app, id), undefined)
        if (late === 'destroy' && end === 'regenerate()') {
          t.equal(browser.cookies.has('session_id'), false, 'it ends what the session became')
          t.equal(await stored(app, held as string), undefined)
          return
        }
        t.same(setCookies(reply), [])
        t.equal(browser.cookies.get('session_id'), held, 'the browser keeps what it has')
        if (held !== undefined)
          t.same(await stored(app, held), { user: 'ada' }, 'and nothing has come into it')
      }
    )
  }
}

overEveryStore(t, 'P10, S20: a dump of the store holds no id', async (t, serveOver) => {
  const { app, store } = await serveOver()
  const ids = new Set<string>()
  for (const url of ['/write/x', '/login', '/touch', '/update']) {
    const id = await begin(app)
    ids.add(id)
    ids.add(carriedBy(await app.inject({ url, headers: { 'x-session-id': id } })).header as string)
  }
  const keys = new Set([...ids].map((id) => app.sessions.publicIdOf(id)))
  t.ok(store.calls.every(({ key }) => keys.has(key)))
  const dump: string[] = []
  for (const key of keys) dump.push(key, JSON.stringify(await store.get(key)))
  t.equal(ids.size, 5)
  for (const id of ids) t.notOk(dump.join('\n').includes(id))
})

overEveryStore(
  t,
  "S21: two registrations on one store do not take each other's ids",
  async (t, serveOver) => {
    const { app, clock, store } = await serveOver()
    await app.register(sessionPlugin, { clock, store, sessionName: 'admin' })
    app.get('/admin', async (request) => ({ ...(request as unknown as { admin: object }).admin }))
    const id = await begin(app)
    t.same((await app.inject({ url: '/admin', headers: { 'x-admin-id': id } })).json(), {})
    t.same((await app.inject({ url: '/admin', cookies: { admin_id: id } })).json(), {})
    t.same((await app.inject({ url: '/read', cookies: { session_id: id } })).json(), { a: 'old' })
  }
)

overEveryStore(
  t,
  'S22: with saveUninitialized: false a thousand requests that write nothing cost the store nothing, and send no id',
  async (t, serveOver) => {
    const { app, store } = await serveOver({ saveUninitialized: false })
    for (let count = 0; count < 250; count += 1) {
      for (const [method, url] of [
        ['GET', '/read'],
        ['OPTIONS', '/read'],
        ['GET', '/nowhere'],
        ['GET', '/logout']
      ] as const) {
        const reply = await app.inject({ method, url })
        if (setCookies(reply).length > 0 || carriedBy(reply).header !== undefined)
          t.fail(`${method} ${url} sends an id`)
      }
    }
    t.same(store.taken(), [])
  }
)

overEveryStore(
  t,
  'S22: by default no 404 and no preflight begins a session',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    const preflight = {
      origin: 'https://elsewhere.example',
      'access-control-request-method': 'POST'
    }
    for (const [method, url, headers] of [
      ['GET', '/nowhere', {}],
      ['POST', '/wp-login.php', {}],
      ['OPTIONS', '/read', preflight],
      ['OPTIONS', '/nowhere', preflight]
    ] as const) {
      t.same(
        carriedBy(await app.inject({ method, url, headers })),
        { header: undefined, cookie: undefined },
        `${method} ${url}`
      )
    }
    t.same(store.taken(), [])
  }
)

overEveryStore(t, 'S26: no key of the data becomes anything but data', async (t, serveOver) => {
  const { app, store, clock } = await serveOver()
  app.get<{ Querystring: { key: string } }>('/set', async ({ session, query }) => {
    session.set(query.key as string, { polluted: true })
  })
  app.get<{ Querystring: { key: string } }>('/get', async ({ session, query }) => ({
    value: session.get(query.key) ?? null,
    polluted: 'polluted' in session || 'polluted' in {},
    update: typeof session.update
  }))
  for (const key of ['__proto__', 'constructor', 'id', 'update', 'destroy', 'cookie', 'reload']) {
    const reply = await app.inject(`/set?key=${key}`)
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_KEY_RESERVED'], key)
  }
  const id = await begin(app)
  const key = app.sessions.publicIdOf(id)
  await store.delete(key)
  await store.create(key, {
    data: '{"__proto__":{"polluted":true},"update":"stored","toString":"stored"}',
    version: 'v',
    createdAt: clock.now(),
    expiresAt: clock.now() + 3_600_000
  })
  const read = async (name: string): Promise<unknown> =>
    (await app.inject({ url: `/get?key=${name}`, cookies: { session_id: id } })).json()
  t.same(
    await read('update'),
    { value: 'stored', polluted: false, update: 'function' },
    'reached by get, and hides no member'
  )
  t.same(await read('toString'), { value: 'stored', polluted: false, update: 'function' })
  t.same(await read('nothing'), { value: null, polluted: false, update: 'function' })
})

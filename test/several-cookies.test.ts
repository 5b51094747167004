import { randomUUID } from 'node:crypto'

import type { FastifyInstance } from 'fastify'
import t from 'tap'

import type { CookieAttributes, CookieScope, SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { carriedBy } from './helpers/browser.ts'
import { Jar } from './helpers/jar.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'

const site = 'https://www.app.example'
const stores = [...backends, later]
const minute = 60_000
const trusting = { trustProxy: true }

/** A change of the configuration by which browsers come to hold two cookies. */
interface Redeploy {
  readonly from: SessionOptions
  readonly to: SessionOptions
  /** Whether the new configuration can name the old cookie, and so clears it. */
  readonly isNamed: boolean
}

function cookie(
  attributes: CookieAttributes,
  ...formerCookies: readonly CookieScope[]
): SessionOptions {
  return { cookie: attributes, ...(formerCookies.length > 0 && { formerCookies }) }
}

const wide = { domain: 'app.example' }
const narrow = { domain: 'www.app.example' }
const secure = { secure: true }
const parted = { secure: true, partitioned: true }
const shop = { path: '/shop' }

const redeploys: readonly Redeploy[] = [
  { from: {}, to: cookie(wide), isNamed: true },
  { from: cookie(wide), to: {}, isNamed: false },
  { from: cookie(wide), to: cookie({}, wide), isNamed: true },
  { from: cookie(wide), to: cookie(narrow), isNamed: false },
  { from: cookie(wide), to: cookie(narrow, wide), isNamed: true },
  { from: {}, to: cookie(shop), isNamed: false },
  { from: {}, to: cookie(shop, { path: '/' }), isNamed: true },
  { from: {}, to: cookie(shop, {}), isNamed: true },
  { from: cookie(shop), to: {}, isNamed: false },
  { from: cookie(shop), to: cookie({}, shop), isNamed: true },
  { from: cookie(secure), to: cookie(parted), isNamed: true },
  { from: cookie(parted), to: cookie(secure), isNamed: false },
  { from: cookie(parted), to: cookie(secure, { partitioned: true }), isNamed: true },
  { from: {}, to: cookie({ ...wide, ...parted }), isNamed: true },
  { from: cookie({ ...wide, ...shop }), to: cookie({}, { ...wide, ...shop }), isNamed: true }
]

/** Who uses a deployment, and the next one, below /shop. */
interface User {
  readonly jar: Jar
  readonly pass: (milliseconds: number) => Promise<void>
  readonly visit: (path: string) => Promise<string>
  readonly deploy: (options: SessionOptions) => Promise<FastifyInstance>
}

async function userOf(over: Over, options: SessionOptions): Promise<User> {
  const clock = new TestClock()
  const deploy = async (options: SessionOptions): Promise<FastifyInstance> => {
    const { app } = await over.serve(options, trusting)
    app.get('/shop', async ({ session }) => session.user ?? 'nobody')
    app.get<{ Params: { user: string } }>('/shop/login/:user', async ({ session, params }) => {
      await session.regenerate(['cart'])
      session.user = params.user
      return 'ok'
    })
    app.get('/shop/cart', async ({ session }) => {
      ;(session.cart ??= []).push('pear')
      return 'ok'
    })
    app.get('/shop/logout', async ({ session }) => {
      await session.destroy()
      return 'ok'
    })
    return app
  }
  const jar = new Jar(await deploy(options), clock)
  return {
    jar,
    deploy,
    visit: async (path) => (await jar.visit(`${site}/shop${path}`)).body,
    async pass(milliseconds) {
      await over.advance(milliseconds)
      clock.advance(milliseconds)
    }
  }
}

for (const { from, to, isNamed } of redeploys) {
  const name = `from ${JSON.stringify(from)} to ${JSON.stringify(to)}`
  overEach(stores, t, `a deployment signs nobody out: ${name}`, async (t, over) => {
    const user = await userOf(over, from)
    await user.visit('/login/ada')
    user.jar.app = await user.deploy(to)
    t.equal(await user.visit(''), 'ada', 'at once')
    await user.pass(2 * minute)
    t.equal(await user.visit(''), 'ada', 'by the reply that touches')
    t.equal(user.jar.cookies.length, isNamed ? 1 : 2, 'the touch has set the new cookie')
    t.equal(await user.visit(''), 'ada', 'with both')
    for (let count = 0; count < 10; count += 1) {
      await user.pass(10 * minute)
      t.equal(await user.visit(''), 'ada', 'while the old one runs out')
    }
    t.equal(user.jar.cookies.length, 1)
  })

  overEach(stores, t, `after a deployment a login works: ${name}`, async (t, over) => {
    for (const wait of [0, 2 * minute]) {
      const user = await userOf(over, from)
      await user.visit('/login/ada')
      await user.visit('/cart')
      user.jar.app = await user.deploy(to)
      await user.pass(wait)
      await user.visit('')
      await user.visit('/login/grace')
      t.equal(await user.visit(''), 'grace')
      t.equal(user.jar.cookies.length, isNamed ? 1 : 2)
      await user.visit('/cart')
      await user.visit('/login/edsger')
      t.equal(await user.visit(''), 'edsger')
      await user.visit('/logout')
      if (isNamed) t.same(user.jar.cookies, [], 'the variants are cleared too')
      t.equal(await user.visit(''), 'nobody')
      await user.visit('/login/barbara')
      t.equal(await user.visit(''), 'barbara')
    }
  })

  overEach(
    stores,
    t,
    `after a deployment and a logout nobody is signed in: ${name}`,
    async (t, over) => {
      const user = await userOf(over, from)
      await user.visit('/login/ada')
      user.jar.app = await user.deploy(to)
      await user.visit('/logout')
      t.equal(await user.visit(''), 'nobody')
      await user.visit('/login/grace')
      t.equal(await user.visit(''), 'grace', 'and a login works')
    }
  )

  overEach(
    stores,
    t,
    `a deployment that is rolled back signs nobody out: ${name}`,
    async (t, over) => {
      const user = await userOf(over, from)
      const before = user.jar.app
      const after = await user.deploy(to)
      await user.visit('/login/ada')
      for (let count = 0; count < 8; count += 1) {
        user.jar.app = count % 2 === 0 ? after : before
        await user.pass(2 * minute)
        t.equal(await user.visit(''), 'ada', `${count}`)
      }
    }
  )
}

overEach(
  stores,
  t,
  'with a remembered login, the old cookie does no harm for a month',
  async (t, over) => {
    const day = 24 * 60 * minute
    const user = await userOf(over, { maxAge: 2_592_000, absoluteTimeout: false, cookie: wide })
    await user.visit('/login/ada')
    user.jar.app = await user.deploy({ maxAge: 2_592_000, absoluteTimeout: false })
    for (let count = 0; count < 40; count += 1) {
      await user.pass(day)
      t.equal(await user.visit(''), 'ada', `day ${count}`)
      if (count % 7 === 0) await user.visit('/login/ada')
    }
  }
)

const secrets = { old: 'o'.repeat(32), now: 'n'.repeat(32) }

/** Serves with a secret or without one, and says what a Cookie header reads. */
async function reader(
  over: Over,
  options: SessionOptions = {}
): Promise<{
  readonly app: FastifyInstance
  readonly log: readonly string[]
  readonly reads: (...values: readonly string[]) => Promise<unknown>
}> {
  const { app, log } = await over.serve(options)
  return {
    app,
    log,
    reads: async (...values) => {
      const header = values.map((value) => `session_id=${value}`).join('; ')
      return (await app.inject({ url: '/read', headers: { cookie: header } })).json()
    }
  }
}

for (const secret of [undefined, secrets.now]) {
  const how = secret === undefined ? '' : ', signed'
  const options: SessionOptions = secret === undefined ? {} : { secret }

  overEach(stores, t, `equal values are one${how}`, async (t, over) => {
    const { app, log, reads } = await reader(over, options)
    const id = await begin(app, 'mine')
    over.store.taken()
    t.same(await reads(id, id), { a: 'mine' })
    t.same(await reads(id, id, `"${id}"`, id, id, id), { a: 'mine' })
    t.same(over.store.taken(), ['get', 'get'])
    t.same(log, [])
  })

  overEach(stores, t, `of several the one that is live counts${how}`, async (t, over) => {
    const { app, log, reads } = await reader(over, options)
    const ids: string[] = []
    for (let count = 0; count < 4; count += 1) {
      ids.push(await begin(app, `${count}`))
      if (count < 3)
        await app.inject({ url: '/logout', cookies: { session_id: ids.at(-1) as string } })
    }
    const live = ids.pop() as string
    for (let place = 0; place < 4; place += 1) {
      t.same(await reads(...ids.toSpliced(place, 0, live)), { a: '3' }, `in place ${place}`)
    }
    t.same(await reads(...ids), {})
    t.equal(log.length, 1, 'one warning')
    t.match(log[0], /cookie\.domain, cookie\.path or cookie\.partitioned was changed/)
    t.match(log[0], /formerCookies/)
    for (const id of [live, ...ids]) t.notMatch(log[0], id.slice(0, 20))
  })

  overEach(
    stores,
    t,
    `of two that are live neither counts, nor is replaced${how}`,
    async (t, over) => {
      const { app, reads } = await reader(over, options)
      const [one, other] = [await begin(app, 'one'), await begin(app, 'other')]
      t.same(await reads(one, other), {})
      t.same(await reads(other, one), {})
      t.same(await reads(one, other, one, randomUUID()), {})
      const late = await begin(app, 'late')
      await app.inject({ url: '/login', headers: { cookie: `session_id=${late}` } })
      t.same(await reads(one, late), { a: 'one' }, 'one that has moved is not live')
      const headers = { cookie: `session_id=${one}; session_id=${other}` }
      for (const url of ['/read', '/look-away', '/logout']) {
        const reply = await app.inject({ url, headers })
        t.same(setCookies(reply), [], url)
        t.equal(carriedBy(reply).header, undefined, url)
      }
      t.same(await stored(app, one), { a: 'one' })
      t.same(await stored(app, other), { a: 'other' })
      const fresh = carriedBy(await app.inject({ url: '/login', headers })).cookie as string
      t.not(fresh, one)
      t.not(fresh, other)
      t.same(await reads(fresh), { user: 'ada' })
    }
  )

  overEach(stores, t, `no more than four are looked at${how}`, async (t, over) => {
    const { app, reads } = await reader(over, options)
    const dead: string[] = []
    for (let count = 0; count < 40; count += 1) dead.push(await begin(app))
    for (const id of dead) await app.inject({ url: '/logout', cookies: { session_id: id } })
    const live = await begin(app, 'live')
    over.store.taken()
    t.same(await reads(...dead), {})
    t.same(over.store.taken(), ['get', 'get', 'get', 'get'])
    t.same(await reads(...dead.slice(0, 3), live, ...dead.slice(3)), { a: 'live' }, 'the fourth')
    t.same(await reads(...dead.slice(0, 4), live), {}, 'the fifth')
  })

  overEach(stores, t, `malformed values beside a good one do not count${how}`, async (t, over) => {
    const { app, log, reads } = await reader(over, options)
    const id = await begin(app, 'good')
    const bad = ['', '""', 'x', 'deleted', 'a b', `${id}x!`, `${id}.`, '%00', 'ü']
    over.store.taken()
    for (const value of bad) {
      t.same(await reads(value, id), { a: 'good' }, `${value} before`)
      t.same(await reads(id, value), { a: 'good' }, `${value} after`)
    }
    t.same(await reads(...bad, id, ...bad), { a: 'good' }, 'all of them')
    t.same(
      over.store.taken(),
      Array.from({ length: 2 * bad.length + 1 }, () => 'get')
    )
    t.same(await reads(...bad), {})
    t.same(over.store.taken(), [])
    t.same(log, [], 'nothing to warn of')
  })
}

overEach(stores, t, 'forged values beside a signed one are not asked for', async (t, over) => {
  const { app, reads } = await reader(over, { secret: secrets.now })
  const token = await begin(app, 'good')
  const other = await begin(app, 'other')
  const forged = [
    randomUUID(),
    token.split('.', 1)[0] as string,
    other.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')),
    `${other.split('.', 1)[0]}.${token.split('.')[1]}`,
    `${randomUUID()}.${'A'.repeat(43)}`
  ]
  over.store.taken()
  t.same(await reads(...forged, token), { a: 'good' })
  t.same(over.store.taken(), ['get'])
  t.same(await reads(...forged), {})
  t.same(over.store.taken(), [])
})

overEach(stores, t, 'one id that is signed by an old and a new secret is one', async (t, over) => {
  const old = await reader(over, { secret: secrets.old })
  const now = await reader(over, { secret: [secrets.now, secrets.old] })
  const byOld = await begin(old.app, 'mine')
  const renewed = await now.app.inject({ url: '/read', cookies: { session_id: byOld } })
  const byNow = carriedBy(renewed).cookie as string
  t.equal(byNow.split('.')[0], byOld.split('.')[0])
  t.not(byNow, byOld)
  for (const values of [
    [byOld, byNow],
    [byNow, byOld],
    ['x', byOld, byNow]
  ]) {
    over.store.taken()
    t.same(await now.reads(...values), { a: 'mine' })
    t.same(over.store.taken(), ['get'])
  }
  t.same(now.log, [])
})

overEach(
  stores,
  t,
  'a dead one under the old secret beside a live one does no harm',
  async (t, over) => {
    const old = await reader(over, { secret: secrets.old })
    const now = await reader(over, { secret: [secrets.now, secrets.old] })
    const dead = await begin(old.app, 'dead')
    await old.app.inject({ url: '/logout', cookies: { session_id: dead } })
    const live = await begin(now.app, 'live')
    t.same(await now.reads(dead, live), { a: 'live' })
    const liveByOld = await begin(old.app, 'live by the old secret')
    t.same(await now.reads(dead, liveByOld), { a: 'live by the old secret' })
    t.same(await now.reads(live, liveByOld), {}, 'two that are live')
    const headers = { cookie: `session_id=${dead}; session_id=${liveByOld}` }
    const renewed = carriedBy(await now.app.inject({ url: '/read', headers })).cookie as string
    t.equal(renewed.split('.')[0], liveByOld.split('.')[0])
    t.not(renewed, liveByOld, 'it is signed anew')
  }
)

overEach(stores, t, 'the header decides, whatever cookies there are', async (t, over) => {
  const { app } = await reader(over)
  const [one, other, mine] = [await begin(app, '1'), await begin(app, '2'), await begin(app, 'm')]
  const headers = { 'x-session-id': mine, cookie: `session_id=${one}; session_id=${other}` }
  t.same((await app.inject({ url: '/read', headers })).json(), { a: 'm' })
  const reply = await app.inject({ url: '/touch', headers })
  t.equal(carriedBy(reply).header, mine)
  t.same(setCookies(reply), [], 'the cookies are of others')
})

overEach(
  stores,
  t,
  'the end of the one live session is the end of both cookies',
  async (t, over) => {
    const { app } = await over.serve({ cookie: wide }, trusting)
    const jar = new Jar(app, over.clock)
    await jar.visit(`${site}/login`)
    jar.set(`session_id=${randomUUID()}; Path=/; Secure; Max-Age=9999`, `${site}/`)
    t.equal(jar.cookies.length, 2)
    t.match((await jar.visit(`${site}/read`)).body, 'ada')
    await jar.visit(`${site}/logout`)
    t.same(jar.cookies, [])
  }
)

overEach(stores, t, 'cookies of other paths, hosts and names are left alone', async (t, over) => {
  const { app } = await over.serve({ cookie: wide, formerCookies: [shop] }, trusting)
  const jar = new Jar(app, over.clock)
  const others = [
    ['session_id=blog; Path=/blog; Secure', `${site}/blog`],
    ['session_id=other; Path=/; Secure', 'https://other.app.example/'],
    ['another=kept; Path=/; Secure', site]
  ] as const
  for (const [line, url] of others) jar.set(line, url)
  for (const path of ['/login', '/write/a', '/logout', '/login']) await jar.visit(site + path)
  t.equal(jar.cookies.length, others.length + 1)
  t.match(jar.cookies.slice(0, 3), [{ value: 'blog' }, { value: 'other' }, { value: 'kept' }])
})

t.test('without other attributes than the usual ones nothing is cleared', async (t) => {
  const { app } = await serve(t)
  t.equal(setCookies(await app.inject('/login')).length, 1)
})

t.test(
  'each former cookie costs a line of each reply that has the cookie, and no other',
  async (t) => {
    const { app, clock } = await serve(t, { formerCookies: [wide, shop] }, trusting)
    const jar = new Jar(app, clock)
    t.same(
      setCookies(await jar.visit(`${site}/login`)).map((line) => line.replace(/=[\w-]{36}/, '=ID')),
      [
        'session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Domain=app.example; Path=/; HttpOnly; Secure; SameSite=Lax',
        'session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/shop; HttpOnly; Secure; SameSite=Lax',
        'session_id=ID; Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax'
      ]
    )
    t.same(setCookies(await jar.visit(`${site}/read`)), [])
  }
)

const refused: readonly unknown[] = [
  null,
  {},
  'x',
  [null],
  ['x'],
  [1],
  [{ name: 'x' }],
  [{ path: 'shop' }],
  [{ path: '/a;b' }],
  [{ domain: '' }],
  [{ domain: 1 }],
  [{ domain: 'a b' }],
  [{ partitioned: 'yes' }],
  [{}, { sameSite: 'lax' }]
]

t.test('formerCookies that no browser could hold are refused at registration', async (t) => {
  for (const formerCookies of refused) {
    await t.rejects(
      serve(t, { formerCookies } as SessionOptions),
      { code: 'HOLDFAST_OPTION_INVALID', message: /formerCookies/ },
      JSON.stringify(formerCookies)
    )
  }
})

overEach(
  stores,
  t,
  'a former cookie may have been partitioned, where secure is auto',
  async (t, over) => {
    const user = await userOf(over, cookie(parted))
    await user.visit('/login/ada')
    user.jar.app = await user.deploy({ formerCookies: [{ partitioned: true }] })
    await user.pass(2 * minute)
    t.equal(await user.visit(''), 'ada')
    t.match(user.jar.cookies, [{ partition: undefined }])
    t.equal(user.jar.cookies.length, 1)
  }
)

import fastifyCookie from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import type { CookieAttributes, SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Jar, type Cookie } from './helpers/jar.ts'
import { serve, setCookies } from './helpers/serve.ts'

const site = 'https://www.app.example'
const stores = [...backends, later]
const minute = 60_000

interface Visitor {
  readonly app: FastifyInstance
  readonly jar: Jar
  readonly pass: (milliseconds: number) => Promise<void>
  readonly visit: (path: string) => Promise<string>
}

/** An app with routes that set the attributes of the cookie, and a browser. */
async function visitor(
  over: Over,
  own: CookieAttributes,
  options?: SessionOptions
): Promise<Visitor> {
  const { app } = await over.serve(options, { trustProxy: true })
  app.get('/own', async ({ session }) => {
    session.options(own)
    return session.user
  })
  app.get('/login-with-own', async ({ session }) => {
    await session.regenerate()
    session.options(own)
    session.user = 'ada'
  })
  app.get('/own-then-login', async ({ session }) => {
    session.options(own)
    await session.regenerate()
    session.user = 'ada'
  })
  app.get('/logout-and-begin', async ({ session }) => {
    await session.destroy()
    session.a = 'next'
  })
  const clock = new TestClock()
  const jar = new Jar(app, clock)
  return {
    app,
    jar,
    async pass(milliseconds) {
      await over.advance(milliseconds)
      clock.advance(milliseconds)
    },
    visit: async (path) => (await jar.visit(site + path)).body
  }
}

/** Attributes of a session's own, and what the jar's only cookie is then. */
const kinds: ReadonlyArray<{
  readonly own: CookieAttributes
  readonly options?: SessionOptions
  readonly kept: Partial<Cookie>
}> = [
  { own: { persistent: false }, kept: { expiresAt: undefined } },
  { own: { sameSite: 'strict' }, kept: { sameSite: 'strict' } },
  { own: { sameSite: true }, kept: { sameSite: 'strict' } },
  { own: { sameSite: 'none', secure: true }, kept: { sameSite: 'none' } },
  { own: { domain: 'app.example' }, kept: { domain: 'app.example', isHostOnly: false } },
  { own: { domain: 'www.app.example' }, kept: { domain: 'www.app.example', isHostOnly: false } },
  { own: { httpOnly: false }, kept: { isHttpOnly: false } },
  {
    own: { partitioned: true, secure: true },
    kept: { partition: 'https://app.example', isSecure: true }
  },
  {
    own: { domain: 'app.example', persistent: false, sameSite: 'strict' },
    kept: { domain: 'app.example', expiresAt: undefined, sameSite: 'strict' }
  },
  {
    own: { persistent: true },
    options: { cookie: { persistent: false, domain: 'app.example' }, secret: 'x'.repeat(32) },
    kept: { domain: 'app.example', expiresAt: Date.UTC(2030, 0, 1, 1) }
  }
]

function holds(t: Test, { jar }: Visitor, kept: Partial<Cookie>, when: string): void {
  const { expiresAt, ...others } = kept
  t.match(jar.cookies, [others], when)
  t.equal(jar.cookies.length, 1, `one cookie ${when}`)
  if ('expiresAt' in kept) {
    t.equal(jar.cookies[0]?.expiresAt === undefined, expiresAt === undefined, `lifetime ${when}`)
  }
}

for (const { own, options, kept } of kinds) {
  const name = JSON.stringify(own)
  for (const begin of [['/login-with-own'], ['/own-then-login'], ['/login', '/own']] as const) {
    overEach(stores, t, `the session keeps ${name} by ${begin.join(', ')}`, async (t, over) => {
      const user = await visitor(over, own, options)
      for (const path of begin) await user.visit(path)
      holds(t, user, kept, 'at first')
      for (const [what, act] of [
        ['after a touch', () => user.visit('/look-away')],
        ['after a read', () => user.visit('/read')],
        ['after session.touch()', () => user.visit('/touch')],
        ['after a write', () => user.visit('/write/new')],
        ['after an update', () => user.visit('/update')],
        ['after a login', () => user.visit('/login')],
        ['after the touch of another', () => byHeader(user, '/touch')],
        ['after the write of another', () => byHeader(user, '/write/b')],
        [
          'after app.sessions.update',
          () => user.app.sessions.update(idOf(user), (draft) => void (draft.b = 1))
        ]
      ] as const) {
        await user.pass(2 * minute)
        await act()
        await user.pass(2 * minute)
        await user.visit('/look-away')
        holds(t, user, kept, what)
        t.match(await user.visit('/read'), '"user":"ada"', what)
      }
      await user.visit('/logout')
      t.same(user.jar.cookies, [], 'the clearing cookie repeats them')
    })
  }
}

function byHeader({ app, jar }: Visitor, url: string): Promise<unknown> {
  const headers = { 'x-session-id': jar.cookies[0]?.value as string }
  return Promise.resolve(app.inject({ url, headers }))
}

function idOf({ app, jar }: Visitor): string {
  return app.sessions.publicIdOf((jar.cookies[0]?.value ?? '').split('.', 1)[0] as string)
}

overEach(stores, t, '"keep me signed in" left unticked ends with the browser', async (t, over) => {
  const user = await visitor(over, { persistent: false })
  await user.visit('/login-with-own')
  await user.pass(2 * minute)
  t.match(await user.visit('/read'), 'ada')
  user.jar.close()
  t.equal(await user.visit('/read'), '{}')
})

overEach(stores, t, 'other sessions keep the attributes of the registration', async (t, over) => {
  const user = await visitor(over, { persistent: false, domain: 'app.example' })
  await user.visit('/login-with-own')
  const other = new Jar(user.app, over.clock)
  const reply = await other.visit(`${site}/login`)
  t.match(setCookies(reply).at(-1), /Max-Age=3600; Path=/)
  t.notMatch(setCookies(reply).at(-1), /Domain/)
})

overEach(
  stores,
  t,
  'attributes may be set and taken back, and leave one cookie',
  async (t, over) => {
    const { app } = await over.serve({}, { trustProxy: true })
    const steps: readonly CookieAttributes[] = [
      { domain: 'app.example' },
      { domain: 'www.app.example' },
      { sameSite: 'strict' },
      { path: '/' },
      { persistent: false },
      { persistent: true }
    ]
    app.get<{ Params: { step: number } }>('/step/:step', async ({ session, params }) => {
      session.options(steps[params.step] as CookieAttributes)
      return session.user
    })
    app.get('/back', async ({ session }) => {
      session.options({ domain: undefined, sameSite: 'lax' } as object)
      return session.user
    })
    const jar = new Jar(app, over.clock)
    await jar.visit(`${site}/login`)
    for (const step of steps.keys()) {
      t.equal((await jar.visit(`${site}/step/${step}`)).body, 'ada')
      t.equal(jar.cookies.length, 1, `after step ${step}`)
    }
    t.match(jar.cookies, [{ domain: 'www.app.example', isHostOnly: false, sameSite: 'strict' }])
    t.equal((await jar.visit(`${site}/back`)).body, 'ada')
    t.equal(jar.cookies.length, 1)
    t.match(jar.cookies, [{ sameSite: 'lax' }])
    t.match((await jar.visit(`${site}/read`)).body, 'ada')
  }
)

overEach(stores, t, 'a new life after destroy() leaves one cookie', async (t, over) => {
  for (const own of [{ domain: 'app.example' }, { persistent: false }] as const) {
    const user = await visitor(over, own)
    await user.visit('/login-with-own')
    await user.visit('/logout-and-begin')
    t.equal(user.jar.cookies.length, 1)
    t.equal(await user.visit('/read'), '{"a":"next"}')
  }
})

overEach(
  stores,
  t,
  'who sets attributes beside a write of another loses neither',
  async (t, over) => {
    const { app } = await over.serve({}, { trustProxy: true })
    app.get('/both', async ({ session }) => {
      session.options({ persistent: false })
      await app.sessions.update(session.publicId, (draft) => {
        draft.n = 1
      })
      session.a = 'mine'
    })
    app.get('/other', async ({ session }) => {
      await app.sessions.update(session.publicId, (draft) => {
        draft.n = 2
      })
      session.a = 'again'
    })
    const jar = new Jar(app, over.clock)
    for (const path of ['/login', '/both', '/other', '/touch']) await jar.visit(site + path)
    t.match(jar.cookies, [{ expiresAt: undefined }])
    t.equal(jar.cookies[0]?.expiresAt, undefined)
    t.same((await jar.visit(`${site}/read`)).json(), { user: 'ada', a: 'again', n: 2 })
  }
)

overEach(stores, t, 'attributes that a later registration refuses do no harm', async (t, over) => {
  const user = await visitor(over, { sameSite: 'none', secure: true })
  await user.visit('/login-with-own')
  const { app } = await over.serve({ cookie: { secure: false } }, { trustProxy: true })
  user.jar.app = app
  await user.pass(2 * minute)
  t.match(await user.visit('/read'), 'ada')
  t.equal(user.jar.cookies.length, 1)
})

t.test('sameSite true is strict at the registration too', async (t) => {
  const { app, clock } = await serve(t, { cookie: { sameSite: true } }, { trustProxy: true })
  const jar = new Jar(app, clock)
  await jar.visit(`${site}/login`)
  t.match(jar.cookies, [{ sameSite: 'strict' }])
  const foreign = { from: 'https://foreign.example.net/' }
  t.equal((await jar.visit(`${site}/read`, foreign)).body, '{}')
  t.match((await jar.visit(`${site}/read`)).body, 'ada')
})

// What browsers demand of names (RFC 6265bis, 4.1.3).
const prefixes = ['', '__Secure-', '__Host-', '__Http-', '__Host-Http-']
const spellings = ['__host-', '__SECURE-', '__http-', '__host-http-', '__Host-http-']
const attributeSets: readonly CookieAttributes[] = [true, false].flatMap((secure) =>
  [true, false].flatMap((httpOnly) =>
    ['/', '/shop'].flatMap((path) =>
      [undefined, 'app.example'].map((domain) => ({
        secure,
        httpOnly,
        path,
        ...(domain !== undefined && { domain })
      }))
    )
  )
)

for (const prefix of prefixes) {
  t.test(`a name with ${prefix || 'no prefix'} is taken where browsers take it`, async (t) => {
    const verdicts = new Set<boolean>()
    for (const cookie of attributeSets) {
      const sessionCookie = `${prefix}sid`
      const { secure, httpOnly, path, domain } = cookie
      const line = [
        `${sessionCookie}=x; Path=${path}`,
        ...(secure === true ? ['Secure'] : []),
        ...(httpOnly === true ? ['HttpOnly'] : []),
        ...(domain === undefined ? [] : [`Domain=${domain}`])
      ].join('; ')
      const taken = await takes(t, { sessionCookie, cookie })
      const jar = new Jar(taken.app, new TestClock())
      jar.set(line, `${site}/shop/login`)
      t.equal(taken.isTaken, jar.cookies.length === 1, line)
      verdicts.add(taken.isTaken)
    }
    t.equal(verdicts.size, prefix === '' ? 1 : 2)
  })
}

t.test('a prefix that is spelt in another case is refused', async (t) => {
  const cookie = { secure: true, httpOnly: true, path: '/' }
  for (const spelling of spellings) {
    t.equal((await takes(t, { sessionCookie: `${spelling}sid`, cookie })).isTaken, false, spelling)
  }
})

t.test('a name with a prefix works, and session.options() is held to its rules', async (t) => {
  for (const prefix of prefixes) {
    const options = { sessionCookie: `${prefix}sid`, cookie: { secure: true } }
    const { app, clock } = await serve(t, options, { trustProxy: true })
    app.get('/loosen', async ({ session }) => session.options({ httpOnly: false }))
    const jar = new Jar(app, clock)
    await jar.visit(`${site}/login`)
    t.match((await jar.visit(`${site}/read`)).body, 'ada', prefix)
    const isRefused = prefix.endsWith('Http-')
    const reply = await jar.visit(`${site}/loosen`)
    t.equal(reply.statusCode, isRefused ? 500 : 200, prefix)
    if (isRefused) t.equal(reply.json<{ code: string }>().code, 'HOLDFAST_VALUE_INVALID')
  }
})

async function takes(
  t: Test,
  options: SessionOptions
): Promise<{ readonly isTaken: boolean; readonly app: FastifyInstance }> {
  try {
    const { app } = await serve(t, options, { trustProxy: true })
    return { isTaken: true, app }
  } catch (error) {
    t.match(error, { code: 'HOLDFAST_OPTION_INVALID' })
    return { isTaken: false, app: (await serve(t)).app }
  }
}

overEach(stores, t, 'a value in double quotes is read', async (t, over) => {
  for (const options of [{}, { secret: 'x'.repeat(32) }]) {
    const { app } = await over.serve(options, { trustProxy: true })
    const jar = new Jar(app, over.clock)
    await jar.visit(`${site}/login`)
    const value = jar.cookies[0]?.value as string
    for (const [cookie, body] of [
      [`session_id="${value}"`, '{"user":"ada"}'],
      [`a=1; session_id="${value}"; b="2"`, '{"user":"ada"}'],
      [`session_id="${value}"; session_id=${value}`, '{"user":"ada"}'],
      [`session_id="${value}`, '{}'],
      [`session_id=${value}"`, '{}'],
      [`session_id=""${value}""`, '{}'],
      [`session_id=""`, '{}'],
      [`session_id="`, '{}']
    ] as const) {
      t.equal((await app.inject({ url: '/read', headers: { cookie } })).body, body, cookie)
    }
  }
})

/** Ways by which an app clears a cookie of our name at another scope. */
const clearings: ReadonlyArray<readonly [what: string, line: string]> = [
  ['Max-Age=0', 'session_id=; Path=/old; Max-Age=0'],
  ['Max-Age=-1', 'session_id=; Max-Age=-1; Path=/old'],
  ['Expires', 'session_id=; Path=/old; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; HttpOnly'],
  ['a domain', 'session_id=; Path=/old; Domain=app.example; Max-Age=0']
]

for (const [what, line] of clearings) {
  overEach(
    stores,
    t,
    `the app can clear a cookie of our name in the reply of a login: ${what}`,
    async (t, over) => {
      for (const place of ['handler', 'onSend'] as const) {
        const { app } = await over.serve({}, { trustProxy: true })
        if (place === 'onSend') {
          app.addHook('onSend', async ({ url }, reply) => {
            if (url.endsWith('login')) reply.header('set-cookie', [line, 'other=1; Path=/'])
          })
        }
        app.get('/old/login', async ({ session }, reply) => {
          await session.regenerate()
          session.user = 'ada'
          if (place === 'handler') reply.header('set-cookie', line)
          return 'ok'
        })
        app.get('/old/read', async ({ session }) => session.user ?? 'nobody')
        const jar = new Jar(app, over.clock)
        const domain = line.includes('Domain') ? '; Domain=app.example' : ''
        jar.set(`session_id=old; Path=/old${domain}; Secure`, `${site}/old/`)
        await jar.visit(`${site}/old/login`)
        const own = jar.cookies.filter(({ name }) => name === 'session_id')
        t.equal(own.length, 1, place)
        t.match(own, [{ path: '/', value: /^[\w-]{36}$/ }])
        t.equal((await jar.visit(`${site}/old/read`)).body, 'ada')
      }
    }
  )
}

t.test('the app can clear it by @fastify/cookie, but not at our own scope', async (t) => {
  const { app, clock } = await serve(t, {}, { trustProxy: true }, (app) => {
    app.register(fastifyCookie)
  })
  app.get('/sign-in', async ({ session }, reply) => {
    await session.regenerate()
    session.user = 'ada'
    reply.clearCookie('session_id', { path: '/old' }).clearCookie('session_id', { path: '/' })
    return 'ok'
  })
  const jar = new Jar(app, clock)
  jar.set('session_id=old; Path=/old', `${site}/old/`)
  await jar.visit(`${site}/sign-in`)
  t.match(jar.cookies, [{ path: '/', value: /^[\w-]{36}$/ }])
  t.equal(jar.cookies.length, 1)
  t.match((await jar.visit(`${site}/read`)).body, 'ada')
})

t.test('a cookie of our name that the app sets is none of ours', async (t) => {
  const { app, clock } = await serve(t, {}, { trustProxy: true })
  app.get('/sign-in', async ({ session }, reply) => {
    await session.regenerate()
    session.user = 'ada'
    return reply.header('set-cookie', 'session_id=planted; Path=/old').send('ok')
  })
  const jar = new Jar(app, clock)
  await jar.visit(`${site}/sign-in`)
  t.match(jar.cookies, [{ path: '/' }])
  t.equal(jar.cookies.length, 1)
})

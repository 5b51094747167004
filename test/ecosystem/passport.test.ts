import { Authenticator, Strategy } from '@fastify/passport'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { Strategy as LocalStrategy } from 'passport-local'
import t from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { overAnswers, overStores, type Beside } from '../helpers/ecosystem.ts'
import { setCookies, stored } from '../helpers/serve.ts'
import { Gate } from '../races/gate.ts'

const users: Record<string, { name: string; password: string }> = {
  ada: { name: 'ada', password: 'lovelace' },
  grace: { name: 'grace', password: 'hopper' }
}

type AuthenticatorOptions = ConstructorParameters<typeof Authenticator>[0]

interface Shop {
  readonly app: FastifyInstance
  readonly browser: Browser
  /** The paths whose handlers ran behind a guard. */
  readonly entered: readonly string[]
}

/** A shop with a login form, as the README of @fastify/passport has it. */
async function shop(
  { serve, answer }: Beside,
  passportOptions?: AuthenticatorOptions,
  options?: SessionOptions
): Promise<Shop> {
  const { app } = await serve(options)
  const passport = new Authenticator(passportOptions)
  passport.use(
    'local',
    new LocalStrategy((username, password, done) => {
      const user = users[username]
      // Without a type, passport flashes nothing.
      const info =
        user?.password === password
          ? { type: 'success', message: `welcome, ${username}` }
          : { type: 'error', message: 'wrong name or password' }
      done(null, info.type === 'success' ? user : false, info)
    })
  )
  passport.registerUserSerializer(async (user: { name: string }) => user.name)
  passport.registerUserDeserializer(async (name: string) => users[name] ?? false)
  await app.register(passport.initialize())
  await app.register(passport.secureSession())

  const entered: string[] = []
  const enter: RouteHandlerMethod = async (request, reply) => {
    entered.push(request.url)
    request.session.a = 'entered'
    return answer(reply, 'come in')
  }
  app.get('/cart/:item', async ({ session, params }) => {
    session.cart = [...(session.cart ?? []), (params as { item: string }).item]
  })
  app.post(
    '/login-here',
    {
      preValidation: passport.authenticate('local', {
        successRedirect: '/me',
        successFlash: true,
        failureRedirect: '/flash',
        failureFlash: true,
        failureMessage: true
      })
    },
    enter
  )
  app.post(
    '/login-keep',
    {
      preValidation: passport.authenticate('local', {
        successReturnToOrRedirect: '/me',
        successFlash: 'hello again',
        successMessage: true,
        keepSessionInfo: true
      })
    },
    enter
  )
  app.post('/log-in', async (request, reply) => {
    await request.logIn(users['grace'])
    return answer(reply, { user: request.user, authenticated: request.isAuthenticated() })
  })
  app.get('/me', async (request, reply) => {
    const user = request.user as { name: string } | undefined
    return answer(reply, { user: user?.name ?? null, authenticated: request.isAuthenticated() })
  })
  app.get('/private', async (request, reply) => {
    if (request.isAuthenticated()) return answer(reply, 'private')
    request.session.returnTo = request.url
    return answer(reply.redirect('/flash'))
  })
  for (const hook of ['preValidation', 'preHandler'] as const) {
    app.get(
      `/guarded/${hook}`,
      {
        async [hook](request: FastifyRequest, reply: FastifyReply) {
          if (request.isAuthenticated()) return
          request.session.returnTo = request.url
          return answer(reply.redirect('/flash'))
        }
      },
      enter
    )
  }
  // Each way in which passport itself turns somebody away.
  app.post('/authenticated/refused', { preValidation: passport.authenticate('local') }, enter)
  app.post(
    '/authenticated/redirected',
    {
      preValidation: passport.authenticate('local', { failureRedirect: '/flash' })
    },
    enter
  )
  app.post(
    '/authenticated/answered',
    {
      preValidation: passport.authenticate('local', async (_request, reply, _error, user) => {
        if (!user) return answer(reply.code(403).send('not you')) as undefined
      })
    },
    enter
  )
  app.get('/flash', async (_request, reply) => answer(reply, reply.flash()))
  app.post('/log-out', async (request, reply) => {
    await request.logOut()
    return answer(reply.redirect('/me'))
  })
  app.post('/destroy-and-log-out', async (request, reply) => {
    await request.session.destroy()
    await request.logOut()
    return answer(reply, { authenticated: request.isAuthenticated() })
  })
  return { app, browser: new Browser(app), entered }
}

const ada = { method: 'POST', payload: { username: 'ada', password: 'lovelace' } } as const
const intruder = { method: 'POST', payload: { username: 'ada', password: 'guessed' } } as const
const nobody = { user: null, authenticated: false }

async function dataOf(app: FastifyInstance, browser: Browser): Promise<unknown> {
  return stored(app, idIn(browser))
}

overAnswers(
  t,
  'a login changes the id, the old id is dead, and what the visitor had is dropped',
  async (t, over) => {
    const { app, browser } = await shop(over)
    await browser.get('/cart/apple')
    const before = idIn(browser)
    const reply = await browser.get('/login-here', ada)
    t.same([reply.statusCode, reply.headers.location], [302, '/me'])
    t.equal(setCookies(reply).length, 1)
    t.not(idIn(browser), before)
    t.equal(await stored(app, before), undefined)
    t.same(
      await dataOf(app, browser),
      { passport: 'ada' },
      'the flash message of the login too, as passport sets it before'
    )
    t.same((await browser.get('/me')).json(), { user: 'ada', authenticated: true })
    t.same(
      (await app.inject({ url: '/me', cookies: { session_id: before } })).json(),
      nobody,
      'who fixed the id has nothing'
    )
  }
)

overAnswers(
  t,
  'keepSessionInfo: a login changes the id and keeps what the visitor had',
  async (t, over) => {
    const { app, browser } = await shop(over)
    await browser.get('/cart/apple')
    const before = idIn(browser)
    await browser.get('/login-keep', ada)
    t.not(idIn(browser), before)
    t.equal(await stored(app, before), undefined)
    t.same(await dataOf(app, browser), {
      cart: ['apple'],
      flash: { success: ['hello again'] },
      messages: ['welcome, ada'],
      passport: 'ada'
    })
  }
)

overAnswers(
  t,
  'clearSessionIgnoreFields: a login keeps what they name, whether it is there or not',
  async (t, over) => {
    const { app, browser } = await shop(over, { clearSessionIgnoreFields: ['cart', 'flash'] })
    await browser.get('/login-here', ada)
    t.same(await dataOf(app, browser), { flash: { success: ['welcome, ada'] }, passport: 'ada' })
    await browser.get('/cart/apple')
    await browser.get('/login-here', ada)
    t.same(await dataOf(app, browser), {
      cart: ['apple'],
      flash: { success: ['welcome, ada', 'welcome, ada'] },
      passport: 'ada'
    })
  }
)

overAnswers(
  t,
  'clearSessionOnLogin: false: login and logout change the id, ' +
    'and passport carries the data over',
  async (t, over) => {
    const { app, browser } = await shop(over, { clearSessionOnLogin: false })
    await browser.get('/cart/apple')
    const ids = [idIn(browser)]
    await browser.get('/login-here', ada)
    ids.push(idIn(browser))
    t.match(await dataOf(app, browser), { cart: ['apple'], passport: 'ada' })
    await browser.get('/log-out', { method: 'POST' })
    t.notOk(ids.includes(idIn(browser)))
    for (const id of ids) t.equal(await stored(app, id), undefined)
    t.same(await dataOf(app, browser), { cart: ['apple'], flash: { success: ['welcome, ada'] } })
  }
)

overAnswers(t, 'logIn() by the app, and a login over another', async (t, over) => {
  const { app, browser } = await shop(over)
  await browser.get('/login-here', ada)
  const before = idIn(browser)
  t.same((await browser.get('/log-in', { method: 'POST' })).json(), {
    user: users['grace'],
    authenticated: true
  })
  t.not(idIn(browser), before)
  t.equal(await stored(app, before), undefined)
  t.match((await browser.get('/me')).json(), { user: 'grace' })
})

overAnswers(t, 'a failed login leaves id and data, but for the message', async (t, over) => {
  const { app, browser } = await shop(over)
  await browser.get('/cart/apple')
  const before = idIn(browser)
  const reply = await browser.get('/login-here', intruder)
  t.same([reply.statusCode, reply.headers.location], [302, '/flash'])
  t.equal(idIn(browser), before)
  t.same(await dataOf(app, browser), {
    cart: ['apple'],
    flash: { error: ['wrong name or password'] },
    messages: ['wrong name or password']
  })
  t.same((await browser.get('/me')).json(), nobody)
  t.same((await browser.get('/flash')).json(), { error: ['wrong name or password'] })
  t.same((await browser.get('/flash')).json(), {}, 'shown once')
})

overAnswers(t, 'failureFlash reaches a visitor who had no session', async (t, over) => {
  const { browser } = await shop(over, {}, { saveUninitialized: false })
  await browser.get('/login-here', intruder)
  t.same((await browser.get('/flash')).json(), { error: ['wrong name or password'] })
})

overAnswers(
  t,
  "a guard of the app's keeps strangers from the handler, and lets members in",
  async (t, over) => {
    for (const hook of ['preValidation', 'preHandler']) {
      const { app, browser, entered } = await shop(over)
      const url = `/guarded/${hook}`
      const reply = await browser.get(url)
      t.same([reply.statusCode, reply.headers.location], [302, '/flash'], hook)
      t.same(await dataOf(app, browser), { returnTo: url }, 'what the guard wrote, and no more')
      t.same(entered, [], hook)
      await browser.get('/login-here', ada)
      t.equal((await browser.get(url)).body, 'come in', hook)
      t.same(entered, [url], hook)
    }
  }
)

overAnswers(
  t,
  'who fails to authenticate does not reach the handler, however passport says so',
  async (t, over) => {
    const { app, browser, entered } = await shop(over)
    await browser.get('/cart/apple')
    for (const [way, status] of Object.entries({ refused: 401, redirected: 302, answered: 403 })) {
      t.equal((await browser.get(`/authenticated/${way}`, intruder)).statusCode, status, way)
      t.same(await dataOf(app, browser), { cart: ['apple'] }, way)
      t.same(entered, [], way)
    }
    t.equal((await browser.get('/authenticated/refused', ada)).body, 'come in')
    t.same(await dataOf(app, browser), { passport: 'ada', a: 'entered' })
  }
)

overAnswers(
  t,
  'returnTo leads back to where the visitor was stopped, with keepSessionInfo, and once',
  async (t, over) => {
    const { app, browser } = await shop(over)
    t.equal((await browser.get('/private?page=2')).headers.location, '/flash')
    t.equal((await browser.get('/login-keep', ada)).headers.location, '/private?page=2')
    t.equal((await browser.get('/private?page=2')).body, 'private')
    t.notMatch(await dataOf(app, browser), { returnTo: String })
    t.equal((await browser.get('/login-keep', ada)).headers.location, '/me')
  }
)

overAnswers(
  t,
  'logOut: the id is dead, nobody is logged in, and the browser has lost the cookie',
  async (t, over) => {
    const { app, browser } = await shop(over, {}, { saveUninitialized: false })
    await browser.get('/login-here', ada)
    const before = idIn(browser)
    const reply = await browser.get('/log-out', { method: 'POST' })
    t.same([reply.statusCode, reply.headers.location], [302, '/me'])
    t.equal(setCookies(reply).length, 1)
    t.equal(idIn(browser), '')
    t.equal(await stored(app, before), undefined)
    t.same((await app.inject({ url: '/me', cookies: { session_id: before } })).json(), nobody)
  }
)

overAnswers(
  t,
  'logOut with the default saveUninitialized: goes on in a session that is new and empty',
  async (t, over) => {
    const { app, browser } = await shop(over)
    await browser.get('/cart/apple')
    await browser.get('/login-keep', ada)
    const before = idIn(browser)
    await browser.get('/log-out', { method: 'POST' })
    t.not(idIn(browser), before)
    t.same([await stored(app, before), await dataOf(app, browser)], [undefined, {}])
    t.same((await browser.get('/me')).json(), nobody)
  }
)

overAnswers(t, 'logOut() after session.destroy()', async (t, over) => {
  for (const clearSessionOnLogin of [true, false]) {
    const { app, browser } = await shop(over, { clearSessionOnLogin }, { saveUninitialized: false })
    await browser.get('/cart/apple')
    await browser.get('/login-here', ada)
    const before = idIn(browser)
    const reply = await browser.get('/destroy-and-log-out', { method: 'POST' })
    t.same([reply.statusCode, reply.json()], [200, { authenticated: false }])
    t.equal(await stored(app, before), undefined)
    t.equal(idIn(browser), '', 'the cookie is cleared')
    t.same((await app.inject({ url: '/me', cookies: { session_id: before } })).json(), nobody)
  }
})

overAnswers(
  t,
  'a client that carries the id in the header logs in and out by it',
  async (t, over) => {
    const { app } = await shop(over)
    const before = (await app.inject('/cart/apple')).headers['x-session-id'] as string
    const login = await app.inject({
      ...ada,
      url: '/login-here',
      headers: { 'x-session-id': before }
    })
    const id = carriedBy(login).header as string
    t.not(id, before)
    t.same((await app.inject({ url: '/me', headers: { 'x-session-id': id } })).json(), {
      user: 'ada',
      authenticated: true
    })
    t.same((await app.inject({ url: '/me', headers: { 'x-session-id': before } })).json(), nobody)
    const logout = await app.inject({
      method: 'POST',
      url: '/log-out',
      headers: { 'x-session-id': id }
    })
    t.notOk([before, id].includes(carriedBy(logout).header as string))
    t.same((await app.inject({ url: '/me', headers: { 'x-session-id': id } })).json(), nobody)
  }
)

overAnswers(t, 'logOut() where nobody is logged in', async (t, over) => {
  const { browser } = await shop(over, {}, { saveUninitialized: false })
  const reply = await browser.get('/log-out', { method: 'POST' })
  t.equal(reply.statusCode, 302)
  t.same(setCookies(reply), [])
})

overAnswers(t, 'a user who is no more is logged out: the id is dead', async (t, over) => {
  const { app, browser } = await shop(over, {}, { saveUninitialized: false })
  users['mary'] = { name: 'mary', password: 'somerville' }
  await browser.get('/login-here', {
    method: 'POST',
    payload: { username: 'mary', password: 'somerville' }
  })
  t.match((await browser.get('/me')).json(), { user: 'mary' })
  const before = idIn(browser)
  delete users['mary']
  t.same((await browser.get('/me')).json(), nobody)
  t.equal(await stored(app, before), undefined)
  t.equal(idIn(browser), '')
})

// A request that read the session before it ended, stopped with its write in hand, or with its
// answer.
for (const [verb, when] of [
  ['get', 'after'],
  ['update', 'before']
] as const) {
  for (const [name, path] of [
    ['logOut', '/log-out'],
    ['a login', '/log-in']
  ] as const) {
    overAnswers(
      t,
      `P1: a slow request, stopped ${when} its ${verb}, does not undo ${name}`,
      async (t, over) => {
        const gate = new Gate(over.store)
        const { app, browser } = await shop(over, {}, { store: gate })
        await browser.get('/login-here', ada)
        await browser.get('/cart/apple')
        const before = idIn(browser)
        const held = gate.hold(verb, when)
        const slow = browser.send('/cart/pear')
        await held.reached
        await browser.get(path, { method: 'POST' })
        const after = idIn(browser)
        held.release()
        const reply = browser.receive(await slow)
        t.equal(reply.statusCode, 200)
        t.same(carriedBy(reply), { header: undefined, cookie: undefined })
        t.equal(idIn(browser), after)
        t.equal(await stored(app, before), undefined)
        t.same(await dataOf(app, browser), name === 'logOut' ? {} : { passport: 'grace' })
        t.same((await app.inject({ url: '/me', cookies: { session_id: before } })).json(), nobody)
      }
    )
  }
}

// Passport itself replies twice where a login fails.
overStores(
  t,
  "P1: a slow login that keeps the visitor's data fails if the session ended meanwhile",
  async (t, over) => {
    const gate = new Gate(over.store)
    const { app, browser } = await shop(over, {}, { store: gate })
    await browser.get('/cart/apple')
    const before = idIn(browser)
    const held = gate.hold('retire')
    const slow = browser.send('/login-keep', ada)
    await held.reached
    await browser.get('/logout')
    held.release()
    const reply = browser.receive(await slow)
    t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'])
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    t.equal(await stored(app, before), undefined)
  }
)

overAnswers(
  t,
  'of two logins at once over one session both succeed, each under an id of its own',
  async (t, over) => {
    const gate = new Gate(over.store)
    const { app, browser } = await shop(over, {}, { store: gate })
    await browser.get('/cart/apple')
    const before = idIn(browser)
    const held = gate.hold('retire')
    const slow = browser.send('/login-here', ada)
    await held.reached
    await browser.get('/log-in', { method: 'POST' })
    const grace = idIn(browser)
    held.release()
    const reply = await slow
    const id = carriedBy(reply).cookie as string
    t.equal(new Set([before, grace, id]).size, 3)
    t.same(
      [await stored(app, before), await stored(app, grace), await stored(app, id)],
      [undefined, { passport: 'grace' }, { passport: 'ada' }]
    )
  }
)

overStores(
  t,
  'a store that fails during the login: 503, no id goes out, and nobody is logged in',
  async (t, over) => {
    const { browser } = await shop(over)
    await browser.get('/cart/apple')
    const before = idIn(browser)
    const { store } = over
    const pass = store.intercept
    store.intercept = (call, next) => {
      if (call.verb === 'retire') throw new Error('the store is down')
      return pass(call, next)
    }
    const reply = await browser.get('/login-here', ada)
    t.same([reply.statusCode, reply.json().code], [503, 'HOLDFAST_STORE_FAILED'])
    t.same(setCookies(reply), [])
    t.equal(reply.headers.location, undefined)
    store.intercept = pass
    t.equal(idIn(browser), before)
    t.same((await browser.get('/me')).json(), nobody)
  }
)

overAnswers(
  t,
  'two authenticators, each in a scope and under a key of its own, share one session',
  async (t, { serve, answer }) => {
    class Always extends Strategy {
      override authenticate(): void {
        this.success(users['grace'])
      }
    }
    const { app } = await serve()
    for (const [key, other] of [
      ['customer', 'staff'],
      ['staff', 'customer']
    ] as const) {
      const passport = new Authenticator({ key, clearSessionIgnoreFields: [other] })
      passport.use(new Always('always'))
      passport.registerUserSerializer(async (user: { name: string }) => user.name)
      passport.registerUserDeserializer(async (name: string) => users[name] ?? false)
      await app.register(
        async (scope) => {
          await scope.register(passport.initialize())
          await scope.register(passport.secureSession())
          scope.get(
            '/login',
            {
              preValidation: passport.authenticate('always', { authInfo: false })
            },
            async (_request, reply) => answer(reply, 'in')
          )
          scope.get('/me', async (request, reply) => {
            return answer(reply, { authenticated: request.isAuthenticated() })
          })
        },
        { prefix: `/${key}` }
      )
    }
    const browser = new Browser(app)
    await browser.get('/customer/login')
    t.same((await browser.get('/customer/me')).json(), { authenticated: true })
    t.same((await browser.get('/staff/me')).json(), { authenticated: false })
    const before = idIn(browser)
    await browser.get('/staff/login')
    t.not(idIn(browser), before)
    t.same(await dataOf(app, browser), { customer: 'grace', staff: 'grace' })
  }
)

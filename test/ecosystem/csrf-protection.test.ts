import csrfProtection from '@fastify/csrf-protection'
import type { FastifyInstance, LightMyRequestResponse, RouteHandlerMethod } from 'fastify'
import t from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { setCookies, stored } from '../helpers/serve.ts'

const modes = ['@fastify/session', '@fastify/secure-session'] as const
type Mode = (typeof modes)[number]

interface Shop {
  readonly app: FastifyInstance
  readonly browser: Browser
  /** How often an order reached its handler. */
  readonly ordered: () => number
}

/** A form with a token in it, and what it posts to. */
async function shop(
  { serve, answer }: Beside,
  sessionPlugin: Mode,
  userInfo = false,
  options: SessionOptions = {}
): Promise<Shop> {
  const { app } = await serve(options)
  await app.register(csrfProtection, {
    sessionPlugin,
    ...(userInfo ? { getUserInfo: ({ session }) => session.user ?? '' } : {})
  })
  app.get('/form', async ({ session }, reply) =>
    answer(reply, {
      token: userInfo ? reply.generateCsrf({ userInfo: session.user ?? '' }) : reply.generateCsrf()
    })
  )
  app.get('/form-strict', async (_request, reply) =>
    answer(reply, {
      token: reply.generateCsrf({ sameSite: 'strict', path: '/', userInfo: '' })
    })
  )
  app.get<{ Params: { name: string } }>('/login-as/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  let ordered = 0
  const order: RouteHandlerMethod = async ({ session }, reply) => {
    ordered += 1
    session.n = (session.n ?? 0) + 1
    return answer(reply, { orders: session.n })
  }
  // oxlint-disable-next-line typescript/unbound-method -- as its README has it
  app.post('/order', { preHandler: app.csrfProtection }, order)
  app.post(
    '/order-guarded',
    {
      async preHandler(request, reply) {
        let passed = false
        app.csrfProtection(request, reply, () => {
          passed = true
        })
        if (!passed) return answer(reply)
      }
    },
    order
  )
  return { app, browser: new Browser(app), ordered: () => ordered }
}

async function tokenOf(browser: Browser, url = '/form'): Promise<string> {
  return (await browser.get(url)).json().token as string
}

function order(browser: Browser, token?: string, url = '/order'): Promise<LightMyRequestResponse> {
  return browser.get(url, {
    method: 'POST',
    headers: token === undefined ? {} : { 'csrf-token': token }
  })
}

async function secretOf(app: FastifyInstance, browser: Browser): Promise<string> {
  return ((await stored(app, idIn(browser))) as { _csrf: string })['_csrf']
}

for (const mode of modes) {
  overAnswers(
    t,
    `${mode}: a form is taken with its token, in a header or the body`,
    async (t, over) => {
      const { browser, ordered } = await shop(over, mode)
      const token = await tokenOf(browser)
      t.same((await order(browser, token)).json(), { orders: 1 })
      t.same((await browser.get('/order', { method: 'POST', payload: { _csrf: token } })).json(), {
        orders: 2
      })
      t.same((await order(browser, await tokenOf(browser))).json(), { orders: 3 })
      t.same(
        (await order(browser, token)).json(),
        { orders: 4 },
        'the earlier page works too: the secret is kept'
      )
      t.same((await order(browser, token, '/order-guarded')).json(), { orders: 5 })
      t.equal(ordered(), 5)
    }
  )

  overAnswers(
    t,
    `${mode}: no token, a token of another session or a secret that was never ` +
      'made is refused, changes nothing and reaches no handler',
    async (t, over) => {
      const { app, browser, ordered } = await shop(over, mode)
      for (const url of ['/order', '/order-guarded']) {
        const visitor = new Browser(app)
        const refused = await order(visitor, await tokenOf(browser), url)
        t.same([refused.statusCode, refused.json().code], [403, 'FST_CSRF_MISSING_SECRET'])
        t.equal(idIn(visitor), '', 'a refusal begins no session')
        await tokenOf(visitor)
        for (const token of [await tokenOf(browser), undefined]) {
          const reply = await order(visitor, token, url)
          t.same([reply.statusCode, reply.json().code], [403, 'FST_CSRF_INVALID_TOKEN'])
        }
        t.notMatch(await stored(app, idIn(visitor)), { n: Number })
      }
      t.equal(ordered(), 0)
    }
  )

  overAnswers(
    t,
    `S11: ${mode}: a CSRF secret does not survive a login [CVE-2023-29019, CVE-2023-29020]`,
    async (t, over) => {
      const { app, browser } = await shop(over, mode)
      // The attacker knows a session, its secret and a token, and has planted the id with the
      // victim.
      const token = await tokenOf(browser)
      const before = await secretOf(app, browser)
      await browser.get('/login-as/ada')
      t.same(await stored(app, idIn(browser)), { user: 'ada' })
      t.match((await order(browser, token)).json(), { code: 'FST_CSRF_MISSING_SECRET' })
      const anew = await tokenOf(browser)
      t.match((await order(browser, token)).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
      t.same((await order(browser, anew)).json(), { orders: 1 })
      t.not(await secretOf(app, browser), before)
    }
  )

  overAnswers(t, `${mode}: with userInfo, a token is good for its user alone`, async (t, over) => {
    const { browser } = await shop(over, mode, true)
    await browser.get('/login-as/ada')
    const token = await tokenOf(browser)
    t.same((await order(browser, token)).json(), { orders: 1 })
    await browser.get('/write/x')
    t.same((await order(browser, token)).json(), { orders: 2 })
    const planted = await tokenOf(browser, '/form-strict') // for another user, under the same secret
    t.match((await order(browser, planted)).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
  })

  overAnswers(t, `${mode}: a secret begins a session, and is written once`, async (t, over) => {
    const { app, browser } = await shop(over, mode, false, { saveUninitialized: false })
    await tokenOf(browser)
    const data = await stored(app, idIn(browser))
    t.match(data, { _csrf: String })
    const again = await browser.get('/form')
    t.same(setCookies(again), [], 'nothing to write')
    t.same(await stored(app, idIn(browser)), data)
  })
}

overAnswers(
  t,
  '@fastify/secure-session: generateCsrf(options) sets attributes ' +
    'of the session cookie, and what is none is let be',
  async (t, over) => {
    const { browser } = await shop(over, '@fastify/secure-session')
    t.match(setCookies(await browser.get('/form-strict')), [
      /^session_id=[\w-]+; Max-Age=3600; Path=\/; HttpOnly; SameSite=Strict$/
    ])
  }
)

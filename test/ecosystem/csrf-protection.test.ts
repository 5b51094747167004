import csrfProtection from '@fastify/csrf-protection'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser } from '../helpers/browser.ts'
import { serve, setCookies, stored } from '../helpers/serve.ts'

const modes = ['@fastify/session', '@fastify/secure-session'] as const
type Mode = typeof modes[number]

interface Shop {
  readonly app: FastifyInstance
  readonly browser: Browser
}

/** A form with a token in it, and what it posts to. */
async function shop(t: Test, sessionPlugin: Mode, userInfo = false, options: SessionOptions = {}): Promise<Shop> {
  const { app } = await serve(t, options)
  await app.register(csrfProtection, { sessionPlugin, ...userInfo ? { getUserInfo: ({ session }) => session.user ?? '' } : {} })
  app.get('/form', async ({ session }, reply) => ({ token: userInfo ? reply.generateCsrf({ userInfo: session.user ?? '' }) : reply.generateCsrf() }))
  app.get('/form-strict', async (_request, reply) => ({ token: reply.generateCsrf({ sameSite: 'strict', path: '/', userInfo: '' }) }))
  app.get<{ Params: { name: string } }>('/login-as/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  // oxlint-disable-next-line typescript/unbound-method -- as its README has it
  app.post('/order', { preHandler: app.csrfProtection }, async ({ session }) => {
    session.n = (session.n ?? 0) + 1
    return { orders: session.n }
  })
  return { app, browser: new Browser(app) }
}

async function tokenOf(browser: Browser, url = '/form'): Promise<string> {
  return (await browser.get(url)).json().token as string
}

function order(browser: Browser, token?: string): Promise<LightMyRequestResponse> {
  return browser.get('/order', { method: 'POST', headers: token === undefined ? {} : { 'csrf-token': token } })
}

function idOf({ cookies }: Browser): string {
  return cookies.get('session_id') as string
}

async function secretOf(app: FastifyInstance, browser: Browser): Promise<string> {
  return (await stored(app, idOf(browser)) as { '_csrf': string })['_csrf']
}

for (const mode of modes) {
  t.test(`${mode}: a form is taken with its token, in a header or the body`, async (t) => {
    const { browser } = await shop(t, mode)
    const token = await tokenOf(browser)
    t.same((await order(browser, token)).json(), { orders: 1 })
    t.same((await browser.get('/order', { method: 'POST', payload: { _csrf: token } })).json(), { orders: 2 })
    t.same((await order(browser, await tokenOf(browser))).json(), { orders: 3 })
    t.same((await order(browser, token)).json(), { orders: 4 }, 'the earlier page works too: the secret is kept')
  })

  t.test(`${mode}: no token, a token of another session or a secret that was never made is refused, and changes nothing`, async (t) => {
    const { app, browser } = await shop(t, mode)
    const visitor = new Browser(app)
    t.match((await order(visitor, await tokenOf(browser))).json(), { code: 'FST_CSRF_MISSING_SECRET' })
    t.same(await stored(app, idOf(visitor)), {})
    await tokenOf(visitor)
    t.match((await order(visitor, await tokenOf(browser))).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
    t.match((await order(visitor)).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
    t.notMatch(await stored(app, idOf(visitor)), { n: Number })
  })

  t.test(`S11: ${mode}: a CSRF secret does not survive a login [CVE-2023-29019, CVE-2023-29020]`, async (t) => {
    const { app, browser } = await shop(t, mode)
    // The attacker knows a session, its secret and a token, and has planted the id with the victim.
    const token = await tokenOf(browser)
    const before = await secretOf(app, browser)
    await browser.get('/login-as/ada')
    t.same(await stored(app, idOf(browser)), { user: 'ada' })
    t.match((await order(browser, token)).json(), { code: 'FST_CSRF_MISSING_SECRET' })
    const anew = await tokenOf(browser)
    t.match((await order(browser, token)).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
    t.same((await order(browser, anew)).json(), { orders: 1 })
    t.not(await secretOf(app, browser), before)
  })

  t.test(`${mode}: with userInfo, a token is good for its user alone`, async (t) => {
    const { browser } = await shop(t, mode, true)
    await browser.get('/login-as/ada')
    const token = await tokenOf(browser)
    t.same((await order(browser, token)).json(), { orders: 1 })
    await browser.get('/write/x')
    t.same((await order(browser, token)).json(), { orders: 2 })
    const planted = await tokenOf(browser, '/form-strict') // for another user, under the same secret
    t.match((await order(browser, planted)).json(), { code: 'FST_CSRF_INVALID_TOKEN' })
  })

  t.test(`${mode}: a secret begins a session, and is written once`, async (t) => {
    const { app, browser } = await shop(t, mode, false, { saveUninitialized: false })
    await tokenOf(browser)
    const data = await stored(app, idOf(browser))
    t.match(data, { _csrf: String })
    const again = await browser.get('/form')
    t.same(setCookies(again), [], 'nothing to write')
    t.same(await stored(app, idOf(browser)), data)
  })
}

t.test('@fastify/secure-session: generateCsrf(options) sets attributes of the session cookie, and what is none is let be', async (t) => {
  const { browser } = await shop(t, '@fastify/secure-session')
  t.match(setCookies(await browser.get('/form-strict')), [/^session_id=[\w-]+; Max-Age=3600; Path=\/; HttpOnly; SameSite=Strict$/])
})

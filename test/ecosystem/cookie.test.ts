import fastifyCookie from '@fastify/cookie'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { serve, setCookies } from '../helpers/serve.ts'

// Its options and hooks, in each order: test/plugin.test.ts.

const places = ['before', 'after', 'in a scope below'] as const

/** A shop with a signed cookie of its own beside the session. */
async function shop(
  t: Test,
  { store, clock, answer }: Beside,
  place: (typeof places)[number]
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  const cookie = { secret: 'the-secret-of-the-shop-and-its-cookies' }
  const routes = async (scope: FastifyInstance): Promise<void> => {
    if (place === 'in a scope below') await scope.register(fastifyCookie, cookie)
    scope.addHook('onSend', async (_request, reply) => {
      reply.setCookie('late', 'onSend')
    })
    scope.get('/login', async ({ session }, reply) => {
      reply.setCookie('early', 'handler').setCookie('remember', 'ada', { signed: true, path: '/' })
      await session.regenerate()
      session.user = 'ada'
      return answer(reply.redirect('/me'))
    })
    scope.get('/me', async (request, reply) =>
      answer(reply, {
        user: request.session.user,
        remember: request.unsignCookie(request.cookies['remember'] ?? ''),
        same: request.cookies['session_id'] === request.session.id
      })
    )
    scope.get('/logout', async ({ session }, reply) => {
      reply.clearCookie('remember', { path: '/' }).clearCookie('early')
      await session.destroy()
      return answer(reply.redirect('/me'))
    })
  }
  if (place === 'before') await app.register(fastifyCookie, cookie)
  await app.register(sessionPlugin, { store, clock })
  if (place === 'after') await app.register(fastifyCookie, cookie)
  await app.register(routes)
  return app
}

for (const place of places) {
  overAnswers(
    t,
    `the app's own cookies and the session's live side by side, with @fastify/cookie ${place}`,
    async (t, over) => {
      const browser = new Browser(await shop(t, over, place))
      const login = await browser.get('/login')
      t.same([login.statusCode, login.headers.location], [302, '/me'])
      t.same(login.cookies.map(({ name }) => name).toSorted(), [
        'early',
        'late',
        'remember',
        'session_id'
      ])
      t.same((await browser.get('/me')).json(), {
        user: 'ada',
        remember: { valid: true, renew: false, value: 'ada' },
        same: true
      })
      const logout = await browser.get('/logout')
      t.same(logout.cookies.map(({ name }) => name).toSorted(), [
        'early',
        'late',
        'remember',
        'session_id'
      ])
      t.same([...browser.cookies.keys()], ['late'])
    }
  )

  overAnswers(
    t,
    "when the commit fails, the app's cookies go out and the session's does not, " +
      `with @fastify/cookie ${place}`,
    async (t, over) => {
      const app = await shop(t, over, place)
      over.breakDown()
      const reply = await app.inject('/login')
      t.equal(reply.statusCode, 503)
      t.equal(carriedBy(reply).cookie, undefined)
      t.match(setCookies(reply).toSorted(), [/^early=/, /^late=/, /^remember=/])
    }
  )
}

t.test("the cookie keeps its attributes where an app's own decorator has the name", async (t) => {
  const { app } = await serve(t, {}, {}, (before) => {
    before.decorate('serializeCookie', () => 'something else')
  })
  const [cookie] = setCookies(await app.inject('/write/value'))
  t.match(cookie, /; Path=\/; HttpOnly; SameSite=Lax$/)
})

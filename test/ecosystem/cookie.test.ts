import fastifyCookie from '@fastify/cookie'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { setCookies } from '../helpers/serve.ts'
import { WatchedStore } from '../helpers/stores.ts'

// Its options and hooks, in each order: test/plugin.test.ts.

const places = ['before', 'after', 'in a scope below'] as const

/** A shop with a signed cookie of its own beside the session. */
async function shop(t: Test, place: typeof places[number]): Promise<{ app: FastifyInstance, store: WatchedStore }> {
  const store = new WatchedStore(new MemoryStore())
  const app = Fastify()
  t.teardown(() => app.close())
  const cookie = { secret: 'the-secret-of-the-shop-and-its-cookies' }
  const routes = async (scope: FastifyInstance): Promise<void> => {
    if (place === 'in a scope below') await scope.register(fastifyCookie, cookie)
    scope.addHook('onSend', async (_request, reply) => { reply.setCookie('late', 'onSend') })
    scope.get('/login', async ({ session }, reply) => {
      reply.setCookie('early', 'handler').setCookie('remember', 'ada', { signed: true, path: '/' })
      await session.regenerate()
      session.user = 'ada'
      return reply.redirect('/me')
    })
    scope.get('/me', async (request) => ({
      user: request.session.user,
      remember: request.unsignCookie(request.cookies['remember'] ?? ''),
      same: request.cookies['session_id'] === request.session.id
    }))
    scope.get('/logout', async ({ session }, reply) => {
      reply.clearCookie('remember', { path: '/' }).clearCookie('early')
      await session.destroy()
    })
  }
  if (place === 'before') await app.register(fastifyCookie, cookie)
  await app.register(sessionPlugin, { store })
  if (place === 'after') await app.register(fastifyCookie, cookie)
  await app.register(routes)
  return { app, store }
}

for (const place of places) {
  t.test(`the app's own cookies and the session's live side by side, with @fastify/cookie ${place}`, async (t) => {
    const { app } = await shop(t, place)
    const browser = new Browser(app)
    const login = await browser.get('/login')
    t.same(login.cookies.map(({ name }) => name).toSorted(), ['early', 'late', 'remember', 'session_id'])
    t.same((await browser.get('/me')).json(), { user: 'ada', remember: { valid: true, renew: false, value: 'ada' }, same: true })
    const logout = await browser.get('/logout')
    t.same(logout.cookies.map(({ name }) => name).toSorted(), ['early', 'late', 'remember', 'session_id'])
    t.same([...browser.cookies.keys()], ['late'])
  })

  t.test(`when the commit fails, the app's cookies go out and the session's does not, with @fastify/cookie ${place}`, async (t) => {
    const { app, store } = await shop(t, place)
    store.intercept = () => { throw new Error('the store is down') }
    const reply = await app.inject('/login')
    t.equal(reply.statusCode, 503)
    t.equal(carriedBy(reply).cookie, undefined)
    t.match(setCookies(reply).toSorted(), [/^early=/, /^late=/, /^remember=/])
  })
}

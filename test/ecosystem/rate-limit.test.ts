import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { slow, WatchedStore } from '../helpers/stores.ts'

const byUser = ({ session, ip }: FastifyRequest): string => session.user ?? ip
const bySession = ({ session, ip }: FastifyRequest): string => session.isNew ? ip : session.publicId

/** An app that limits each user, or each session, to two orders. */
async function shop(t: Test, first: 'sessions' | 'limits', options: SessionOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, options)
  await app.register(rateLimit, { global: false, max: 2, timeWindow: 3_600_000 })
  if (first === 'limits') await app.register(sessionPlugin, options)
  app.get<{ Params: { name: string } }>('/login/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  app.get('/order', { config: { rateLimit: { max: 2, keyGenerator: byUser } } }, async () => 'ordered')
  app.get('/order-by-session', { config: { rateLimit: { max: 2, keyGenerator: bySession } } }, async () => 'ordered')
  app.get('/order-late', { config: { rateLimit: { max: 2, hook: 'preHandler', keyGenerator: byUser } } }, async () => 'ordered')
  return app
}

async function statuses(browser: Browser, url: string, times: number): Promise<number[]> {
  const found: number[] = []
  for (let time = 0; time < times; time += 1) found.push((await browser.get(url)).statusCode)
  return found
}

for (const first of ['sessions', 'limits'] as const) {
  t.test(`a route-level limit by the session's user: the session is there, with ${first} registered first`, async (t) => {
    for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
      const app = await shop(t, first, { store })
      const [phone, laptop, grace] = [new Browser(app), new Browser(app), new Browser(app)]
      for (const [browser, name] of [[phone, 'ada'], [laptop, 'ada'], [grace, 'grace']] as const) await browser.get(`/login/${name}`)
      t.same(await statuses(phone, '/order', 1), [200])
      t.same(await statuses(laptop, '/order', 2), [200, 429], 'one user on two devices has one limit')
      t.same(await statuses(phone, '/order', 1), [429])
      t.same(await statuses(grace, '/order', 3), [200, 200, 429])
      t.same(await statuses(new Browser(app), '/order', 3), [200, 200, 429], 'who is not logged in counts by address')
    }
  })
}

t.test('a limit by session: each has its own, and those who bring none share that of the address', async (t) => {
  const app = await shop(t, 'sessions')
  const [one, two] = [new Browser(app), new Browser(app)]
  await one.get('/login/ada')
  await two.get('/login/ada')
  t.same(await statuses(one, '/order-by-session', 3), [200, 200, 429])
  t.same(await statuses(two, '/order-by-session', 3), [200, 200, 429])
  const without: number[] = []
  for (let time = 0; time < 3; time += 1) without.push(...await statuses(new Browser(app), '/order-by-session', 1))
  t.same(without, [200, 200, 429])
})

t.test('a request that is refused ends no session and changes none', async (t) => {
  const store = new WatchedStore(new MemoryStore())
  const app = await shop(t, 'sessions', { store })
  const browser = new Browser(app)
  await browser.get('/login/ada')
  await statuses(browser, '/order', 2)
  const id = browser.cookies.get('session_id')
  store.taken()
  const reply = await browser.get('/order')
  t.equal(reply.statusCode, 429)
  t.match(reply.headers, { 'retry-after': String, 'x-ratelimit-remaining': '0' })
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  t.same(store.taken(), ['get'])
  t.equal(browser.cookies.get('session_id'), id)
})

t.test('a limit in a later hook', async (t) => {
  const app = await shop(t, 'limits')
  const browser = new Browser(app)
  await browser.get('/login/ada')
  t.same(await statuses(browser, '/order-late', 3), [200, 200, 429])
  t.same(await statuses(new Browser(app), '/order-late', 1), [200])
})

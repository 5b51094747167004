import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'
import Fastify from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { stored } from '../helpers/serve.ts'

const byUser = ({ session, ip }: FastifyRequest): string => session.user ?? ip
const bySession = ({ session, ip }: FastifyRequest): string =>
  session.isNew ? ip : session.publicId

interface Shop {
  readonly app: FastifyInstance
  /** How many orders reached their handler. */
  readonly ordered: () => number
}

/** An app that limits each user, or each session, to two orders. */
async function shop(
  t: Test,
  { store, clock, answer }: Beside,
  first: 'sessions' | 'limits'
): Promise<Shop> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store, clock })
  await app.register(rateLimit, { global: false, max: 2, timeWindow: 3_600_000 })
  if (first === 'limits') await app.register(sessionPlugin, { store, clock })
  app.get<{ Params: { name: string } }>('/login/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  let ordered = 0
  const order: RouteHandlerMethod = async ({ session }, reply) => {
    ordered += 1
    session.n = (session.n ?? 0) + 1
    return answer(reply, 'ordered')
  }
  const limit = { max: 2, keyGenerator: byUser }
  app.get('/order', { config: { rateLimit: limit } }, order)
  app.get(
    '/order-by-session',
    {
      config: { rateLimit: { ...limit, keyGenerator: bySession } }
    },
    order
  )
  app.get('/order-late', { config: { rateLimit: { ...limit, hook: 'preHandler' } } }, order)
  // As its README has it, but in a hook: the app looks at the limit, and refuses by itself.
  const check = app.createRateLimit(limit)
  app.get(
    '/order-checked',
    {
      async preHandler(request, reply) {
        const found = await check(request)
        if (found.isAllowed || !found.isExceeded) return
        request.session.a = 'refused'
        return answer(reply.code(429).send('limit exceeded'))
      }
    },
    order
  )
  return { app, ordered: () => ordered }
}

async function statuses(browser: Browser, url: string, times: number): Promise<number[]> {
  const found: number[] = []
  for (let time = 0; time < times; time += 1) found.push((await browser.get(url)).statusCode)
  return found
}

for (const first of ['sessions', 'limits'] as const) {
  overAnswers(
    t,
    "a route-level limit by the session's user: " +
      `the session is there, with ${first} registered first`,
    async (t, over) => {
      const { app, ordered } = await shop(t, over, first)
      const [phone, laptop, grace] = [new Browser(app), new Browser(app), new Browser(app)]
      for (const browser of [phone, laptop]) await browser.get('/login/ada')
      await grace.get('/login/grace')
      t.same(await statuses(phone, '/order', 1), [200])
      t.same(
        await statuses(laptop, '/order', 2),
        [200, 429],
        'one user on two devices has one limit'
      )
      t.same(await statuses(phone, '/order', 1), [429])
      t.same(await statuses(grace, '/order', 3), [200, 200, 429])
      const visitor = new Browser(app)
      t.same(await statuses(visitor, '/order', 3), [200, 200, 429], 'a stranger counts by address')
      t.equal(ordered(), 6, 'none but those that were let through')
    }
  )
}

overAnswers(
  t,
  'a limit by session: each has its own, and those who bring none share that of the address',
  async (t, over) => {
    const { app } = await shop(t, over, 'sessions')
    const [one, two] = [new Browser(app), new Browser(app)]
    await one.get('/login/ada')
    await two.get('/login/ada')
    t.same(await statuses(one, '/order-by-session', 3), [200, 200, 429])
    t.same(await statuses(two, '/order-by-session', 3), [200, 200, 429])
    const without: number[] = []
    for (let time = 0; time < 3; time += 1)
      without.push(...(await statuses(new Browser(app), '/order-by-session', 1)))
    t.same(without, [200, 200, 429])
  }
)

overAnswers(t, 'a request that is refused ends no session and changes none', async (t, over) => {
  const { app, ordered } = await shop(t, over, 'sessions')
  const browser = new Browser(app)
  await browser.get('/login/ada')
  await statuses(browser, '/order', 2)
  const id = browser.cookies.get('session_id')
  over.store.taken()
  const reply = await browser.get('/order')
  t.equal(reply.statusCode, 429)
  t.match(reply.headers, { 'retry-after': String, 'x-ratelimit-remaining': '0' })
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  t.same(over.store.taken(), ['get'])
  t.equal(browser.cookies.get('session_id'), id)
  t.equal(ordered(), 2)
})

overAnswers(t, 'a limit in a later hook', async (t, over) => {
  const { app, ordered } = await shop(t, over, 'limits')
  const browser = new Browser(app)
  await browser.get('/login/ada')
  t.same(await statuses(browser, '/order-late', 3), [200, 200, 429])
  t.same(await statuses(new Browser(app), '/order-late', 1), [200])
  t.equal(ordered(), 3)
})

overAnswers(
  t,
  'a limit that a hook of the app looks at: who is over it does not ' +
    'reach the handler, and what the hook wrote is stored',
  async (t, over) => {
    const { app, ordered } = await shop(t, over, 'sessions')
    const browser = new Browser(app)
    await browser.get('/login/ada')
    t.same(await statuses(browser, '/order-checked', 2), [200, 200])
    const refused = await browser.get('/order-checked')
    t.same([refused.statusCode, refused.body], [429, 'limit exceeded'])
    const data = await stored(app, idIn(browser))
    t.same(data, { user: 'ada', n: 2, a: 'refused' })
    t.equal(ordered(), 2)
  }
)

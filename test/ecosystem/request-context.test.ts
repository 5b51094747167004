import requestContextPlugin, { requestContext } from '@fastify/request-context'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { Browser } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { nextTurn } from '../helpers/stores.ts'

declare module '@fastify/request-context' {
  interface RequestContextData {
    user: string
    trace: number
  }
}

/** Code of the app that is given no request. */
async function whoAsks(): Promise<string | undefined> {
  await nextTurn()
  return requestContext.get('user')
}

async function shop(
  t: Test,
  { store, clock, answer }: Beside,
  first: 'context' | 'sessions'
): Promise<FastifyInstance> {
  let trace = 0
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store, clock })
  await app.register(requestContextPlugin, {
    // Before the sessions there is none to ask for.
    defaultStoreValues: (request) => ({
      trace: (trace += 1),
      user: first === 'sessions' ? (request.session.user ?? 'nobody') : 'not known yet'
    })
  })
  if (first === 'context') await app.register(sessionPlugin, { store, clock })
  app.addHook('preHandler', async ({ session }) => {
    if (first === 'context') requestContext.set('user', session.user ?? 'nobody')
  })
  app.addHook('onSend', async (_request, reply) => {
    reply
      .header('x-user', String(await whoAsks()))
      .header('x-trace', String(requestContext.get('trace')))
  })
  app.get<{ Params: { name: string } }>('/login/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  app.get('/me', async ({ session }, reply) => {
    const before = await whoAsks()
    session.n = await session.update((draft) => (draft.n = (draft.n ?? 0) + 1))
    return answer(reply, { before, after: await whoAsks() })
  })
  app.post('/me', async (_request, reply) => {
    return answer(reply, { before: await whoAsks(), after: await whoAsks() })
  })
  return app
}

for (const first of ['context', 'sessions'] as const) {
  overAnswers(
    t,
    "the context of a request lasts through its session's work, " +
      `and is its own, with ${first} registered first`,
    async (t, over) => {
      const app = await shop(t, over, first)
      const names = ['ada', 'grace', 'mary']
      const browsers = await Promise.all(
        names.map(async (name) => {
          const browser = new Browser(app)
          await browser.get(`/login/${name}`)
          return browser
        })
      )
      const post = { method: 'POST', payload: { large: 'x'.repeat(20_000) } } as const
      for (const options of [{ method: 'GET' }, post] as const) {
        const replies = await Promise.all(browsers.map((browser) => browser.get('/me', options)))
        const seen = names.map((name) => ({ before: name, after: name }))
        t.same(
          replies.map((reply) => reply.json()),
          seen
        )
        const users = replies.map(({ headers }) => headers['x-user'])
        t.same(users, names, 'in onSend too, after the commit')
        t.equal(new Set(replies.map(({ headers }) => headers['x-trace'])).size, names.length)
      }
      t.same((await app.inject('/me')).json(), { before: 'nobody', after: 'nobody' })
    }
  )
}

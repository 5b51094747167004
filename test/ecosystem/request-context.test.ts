import requestContextPlugin, { requestContext } from '@fastify/request-context'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore, type SessionStore } from '../../lib/index.ts'
import { Browser } from '../helpers/browser.ts'
import { nextTurn, slow } from '../helpers/stores.ts'

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

async function shop(t: Test, first: 'context' | 'sessions', store: SessionStore): Promise<FastifyInstance> {
  let trace = 0
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store })
  await app.register(requestContextPlugin, {
    defaultStoreValues: ({ session }) => ({ trace: trace += 1, user: session?.user ?? 'nobody' })
  })
  if (first === 'context') await app.register(sessionPlugin, { store })
  app.addHook('preHandler', async ({ session }) => { if (first === 'context') requestContext.set('user', session.user ?? 'nobody') })
  app.addHook('onSend', async (_request, reply) => { reply.header('x-user', String(await whoAsks())).header('x-trace', String(requestContext.get('trace'))) })
  app.get<{ Params: { name: string } }>('/login/:name', async ({ session, params }) => {
    await session.regenerate()
    session.user = params.name
  })
  app.get('/me', async ({ session }) => {
    const before = await whoAsks()
    session.n = await session.update((draft) => draft.n = (draft.n ?? 0) + 1)
    return { before, after: await whoAsks() }
  })
  app.post('/me', async () => ({ before: await whoAsks(), after: await whoAsks() }))
  return app
}

for (const first of ['context', 'sessions'] as const) {
  for (const [kind, make] of [['a synchronous store', () => new MemoryStore()], ['an asynchronous store', () => slow(new MemoryStore())]] as const) {
    t.test(`the context of a request lasts through its session's work, and is its own, with ${first} registered first, on ${kind}`, async (t) => {
      const app = await shop(t, first, make())
      const names = ['ada', 'grace', 'mary']
      const browsers = await Promise.all(names.map(async (name) => {
        const browser = new Browser(app)
        await browser.get(`/login/${name}`)
        return browser
      }))
      for (const options of [{ method: 'GET' }, { method: 'POST', payload: { large: 'x'.repeat(20_000) } }] as const) {
        const replies = await Promise.all(browsers.map((browser) => browser.get('/me', options)))
        t.same(replies.map((reply) => reply.json()), names.map((name) => ({ before: name, after: name })))
        t.same(replies.map(({ headers }) => headers['x-user']), names, 'in onSend too, after the commit')
        t.equal(new Set(replies.map(({ headers }) => headers['x-trace'])).size, names.length)
      }
      t.same((await app.inject('/me')).json(), { before: 'nobody', after: 'nobody' })
    })
  }
}

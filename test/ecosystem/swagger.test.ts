import swagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { stored } from '../helpers/serve.ts'

async function api(
  t: Test,
  { store, clock, answer }: Beside,
  first: 'swagger' | 'sessions'
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store, clock })
  await app.register(swagger, {
    openapi: {
      info: { title: 'shop', version: '1.0.0' },
      components: {
        securitySchemes: {
          cookie: { type: 'apiKey', in: 'cookie', name: 'session_id' },
          header: { type: 'apiKey', in: 'header', name: 'X-Session-ID' }
        }
      },
      security: [{ cookie: [] }, { header: [] }]
    }
  })
  if (first === 'swagger') await app.register(sessionPlugin, { store, clock })
  app.get(
    '/openapi.json',
    {
      config: { session: false },
      schema: { hide: true }
    },
    async (_request, reply) => answer(reply, app.swagger())
  )
  app.get(
    '/count',
    {
      schema: { response: { 200: { type: 'object', properties: { n: { type: 'integer' } } } } }
    },
    async ({ session }, reply) => {
      session.n = (session.n ?? 0) + 1
      return answer(reply, { n: session.n, hidden: 'not in the schema' })
    }
  )
  return app
}

for (const first of ['swagger', 'sessions'] as const) {
  overAnswers(
    t,
    `the app's routes are documented, and nothing of ours, with ${first} registered first`,
    async (t, over) => {
      const app = await api(t, over, first)
      const reply = await app.inject('/openapi.json')
      t.match(reply.json(), {
        openapi: /^3/,
        components: { securitySchemes: { cookie: { name: 'session_id' } } }
      })
      t.same(Object.keys(reply.json().paths), ['/count'])
      t.same(carriedBy(reply), { header: undefined, cookie: undefined }, 'the route opted out')
    }
  )

  overAnswers(
    t,
    `a documented route has its session, with ${first} registered first`,
    async (t, over) => {
      const app = await api(t, over, first)
      const reply = await app.inject('/count')
      t.same(reply.json(), { n: 1 })
      t.same(await stored(app, carriedBy(reply).cookie as string), { n: 1 })
    }
  )
}

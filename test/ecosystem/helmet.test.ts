import helmet from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { setCookies, stored } from '../helpers/serve.ts'

async function site(
  t: Test,
  { store, clock, answer }: Beside,
  first: 'helmet' | 'sessions'
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store, clock })
  await app.register(helmet, { enableCSPNonces: true })
  if (first === 'helmet') await app.register(sessionPlugin, { store, clock })
  app.get('/', async ({ session }, reply) => {
    session.a = 'x'
    const page = `<script nonce="${reply.cspNonce.script}"></script>`
    return answer(reply.type('text/html').send(page))
  })
  return app
}

const secured = {
  'content-security-policy': /script-src 'self' 'nonce-[0-9a-f]+'/,
  'strict-transport-security': String,
  'x-frame-options': 'SAMEORIGIN'
}

for (const first of ['helmet', 'sessions'] as const) {
  overAnswers(
    t,
    'its headers and ours are on one reply, also when the commit fails, ' +
      `with ${first} registered first`,
    async (t, over) => {
      const app = await site(t, over, first)
      const reply = await app.inject('/')
      t.equal(reply.statusCode, 200)
      t.match(reply.body, /^<script nonce="[0-9a-f]+"><\/script>$/)
      t.match(reply.headers, {
        ...secured,
        'cache-control': 'private',
        vary: 'Cookie, X-Session-ID'
      })
      t.equal(setCookies(reply).length, 1)
      t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' })
      over.breakDown()
      // The hook that fails to load a session is the last that runs: helmet goes before it.
      for (const cookies of first === 'helmet'
        ? [{}, { session_id: carriedBy(reply).cookie as string }]
        : [{}]) {
        const down = await app.inject({ url: '/', cookies })
        t.equal(down.statusCode, 503)
        t.match(down.headers, secured)
        t.same(setCookies(down), [])
      }
    }
  )
}

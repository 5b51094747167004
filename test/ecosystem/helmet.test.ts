import helmet from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { setCookies, stored } from '../helpers/serve.ts'
import { WatchedStore } from '../helpers/stores.ts'

async function site(t: Test, first: 'helmet' | 'sessions'): Promise<{ app: FastifyInstance, store: WatchedStore }> {
  const app = Fastify()
  t.teardown(() => app.close())
  const store = new WatchedStore(new MemoryStore())
  if (first === 'sessions') await app.register(sessionPlugin, { store })
  await app.register(helmet, { enableCSPNonces: true })
  if (first === 'helmet') await app.register(sessionPlugin, { store })
  app.get('/', async ({ session }, reply) => {
    session.a = 'x'
    return reply.type('text/html').send(`<script nonce="${reply.cspNonce.script}"></script>`)
  })
  return { app, store }
}

const secured = {
  'content-security-policy': /script-src 'self' 'nonce-[0-9a-f]+'/,
  'strict-transport-security': String,
  'x-frame-options': 'SAMEORIGIN'
}

for (const first of ['helmet', 'sessions'] as const) {
  t.test(`its headers and ours are on one reply, also when the commit fails, with ${first} registered first`, async (t) => {
    const { app, store } = await site(t, first)
    const reply = await app.inject('/')
    t.equal(reply.statusCode, 200)
    t.match(reply.headers, { ...secured, 'cache-control': 'private', vary: 'Cookie, X-Session-ID' })
    t.equal(setCookies(reply).length, 1)
    t.same(await stored(app, carriedBy(reply).cookie as string), { a: 'x' })
    store.intercept = () => { throw new Error('the store is down') }
    // The hook that fails to load a session is the last that runs: helmet goes before it.
    for (const cookies of first === 'helmet' ? [{}, { session_id: carriedBy(reply).cookie as string }] : [{}]) {
      const down = await app.inject({ url: '/', cookies })
      t.equal(down.statusCode, 503)
      t.match(down.headers, secured)
      t.same(setCookies(down), [])
    }
  })
}

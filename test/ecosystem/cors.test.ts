import cors from '@fastify/cors'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin from '../../lib/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { overAnswers, overStores, type Beside } from '../helpers/ecosystem.ts'
import { setCookies, stored } from '../helpers/serve.ts'

const origin = 'https://app.example'

/** An API for a browser app of another origin, which speaks the header or sends the cookie. */
async function api(
  t: Test,
  { store, clock, answer }: Beside,
  first: 'cors' | 'sessions'
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (first === 'sessions') await app.register(sessionPlugin, { store, clock })
  await app.register(cors, {
    origin: [origin],
    credentials: true,
    exposedHeaders: ['X-Session-ID'],
    methods: ['GET', 'POST', 'DELETE']
  })
  if (first === 'cors') await app.register(sessionPlugin, { store, clock })
  app.get('/count', async ({ session }, reply) => {
    session.n = (session.n ?? 0) + 1
    return answer(reply, { n: session.n })
  })
  app.delete('/count', async ({ session }) => {
    delete session.n
  })
  app.get('/fail', async ({ session }) => {
    session.a = 'x'
    throw new Error('failed')
  })
  return app
}

function varies(reply: { headers: Record<string, unknown> }): string[] {
  return String(reply.headers['vary']).split(', ').toSorted()
}

for (const first of ['cors', 'sessions'] as const) {
  const name = `${first} registered first`

  overAnswers(t, `an app of another origin may read the header, with ${name}`, async (t, over) => {
    const app = await api(t, over, first)
    const headers = {
      origin,
      'sec-fetch-site': 'cross-site',
      'sec-fetch-mode': 'cors',
      'x-session-id': 'new'
    }
    const begun = await app.inject({ url: '/count', headers })
    const id = carriedBy(begun).header as string
    t.match(begun.headers, {
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'X-Session-ID',
      'cache-control': 'private'
    })
    t.same(varies(begun), ['Cookie', 'Origin', 'X-Session-ID'])
    const again = await app.inject({ url: '/count', headers: { ...headers, 'x-session-id': id } })
    t.same([again.json(), carriedBy(again).header], [{ n: 2 }, id])
    t.match(again.headers, { 'access-control-expose-headers': 'X-Session-ID' })
  })

  overAnswers(
    t,
    `an app of another origin that sends credentials has the cookie, with ${name}`,
    async (t, over) => {
      const app = await api(t, over, first)
      const headers = { origin, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }
      const begun = await app.inject({ url: '/count', headers })
      const { header, cookie } = carriedBy(begun)
      t.equal(header, undefined)
      t.equal(setCookies(begun).length, 1)
      const again = await app.inject({
        url: '/count',
        headers,
        cookies: { session_id: cookie as string }
      })
      t.same([again.json(), again.headers['access-control-allow-credentials']], [{ n: 2 }, 'true'])
      t.same(varies(again), ['Cookie', 'Origin', 'X-Session-ID'])
    }
  )

  overStores(
    t,
    `a preflight mints nothing, asks no store and allows the header, with ${name}`,
    async (t, over) => {
      const app = await api(t, over, first)
      for (const url of ['/count', '/nowhere']) {
        const reply = await app.inject({
          method: 'OPTIONS',
          url,
          headers: {
            origin,
            'access-control-request-method': 'DELETE',
            'access-control-request-headers': 'x-session-id'
          }
        })
        t.equal(reply.statusCode, 204)
        t.match(reply.headers, {
          'access-control-allow-headers': 'x-session-id',
          'access-control-allow-methods': 'GET, POST, DELETE'
        })
        t.same(
          [carriedBy(reply), setCookies(reply)],
          [{ header: undefined, cookie: undefined }, []]
        )
        t.same(varies(reply), ['Access-Control-Request-Headers', 'Origin'])
      }
      t.same(over.store.taken(), [])
    }
  )

  overAnswers(t, `S34: another origin is allowed nothing, with ${name}`, async (t, over) => {
    const app = await api(t, over, first)
    const reply = await app.inject({
      url: '/count',
      headers: {
        origin: 'https://evil.example',
        'sec-fetch-site': 'cross-site',
        'sec-fetch-mode': 'cors'
      }
    })
    t.equal(reply.headers['access-control-allow-origin'], undefined)
    t.ok(varies(reply).includes('Origin'))
  })

  overAnswers(
    t,
    `an error, and a write that fails, can be read by the app, with ${name}`,
    async (t, over) => {
      const app = await api(t, over, first)
      const failed = await app.inject({ url: '/fail', headers: { origin } })
      t.equal(failed.statusCode, 500)
      t.same(await stored(app, carriedBy(failed).header as string), { a: 'x' })
      over.breakDown()
      readable(t, await app.inject({ url: '/count', headers: { origin } }))
    }
  )

  const can = first === 'cors' ? 'can' : 'cannot'
  overStores(
    t,
    `the app ${can} read that a session failed to load, with ${name}`,
    async (t, over) => {
      const app = await api(t, over, first)
      const id = carriedBy(await app.inject('/count')).header as string
      over.breakDown()
      const down = await app.inject({ url: '/count', headers: { origin, 'x-session-id': id } })
      if (first === 'cors') readable(t, down)
      // The hook that fails is the last that runs.
      else t.equal(down.headers['access-control-allow-origin'], undefined)
    }
  )
}

function readable(t: Test, down: LightMyRequestResponse): void {
  t.same([down.statusCode, down.json().code], [503, 'HOLDFAST_STORE_FAILED'])
  t.match(down.headers, {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true'
  })
  t.same(setCookies(down), [])
  t.ok(varies(down).includes('Origin'))
}

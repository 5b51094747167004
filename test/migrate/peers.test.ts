import { randomBytes, randomUUID } from 'node:crypto'
import { createServer, type RequestListener } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'

import fastifyCookie from '@fastify/cookie'
import { RedisStore as ConnectRedis } from 'connect-redis'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import t, { type Test } from 'tap'

import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { carryOver, type CarryOverOptions, type FormerStore } from '../../lib/migrate/index.ts'
import { RedisStore } from '../../lib/stores/redis.ts'
import { formerSecret, ofExpress, ofFastify } from '../helpers/former.ts'
import { openPool, postgresStore, skipPostgres } from '../helpers/postgres.ts'
import { redis, skipRedis } from '../helpers/redis.ts'
import type { SessionStore } from '../../lib/index.ts'

// What @fastify/session declares of Fastify's request contradicts what this plugin does.
const require = createRequire(import.meta.url)
const fastifySession = require('@fastify/session') as FastifyPluginAsync<Record<string, unknown>>
const expressSession = require('express-session') as {
  (options: object): (request: unknown, reply: unknown, next: () => void) => void
  readonly MemoryStore: new () => FormerStore
}
const connectPgSimple = require('connect-pg-simple') as (
  session: typeof expressSession
) => new (options: object) => Former

/** The session of @fastify/session. */
interface TheirSession {
  user?: string
  regenerate(): Promise<void>
  destroy(): Promise<void>
}

function theirs(request: object): TheirSession {
  return (request as { session: TheirSession }).session
}

type Former = FormerStore & {
  set(sid: string, session: object, callback: (error?: unknown) => void): unknown
}

const count = 1000
const secret = 'a secret of ours that has 32 bytes'

/** An app that has moved in from a former store, on servers whose time is real. */
async function moveIn(
  t: Test,
  store: SessionStore,
  former: Omit<CarryOverOptions, 'secret' | 'cookie'> & Partial<CarryOverOptions>
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, {
    store,
    secret,
    storeTimeout: 60,
    carryOver: carryOver({ cookie: 'connect.sid', secret: formerSecret, ...former })
  })
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  app.get('/logout', async ({ session }) => {
    await session.destroy()
  })
  return app
}

/** Takes a thousand live sessions over, each by four first requests at once. */
async function takeOver(t: Test, former: Former, store: SessionStore): Promise<void> {
  const app = await moveIn(t, store, { store: former })
  const sids = Array.from({ length: count }, () => randomBytes(24).toString('base64url'))
  const cookie = { originalMaxAge: 3_600_000, expires: new Date(Date.now() + 3_600_000) }
  const put = (sid: string): Promise<void> =>
    new Promise((resolve, reject) => {
      former.set(sid, { cookie, user: `user ${sid}` }, (error) => {
        if (error === undefined || error === null) resolve()
        else reject(error as Error)
      })
    })
  await Promise.all(sids.map(put))
  let loggedOut = 0
  let ids = 0
  const visit = async (sid: string, index: number): Promise<void> => {
    const headers = index % 2 === 0 ? ofExpress(sid) : ofFastify(sid)
    const send = async (): Promise<[user: string, id: string | undefined]> => {
      const reply = await app.inject({ url: '/who', headers })
      return [reply.payload, reply.cookies.find(({ name }) => name === 'session_id')?.value]
    }
    const replies = await Promise.all([send(), send(), send(), send()])
    loggedOut += replies.filter(([user]) => user !== `user ${sid}`).length
    ids += new Set(replies.map(([, id]) => id)).size
  }
  for (let from = 0; from < count; from += 50) {
    await Promise.all(sids.slice(from, from + 50).map((sid, index) => visit(sid, index)))
  }
  t.equal(loggedOut, 0, 'nobody is logged out')
  t.equal(ids, count, 'each goes on under one id')
  const left = await Promise.all(
    sids.map(
      (sid) =>
        new Promise((resolve) => {
          former.get(sid, (_error, session: unknown) => resolve(session ?? undefined))
        })
    )
  )
  t.same(
    left.filter((session) => session !== undefined),
    [],
    'no former session is left'
  )
}

t.test('P8: a thousand sessions of connect-redis, 0 logouts', { skip: skipRedis }, async (t) => {
  const client = await redis()
  const former = new ConnectRedis({ client, prefix: `former:${randomUUID()}:` })
  const store = new RedisStore({ client, prefix: `ours:${randomUUID()}:` })
  await takeOver(t, former as unknown as Former, store)
})

t.test(
  'P8: a thousand sessions of connect-pg-simple, 0 logouts',
  { skip: skipPostgres },
  async (t) => {
    const pool = await openPool(t)
    const PgStore = connectPgSimple(expressSession)
    const former = new PgStore({ pool, createTableIfMissing: true, pruneSessionInterval: false })
    const { store } = await postgresStore(undefined, pool)
    await takeOver(t, former as unknown as Former, store)
  }
)

t.test(
  'P8: beside @fastify/session on connect-redis, 0 logouts',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const former = new ConnectRedis({ client, prefix: `former:${randomUUID()}:` })
    const formerSecret = 'a former secret that has 32 bytes at least'
    const old = Fastify()
    t.teardown(() => old.close())
    await old.register(fastifyCookie)
    await old.register(fastifySession, {
      secret: formerSecret,
      cookie: { secure: false, maxAge: 3_600_000 },
      store: former as never
    })
    old.get<{ Params: { user: string } }>('/login/:user', async (request) => {
      await request.session.regenerate()
      request.session.set('user' as never, request.params.user as never)
    })
    old.get('/who', async ({ session }) => session.get('user' as never) ?? 'nobody')
    old.get('/logout', async ({ session }) => session.destroy())
    const store = new RedisStore({ client, prefix: `ours:${randomUUID()}:` })
    const app = await moveIn(t, store, {
      cookie: 'sessionId',
      secret: formerSecret,
      store: former as unknown as FormerStore,
      sideBySide: true
    })
    const wrong: string[] = []
    const browse = async (user: string): Promise<void> => {
      const cookies: Record<string, string> = {}
      const send = async (side: FastifyInstance, url: string): Promise<string> => {
        const reply = await side.inject({ url, cookies: { ...cookies } })
        for (const { name, value } of reply.cookies) cookies[name] = value
        return reply.payload
      }
      await send(old, `/login/${user}`)
      const seen = await Promise.all([app, old, app, app].map((side) => send(side, '/who')))
      seen.push(await send(old, '/who'), await send(app, '/who'))
      if (seen.some((each) => each !== user)) wrong.push(`${user}: ${seen.join()}`)
      const [first, second] = user.endsWith('0') ? [app, old] : [old, app]
      await send(first, '/logout')
      const after = await send(second, '/who')
      if (after !== 'nobody') wrong.push(`${user} after the logout: ${after}`)
    }
    for (let from = 0; from < 100; from += 20) {
      const users = Array.from({ length: 20 }, (_, index) => `user-${from + index}`)
      await Promise.all(users.map(browse))
    }
    t.same(wrong, [])
  }
)

t.test('beside express-session itself', async (t) => {
  const former = new expressSession.MemoryStore()
  const middleware = expressSession({
    secret: formerSecret,
    store: former,
    resave: false,
    saveUninitialized: false
  })
  const serveIt: RequestListener = (request, reply) =>
    middleware(request, reply, () => {
      if (request.url === '/login') theirs(request).user = 'ada'
      reply.end(theirs(request).user ?? 'nobody')
    })
  const server = createServer(serveIt)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const login = await fetch(`${address}/login`)
  const cookie = login.headers.get('set-cookie')?.split(';', 1)[0] as string
  t.match(cookie, /^connect\.sid=s%3A/)
  const app = await moveIn(t, new MemoryStore(), { store: former, sideBySide: true })
  t.equal((await app.inject({ url: '/who', headers: { cookie } })).payload, 'ada')
  t.equal(await (await fetch(address, { headers: { cookie } })).text(), 'ada')
  await app.inject({ url: '/logout', headers: { cookie } })
  t.equal(await (await fetch(address, { headers: { cookie } })).text(), 'nobody')
})

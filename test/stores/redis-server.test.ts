import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { type SessionOptions, type SessionRecord } from '../../lib/index.ts'
import { RedisStore, type RedisStoreOptions } from '../../lib/stores/redis.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser } from '../helpers/browser.ts'
import { startProxy } from '../helpers/proxy.ts'
import { connect, redis, redisStore, redisUrl, skipOwnServer, skipRedis, startRedis } from '../helpers/redis.ts'
import { addRoutes } from '../helpers/serve.ts'
import { waits } from '../helpers/waits.ts'

const hour = 3_600_000
const key = 'q1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyBg'

function record(over: Partial<SessionRecord> = {}): SessionRecord {
  const now = Date.now()
  return { data: '{"a":"old"}', version: 'v1', createdAt: now, expiresAt: now + hour, ...over }
}

async function serve(t: Test, options: SessionOptions): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, options)
  return addRoutes(app)
}

function prefix(): string {
  return `test:${crypto.randomUUID()}:`
}

t.test('S20: a session is one key, the prefix and the public id, which dies with it; the server holds no id', { skip: skipRedis }, async (t) => {
  const client = await redis()
  const mine = prefix()
  const app = await serve(t, { store: new RedisStore({ client, prefix: mine }) })
  const browser = new Browser(app)
  await browser.get('/write/value')
  const id = browser.cookies.get('session_id') as string
  const keys = await client.keys(`${mine}*`)
  t.same(keys, [mine + app.sessions.publicIdOf(id)])
  t.notMatch(`${keys} ${await client.get(keys[0])}`, id)
  const left = await client.pTTL(keys[0])
  t.ok(left <= hour && left > hour - 60_000, `lives ${left} ms`)
  await browser.get('/logout')
  t.same(await client.keys(`${mine}*`), [])
})

t.test('S21: sessions of two prefixes, and of two names under one prefix, are not interchangeable', { skip: skipRedis }, async (t) => {
  const client = await redis()
  const mine = prefix()
  const one = await serve(t, { store: new RedisStore({ client, prefix: mine }) })
  const others = [
    await serve(t, { store: new RedisStore({ client, prefix: prefix() }) }),
    await serve(t, { store: new RedisStore({ client, prefix: mine }), sessionName: 'session', sessionCookie: 'session_id' })
  ]
  const named = Fastify()
  t.teardown(() => named.close())
  await named.register(sessionPlugin, { store: new RedisStore({ client, prefix: mine }), sessionName: 'admin', sessionCookie: 'session_id', sessionHeader: false })
  named.get('/read', async (request) => ({ ...(request as unknown as { admin: object }).admin }))
  const browser = new Browser(one)
  await browser.get('/write/secret')
  const headers = { cookie: `session_id=${browser.cookies.get('session_id')}` }
  t.same((await others[0].inject({ url: '/read', headers })).json(), {}, 'another prefix')
  t.same((await others[1].inject({ url: '/read', headers })).json(), { a: 'secret' }, 'the same prefix and name')
  t.same((await named.inject({ url: '/read', headers })).json(), {}, 'another name')
})

for (const library of ['redis', 'ioredis']) {
  for (const [what, url, expected, options] of waits) {
    t.test(`${what} waits for the server ${expected === 1 ? 'once' : `${expected} times`}, on ${library}`, { skip: skipRedis }, async (t) => {
      const proxy = await startProxy(t, Number(new URL(await redisUrl()).port))
      const address = `redis://127.0.0.1:${proxy.port}`
      const client = library === 'redis' ? await connect(t, address) : new Redis(address)
      if (client instanceof Redis) t.teardown(() => { client.disconnect() })
      const store = new RedisStore({ client, prefix: prefix() })
      const app = await serve(t, { store, ...options })
      const browser = new Browser(app)
      await browser.get('/write/old')
      // The server learns each script from its first call.
      await store.create(key, record())
      await store.update(key, record({ version: 'v2' }), 'v1')
      await store.touch(key, 0)
      await store.delete(key)
      const before = proxy.roundTrips
      t.equal((await browser.get(url)).statusCode, 200)
      t.equal(proxy.roundTrips - before, expected)
    })
  }
}

t.test('a request that opted out, a 404 and one with an id of the wrong form ask the server nothing', { skip: skipRedis }, async (t) => {
  const proxy = await startProxy(t, Number(new URL(await redisUrl()).port))
  const client = await connect(t, `redis://127.0.0.1:${proxy.port}`)
  const app = await serve(t, { store: new RedisStore({ client, prefix: prefix() }) })
  app.get('/health', { config: { session: false } }, async () => 'ok')
  const before = proxy.roundTrips
  for (const url of ['/health', '/nowhere']) await app.inject({ url })
  await app.inject({ url: '/read', headers: { cookie: 'session_id=short' } })
  t.equal(proxy.roundTrips, before)
})

t.test('a server that has forgotten its scripts is told them again', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const client = await connect(t, server.url)
  const store = new RedisStore({ client })
  const verbs: ReadonlyArray<() => Promise<unknown>> = [
    async () => t.equal(await store.create(key, record()), true),
    async () => t.match(await store.get(key), { version: 'v1' }),
    async () => t.equal(await store.update(key, record({ version: 'v2' }), 'v1'), true),
    async () => t.ok(await store.touch(key, Date.now() + 2 * hour)),
    async () => t.match(await store.delete(key), { version: 'v2' })
  ]
  for (const verb of verbs) {
    await client.scriptFlush()
    await verb()
  }
})

t.test('clocks of apps that are hours off do not matter: lives and ages are counted by the server', { skip: skipRedis }, async (t) => {
  const client = await redis()
  const mine = prefix()
  const [ahead, behind] = [new TestClock(Date.now() + 3 * hour), new TestClock(Date.now() - 3 * hour)]
  const [one, other] = [ahead, behind].map((clock) => new RedisStore({ client, prefix: mine, clock }))
  const given = record({ createdAt: ahead.now() - 60_000, expiresAt: ahead.now() + hour })
  t.equal(await one.create(key, given), true)
  const near = (actual: number | undefined, expected: number, what: string): void => {
    t.ok(actual !== undefined && Math.abs(actual - expected) < 10_000, `${what}: ${actual} is about ${expected}`)
  }
  const read = await other.get(key)
  near(read?.createdAt, behind.now() - 60_000, 'createdAt')
  near(read?.expiresAt, behind.now() + hour, 'expiresAt')
  t.equal(await other.update(key, record({ version: 'v2', createdAt: behind.now(), expiresAt: behind.now() + hour / 2 }), 'v1'), true)
  near((await one.get(key))?.createdAt, given.createdAt, 'createdAt, after an update by the other')
  near((await one.get(key))?.expiresAt, given.expiresAt, 'expiresAt, which no write shortens')
  near(await other.touch(key, behind.now() + 2 * hour), behind.now() + 2 * hour, 'what touch answers')
  near((await one.delete(key))?.expiresAt, ahead.now() + 2 * hour, 'expiresAt, after a touch by the other')
})

t.test('an age is not lost by writing often', { skip: skipRedis }, async (t) => {
  const store = new RedisStore({ client: await redis(), prefix: prefix() })
  await store.create(key, record({ createdAt: Date.now() - hour }))
  const first = await store.get(key) as SessionRecord
  let last = first
  for (let n = 0; n < 50; n += 1) {
    await store.update(key, { ...last, version: `w${n}` }, last.version)
    last = await store.get(key) as SessionRecord
  }
  // What is read is off by what one call took, however many there were.
  t.ok(Math.abs(last.createdAt - first.createdAt) < 100, `moved by ${last.createdAt - first.createdAt} ms`)
})

const foreign: Record<string, (client: Awaited<ReturnType<typeof redis>>, name: string) => Promise<unknown>> = {
  'the session of another library': (client, name) => client.set(name, '{"cookie":{"maxAge":3600}}', { EX: 3600 }),
  'a text without an expiry': (client, name) => client.set(name, '1764000000000  v1 {}'),
  'an empty text': (client, name) => client.set(name, '', { EX: 3600 }),
  'a list': (client, name) => client.rPush(name, 'entry'),
  'a hash': (client, name) => client.hSet(name, 'version', 'v1')
}
for (const [what, put] of Object.entries(foreign)) {
  t.test(`S27: ${what} under the key of a session is no session, and stays as it is`, { skip: skipRedis }, async (t) => {
    const client = await redis()
    const mine = prefix()
    const store = new RedisStore({ client, prefix: mine })
    await put(client, mine + key)
    const before = await client.dump(mine + key)
    t.equal(await store.get(key), undefined)
    t.equal(await store.create(key, record()), false)
    t.equal(await store.update(key, record({ version: 'v2' }), 'v0'), false)
    t.same(await client.dump(mine + key), before)
    const app = await serve(t, { store })
    const id = 'an-id-that-a-client-brings-along'
    await put(client, mine + app.sessions.publicIdOf(id))
    const reply = await app.inject({ url: '/write/new', headers: { cookie: `session_id=${id}` } })
    t.equal(reply.statusCode, 200)
    t.not(reply.cookies[0]?.value, id)
  })
}

t.test('a user of the server who may do only what the page lists can keep sessions', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const admin = await connect(t, server.url)
  await admin.sendCommand(['ACL', 'SETUSER', 'app', 'on', '>secret', '~sess:*', '+eval', '+evalsha', '+get', '+getrange', '+set', '+pttl', '+pexpire', '+del', '+time'])
  const client = createClient({ url: server.url, username: 'app', password: 'secret' })
  t.teardown(() => { client.destroy() })
  await client.connect()
  const store = new RedisStore({ client })
  t.equal(await store.create(key, record()), true)
  t.equal(await store.update(key, record({ version: 'v2' }), 'v1'), true)
  t.ok(await store.touch(key, Date.now() + 2 * hour))
  t.match(await store.get(key), { version: 'v2' })
  t.match(await store.delete(key), { version: 'v2' })
})

t.test('S38: what ioredis keeps on its errors of the command that failed does not reach a log', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const admin = await connect(t, server.url)
  const client = new Redis(server.url)
  t.teardown(() => { client.disconnect() })
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { store: new RedisStore({ client }) })
  app.setErrorHandler((error, request, reply) => {
    request.log.error({ err: error, cause: (error as Error).cause }, 'failed')
    return reply.code(503).send({})
  })
  addRoutes(app)
  await admin.configSet('maxmemory', '1')
  const reply = await app.inject({ url: '/write/the-secret-of-a-user' })
  t.equal(reply.statusCode, 503)
  t.match(lines.join(''), 'OOM', 'the cause is there')
  t.notMatch(lines.filter((line) => !line.includes('"req":')).join(''), 'the-secret-of-a-user')
})

const wrong: Record<string, RedisStoreOptions> = {
  'client must be': { client: undefined as never },
  'client must be a client': { client: { get() {} } as never },
  'prefix must be a string': { client: { eval() {}, evalSha() {} } as never, prefix: 7 as never },
  'maxPending must be': { client: { eval() {}, evalSha() {} } as never, maxPending: 0 }
}
for (const [message, options] of Object.entries(wrong)) {
  t.test(`a wrong option is refused: ${message}`, async (t) => {
    t.throws(() => new RedisStore(options), { code: 'HOLDFAST_OPTION_INVALID', message })
  })
}

t.test('the records of a store age by the clock of the test and of the server alike', { skip: skipRedis }, async (t) => {
  const clock = new TestClock()
  const { store, advance } = await redisStore(clock)
  const given = { ...record(), createdAt: clock.now(), expiresAt: clock.now() + hour }
  await store.create(key, given)
  await advance(hour / 2)
  t.ok(Math.abs((await store.get(key) as SessionRecord).expiresAt - given.expiresAt) < 10_000)
  await advance(hour / 2)
  t.equal(await store.get(key), undefined)
})

import type { FastifyInstance } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis-5'
import { Cluster as ValkeyCluster, Redis as Valkey } from 'iovalkey'
import { createClient, createClientPool, createCluster } from 'redis'
import { createClient as createClient5, createCluster as createCluster5 } from 'redis-5'
import t, { type Test } from 'tap'

import type { SessionStore } from '../../lib/index.ts'
import { PostgresStore } from '../../lib/stores/postgres.ts'
import { RedisStore, type NodeRedisClient, type RedisClient } from '../../lib/stores/redis.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { openPool, postgresStore, skipPostgres } from '../helpers/postgres.ts'
import { startProxy } from '../helpers/proxy.ts'
import {
  connect,
  redisUrl,
  skipOwnServer,
  skipRedis,
  startCluster,
  startRedis
} from '../helpers/redis.ts'
import { serve } from '../helpers/serve.ts'
import { ended, endOf } from '../helpers/signals.ts'
import { nextTurn } from '../helpers/stores.ts'

/** One of the processes of an app, as far as sessions are concerned. */
interface Process {
  readonly app: FastifyInstance
  readonly clock: TestClock
  readonly signals: AbortSignal[]
}

/** Starts one. Its clock stands still, so that nothing is looked at but for a notice. */
async function start(
  t: Test,
  open: (clock: TestClock) => SessionStore | Promise<SessionStore>
): Promise<Process> {
  const clock = new TestClock()
  const store = await open(clock)
  const signals: AbortSignal[] = []
  // Nor does a call of the store take too long by it.
  const { app } = await serve(t, { store, clock, storeTimeout: 1e6 })
  app.get('/wait', async ({ session }, reply) => {
    signals.push(session.signal)
    reply.hijack()
  })
  app.get('/end', async ({ session }) => session.destroy())
  return { app, clock, signals }
}

/** Signs in, and waits for the end on the first process. */
async function wait(
  { app, signals }: Process,
  begin = '/sign-in-ada'
): Promise<{ cookie: string; signal: AbortSignal }> {
  const reply = await app.inject(begin)
  const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
  void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  const count = signals.length
  while (signals.length === count) await nextTurn()
  await nextTurn()
  // What is asked after the first look is answered after it.
  await app.inject({ url: '/look-away', headers: { cookie } })
  return { cookie, signal: signals.at(-1) as AbortSignal }
}

/** Waits until a subscription is there: nothing else can tell. */
async function subscribed(count: () => Promise<number>): Promise<void> {
  while ((await count()) === 0) await nextTurn()
}

/** Ends sessions in the other process in each way that there is, and hears of it in the first. */
async function hearsEach(
  t: Test,
  one: Process,
  other: Process,
  ready: () => Promise<void>
): Promise<void> {
  const ways: ReadonlyArray<readonly [string, (cookie: string) => Promise<unknown>, string]> = [
    [
      'destroy()',
      (cookie) => other.app.inject({ url: '/end', headers: { cookie } }),
      'HOLDFAST_SESSION_DESTROYED'
    ],
    ['destroyAll()', () => other.app.sessions.destroyAll('ada'), 'HOLDFAST_SESSIONS_DESTROYED'],
    [
      'destroy(handle)',
      async () => {
        const { sessions } = await other.app.sessions.list('ada')
        for (const { publicId } of sessions) await other.app.sessions.destroy(publicId)
      },
      'HOLDFAST_SESSION_DESTROYED'
    ],
    [
      'a step-up, and then destroy()',
      async (cookie) => {
        const moved = await other.app.inject({ url: '/step-up-all', headers: { cookie } })
        const next = String(moved.headers['set-cookie']).split(';')[0] as string
        await other.app.inject({ url: '/end', headers: { cookie: next } })
      },
      'HOLDFAST_SESSION_DESTROYED'
    ],
    [
      'destroyEverything()',
      () => other.app.sessions.destroyEverything(),
      'HOLDFAST_SESSIONS_DESTROYED'
    ]
  ]
  // The one that begins meets the subscription, after which all are looked at: who ended it may be
  // told too late.
  const before = await wait(one)
  await ready()
  await other.app.inject({ url: '/end', headers: { cookie: before.cookie } })
  await ended(before.signal)
  for (const [name, end, code] of ways) {
    const { cookie, signal } = await wait(one)
    await end(cookie)
    await ended(signal)
    t.equal(endOf(signal), code, name)
  }
  // It is watched here under a key that is no subject's.
  const { cookie, signal } = await wait(one, '/write/value')
  const signedIn = await other.app.inject({ url: '/sign-in-ada', headers: { cookie } })
  t.equal(signedIn.statusCode, 200)
  await other.app.sessions.destroyAll('ada')
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSIONS_DESTROYED', 'a sign-in, and then destroyAll()')
}

/** How a client is made and closed. */
type Open = (t: Test, port: number) => Promise<RedisClient>

function closing<Client extends RedisClient>(
  t: Test,
  client: Client,
  close: () => unknown
): Client {
  t.teardown(() => {
    close()
  })
  return client
}

const clients: Readonly<Record<string, Open>> = {
  async 'redis 6'(t, port) {
    const client = createClient({
      url: `redis://127.0.0.1:${port}`,
      socket: { reconnectStrategy: 20 }
    })
    client.on('error', () => {})
    await client.connect()
    return closing(t, client as never as RedisClient, () => client.destroy())
  },
  async 'redis 5'(t, port) {
    const client = createClient5({
      url: `redis://127.0.0.1:${port}`,
      socket: { reconnectStrategy: 20 }
    })
    client.on('error', () => {})
    await client.connect()
    return closing(t, client as never as RedisClient, () => client.destroy())
  },
  async 'ioredis 6'(t, port) {
    const client = new Redis(port, { retryStrategy: () => 20, autoResubscribe: false })
    client.on('error', () => {})
    return closing(t, client, () => client.disconnect())
  },
  async 'ioredis 6 with a prefix of its own'(t, port) {
    const client = new Redis(port, { keyPrefix: 'app:', retryStrategy: () => 20 })
    client.on('error', () => {})
    return closing(t, client, () => client.disconnect())
  },
  async 'ioredis 5, connected late'(t, port) {
    const client = new Redis5(port, { lazyConnect: true, retryStrategy: () => 20 })
    client.on('error', () => {})
    return closing(t, client, () => client.disconnect())
  },
  async iovalkey(t, port) {
    const client = new Valkey(port, { retryStrategy: () => 20 })
    client.on('error', () => {})
    return closing(t, client as RedisClient, () => client.disconnect())
  }
}

/** How many subscribe to the channel of a prefix. */
async function subscribers(port: number): Promise<number> {
  const client = createClient({ url: `redis://127.0.0.1:${port}` })
  await client.connect()
  const channels = await client.pubSubChannels()
  client.destroy()
  return channels.filter((name) => name.endsWith('ends')).length
}

for (const [name, open] of Object.entries(clients)) {
  t.test(
    `P12: an end is heard in another process (${name})`,
    { skip: skipOwnServer },
    async (t) => {
      const server = await startRedis(t)
      const proxy = await startProxy(t, server.port)
      const [one, other] = [
        await start(
          t,
          async (clock) => new RedisStore({ client: await open(t, proxy.port), clock })
        ),
        await start(
          t,
          async (clock) => new RedisStore({ client: await open(t, server.port), clock })
        )
      ]
      const ready = (): Promise<void> => subscribed(() => subscribers(server.port))
      await hearsEach(t, one, other, ready)
      const first = await wait(one)
      // What is sent while the connection is cut is lost; the subscription comes again by itself.
      proxy.freeze()
      await other.app.inject({ url: '/end', headers: { cookie: first.cookie } })
      proxy.cut()
      await ended(first.signal)
      t.equal(endOf(first.signal), 'HOLDFAST_SESSION_GONE')
      await hearsEach(t, one, other, ready)
      await one.app.close()
      while ((await subscribers(server.port)) > 0) await nextTurn()
      t.pass('the subscription closes with the app')
    }
  )
}

t.test(
  'P12: a frozen connection delays an end by two seconds',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const proxy = await startProxy(t, server.port)
    const client = await (clients['redis 6'] as Open)(t, server.port)
    const subscriber = await (clients['redis 6'] as Open)(t, proxy.port)
    const one = await start(t, (clock) => new RedisStore({ client, subscriber, clock }))
    const other = await start(t, (clock) => new RedisStore({ client, clock }))
    const { cookie, signal } = await wait(one)
    await subscribed(() => subscribers(server.port))
    proxy.freeze()
    await other.app.inject({ url: '/end', headers: { cookie } })
    t.equal(endOf(signal), undefined)
    one.clock.advance(2000)
    await ended(signal)
    proxy.thaw()
    await one.app.close()
    while ((await subscribers(server.port)) > 0) await nextTurn()
    t.equal(await (subscriber as ReturnType<typeof createClient>).ping(), 'PONG', 'it stays open')
  }
)

t.test('P12: a pool cannot subscribe, and hears in two seconds', { skip: skipRedis }, async (t) => {
  const pool = createClientPool({ url: await redisUrl() })
  await pool.connect()
  t.teardown(() => pool.destroy())
  const client = pool as unknown as RedisClient
  const one = await start(t, (clock) => new RedisStore({ client, clock }))
  const other = await start(t, (clock) => new RedisStore({ client, clock }))
  const { cookie, signal } = await wait(one)
  await other.app.inject({ url: '/end', headers: { cookie } })
  one.clock.advance(2000)
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
})

t.test('P12: a subscription that fails is tried again', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const client = await (clients['ioredis 6'] as Open)(t, server.port)
  const subscriber = (await (clients['ioredis 6'] as Open)(t, server.port)) as Redis
  let refusals = 0
  const subscribe = subscriber.subscribe.bind(subscriber)
  subscriber.subscribe = async (...given: unknown[]) => {
    refusals += 1
    if (refusals < 3) throw new Error('not now')
    return subscribe(...(given as string[]))
  }
  const one = await start(t, (clock) => new RedisStore({ client, subscriber, clock }))
  const { signal, cookie } = await wait(one)
  while (refusals < 3) {
    one.clock.advance(100)
    await nextTurn()
  }
  await subscribed(() => subscribers(server.port))
  await one.app.inject({ url: '/end', headers: { cookie } })
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
})

const givingUp: Readonly<Record<string, Open>> = {
  async 'redis 6'(t, port) {
    const client = createClient({
      url: `redis://127.0.0.1:${port}`,
      socket: { reconnectStrategy: false }
    })
    client.on('error', () => {})
    await client.connect()
    return closing(t, client as never as RedisClient, () => client.destroy())
  },
  async 'ioredis 6'(t, port) {
    const client = new Redis(port, { retryStrategy: () => null })
    client.on('error', () => {})
    return closing(t, client, () => client.disconnect())
  }
}
for (const [name, open] of Object.entries(givingUp)) {
  t.test(
    `P12: a client that gives up is replaced (${name})`,
    { skip: skipOwnServer },
    async (t) => {
      const server = await startRedis(t)
      const admin = await connect(t, server.url)
      const client = await open(t, server.port)
      const one = await start(t, (clock) => new RedisStore({ client, clock }))
      const { signal, cookie } = await wait(one)
      for (let time = 0; time < 2; time += 1) {
        await subscribed(() => subscribers(server.port))
        await admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub'])
        while ((await subscribers(server.port)) > 0) await nextTurn()
        while ((await subscribers(server.port)) === 0) {
          one.clock.advance(500)
          await nextTurn()
        }
      }
      t.equal(endOf(signal), undefined)
      await one.app.inject({ url: '/end', headers: { cookie } })
      await one.app.close()
      while ((await subscribers(server.port)) > 0) await nextTurn()
      t.equal(await connections(admin, 'default'), 2, 'the two of the test are left')
    }
  )
}

/** How many connections a user has. */
async function connections(admin: Admin, user: string): Promise<number> {
  const list = (await admin.sendCommand(['CLIENT', 'LIST'])) as unknown as string
  return list.split('\n').filter((line) => line.includes(` user=${user} `)).length
}

type Admin = Awaited<ReturnType<typeof connect>>

t.test(
  'P12: a store that may not subscribe connects no more once its app has closed',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const admin = await connect(t, server.url)
    const acl = ['ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '+@all', 'resetchannels']
    await admin.sendCommand(acl)
    const client = createClient({ url: server.url, username: 'app', password: 'secret' })
    await client.connect()
    closing(t, client as never as RedisClient, () => client.destroy())
    const one = await start(
      t,
      (clock) => new RedisStore({ client: client as never as RedisClient, clock })
    )
    const refusals = async (): Promise<number> =>
      ((await admin.sendCommand(['ACL', 'LOG'])) as unknown[]).length
    const { signal, cookie } = await wait(one)
    while ((await refusals()) === 0) await nextTurn()
    await one.app.inject({ url: '/end', headers: { cookie } })
    t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
    await one.app.close()
    for (let turn = 0; turn < 100; turn += 1) {
      one.clock.advance(500)
      await nextTurn()
    }
    t.equal(await connections(admin, 'app'), 1)
  }
)

t.test('P12: an end is heard in a cluster', { skip: skipOwnServer }, async (t) => {
  const { ports } = await startCluster(t)
  const addresses = ports.map((port) => ({ host: '127.0.0.1', port }))
  const rootNodes = ports.map((port) => ({ url: `redis://127.0.0.1:${port}` }))
  const clusters: Readonly<Record<string, () => Promise<RedisClient>>> = {
    'redis 6': async () => {
      const cluster = createCluster({ rootNodes })
      await cluster.connect()
      return closing(t, cluster as never as RedisClient, () => cluster.destroy())
    },
    'redis 5': async () => {
      const cluster = createCluster5({ rootNodes })
      await cluster.connect()
      return closing(t, cluster as never as RedisClient, () => cluster.destroy())
    },
    'ioredis 6': async () => {
      const cluster = new Cluster(addresses)
      return closing(t, cluster as RedisClient, () => cluster.disconnect())
    },
    'ioredis 5': async () => {
      const cluster = new Cluster5(addresses)
      return closing(t, cluster as RedisClient, () => cluster.disconnect())
    },
    iovalkey: async () => {
      const cluster = new ValkeyCluster(addresses)
      return closing(t, cluster as RedisClient, () => cluster.disconnect())
    }
  }
  for (const [name, open] of Object.entries(clusters)) {
    await t.test(name, async (t) => {
      const prefix = `${name}:`
      const [one, other] = [
        await start(t, async (clock) => new RedisStore({ client: await open(), prefix, clock })),
        await start(t, async (clock) => new RedisStore({ client: await open(), prefix, clock }))
      ]
      const count = async (): Promise<number> =>
        (await Promise.all(ports.map((port) => subscribers(port)))).reduce(
          (sum, each) => sum + each
        )
      await hearsEach(t, one, other, () => subscribed(count))
      await one.app.close()
    })
  }
})

t.test(
  'P12: an end is heard in another process (PostgreSQL)',
  { skip: skipPostgres },
  async (t) => {
    const first = await openPool(t)
    const name = crypto.randomUUID()
    const second = await openPool(t, {}, { ...first.options, max: 1, application_name: name })
    const { table } = await postgresStore(undefined, first)
    const listeners = async (): Promise<number> => {
      const { rows } = await first.query<{ pid: number }>(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND application_name = $1",
        [name]
      )
      return rows.length
    }
    // Of the pool no connection is taken: one of one is enough.
    const one = await start(t, (clock) => new PostgresStore({ pool: second, table, clock }))
    const other = await start(t, (clock) => new PostgresStore({ pool: first, table, clock }))
    const ready = (): Promise<void> => subscribed(listeners)
    await hearsEach(t, one, other, ready)
    // The server ends the connection; another one comes after a pause.
    const { cookie, signal } = await wait(one)
    await first.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND application_name = $1",
      [name]
    )
    while ((await listeners()) > 0) await nextTurn()
    await other.app.inject({ url: '/end', headers: { cookie } })
    t.equal(endOf(signal), undefined)
    while (!signal.aborted) {
      one.clock.advance(100)
      await nextTurn()
    }
    await hearsEach(t, one, other, ready)
    const { rows } = await first.query<{ schema: string }>('SELECT current_schema() AS schema')
    const spelt = `${rows[0]?.schema}.${table}`
    const third = await start(t, (clock) => new PostgresStore({ pool: first, table: spelt, clock }))
    const last = await wait(one)
    await third.app.inject({ url: '/end', headers: { cookie: last.cookie } })
    await ended(last.signal)
    t.equal(endOf(last.signal), 'HOLDFAST_SESSION_DESTROYED', 'however the table is spelt')
    await one.app.close()
    while ((await listeners()) > 0) await nextTurn()
  }
)

t.test('P12: a first attempt that fails is not the last', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const real = (await (clients['redis 6'] as Open)(t, server.port)) as NodeRedisClient
  let failures = 0
  const client = new Proxy(real, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (key !== 'withCommandOptions' && typeof value === 'function') {
        return (value as (...given: unknown[]) => unknown).bind(target)
      }
      return key === 'withCommandOptions' ? () => failing : value
    }
  })
  const failing = {
    eval: real.eval.bind(real),
    evalSha: async (...given: Parameters<NodeRedisClient['evalSha']>) => {
      const [, { keys, arguments: args }] = given
      if (keys.length === 1 && args.length === 0 && keys[0] === 'sess:' && failures < 1) {
        failures += 1
        throw new Error('LOADING')
      }
      return real.evalSha(...given)
    }
  }
  const one = await start(t, (clock) => new RedisStore({ client, clock }))
  const { signal, cookie } = await wait(one)
  while (failures === 0) await nextTurn()
  while ((await subscribers(server.port)) === 0) one.clock.advance(500)
  await one.app.inject({ url: '/end', headers: { cookie } })
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
})

for (const name of ['redis 6', 'ioredis 6']) {
  t.test(
    `an app closes though its subscriber has (${name})`,
    { skip: skipOwnServer },
    async (t) => {
      const server = await startRedis(t)
      const client = await (clients['redis 6'] as Open)(t, server.port)
      const subscriber = await (clients[name] as Open)(t, server.port)
      const stores = (clock: TestClock): RedisStore => new RedisStore({ client, subscriber, clock })
      const [one, other] = [await start(t, stores), await start(t, stores)]
      await wait(one)
      const { signal, cookie } = await wait(other)
      await subscribed(() => subscribers(server.port))
      await one.app.close()
      await other.app.inject({ url: '/look-away', headers: { cookie } })
      t.equal(await subscribers(server.port), 1, 'another app has the same')
      ;(subscriber as unknown as { destroy?(): void; disconnect(): void })[
        name === 'redis 6' ? 'destroy' : 'disconnect'
      ]?.()
      await other.app.close()
      t.equal(endOf(signal), undefined)
    }
  )
}

t.test(
  'P12: of 200 that wait none is left, whatever happens',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const proxy = await startProxy(t, server.port)
    const client = await (clients['redis 6'] as Open)(t, server.port)
    const subscriber = await (clients['ioredis 6'] as Open)(t, proxy.port)
    const one = await start(t, (clock) => new RedisStore({ client, subscriber, clock }))
    const other = await start(t, (clock) => new RedisStore({ client, clock }))
    const open = async (): Promise<AbortSignal[]> => {
      const opened = []
      for (let count = 0; count < 200; count += 1) opened.push((await wait(one)).signal)
      return opened
    }
    const left = (signals: readonly AbortSignal[]): number =>
      signals.filter(({ aborted }) => !aborted).length
    const first = await open()
    await subscribed(() => subscribers(server.port))
    // Every message is lost, and nobody is told.
    proxy.freeze()
    await other.app.sessions.destroyAll('ada')
    t.equal(left(first), 200)
    one.clock.advance(2000)
    await Promise.all(first.map(ended))
    proxy.thaw()
    const second = await open()
    server.freeze()
    one.clock.advance(2000)
    for (let turn = 0; turn < 100; turn += 1) await nextTurn()
    t.equal(left(second), 200, 'a server that does not answer ends nobody')
    server.thaw()
    await other.app.sessions.destroyAll('ada')
    await Promise.all(second.map(ended))
    const third = await open()
    // It keeps nothing: all sessions have ended.
    await server.kill()
    for (let turn = 0; turn < 100; turn += 1) await nextTurn()
    t.equal(left(third), 200, 'nor one that is not there')
    await server.start()
    while (left(third) > 0) {
      one.clock.advance(2000)
      for (let turn = 0; turn < 20; turn += 1) await nextTurn()
    }
    t.equal(endOf(third[0] as AbortSignal), 'HOLDFAST_SESSION_GONE')
  }
)

t.test('attack: who may only publish ends no signal', { skip: skipOwnServer }, async (t) => {
  const server = await startRedis(t)
  const client = await (clients['redis 6'] as Open)(t, server.port)
  const one = await start(t, (clock) => new RedisStore({ client, clock }))
  const { cookie, signal } = await wait(one)
  await subscribed(() => subscribers(server.port))
  const key = one.app.sessions.publicIdOf(decodeURIComponent(cookie.split('=')[1] as string))
  const publisher = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
  t.teardown(() => publisher.destroy())
  const [subject] = key.split('.') as [string]
  const forged = [`d${key}`, `m${key} ${'x'.repeat(43)}`, `m${key} `, `a${subject}`, '', 'nonsense']
  for (const message of [...forged, `m${key} ${key}`]) await publisher.publish('sess:ends', message)
  for (let turn = 0; turn < 100; turn += 1) await nextTurn()
  one.clock.advance(2000)
  for (let turn = 0; turn < 100; turn += 1) await nextTurn()
  t.equal(endOf(signal), undefined)
  await one.app.inject({ url: '/end', headers: { cookie } })
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
})

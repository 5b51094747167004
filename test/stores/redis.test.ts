import fastifyRedis from '@fastify/redis'
import Fastify from 'fastify'
import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis-5'
import { Cluster as ValkeyCluster, Redis as Valkey } from 'iovalkey'
import { createClientPool, createCluster } from 'redis'
import { createClient as createClient5, createCluster as createCluster5 } from 'redis-5'
import t, { type Test } from 'tap'

import { RedisStore, type RedisClient } from '../../lib/stores/redis.ts'
import { storeConformance, TestClock } from '../../lib/testing/index.ts'
import {
  connect,
  redisStore,
  redisUrl,
  skipOwnServer,
  skipRedis,
  startCluster
} from '../helpers/redis.ts'

/** Milliseconds by which the server may be behind: what passes between a call and its effect. */
const tolerance = 500

/** Every kind of client that the store takes, as its users make it. */
const clients: Record<string, (t: Test, url: string) => Promise<RedisClient>> = {
  'redis 6': connect,
  'redis 6, a pool': async (t, url) => {
    const pool = createClientPool({ url })
    t.teardown(() => {
      pool.destroy()
    })
    await pool.connect()
    return pool
  },
  'redis 5': async (t, url) => {
    const client = createClient5({ url })
    t.teardown(() => {
      client.destroy()
    })
    return client.connect()
  },
  'ioredis 6': async (t, url) => {
    const client = new Redis(url)
    t.teardown(() => {
      client.disconnect()
    })
    return client
  },
  'ioredis 6, which gives numbers as texts': async (t, url) => {
    const client = new Redis(url, { stringNumbers: true })
    t.teardown(() => {
      client.disconnect()
    })
    return client
  },
  'ioredis 5': async (t, url) => {
    const client = new Redis5(url)
    t.teardown(() => {
      client.disconnect()
    })
    return client
  },
  iovalkey: async (t, url) => {
    const client = new Valkey(url)
    t.teardown(() => {
      client.disconnect()
    })
    return client
  },
  '@fastify/redis': async (t, url) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(fastifyRedis, { url })
    return app.redis
  }
}

t.test(
  "a call on node-redis arms no timer of the client's own: storeTimeout does without",
  { skip: skipRedis },
  async (t) => {
    for (const name of ['redis 6', 'redis 6, a pool']) {
      const client = (await (clients[name] as (typeof clients)[string])(
        t,
        await redisUrl()
      )) as Awaited<ReturnType<typeof connect>>
      const store = new RedisStore({ client, prefix: 'untimed:' })
      const armed = t.capture(AbortSignal, 'timeout', AbortSignal.timeout.bind(AbortSignal))
      await client.get('untimed:')
      t.equal(armed().length, 1, "the client's own calls keep theirs")
      t.equal(await store.get('a'), undefined)
      t.equal(armed().length, 0)
      armed.restore()
    }
  }
)

for (const [name, open] of Object.entries(clients)) {
  t.test(`RedisStore on ${name}`, { skip: skipRedis }, async (t) => {
    const client = await open(t, await redisUrl())
    conform(t, client)
  })
}

/** Holds a store to the contract, on a clock that the records age by. */
function conform(t: Test, client: RedisClient, nodes?: Parameters<typeof redisStore>[2]): void {
  const clock = new TestClock()
  let advance: (milliseconds: number) => unknown
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    tolerance,
    clock: {
      now: () => clock.now(),
      advance: async (milliseconds) => {
        await advance(milliseconds)
      }
    },
    async createStore() {
      const aging = await redisStore(clock, client, nodes)
      ;({ advance } = aging)
      return aging.store
    }
  })
}

t.test('RedisStore, in real time', { skip: skipRedis }, async (t) => {
  const client = await connect(t)
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    tolerance: 200,
    shortLife: 500,
    createStore: () => new RedisStore({ client, prefix: `test:${crypto.randomUUID()}:` })
  })
})

t.test('RedisStore on a cluster of three nodes', { skip: skipOwnServer }, async (t) => {
  const { ports, nodes } = await startCluster(t)
  const addresses = ports.map((port) => ({ host: '127.0.0.1', port }))
  const rootNodes = ports.map((port) => ({ url: `redis://127.0.0.1:${port}` }))
  const clusters: Record<string, (t: Test) => Promise<RedisClient>> = {
    'redis 6': async (t) => {
      const cluster = createCluster({ rootNodes })
      t.teardown(() => {
        cluster.destroy()
      })
      return (await cluster.connect()) as typeof cluster
    },
    'redis 5': async (t) => {
      const cluster = createCluster5({ rootNodes })
      t.teardown(() => {
        cluster.destroy()
      })
      return (await cluster.connect()) as typeof cluster
    },
    'ioredis 6': async (t) => {
      const cluster = new Cluster(addresses)
      t.teardown(() => {
        cluster.disconnect()
      })
      return cluster
    },
    'ioredis 5': async (t) => {
      const cluster = new Cluster5(addresses)
      t.teardown(() => {
        cluster.disconnect()
      })
      return cluster
    },
    iovalkey: async (t) => {
      const cluster = new ValkeyCluster(addresses)
      t.teardown(() => {
        cluster.disconnect()
      })
      return cluster
    }
  }
  for (const [name, open] of Object.entries(clusters)) {
    t.test(name, async (t) => {
      conform(t, await open(t), nodes)
    })
  }
  t.test('P11: on a client that puts a prefix before each key', async (t) => {
    const cluster = new Cluster(addresses, { keyPrefix: 'app:' })
    t.teardown(() => {
      cluster.disconnect()
    })
    await endsEverything(t, cluster)
  })
})

t.test('P11: on a client that puts a prefix before each key', { skip: skipRedis }, async (t) => {
  const client = new Redis(await redisUrl(), { keyPrefix: 'app:' })
  t.teardown(() => {
    client.disconnect()
  })
  await endsEverything(t, client)
})

/** Ends the sessions of all subjects, and of no other store. */
async function endsEverything(t: Test, client: RedisClient): Promise<void> {
  const prefixes = ['', `test:${crypto.randomUUID()}[*]:`]
  const stores = prefixes.map((prefix) => new RedisStore({ client, prefix }))
  const subjects = ['a', 'b', 'c'].map((letter) => letter.repeat(16))
  for (const { subjects: each } of stores) {
    for (const subject of subjects) {
      const stamp = await each.stamp(subject)
      const now = Date.now()
      const record = { data: '', version: 'l1', createdAt: now, expiresAt: now + 60_000 }
      await each.create(`${subject}.${crypto.randomUUID().padStart(43, '0')}`, record, { stamp })
    }
  }
  const live = (): Promise<number[]> =>
    Promise.all(
      stores.map(async ({ subjects: each }) => {
        const pages = await Promise.all(subjects.map((subject) => each.list(subject)))
        return pages.flatMap(({ sessions }) => sessions).length
      })
    )
  t.same(await live(), [3, 3])
  await stores[1]?.subjects.endEverything()
  t.same(await live(), [3, 0])
  await stores[0]?.subjects.endEverything()
  t.same(await live(), [0, 0])
}

t.test(
  'P11: a session that moves while the sessions of its subject are listed is listed',
  { skip: skipRedis },
  async (t) => {
    const client = await connect(t)
    let meanwhile: (() => Promise<unknown>) | undefined
    const evalSha: typeof client.evalSha = async (...args) => {
      const reply = await client.evalSha(...args)
      const work = meanwhile
      meanwhile = undefined
      await work?.()
      return reply
    }
    const watched = { eval: client.eval.bind(client), evalSha } as RedisClient
    const clock = new TestClock()
    const { store } = await redisStore(clock, watched)
    const subject = 's'.repeat(16)
    const [key, successor] = [`${subject}.${'a'.repeat(43)}`, `${subject}.${'b'.repeat(43)}`]
    const expiresAt = clock.now() + 60_000
    const first = { data: '{}', version: 'lineage1.one', createdAt: clock.now(), expiresAt }
    const next = { ...first, version: 'lineage1.two' }
    const stamp = await store.subjects.stamp(subject)
    t.equal(await store.subjects.create(key, first, { stamp }), 'created')
    t.match((await store.subjects.list(subject)).sessions, [{ key, lineage: 'lineage1' }])
    meanwhile = async () =>
      store.subjects.move(key, next, { successor, version: first.version, expiresAt })
    const { sessions } = await store.subjects.list(subject)
    t.match(sessions, [{ key: successor, lineage: 'lineage1', record: { version: next.version } }])
    // It goes on as nobody's.
    const [away, last] = ['c'.repeat(43), { ...first, version: 'lineage2' }]
    meanwhile = async () => {
      await store.create(away, last)
      await store.retire(successor, { successor: away, version: next.version, expiresAt })
    }
    t.same((await store.subjects.list(subject)).sessions, [])
    t.equal((await store.get(away))?.version, last.version)
  }
)

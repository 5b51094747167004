import { setTimeout as pass } from 'node:timers/promises'

import type { SessionStore } from '../../lib/index.ts'

/** What a process is told at its start. */
export interface AppSettings {
  readonly store: StoreName
  readonly url: string
  /** The ports of the nodes, if it is a cluster of Redis. */
  readonly nodes?: readonly number[] | undefined
  /** The folder of the compiled lib: the one under test, or a copy with a planted fault. */
  readonly lib: string
  /** Seconds. */
  readonly storeTimeout: number
}

export type StoreName = 'Redis' | 'PostgreSQL'

/** Opens the store of a process under stress. */
export function openStore(settings: AppSettings): Promise<SessionStore> {
  return settings.store === 'Redis' ? openRedis(settings) : openPostgres(settings)
}

async function openRedis({ lib, url, nodes }: AppSettings): Promise<SessionStore> {
  const { RedisStore } = (await import(
    new URL('stores/redis.js', lib).href
  )) as typeof import('../../lib/stores/redis.ts')
  const { createClient, createCluster } = await import('redis')
  if (nodes !== undefined) {
    const rootNodes = nodes.map((port) => ({ url: `redis://127.0.0.1:${port}` }))
    const cluster = createCluster({ rootNodes })
    cluster.on('error', () => {})
    await cluster.connect()
    return new RedisStore({ client: cluster })
  }
  const client = createClient({ url, socket: { reconnectStrategy: 20 } })
  client.on('error', () => {})
  await client.connect()
  return new RedisStore({ client })
}

async function openPostgres({ lib, url }: AppSettings): Promise<SessionStore> {
  const { PostgresStore } = (await import(
    new URL('stores/postgres.js', lib).href
  )) as typeof import('../../lib/stores/postgres.ts')
  const {
    default: { Pool }
  } = await import('pg')
  const store = new PostgresStore({ pool: new Pool({ connectionString: url, max: 10 }) })
  for (let tries = 1; ; tries += 1) {
    try {
      await store.createTable()
      return store
    } catch (fault) {
      // The way there may have been cut just now.
      if (tries === 100) throw fault
      await pass(50)
    }
  }
}

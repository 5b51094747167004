import pg from 'pg'
import { createClient } from 'redis'

import { freePort } from '../helpers/ports.ts'
import { PostgresServer, skipOwnServer as skipPostgres } from '../helpers/postgres.ts'
import { RedisServer, skipOwnServer as skipRedis } from '../helpers/redis.ts'
import type { StoreName } from './open-store.ts'

/**
 * A server that sessions are stored on, and how to do it harm. What it has acknowledged outlives a
 * kill.
 */
export interface StoreServer {
  readonly name: StoreName
  readonly version: string
  readonly port: number
  /** How to reach it, by another port that leads there. */
  readonly url: (port: number) => string
  readonly freeze: () => Promise<void> | void
  readonly thaw: () => void
  readonly kill: () => Promise<void>
  readonly start: () => Promise<void>
  readonly close: () => Promise<void>
}

/** Those that can be started here, and why the others can't. */
export const storeServers: Readonly<
  Record<StoreName, { readonly skip: string | false; readonly open: () => Promise<StoreServer> }>
> = {
  Redis: {
    skip: skipRedis,
    async open() {
      const server = new RedisServer(await freePort(), [
        '--appendonly',
        'yes',
        '--appendfsync',
        'always'
      ])
      await server.start()
      const client = await createClient({ url: server.url }).connect()
      const [, version = '?'] =
        /^(?:valkey|redis)_version:(\S+)/m.exec(await client.info('server')) ?? []
      client.destroy()
      return {
        name: 'Redis',
        version,
        port: server.port,
        url: (port) => `redis://127.0.0.1:${port}`,
        freeze: () => {
          server.freeze()
        },
        thaw: () => {
          server.thaw()
        },
        kill: () => server.kill(),
        start: () => server.start(),
        close: () => server.close()
      }
    }
  },
  PostgreSQL: {
    skip: skipPostgres,
    async open() {
      const server = new PostgresServer(await freePort())
      await server.init()
      await server.start()
      const client = new pg.Client(server.config)
      await client.connect()
      const {
        rows: [{ version }]
      } = await client.query<{ version: string }>(
        "SELECT split_part(current_setting('server_version'), ' ', 1) AS version"
      )
      await client.end()
      return {
        name: 'PostgreSQL',
        version,
        port: server.port,
        url: (port) => `postgres://postgres@127.0.0.1:${port}/postgres`,
        freeze: () => server.freeze(),
        thaw: () => {
          server.thaw()
        },
        kill: () => server.kill(),
        start: () => server.start(),
        close: () => server.close()
      }
    }
  }
}

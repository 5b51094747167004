// The stores on which ends are heard.
import { createClient } from 'redis'

/** Opens a store. Without a kind: that of the app itself. */
export async function openStore(kind, address) {
  if (kind === 'redis') {
    const { RedisStore } = await import('../dist/lib/stores/redis.js')
    const client = await createClient({ url: address }).connect()
    return { store: new RedisStore({ client }), close: () => client.destroy() }
  }
  if (kind === 'postgres') {
    const [{ PostgresStore }, { default: pg }] = await Promise.all([
      import('../dist/lib/stores/postgres.js'),
      import('pg')
    ])
    const pool = new pg.Pool({ connectionString: address })
    const store = new PostgresStore({ pool, table: 'holdfast_bench_ends' })
    await store.createTable()
    return { store, close: () => pool.end() }
  }
  return { close() {} }
}

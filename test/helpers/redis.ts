import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from 'redis'
import t, { type Test } from 'tap'

import { RedisStore, type NodeRedisClient, type RedisClient } from '../../lib/stores/redis.ts'
import type { TestClock } from '../../lib/testing/index.ts'
import { freePort } from './ports.ts'
import type { Aging } from './stores.ts'

/** The server to start: REDIS_SERVER, or what is installed. */
const binary = [process.env['REDIS_SERVER'], 'redis-server', 'valkey-server'].find(
  (name) => name !== undefined && spawnSync(name, ['--version']).status === 0
)

/** Why tests that start a server can't run; false where they can. */
export const skipOwnServer: string | false =
  binary === undefined && 'neither redis-server nor valkey-server is installed'

/** Why tests that need a server can't run; false where they can. */
export const skipRedis: string | false = process.env['REDIS_URL'] === undefined && skipOwnServer

/** A server of a test's own, which keeps nothing on disk. */
export class RedisServer {
  readonly port: number
  readonly #args: readonly string[]
  readonly #folder = mkdtempSync(join(tmpdir(), 'holdfast-redis-'))
  #process: ChildProcess | undefined

  constructor(port: number, args: readonly string[]) {
    this.port = port
    this.#args = args
    // Whatever becomes of the test, the server is not left behind.
    process.on('exit', this.#end)
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  async start(...args: readonly string[]): Promise<void> {
    this.#process = spawn(
      binary as string,
      [
        '--port',
        String(this.port),
        '--bind',
        '127.0.0.1',
        '--dir',
        this.#folder,
        '--save',
        '',
        '--appendonly',
        'no',
        '--daemonize',
        'no',
        ...this.#args,
        ...args
      ],
      { stdio: 'ignore' }
    )
    const client = createClient({ url: this.url, socket: { reconnectStrategy: 20 } })
    client.on('error', () => {})
    const ended = once(this.#process, 'exit').then(() => {
      throw new Error(`${binary} did not start`)
    })
    try {
      await Promise.race([client.connect(), ended])
    } finally {
      client.destroy()
      ended.catch(() => {})
    }
  }

  /** As a crash does. */
  async kill(): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (running === undefined || running.exitCode !== null) return
    running.kill('SIGKILL')
    await once(running, 'exit')
  }

  /** The server still accepts connections, and answers nothing. */
  freeze(): void {
    this.#process?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#process?.kill('SIGCONT')
  }

  async close(): Promise<void> {
    await this.kill()
    process.off('exit', this.#end)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  readonly #end = (): void => {
    this.#process?.kill('SIGKILL')
  }
}

/** Starts a server that ends with the test. */
export async function startRedis(t: Test, ...args: string[]): Promise<RedisServer> {
  const server = new RedisServer(await freePort(), args)
  t.teardown(() => server.close())
  await server.start()
  return server
}

let shared: Promise<string> | undefined

/** The address of a server that serves all tests of a file: REDIS_URL, or one that is started. */
export function redisUrl(): Promise<string> {
  return (shared ??=
    process.env['REDIS_URL'] === undefined
      ? startRedis(t).then(({ url }) => url)
      : Promise.resolve(process.env['REDIS_URL']))
}

/** A connected client of node-redis, which ends with the test. */
export async function connect(t: Test, url?: string): Promise<ReturnType<typeof createClient>> {
  const client = createClient({ url: url ?? (await redisUrl()), socket: { reconnectStrategy: 20 } })
  client.on('error', () => {})
  t.teardown(() => {
    client.destroy()
  })
  return (await client.connect()) as ReturnType<typeof createClient>
}

let control: ReturnType<typeof connect> | undefined

/** By what a test reaches past the store. */
export function redis(): ReturnType<typeof connect> {
  return (control ??= connect(t))
}

/** Has every key of a prefix expire earlier, as if so much time had passed on the server. */
const age = `
local cursor, by = '0', tonumber(ARGV[2])
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1] .. '*', 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local left = redis.call('PTTL', key) - by
    if left <= 0 then redis.call('DEL', key) else redis.call('PEXPIRE', key, left) end
  end
until cursor == '0'
`

/**
 * An empty store, whose records age by the test's clock: on another client than that of the tests,
 * if one is given.
 */
export async function redisStore(
  clock: TestClock,
  client?: RedisClient,
  nodes?: readonly Evaluator[]
): Promise<Aging<RedisStore>> {
  const prefix = `test:${randomUUID()}:`
  const servers = nodes ?? [await redis()]
  const shared = await redis()
  // A pool cannot subscribe.
  const subscriber = client !== undefined && !('subscribe' in client) ? { subscriber: shared } : {}
  return {
    store: new RedisStore({ client: client ?? shared, ...subscriber, prefix, clock }),
    async advance(milliseconds) {
      for (const server of servers)
        await server.eval(age, { keys: [], arguments: [prefix, String(milliseconds)] })
      clock.advance(milliseconds)
    }
  }
}

type Evaluator = Pick<NodeRedisClient, 'eval'>

/** Three servers that are a cluster, without replicas. */
export async function startCluster(
  t: Test
): Promise<{ readonly ports: readonly number[]; readonly nodes: readonly Evaluator[] }> {
  const servers = await Promise.all(
    [0, 1, 2].map(async () => {
      const server = new RedisServer(await clusterPort(), [
        '--cluster-enabled',
        'yes',
        '--cluster-node-timeout',
        '2000'
      ])
      t.teardown(() => server.close())
      await server.start()
      return server
    })
  )
  const clients = await Promise.all(servers.map(({ url }) => connect(t, url)))
  for (const [index, client] of clients.entries()) {
    const slots = Array.from({ length: 16_384 }, (_, slot) => slot).filter(
      (slot) => Math.floor(slot / 5462) === index
    )
    await client.sendCommand(['CLUSTER', 'ADDSLOTS', ...slots.map(String)])
    await client.sendCommand(['CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1)])
  }
  for (const { port } of servers.slice(1))
    await clients[0].sendCommand(['CLUSTER', 'MEET', '127.0.0.1', String(port)])
  for (const client of clients) {
    for (;;) {
      const info = await client.sendCommand<string>(['CLUSTER', 'INFO'])
      if (info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')) break
    }
  }
  return { ports: servers.map(({ port }) => port), nodes: clients }
}

/** The nodes of a cluster talk to each other on a port that is 10,000 higher. */
async function clusterPort(): Promise<number> {
  for (;;) {
    const port = await freePort()
    if (port <= 55_535) return port
  }
}

import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'

import {
  PostgresStore,
  type PostgresPool,
  type PostgresStoreOptions
} from '../../lib/stores/postgres.ts'
import { freePort } from './ports.ts'
import type { Aging } from './stores.ts'

/** Where the programs of a server are; undefined where none is installed. */
const programs = [process.env['POSTGRES_BIN'], ...configured(), ...packaged()].find(
  (folder) =>
    folder !== undefined &&
    existsSync(join(folder, 'initdb')) &&
    existsSync(join(folder, 'postgres'))
)

function configured(): string[] {
  try {
    return [
      execFileSync('pg_config', ['--bindir'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore']
      }).trim()
    ]
  } catch {
    return []
  }
}

/** Debian keeps each version in a folder of its own. */
function packaged(): string[] {
  const folder = '/usr/lib/postgresql'
  return existsSync(folder)
    ? readdirSync(folder)
        .toSorted((one, other) => Number(other) - Number(one))
        .map((version) => join(folder, version, 'bin'))
    : []
}

/** A server refuses to run as root: somebody else for it to run as. */
const owner: Owner | undefined =
  process.getuid?.() === 0 ? ['postgres', 'nobody'].map(idsOf).find((ids) => ids !== undefined) : {}

interface Owner {
  readonly uid?: number
  readonly gid?: number
}

function idsOf(name: string): Owner | undefined {
  try {
    const [uid, gid] = ['-u', '-g'].map((which) =>
      Number(
        execFileSync('id', [which, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      )
    )
    return { uid, gid }
  } catch {}
}

/** Why tests that start a server can't run; false where they can. */
export const skipOwnServer: string | false =
  programs === undefined
    ? 'PostgreSQL is not installed'
    : owner === undefined && 'there is no user for PostgreSQL to run as'

/** A server that is running already: DATABASE_URL, or one that lets us in. */
const running: pg.PoolConfig | undefined =
  process.env['DATABASE_URL'] === undefined
    ? await find()
    : { connectionString: process.env['DATABASE_URL'] }

async function find(): Promise<pg.PoolConfig | undefined> {
  for (const host of ['127.0.0.1', '/var/run/postgresql']) {
    for (const user of ['postgres', userInfo().username]) {
      for (const database of ['test', 'postgres']) {
        const config = { host, user, database }
        const client = new pg.Client({ ...config, connectionTimeoutMillis: 5000 })
        client.on('error', () => {})
        try {
          await client.connect()
          const {
            rows: [{ fits }]
          } = await client.query(
            "SELECT current_setting('server_version_num')::int >= 140000 AND has_database_privilege(current_database(), 'CREATE') AS fits"
          )
          if (fits === true) return config
        } catch {
          // Not this way.
        } finally {
          await client.end().catch(() => {})
        }
      }
    }
  }
}

/** Why tests that need a server can't run; false where they can. */
export const skipPostgres: string | false = running === undefined && skipOwnServer

/** A server of a test's own. What it keeps outlives a kill, not the test. */
export class PostgresServer {
  readonly port: number
  readonly #folder = mkdtempSync(join(tmpdir(), 'holdfast-postgres-'))
  #process: ChildProcess | undefined
  #control: pg.Client | undefined
  #frozen: readonly number[] = []

  constructor(port: number) {
    this.port = port
    if (owner?.uid !== undefined) chownSync(this.#folder, owner.uid, owner.gid as number)
    // Whatever becomes of the test, the server is not left behind.
    process.on('exit', this.#end)
  }

  get config(): pg.PoolConfig {
    return { host: '127.0.0.1', port: this.port, user: 'postgres', database: 'postgres' }
  }

  async init(): Promise<void> {
    await promisify(execFile)(
      join(programs as string, 'initdb'),
      [
        '-D',
        join(this.#folder, 'data'),
        '-U',
        'postgres',
        '-A',
        'trust',
        '-E',
        'UTF8',
        '--no-locale',
        '--no-sync'
      ],
      { cwd: this.#folder, ...owner }
    )
  }

  async start(): Promise<void> {
    const settings = [
      'listen_addresses=127.0.0.1',
      'unix_socket_directories=',
      'fsync=off',
      'shared_buffers=16MB',
      'max_connections=50'
    ]
    const server = spawn(
      join(programs as string, 'postgres'),
      [
        '-D',
        join(this.#folder, 'data'),
        '-p',
        String(this.port),
        ...settings.flatMap((setting) => ['-c', setting])
      ],
      { cwd: this.#folder, stdio: ['ignore', 'ignore', 'pipe'], ...owner }
    )
    this.#process = server
    let said = ''
    await new Promise<void>((resolve, reject) => {
      server.once('exit', () => {
        reject(new Error(`PostgreSQL did not start: ${said}`))
      })
      server.stderr.on('data', (chunk) => {
        said = `${said}${chunk}`.slice(-2000)
        if (said.includes('ready to accept connections')) resolve()
      })
    })
    this.#control = new pg.Client(this.config)
    this.#control.on('error', () => {})
    await this.#control.connect()
  }

  /** As a crash does: what was not committed is lost, and nobody is told. */
  async kill(): Promise<void> {
    const server = this.#process
    this.#process = undefined
    if (server === undefined || server.exitCode !== null) return
    server.kill('SIGQUIT')
    await once(server, 'exit')
    await this.#control?.end().catch(() => {})
  }

  /**
   * Every process of the server stops. Connections are accepted (by the system), and nothing is
   * answered.
   */
  async freeze(): Promise<void> {
    const postmaster = this.#process?.pid as number
    // First of all who could start others.
    process.kill(postmaster, 'SIGSTOP')
    const { rows } = await (this.#control as pg.Client).query<{ pid: number }>(
      'SELECT pid FROM pg_stat_activity'
    )
    this.#frozen = [postmaster, ...rows.map(({ pid }) => pid)]
    for (const pid of this.#frozen) process.kill(pid, 'SIGSTOP')
  }

  thaw(): void {
    for (const pid of this.#frozen) process.kill(pid, 'SIGCONT')
    this.#frozen = []
  }

  async close(): Promise<void> {
    this.thaw()
    await this.kill()
    process.off('exit', this.#end)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  readonly #end = (): void => {
    this.thaw()
    this.#process?.kill('SIGQUIT')
  }
}

/** A server that ends with the test, not yet started. */
export async function preparePostgres(t: Test): Promise<PostgresServer> {
  const server = new PostgresServer(await freePort())
  t.teardown(() => server.close())
  await server.init()
  return server
}

let shared: Promise<pg.PoolConfig> | undefined

/**
 * How to reach a server that serves all tests of a file, in a schema of the file's own, which goes
 * with it.
 */
function postgres(): Promise<pg.PoolConfig> {
  return (shared ??= share())
}

async function share(): Promise<pg.PoolConfig> {
  let config = running
  if (config === undefined) {
    const server = await preparePostgres(t)
    await server.start()
    ;({ config } = server)
  }
  const schema = `holdfast_${randomUUID().replaceAll('-', '')}`
  const control = new pg.Pool({ ...config, max: 1 })
  t.teardown(async () => {
    // One by one: a server holds only so many locks in a transaction.
    const { rows } = await control.query('SELECT tablename FROM pg_tables WHERE schemaname = $1', [
      schema
    ])
    for (const { tablename } of rows) await control.query(`DROP TABLE ${schema}."${tablename}"`)
    await control.query(`DROP SCHEMA ${schema}`)
    await control.end()
  })
  await control.query(`CREATE SCHEMA ${schema}`)
  return { ...config, options: `-c search_path=${schema} -c synchronous_commit=off` }
}

/** The same as an address. */
export async function postgresUrl(): Promise<string> {
  const {
    connectionString,
    host = '',
    port = 5432,
    user = '',
    database = '',
    options = ''
  } = await postgres()
  const address = new URL(connectionString ?? `postgres://${user}@localhost:${port}/${database}`)
  if (connectionString === undefined) address.searchParams.set('host', host)
  address.searchParams.set('options', options)
  return address.href.replaceAll('+', '%20')
}

/**
 * A pool that ends with the test. `settings` hold for its sessions, `{
 * default_transaction_isolation: 'serializable' }`.
 */
export async function openPool(
  t: Test,
  settings: Record<string, string> = {},
  config?: pg.PoolConfig
): Promise<pg.Pool> {
  const { options = '', ...base } = config ?? (await postgres())
  const set = Object.entries(settings).map(
    ([name, value]) => ` -c ${name}=${value.replaceAll(' ', '\\ ')}`
  )
  const pool = new pg.Pool({ max: 12, ...base, options: options + set.join('') })
  t.teardown(() => pool.end())
  return pool
}

let common: Promise<pg.Pool> | undefined
let tables = 0

/**
 * An empty store on a table of its own. With a clock, it is by that clock that the server lives,
 * and the store.
 */
export async function postgresStore(
  clock?: AdvancingClock,
  pool?: pg.Pool,
  options: Partial<PostgresStoreOptions> = {}
): Promise<Aging<PostgresStore> & { pool: pg.Pool; table: string }> {
  const opened = pool ?? (await (common ??= openPool(t)))
  const table = `sessions_${(tables += 1)}`
  const store = new PostgresStore({
    pool: clock === undefined ? opened : timed(opened, () => clock.now()),
    table,
    ...(clock && { clock }),
    ...options
  })
  await store.createTable()
  return {
    store,
    pool: opened,
    table,
    advance: (milliseconds) => {
      clock?.advance(milliseconds)
    }
  }
}

type AdvancingClock = NonNullable<PostgresStoreOptions['clock']> & {
  advance(milliseconds: number): void
}

/** A pool to whose server the present is what it is told. */
export function timed(pool: pg.Pool, now: () => number): PostgresPool {
  const { Client, options } = pool as unknown as { Client: unknown; options: unknown }
  const listening = { Client, options }
  return {
    ...listening,
    query: (text, values) =>
      pool.query(
        text.replaceAll(
          /(?:clock|statement)_timestamp\(\)/g,
          `timestamptz '${new Date(now()).toISOString()}'`
        ),
        values
      )
  }
}

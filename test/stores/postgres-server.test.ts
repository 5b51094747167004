import { once } from 'node:events'

import type { FastifyInstance } from 'fastify'
import type pg from 'pg'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import { systemClock } from '../../lib/clock.ts'
import type { SessionOptions, SessionRecord, SessionTrace } from '../../lib/index.ts'
import { PostgresStore, type PostgresPool } from '../../lib/stores/postgres.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { openPool, postgresStore, skipPostgres, timed } from '../helpers/postgres.ts'
import { logInto, serve } from '../helpers/serve.ts'
import { waits } from '../helpers/waits.ts'

const hour = 3_600_000
const key = 'q1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyBg'

function record(over: Partial<SessionRecord> = {}, now = Date.now()): SessionRecord {
  return { data: '{"a":"old"}', version: 'v1', createdAt: now, expiresAt: now + hour, ...over }
}

function trace(over: Partial<SessionTrace> = {}, now = Date.now()): SessionTrace {
  return { successor: 'b'.repeat(43), version: 'v1', expiresAt: now + 600_000, ...over }
}

/** An app on the system's clock, which is the server's too, and its whole log. */
async function appOn(
  t: Test,
  options: SessionOptions,
  log: string[] = []
): Promise<FastifyInstance> {
  const fastifyOptions = { logger: logInto(log, 'trace') }
  return (await serve(t, { clock: systemClock, ...options }, fastifyOptions)).app
}

/** A connection for statements by hand, given back at the end of the test. */
async function connect(t: Test, pool: pg.Pool): Promise<pg.PoolClient> {
  const client = await pool.connect()
  t.teardown(() => {
    client.release()
  })
  return client
}

/** Waits until so many statements on a table wait for a lock. */
async function waiting(pool: pg.Pool, table: string, count: number): Promise<void> {
  const query =
    "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0"
  while ((await pool.query(query, [`"${table}"`])).rows[0].n < count);
}

t.test(
  'S20: a session is one row, by the public id, which goes with it; the table holds no id',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    const app = await appOn(t, { store })
    const browser = new Browser(app)
    await browser.get('/write/value')
    const id = idIn(browser)
    const { rows } = await pool.query(
      `SELECT *, expires_at - now() < '1 hour' AND expires_at - now() > '59 min' AS lives_an_hour FROM ${table}`
    )
    t.match(rows, [
      {
        key: app.sessions.publicIdOf(id),
        data: '{"a":"value"}',
        max_age: null,
        lives_an_hour: true
      }
    ])
    t.equal(rows.length, 1)
    t.notMatch(JSON.stringify(rows), id)
    await browser.get('/logout')
    t.same((await pool.query(`SELECT * FROM ${table}`)).rows, [])
    await app.close()
    t.equal((await pool.query('SELECT 1')).rowCount, 1, "the pool is the app's, and left open")
  }
)

for (const level of ['read committed', 'repeatable read', 'serializable']) {
  t.test(
    `a move that met another under the new key goes by what the other left, ${level}`,
    { skip: skipPostgres },
    async (t) => {
      const { store, pool, table } = await postgresStore(
        undefined,
        await openPool(t, { default_transaction_isolation: level })
      )
      const other = await connect(t, pool)
      const theirs = new PostgresStore({ pool: other as unknown as pg.Pool, table })
      for (const { end, isMoved } of [
        { end: 'COMMIT', isMoved: false },
        { end: 'ROLLBACK', isMoved: true }
      ]) {
        const [from, successor] = [`from-${end}`, `to-${end}`]
        await store.create(from, record())
        await other.query('BEGIN ISOLATION LEVEL READ COMMITTED')
        await theirs.create(successor, record({ version: 'x1' }))
        const moved = store.move(from, record({ version: 'w1' }), trace({ successor }))
        await waiting(pool, table, 1)
        await other.query(end)
        t.equal(await moved, isMoved, end)
        t.match(await store.get(successor), { version: isMoved ? 'w1' : 'x1' }, end)
        const left = await store.get(from)
        t.match(left, { version: 'v1', successor: isMoved ? successor : undefined }, end)
      }
    }
  )

  t.test(
    `P1: of 200 moves, updates and ends at once, each session goes one way, ${level}`,
    { skip: skipPostgres },
    async (t) => {
      const { store } = await postgresStore(
        undefined,
        await openPool(t, { default_transaction_isolation: level })
      )
      const keys = Array.from({ length: 10 }, (_, index) => `key-${index}`)
      for (const each of keys) await store.create(each, record())
      const calls = Array.from({ length: 20 }, (_, call) =>
        keys.map(async (each) => {
          const successor = `${each}-${call}`
          const next = record({ version: `w${call}` })
          if (call % 5 === 4) return (await store.update(each, next, 'v1')) && 'update'
          if (call % 10 === 3)
            return ((await store.delete(each)) as SessionRecord)?.data !== undefined && 'delete'
          return (await store.move(each, next, trace({ successor }))) && successor
        })
      )
      const results = await Promise.all(calls.flat())
      for (const [index, each] of keys.entries()) {
        const ways = calls
          .map((_, call) => results[call * keys.length + index])
          .filter((way) => typeof way === 'string')
        const moves = ways.filter((way) => way.startsWith('key-'))
        t.ok(moves.length <= 1, `${each}: ${ways.join(', ')}`)
        const entry = await store.get(each)
        t.equal(entry?.successor, moves[0], each)
        const successors = await Promise.all(calls.map((_, call) => store.get(`${each}-${call}`)))
        t.equal(successors.filter((next) => next !== undefined).length, moves.length, each)
      }
    }
  )

  t.test(
    `P4: 20 concurrent updates through two apps on pools of their own lose nothing, ${level}`,
    { skip: skipPostgres },
    async (t) => {
      const pools = await Promise.all(
        [1, 2].map(() => openPool(t, { default_transaction_isolation: level }))
      )
      const { table } = await postgresStore(undefined, pools[0])
      const apps = await Promise.all(
        pools.map((pool) =>
          appOn(t, { store: new PostgresStore({ pool, table }), storeTimeout: 30 })
        )
      )
      const browser = new Browser(apps[0])
      await browser.get('/write/value')
      const headers = { 'x-session-id': idIn(browser) }
      const replies = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          apps[index % 2].inject({ url: '/update', headers })
        )
      )
      t.same(
        replies.map((reply) => reply.json().n).toSorted((one, other) => one - other),
        Array.from({ length: 20 }, (_, index) => index + 1)
      )
      t.same((await apps[0].inject({ url: '/read', headers })).json(), { a: 'value', n: 20 })
    }
  )

  t.test(
    `a statement that met another on its row goes by what the other left, ${level}`,
    { skip: skipPostgres },
    async (t) => {
      const { store, pool, table } = await postgresStore(
        undefined,
        await openPool(t, { default_transaction_isolation: level })
      )
      const other = await connect(t, pool)
      const far = Date.now() + 3 * hour
      const meanwhile: readonly {
        readonly name: string
        readonly call: () => unknown
        /** What the other connection does meanwhile. */
        readonly statement: 'UPDATE' | 'touch' | 'DELETE' | 'retire' | 'move'
        readonly result: unknown
      }[] = [
        {
          name: 'an update, moved on',
          call: () => store.update('a', record({ version: 'v3' }), 'v1'),
          statement: 'UPDATE',
          result: false
        },
        {
          name: 'an update, touched',
          call: () => store.update('b', record({ version: 'v3' }), 'v1'),
          statement: 'touch',
          result: true
        },
        {
          name: 'an update, deleted',
          call: () => store.update('c', record({ version: 'v3' }), 'v1'),
          statement: 'DELETE',
          result: false
        },
        {
          name: 'a touch, moved on',
          call: async () => ((await store.touch('d', far)) as number) >= far,
          statement: 'UPDATE',
          result: true
        },
        {
          name: 'a touch, deleted',
          call: () => store.touch('e', far),
          statement: 'DELETE',
          result: undefined
        },
        {
          name: 'a delete, moved on',
          call: async () => ((await store.delete('f')) as SessionRecord)?.version,
          statement: 'UPDATE',
          result: 'v2'
        },
        {
          name: 'a delete, deleted',
          call: () => store.delete('g'),
          statement: 'DELETE',
          result: undefined
        },
        {
          name: 'a create, deleted',
          call: () => store.create('h', record()),
          statement: 'DELETE',
          result: true
        },
        {
          name: 'a create, moved on',
          call: () => store.create('i', record()),
          statement: 'UPDATE',
          result: false
        },
        {
          name: 'a retire, moved on',
          call: () => store.retire('j', trace()),
          statement: 'UPDATE',
          result: false
        },
        {
          name: 'a retire, touched',
          call: () => store.retire('k', trace()),
          statement: 'touch',
          result: true
        },
        {
          name: 'a retire, deleted',
          call: () => store.retire('l', trace()),
          statement: 'DELETE',
          result: false
        },
        {
          name: 'a retire, retired',
          call: () => store.retire('m', trace()),
          statement: 'retire',
          result: false
        },
        {
          name: 'an update, retired',
          call: () => store.update('n', record({ version: 'v3' }), 'v1'),
          statement: 'retire',
          result: false
        },
        {
          name: 'a touch, retired',
          call: () => store.touch('o', far),
          statement: 'retire',
          result: undefined
        },
        {
          name: 'a delete, retired',
          call: async () => ((await store.delete('p')) as SessionTrace)?.successor,
          statement: 'retire',
          result: 'elsewhere'
        },
        {
          name: 'a create, retired',
          call: () => store.create('q', record()),
          statement: 'retire',
          result: false
        },
        {
          name: 'a move, moved on',
          call: () => store.move('r', record({ version: 'w1' }), trace({ successor: 'r2' })),
          statement: 'UPDATE',
          result: false
        },
        {
          name: 'a move, touched',
          call: () => store.move('s', record({ version: 'w1' }), trace({ successor: 's2' })),
          statement: 'touch',
          result: true
        },
        {
          name: 'a move, deleted',
          call: () => store.move('t', record({ version: 'w1' }), trace({ successor: 't2' })),
          statement: 'DELETE',
          result: false
        },
        {
          name: 'a move, retired',
          call: () => store.move('u', record({ version: 'w1' }), trace({ successor: 'u2' })),
          statement: 'retire',
          result: false
        },
        {
          name: 'a move, moved',
          call: () => store.move('v', record({ version: 'w1' }), trace({ successor: 'v2' })),
          statement: 'move',
          result: false
        },
        {
          name: 'an update, moved',
          call: () => store.update('w', record({ version: 'v3' }), 'v1'),
          statement: 'move',
          result: false
        },
        {
          name: 'a delete, moved',
          call: async () => ((await store.delete('x')) as SessionTrace)?.successor,
          statement: 'move',
          result: 'elsewhere-x'
        }
      ]
      const keys = 'abcdefghijklmnopqrstuvwx'.split('')
      for (const each of keys) await store.create(each, record())
      const retiring = new PostgresStore({ pool: other as unknown as pg.Pool, table })
      // As many at a time as the pool has connections for.
      for (const from of [0, 9, 18]) {
        const calls = meanwhile.slice(from, from + 9)
        await other.query('BEGIN ISOLATION LEVEL READ COMMITTED')
        for (const [index, { statement }] of calls.entries()) {
          const each = keys[from + index]
          if (statement === 'move') {
            const left = trace({ successor: `elsewhere-${each}` })
            t.equal(await retiring.move(each, record({ version: 'x1' }), left), true)
            continue
          }
          if (statement === 'retire') {
            t.equal(await retiring.retire(each, trace({ successor: 'elsewhere' })), true)
            continue
          }
          const done = {
            UPDATE: `UPDATE ${table} SET version = 'v2'`,
            touch: `UPDATE ${table} SET expires_at = expires_at + interval '1 hour'`,
            DELETE: `DELETE FROM ${table}`
          }[statement]
          await other.query(`${done} WHERE key = $1`, [each])
        }
        const results = calls.map(async ({ call }) => call())
        await waiting(pool, table, calls.length)
        await other.query('COMMIT')
        for (const [index, { name, result }] of calls.entries())
          t.equal(await results[index], result, name)
      }
      for (const each of 'rtuv') t.equal(await store.get(`${each}2`), undefined, `${each}2`)
      t.match(await store.get('s'), { successor: 's2', version: 'v1' })
      t.match(await store.get('s2'), { version: 'w1', successor: undefined })
      for (const each of 'vwx') {
        const successor = `elsewhere-${each}`
        t.match(await store.get(each), { successor, version: 'v1' }, each)
        t.match(await store.get(successor), { version: 'x1' }, successor)
      }
      for (const each of 'mnopqu')
        t.match(await store.get(each), { successor: 'elsewhere', version: 'v1' }, each)
      const kept = await store.get('k')
      t.ok((kept as SessionTrace).expiresAt < Date.now() + hour / 2, 'a touch lengthens no trace')
    }
  )
}

t.test(
  'P1: what expired while a statement waited for a lock stays expired, also if the lock changed nothing',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    for (const undo of ['ROLLBACK', 'COMMIT']) {
      const other = await connect(t, pool)
      const soon = record({ expiresAt: Date.now() + 400 })
      for (const each of ['update', 'touch', 'delete', 'create', 'retire', 'move'])
        await store.create(each, soon)
      await store.create('trace', record())
      await store.retire('trace', trace({ expiresAt: soon.expiresAt }))
      await store.create('traced', record())
      await store.retire('traced', trace({ expiresAt: soon.expiresAt }))
      await other.query('BEGIN')
      await other.query(
        undo === 'COMMIT'
          ? `SELECT FROM ${table} FOR UPDATE`
          : `UPDATE ${table} SET expires_at = expires_at + interval '1 hour'`
      )
      const answers = [
        store.update('update', record({ version: 'v2' }), 'v1'),
        store.touch('touch', Date.now() + hour),
        store.delete('delete'),
        store.create('create', record({ version: 'w1' })),
        store.retire('retire', trace()),
        store.delete('trace'),
        store.create('traced', record({ version: 'w1' })),
        store.move('move', record({ version: 'w1' }), trace({ successor: 'moved' }))
      ]
      await waiting(pool, table, answers.length)
      // The server's clock decides, and it cannot be set.
      await other.query('SELECT pg_sleep(0.5)')
      await other.query(undo)
      t.same(
        await Promise.all(answers),
        [false, undefined, undefined, true, false, undefined, true, false],
        undo
      )
      for (const each of ['retire', 'trace', 'move', 'moved'])
        t.equal(await store.get(each), undefined)
      t.match(await store.get('traced'), { version: 'w1', successor: undefined })
      t.equal(await store.get('update'), undefined)
      t.equal(await store.get('touch'), undefined)
      t.equal((await store.get('create'))?.version, 'w1')
      await pool.query(`TRUNCATE ${table}`)
    }
  }
)

t.test(
  'clocks that disagree by an hour: each app sees the true expiry by its own clock, and one createdAt',
  { skip: skipPostgres },
  async (t) => {
    const server = new TestClock()
    const { pool, table } = await postgresStore(server)
    const [ahead, behind] = [hour, -hour].map((skew) => {
      const clock = new TestClock(server.now() + skew)
      return {
        clock,
        store: new PostgresStore({ pool: timed(pool, () => server.now()), table, clock })
      }
    })
    const advance = (milliseconds: number): void => {
      for (const clock of [server, ahead.clock, behind.clock]) clock.advance(milliseconds)
    }
    for (const [one, other] of [
      [ahead, behind],
      [behind, ahead]
    ]) {
      const begunAt = { one: one.clock.now(), other: other.clock.now() }
      t.equal(
        await one.store.create(
          key,
          record({ createdAt: begunAt.one - 5, expiresAt: begunAt.one + hour }, begunAt.one)
        ),
        true
      )
      advance(hour / 2)
      t.match(await one.store.get(key), {
        createdAt: begunAt.one - 5,
        expiresAt: begunAt.one + hour
      })
      t.match(await other.store.get(key), {
        createdAt: begunAt.one - 5,
        expiresAt: begunAt.other + hour
      })
      t.equal(
        await other.store.update(key, record({ version: 'v2', createdAt: 0, expiresAt: 0 }), 'v1'),
        true
      )
      t.match(
        await one.store.get(key),
        { createdAt: begunAt.one - 5, expiresAt: begunAt.one + hour },
        'a write neither shortens a life nor changes when it began'
      )
      t.equal(await other.store.touch(key, other.clock.now() + hour), begunAt.other + 1.5 * hour)
      advance(hour - 1)
      t.match(await one.store.get(key), { version: 'v2', expiresAt: begunAt.one + 1.5 * hour })
      advance(1)
      for (const { store } of [one, other]) t.equal(await store.get(key), undefined)

      await one.store.create('left', record({}, one.clock.now()))
      const [given, seen] = [one, other].map(({ clock }) => trace({}, clock.now()))
      t.equal(await one.store.retire('left', given), true)
      await one.store.create('gone', record({}, one.clock.now()))
      const went = record({ version: 'w1' }, one.clock.now())
      t.equal(await one.store.move('gone', went, { ...given, successor: 'went' }), true)
      t.same(await other.store.get('gone'), { ...seen, successor: 'went' })
      const { createdAt } = went
      t.same(await other.store.get('went'), record({ version: 'w1', createdAt }, other.clock.now()))
      t.same(await one.store.get('left'), given)
      t.same(await other.store.delete('left'), seen)
      advance(600_000 - 1)
      t.same(await other.store.get('left'), seen)
      advance(1)
      t.equal(await other.store.get('left'), undefined)
    }
  }
)

t.test(
  'however long a call takes there or back, no expiry is read later than the truth',
  { skip: skipPostgres },
  async (t) => {
    const clock = new TestClock()
    const { store: prompt, pool, table } = await postgresStore(clock)
    const delays = { there: 0, back: 0 }
    const slow: PostgresPool = {
      async query(text, values) {
        clock.advance(delays.there)
        const answer = await timed(pool, () => clock.now()).query(text, values)
        clock.advance(delays.back)
        return answer
      }
    }
    const store = new PostgresStore({ pool: slow, table, clock })
    for (const [there, back] of [
      [0, 700],
      [700, 0],
      [700, 700]
    ]) {
      const given = record({}, clock.now())
      await prompt.create(key, given)
      Object.assign(delays, { there, back })
      const early = { createdAt: given.createdAt, expiresAt: given.expiresAt - there }
      t.match(await store.get(key), early, `get, ${there} ms there, ${back} ms back`)
      t.equal(await store.touch(key, 0), early.expiresAt, 'touch')
      t.match(await store.delete(key), early, 'delete')
      Object.assign(delays, { there: 0, back: 0 })
    }
  }
)

t.test(
  'an app whose clock is an hour off from the real clock of the server: a session lives as long as it should',
  { skip: skipPostgres },
  async (t) => {
    for (const skew of [hour, -hour]) {
      const clock = { now: () => Date.now() + skew, setTimeout }
      const { pool, table } = await postgresStore()
      const store = new PostgresStore({ pool, table, clock })
      const app = await appOn(t, { store, clock })
      const browser = new Browser(app)
      await browser.get('/write/value')
      t.same((await browser.get('/read')).json(), { a: 'value' })
      const {
        rows: [{ left }]
      } = await pool.query(
        `SELECT extract(epoch FROM expires_at - now())::float8 AS left FROM ${table}`
      )
      t.ok(Math.abs(left - 3600) < 60, `${left} s left`)
      const session = await app.sessions.get(app.sessions.publicIdOf(idIn(browser)))
      t.ok(
        Math.abs((session?.createdAt as number) - clock.now()) < 60_000 &&
          (session?.createdAt as number) <= clock.now()
      )
    }
  }
)

t.test(
  'an expired row gives way to a new record, and nothing of it remains',
  { skip: skipPostgres },
  async (t) => {
    const clock = new TestClock()
    const { store, pool, table } = await postgresStore(clock)
    await store.create(key, record({ maxAge: 60 }, clock.now()))
    clock.advance(hour)
    const anew = record({ data: '', version: 'w1' }, clock.now())
    t.equal(await store.create(key, anew), true)
    t.same(await store.get(key), anew)
    t.equal(await store.retire(key, trace({ version: 'w1' }, clock.now())), true)
    clock.advance(600_000)
    const again = record({ version: 'x1', maxAge: 60 }, clock.now())
    t.equal(await store.create(key, again), true)
    t.same(await store.get(key), again)
    const { rows } = await pool.query(`SELECT successor FROM ${table}`)
    t.same(rows, [{ successor: null }])
  }
)

t.test('a trace holds nothing of the session', { skip: skipPostgres }, async (t) => {
  for (const verb of ['retire', 'move'] as const) {
    const { store, pool, table } = await postgresStore()
    await store.create(key, record({ data: '{"a":"secret"}', notes: 'secret', maxAge: 60 }))
    if (verb === 'move') await store.move(key, record(), trace())
    else await store.retire(key, trace())
    const { rows } = await pool.query(
      `SELECT key, data, version, max_age, notes, successor FROM ${table} WHERE key = $1`,
      [key]
    )
    const successor = 'b'.repeat(43)
    t.same(rows, [{ key, data: '', version: '>v1', max_age: null, notes: null, successor }], verb)
  }
})

/** What version 0.1.0 sends, over a table of its own. */
function statementsOfOld(table: string): Readonly<Record<string, string>> {
  const life = "interval '1 hour'"
  const record = `data, version, max_age,
    ((extract(epoch FROM created_at) - extract(epoch FROM now())) * 1000)::float8 AS created_in,
    ((extract(epoch FROM expires_at) - extract(epoch FROM now())) * 1000)::float8 AS expires_in,
    expires_at > clock_timestamp() AS live`
  const locked = (condition: string): string => `WITH locked AS MATERIALIZED (
    SELECT key, expires_at FROM ${table} WHERE key = $1 ${condition} FOR NO KEY UPDATE
  )`
  const found =
    'FROM locked WHERE stored.key = locked.key AND locked.expires_at > clock_timestamp()'
  return {
    table: `CREATE TABLE IF NOT EXISTS ${table} (
      key text COLLATE "C" PRIMARY KEY,
      data text NOT NULL,
      version text COLLATE "C" NOT NULL,
      max_age integer,
      created_at timestamptz NOT NULL,
      expires_at timestamptz NOT NULL,
      expires_hour timestamptz NOT NULL
        GENERATED ALWAYS AS (date_bin('1 hour', expires_at, '2000-01-01 00:00Z')) STORED
    ) WITH (fillfactor = 80);
    CREATE INDEX IF NOT EXISTS ${table}_expiry ON ${table} (expires_hour)`,
    get: `SELECT ${record} FROM ${table} WHERE key = $1`,
    create: `INSERT INTO ${table} AS stored (key, data, version, created_at, expires_at)
      VALUES ($1, 'old', $2, now(), now() + ${life})
      ON CONFLICT (key) DO UPDATE SET data = excluded.data, version = excluded.version,
        max_age = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at
      WHERE stored.expires_at <= clock_timestamp()`,
    update: `${locked('AND version = $2')} UPDATE ${table} AS stored
      SET data = 'old', version = $2 || '+', expires_at = greatest(stored.expires_at, now() + ${life}) ${found}`,
    touch: `${locked('')} UPDATE ${table} AS stored
      SET expires_at = greatest(stored.expires_at, now() + ${life}) ${found}
      RETURNING (extract(epoch FROM stored.expires_at - now()) * 1000)::float8 AS expires_in`,
    delete: `DELETE FROM ${table} WHERE key = $1 RETURNING ${record}`
  }
}

t.test(
  'a process of version 0.1.0 finds no record in a trace, and one in what follows a trace is a record',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    const old = statementsOfOld(table)
    t.equal((await pool.query(old.create, [key, 'v1'])).rowCount, 1)
    t.match(await store.get(key), { data: 'old', version: 'v1' })
    t.equal(await store.retire(key, trace()), true, 'a record of 0.1.0 can be retired')
    const { rows } = await pool.query(old.get, [key])
    t.equal(rows[0].created_in, Infinity, 'by which it takes it for no record of its own')
    for (const version of ['v1', 'v2', ''])
      t.equal((await pool.query(old.update, [key, version])).rowCount, 0, version)
    t.equal((await pool.query(old.create, [key, 'w1'])).rowCount, 0)
    t.match(await store.get(key), { version: 'v1', successor: 'b'.repeat(43) })
    t.equal((await pool.query(old.touch, [key])).rowCount, 1, 'it makes a trace last longer')
    t.match(await store.get(key), { version: 'v1', successor: 'b'.repeat(43) })
    t.match((await pool.query(old.delete, [key])).rows, [{ created_in: Infinity }], 'and ends it')
    t.equal(await store.get(key), undefined)

    await store.create(key, record())
    await store.retire(key, trace({ expiresAt: Date.now() }))
    t.equal((await pool.query(old.create, [key, 'w1'])).rowCount, 1)
    t.match(await store.get(key), { data: 'old', version: 'w1', successor: undefined })
    t.not(await store.touch(key, 0), undefined)
    t.equal(await store.update(key, record({ version: 'w2' }), 'w1'), true)
    t.equal(await store.retire(key, trace({ version: 'w2' })), true)
  }
)

t.test(
  'a table of version 0.1.0 gets its columns while it is in use, and no statement fails',
  { skip: skipPostgres },
  async (t) => {
    for (const way of ['createTable', 'ddl'] as const) {
      const pool = await openPool(t)
      const table = `old_${way.toLowerCase()}`
      const old = statementsOfOld(table)
      await pool.query(old.table)
      const keys = Array.from({ length: 8 }, (_, index) => `key-${index}`)
      let isUpgraded = false
      let calls = 0
      const users = keys.map(async (each, index) => {
        while (!isUpgraded || calls < 100) {
          const verb = ['touch', 'update', 'get', 'delete', 'create'][(index + calls) % 5]
          await pool.query(old[verb], ['update', 'create'].includes(verb) ? [each, 'v1'] : [each])
          calls += 1
        }
      })
      while (calls < 100) await pool.query('SELECT')
      const upgrades = [1, 2, 3].map(async () => {
        const store = new PostgresStore({ pool: await openPool(t), table })
        if (way === 'createTable') await store.createTable()
        else await pool.query(PostgresStore.ddl({ table }))
      })
      const { length } = await Promise.all(upgrades)
      isUpgraded = true
      await Promise.all(users)
      t.equal(length, 3, `${way}, among ${calls} calls`)
      const store = new PostgresStore({ pool, table })
      await store.delete(key)
      t.equal(await store.create(key, record({ notes: '1' })), true)
      t.match(await store.get(key), { notes: '1' })
      t.equal(await store.retire(key, trace()), true)
      t.match(await store.delete(key), { version: 'v1', successor: 'b'.repeat(43) })
      t.equal((await pool.query(old.create, ['old', 'v1'])).rowCount, 1)
      const moved = record({ version: 'w1', notes: '1' })
      t.equal(await store.move('old', moved, trace({ successor: 'new' })), true)
      t.match(await store.get('new'), { version: 'w1', notes: '1' })
    }
  }
)

t.test(
  'expired rows are deleted by whoever asks, in batches, each by one, and no live row',
  { skip: skipPostgres },
  async (t) => {
    const clock = new TestClock()
    const { store, pool, table } = await postgresStore(clock)
    const expired = Array.from({ length: 250 }, (_, index) => `expired-${index}`)
    for (const each of expired) await store.create(each, record({}, clock.now()))
    clock.advance(2 * hour)
    await store.create('live', record({}, clock.now()))
    await store.create('short', record({ expiresAt: clock.now() + 1 }, clock.now()))
    await store.create('trace', record({ expiresAt: clock.now() + 2 * hour }, clock.now()))
    await store.retire('trace', trace({}, clock.now()))
    const batches: Array<number | null> = []
    const stores = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const own = timed(await openPool(t), () => clock.now())
        const watched: PostgresPool = {
          async query(text, values) {
            const answer = await own.query(text, values)
            batches.push(answer.rowCount)
            return answer
          }
        }
        return new PostgresStore({ pool: watched, table, clock })
      })
    )

    // One of them is being replaced at this moment, and nobody waits for it.
    const other = await connect(t, pool)
    await other.query('BEGIN')
    const replacing = new PostgresStore({
      pool: timed(other as unknown as pg.Pool, () => clock.now()),
      table,
      clock
    })
    t.equal(await replacing.create('expired-7', record({}, clock.now())), true)

    const counts = await Promise.all(stores.map((each) => each.deleteExpired({ batch: 20 })))
    await other.query('COMMIT')
    t.equal(
      counts.reduce((sum, count) => sum + count),
      249,
      counts.join(' + ')
    )
    t.ok(
      batches.every((count) => (count as number) <= 20),
      batches.join()
    )
    const left = async (): Promise<string[]> =>
      (await pool.query(`SELECT key FROM ${table} ORDER BY key`)).rows.map((row) => row.key)
    t.same(await left(), ['expired-7', 'live', 'short', 'trace'])
    t.equal((await store.get('expired-7'))?.version, 'v1')
    clock.advance(2 * hour)
    t.equal(await store.deleteExpired(), 4, 'also a trace, whose record would have lived on')
    t.same(await left(), [])
    t.equal(await store.deleteExpired(), 0)
    for (const batch of [0, -1, 1.5, NaN, '10'])
      await t.rejects(
        store.deleteExpired({ batch: batch as number }),
        { code: 'HOLDFAST_OPTION_INVALID' },
        String(batch)
      )
  }
)

t.test(
  'no record is deleted before it has expired, whatever the minute of the hour',
  { skip: skipPostgres },
  async (t) => {
    for (const minute of [0, 1, 30, 59]) {
      const clock = new TestClock(Date.UTC(2030, 0, 1, 0, minute))
      const { store } = await postgresStore(clock)
      await store.create(key, record({ expiresAt: clock.now() + 90_000 }, clock.now()))
      clock.advance(89_999)
      t.equal(await store.deleteExpired(), 0)
      t.not(await store.get(key), undefined)
      clock.advance(1 + hour)
      t.equal(await store.deleteExpired(), 1, 'but an hour after')
    }
  }
)

t.test('the search for expired rows uses the index', { skip: skipPostgres }, async (t) => {
  const { pool, table } = await postgresStore()
  const client = await connect(t, pool)
  await client.query('SET enable_seqscan = off')
  const plans: string[] = []
  const explaining: PostgresPool = {
    async query(text, values) {
      const answer = await client.query(`EXPLAIN ${text}`, values)
      plans.push(JSON.stringify(answer.rows))
      return { rows: [], rowCount: 0 }
    }
  }
  await new PostgresStore({ pool: explaining, table }).deleteExpired()
  await client.query('RESET enable_seqscan')
  t.match(plans[0], new RegExp(`${table}_expiry.*Index Cond: \\(expires_hour <=`))
})

t.test('touches within an hour leave the indexes alone', { skip: skipPostgres }, async (t) => {
  const clock = new TestClock()
  const { pool, table } = await postgresStore()
  const client = await connect(t, pool)
  await client.query('BEGIN')
  const store = new PostgresStore({
    pool: timed(client as unknown as pg.Pool, () => clock.now()),
    table,
    clock
  })
  await store.create(key, record({}, clock.now()))
  for (let minute = 0; minute < 10; minute += 1) {
    clock.advance(60_000)
    t.equal(await store.touch(key, clock.now() + hour), clock.now() + hour)
  }
  const { rows } = await client.query(
    'SELECT pg_stat_get_xact_tuples_hot_updated($1::regclass)::int AS hot',
    [table]
  )
  await client.query('COMMIT')
  t.same(rows, [{ hot: 10 }])
})

t.test(
  'the table is made on request, also when it is there, and by several at once',
  { skip: skipPostgres },
  async (t) => {
    const pool = await openPool(t)
    const store = new PostgresStore({ pool })
    await t.rejects(async () => store.get(key), { code: '42P01' }, 'not before')
    await Promise.all(Array.from({ length: 8 }, () => new PostgresStore({ pool }).createTable()))
    t.equal(await store.create(key, record()), true)
    await store.createTable()
    await pool.query(PostgresStore.ddl())
    t.equal((await store.get(key))?.version, 'v1', 'what is in it stays')
    const { rows } = await pool.query(
      "SELECT relname, relpersistence FROM pg_class WHERE relname ~ '^holdfast_sessions' AND relnamespace = current_schema::regnamespace ORDER BY relname"
    )
    t.same(
      rows,
      ['', '_expiry', '_lists', '_lists_pkey', '_pkey', '_subjects', '_subjects_pkey'].map(
        (end) => ({ relname: `holdfast_sessions${end}`, relpersistence: 'p' })
      )
    )
  }
)

t.test(
  'a table in a schema, a name in capitals, a name as long as can be, an unlogged table',
  { skip: skipPostgres },
  async (t) => {
    const pool = await openPool(t)
    const {
      rows: [{ schema }]
    } = await pool.query('SELECT current_schema AS schema')
    const elsewhere = await openPool(t, { search_path: 'pg_catalog' })
    for (const table of [
      `${schema}.in_a_schema`,
      `${schema}.Sessions`,
      `${schema}.${'x'.repeat(50)}`,
      `${schema}.select`,
      `${schema}._$1`
    ]) {
      const store = new PostgresStore({ pool: elsewhere, table, unlogged: true })
      await store.createTable()
      t.equal(await store.create(key, record()), true, table)
      t.equal(((await store.delete(key)) as SessionRecord)?.version, 'v1')
      t.equal(await store.deleteExpired(), 0)
      const { rows } = await pool.query(
        "SELECT relname FROM pg_class WHERE relname = $1 AND relpersistence = 'u' AND relnamespace = current_schema::regnamespace",
        [table.slice(schema.length + 1)]
      )
      t.equal(rows.length, 1, 'spelt as it was given')
    }
    const { rows } = await pool.query(
      "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema AND indexname ~ '_expiry$'"
    )
    const indexes = new Set(rows.map(({ indexname }) => indexname))
    for (const table of ['in_a_schema', 'Sessions', 'x'.repeat(50), 'select', '_$1'])
      t.ok(indexes.has(`${table}_expiry`), `the index of ${table}`)
  }
)

t.test('wrong options are refused', async (t) => {
  const pool: PostgresPool = { query: async () => ({ rows: [], rowCount: 0 }) }
  for (const [option, values] of Object.entries({
    pool: [undefined, null, {}, 'postgres://localhost'],
    table: [
      '',
      'a.b.c',
      '.a',
      'a.',
      'a"b',
      'a b',
      'a;b',
      '1a',
      'tablé',
      'a\0',
      'x'.repeat(51),
      7,
      null
    ],
    unlogged: ['yes', 1, null],
    maxPending: [0, -1, 1.5, '10'],
    clock: [{}, null, 5]
  })) {
    for (const value of values) {
      t.throws(
        () => new PostgresStore({ pool, [option]: value } as never),
        { code: 'HOLDFAST_OPTION_INVALID', message: new RegExp(option) },
        `${option}: ${JSON.stringify(value)}`
      )
    }
  }
  t.throws(() => PostgresStore.ddl({ table: 'a;b' }), { code: 'HOLDFAST_OPTION_INVALID' })
  t.throws(() => PostgresStore.ddl({ unlogged: 1 as never }), { code: 'HOLDFAST_OPTION_INVALID' })
})

t.test(
  'S27: a row that is not ours is not taken for none, and can be ended',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    const log: string[] = []
    const app = await appOn(t, { store }, log)
    for (const spoilt of [
      "data = 'not json'",
      "data = '7'",
      "expires_at = 'infinity'",
      "created_at = '-infinity'",
      "created_at = 'infinity'",
      "created_at = 'infinity', successor = 'elsewhere'",
      "created_at = 'infinity', expires_at = 'infinity', version = '>v1', successor = 'elsewhere'"
    ]) {
      const browser = new Browser(app)
      await browser.get('/write/value')
      await pool.query(`UPDATE ${table} SET ${spoilt}`)
      const reply = await browser.get('/read')
      t.same([reply.statusCode, reply.json().code], [503, 'HOLDFAST_DATA_UNDECODABLE'], spoilt)
      t.same(reply.cookies, [], spoilt)
      const { rows: keys } = await pool.query(`SELECT key FROM ${table}`)
      const [look] = await store.feed.look([keys[0].key])
      const isForEver = look !== undefined && 'expiresAt' in look && look.expiresAt === Infinity
      t.equal(isForEver, spoilt.includes('infinity'), spoilt)
      t.equal((await browser.get('/logout')).statusCode, 200, spoilt)
      const { rows } = await pool.query(`SELECT * FROM ${table}`)
      t.same(rows, [], spoilt)
    }
    t.ok(log.some((line) => line.includes('the stored session cannot be read here')))

    await store.create(key, record())
    await pool.query(`ALTER TABLE ${table} ALTER data TYPE jsonb USING data::jsonb`)
    await t.rejects(
      store.get(key),
      { code: 'HOLDFAST_DATA_UNDECODABLE' },
      'a table that was changed by hand'
    )
    t.equal(await store.delete(key), true)
    t.equal(await store.get(key), undefined)
  }
)

t.test(
  'data with U+0000 is refused, and what is stored is as it was',
  { skip: skipPostgres },
  async (t) => {
    const { store } = await postgresStore()
    await t.rejects(async () => store.create(key, record({ data: '"a\0b"' })), { code: '22021' })
    t.equal(await store.get(key), undefined)
    await store.create(key, record())
    await t.rejects(
      async () => store.update(key, record({ data: '"a\0b"', version: 'v2' }), 'v1'),
      { code: '22021' }
    )
    t.match(await store.get(key), { data: '{"a":"old"}', version: 'v1' })
  }
)

t.test(
  'P10, S38: what the server quotes of a row that it refuses is kept from the log and from the reply',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    await pool.query(`ALTER TABLE ${table} ADD CHECK (data NOT LIKE '%the-secret%')`)
    t.match(
      await pool
        .query(`INSERT INTO ${table} (key, data, version, created_at, expires_at)
           VALUES ('k', 'the-secret', '', now(), now())`)
        .catch((fault: unknown) => fault),
      { detail: /the-secret/ },
      'it does quote it'
    )
    const log: string[] = []
    const app = await appOn(t, { store }, log)
    app.addHook('onError', async ({ log }, _reply, { cause }) => {
      log.error(cause)
    })
    app.get('/write-the-secret', async ({ session }) => {
      session.a = 'the-secret'
    })
    const browser = new Browser(app)
    await browser.get('/write/value')
    const reply = await browser.get('/write-the-secret')
    t.equal(reply.statusCode, 503)
    t.equal(reply.json().code, 'HOLDFAST_STORE_FAILED')
    t.notMatch(reply.body, 'the-secret')
    t.match(
      log.find((line) => line.includes('23514')),
      'violates check constraint',
      'the log tells what is wrong'
    )
    for (const line of log) t.notMatch(line.replaceAll('/write-the-secret', ''), 'the-secret')
    t.same((await browser.get('/read')).json(), { a: 'value' })
  }
)

t.test(
  'a call that would be one too many fails at once, and the others go on',
  { skip: skipPostgres },
  async (t) => {
    const { table } = await postgresStore()
    const pool = await openPool(t)
    const store = new PostgresStore({ pool, table, maxPending: 3 })
    const answers = await Promise.allSettled(Array.from({ length: 5 }, () => store.get(key)))
    t.same(
      answers.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected']
    )
    t.equal(await store.get(key), undefined)
  }
)

for (const { what, url, options, before = '/write/old', ...wait } of waits) {
  const roundTrips = wait.whereItMoves ?? wait.roundTrips
  t.test(
    `${what} makes ${roundTrips === 1 ? 'one statement' : `${roundTrips} statements`}, each one round trip`,
    { skip: skipPostgres },
    async (t) => {
      const { pool, table } = await postgresStore()
      let statements = 0
      const counted: PostgresPool = {
        query(text, values) {
          statements += 1
          return pool.query(text, values)
        }
      }
      const app = await appOn(t, { store: new PostgresStore({ pool: counted, table }), ...options })
      const browser = new Browser(app)
      await browser.get(before)
      statements = 0
      t.equal((await browser.get(url)).statusCode, 200)
      t.equal(statements, roundTrips)
    }
  )
}

t.test(
  'nothing is left on a connection: statements have no name, and no transaction stays open',
  { skip: skipPostgres },
  async (t) => {
    const { store, pool, table } = await postgresStore()
    const client = await connect(t, pool)
    const mine = new PostgresStore({ pool: client as unknown as pg.Pool, table })
    await mine.create(key, record())
    await mine.get(key)
    await mine.update(key, record({ version: 'v2' }), 'v1')
    await mine.touch(key, Date.now() + 2 * hour)
    t.equal(((await store.delete(key)) as SessionRecord)?.version, 'v2')
    await mine.create(key, record())
    await mine.retire(key, trace())
    await mine.create('other', record())
    await mine.move('other', record(), trace())
    await mine.deleteExpired()
    t.same((await client.query('SELECT FROM pg_prepared_statements')).rowCount, 0)
    t.same((await client.query('SELECT now() = statement_timestamp() AS alone')).rows, [
      { alone: true }
    ])
  }
)

t.test(
  'P8: an idle connection that breaks does not end the process, and the next call goes well',
  { skip: skipPostgres },
  async (t) => {
    const { table, pool: control } = await postgresStore()
    const pool = await openPool(t)
    const store = new PostgresStore({ pool, table })
    t.equal(pool.listenerCount('error'), 1)
    const second = new PostgresStore({ pool, table })
    t.equal(pool.listenerCount('error'), 1, 'one who listens is enough')
    await second.create(key, record())
    const broken = once(pool, 'error')
    const {
      rows: [{ pid }]
    } = await pool.query('SELECT pg_backend_pid() AS pid')
    await control.query('SELECT pg_terminate_backend($1)', [pid])
    await broken
    t.equal((await store.get(key))?.version, 'v1')
  }
)

t.test('subjects: a move that the server fails is no refusal', async (t) => {
  const pool = {
    query: async () => {
      throw new Error('out of order')
    }
  }
  const { subjects } = new PostgresStore({ pool })
  const subject = `${'s'.repeat(16)}.${'k'.repeat(43)}`
  await t.rejects(async () => subjects.move(subject, record(), trace()), {
    message: 'out of order'
  })
})

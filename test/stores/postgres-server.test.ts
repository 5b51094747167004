import { once } from 'node:events'

import Fastify, { type FastifyInstance } from 'fastify'
import type pg from 'pg'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { type SessionOptions, type SessionRecord } from '../../lib/index.ts'
import { PostgresStore, type PostgresPool } from '../../lib/stores/postgres.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser } from '../helpers/browser.ts'
import { openPool, postgresStore, skipPostgres, timed } from '../helpers/postgres.ts'
import { addRoutes } from '../helpers/serve.ts'
import { waits } from '../helpers/waits.ts'

const hour = 3_600_000
const key = 'q1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyBg'

function record(over: Partial<SessionRecord> = {}, now = Date.now()): SessionRecord {
  return { data: '{"a":"old"}', version: 'v1', createdAt: now, expiresAt: now + hour, ...over }
}

async function serve(t: Test, options: SessionOptions, log: string[] = []): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(sessionPlugin, options)
  return addRoutes(app)
}

/** A connection for statements by hand, given back at the end of the test. */
async function connect(t: Test, pool: pg.Pool): Promise<pg.PoolClient> {
  const client = await pool.connect()
  t.teardown(() => { client.release() })
  return client
}

/** Waits until so many statements on a table wait for a lock. */
async function waiting(pool: pg.Pool, table: string, count: number): Promise<void> {
  const query = 'SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = \'Lock\' AND strpos(query, $1) > 0'
  while ((await pool.query(query, [`"${table}"`])).rows[0].n < count);
}

t.test('S20: a session is one row, by the public id, which goes with it; the table holds no id', { skip: skipPostgres }, async (t) => {
  const { store, pool, table } = await postgresStore()
  const app = await serve(t, { store })
  const browser = new Browser(app)
  await browser.get('/write/value')
  const id = browser.cookies.get('session_id') as string
  const { rows } = await pool.query(`SELECT *, expires_at - now() < '1 hour' AND expires_at - now() > '59 min' AS lives_an_hour FROM ${table}`)
  t.match(rows, [{ key: app.sessions.publicIdOf(id), data: '{"a":"value"}', max_age: null, lives_an_hour: true }])
  t.equal(rows.length, 1)
  t.notMatch(JSON.stringify(rows), id)
  await browser.get('/logout')
  t.same((await pool.query(`SELECT * FROM ${table}`)).rows, [])
  await app.close()
  t.equal((await pool.query('SELECT 1')).rowCount, 1, 'the pool is the app\'s, and left open')
})

for (const level of ['read committed', 'repeatable read', 'serializable']) {
  t.test(`P4: 20 concurrent updates through two apps on pools of their own lose nothing, ${level}`, { skip: skipPostgres }, async (t) => {
    const pools = await Promise.all([1, 2].map(() => openPool(t, { default_transaction_isolation: level })))
    const { table } = await postgresStore(undefined, pools[0])
    const apps = await Promise.all(pools.map((pool) => serve(t, { store: new PostgresStore({ pool, table }), storeTimeout: 30 })))
    const browser = new Browser(apps[0])
    await browser.get('/write/value')
    const headers = { 'x-session-id': browser.cookies.get('session_id') as string }
    const replies = await Promise.all(Array.from({ length: 20 }, (_, index) => apps[index % 2].inject({ url: '/update', headers })))
    t.same(replies.map((reply) => reply.json().n).toSorted((one, other) => one - other), Array.from({ length: 20 }, (_, index) => index + 1))
    t.same((await apps[0].inject({ url: '/read', headers })).json(), { a: 'value', n: 20 })
  })

  t.test(`a statement that met another on its row goes by what the other left, ${level}`, { skip: skipPostgres }, async (t) => {
    const { store, pool, table } = await postgresStore(undefined, await openPool(t, { default_transaction_isolation: level }))
    const other = await connect(t, pool)
    const far = Date.now() + 3 * hour
    const meanwhile: Array<[name: string, verb: () => unknown, statement: string, answer: unknown]> = [
      ['an update, moved on', () => store.update('a', record({ version: 'v3' }), 'v1'), 'UPDATE', false],
      ['an update, touched', () => store.update('b', record({ version: 'v3' }), 'v1'), 'touch', true],
      ['an update, deleted', () => store.update('c', record({ version: 'v3' }), 'v1'), 'DELETE', false],
      ['a touch, moved on', async () => await store.touch('d', far) as number >= far, 'UPDATE', true],
      ['a touch, deleted', () => store.touch('e', far), 'DELETE', undefined],
      ['a delete, moved on', async () => (await store.delete('f'))?.version, 'UPDATE', 'v2'],
      ['a delete, deleted', () => store.delete('g'), 'DELETE', undefined],
      ['a create, deleted', () => store.create('h', record()), 'DELETE', true],
      ['a create, moved on', () => store.create('i', record()), 'UPDATE', false]
    ]
    const keys = 'abcdefghi'.split('')
    for (const each of keys) await store.create(each, record())
    await other.query('BEGIN ISOLATION LEVEL READ COMMITTED')
    for (const [index, [, , statement]] of meanwhile.entries()) {
      const done = { UPDATE: `UPDATE ${table} SET version = 'v2'`, touch: `UPDATE ${table} SET expires_at = expires_at + interval '1 hour'`, DELETE: `DELETE FROM ${table}` }[statement]
      await other.query(`${done} WHERE key = $1`, [keys[index]])
    }
    const answers = meanwhile.map(async ([, verb]) => verb())
    await waiting(pool, table, meanwhile.length)
    await other.query('COMMIT')
    for (const [index, [name, , , answer]] of meanwhile.entries()) t.equal(await answers[index], answer, name)
  })
}

t.test('P1: what expired while a statement waited for a lock stays expired, also if the lock changed nothing', { skip: skipPostgres }, async (t) => {
  const { store, pool, table } = await postgresStore()
  for (const undo of ['ROLLBACK', 'COMMIT']) {
    const other = await connect(t, pool)
    const soon = record({ expiresAt: Date.now() + 400 })
    for (const each of ['update', 'touch', 'delete', 'create']) await store.create(each, soon)
    await other.query('BEGIN')
    await other.query(undo === 'COMMIT' ? `SELECT FROM ${table} FOR UPDATE` : `UPDATE ${table} SET expires_at = expires_at + interval '1 hour'`)
    const answers = [
      store.update('update', record({ version: 'v2' }), 'v1'), store.touch('touch', Date.now() + hour), store.delete('delete'),
      store.create('create', record({ version: 'w1' }))
    ]
    await waiting(pool, table, answers.length)
    // The server's clock decides, and it cannot be set.
    await other.query('SELECT pg_sleep(0.5)')
    await other.query(undo)
    t.same(await Promise.all(answers), [false, undefined, undefined, true], undo)
    t.equal(await store.get('update'), undefined)
    t.equal(await store.get('touch'), undefined)
    t.equal((await store.get('create'))?.version, 'w1')
    await pool.query(`TRUNCATE ${table}`)
  }
})

t.test('clocks that disagree by an hour: each app sees the true instants, by its own clock', { skip: skipPostgres }, async (t) => {
  const server = new TestClock()
  const { pool, table } = await postgresStore(server)
  const [ahead, behind] = [hour, -hour].map((skew) => {
    const clock = new TestClock(server.now() + skew)
    return { clock, store: new PostgresStore({ pool: timed(pool, () => server.now()), table, clock }) }
  })
  const advance = (milliseconds: number): void => { for (const clock of [server, ahead.clock, behind.clock]) clock.advance(milliseconds) }
  for (const [one, other] of [[ahead, behind], [behind, ahead]]) {
    const begunAt = { one: one.clock.now(), other: other.clock.now() }
    t.equal(await one.store.create(key, record({ createdAt: begunAt.one - 5, expiresAt: begunAt.one + hour }, begunAt.one)), true)
    advance(hour / 2)
    t.match(await one.store.get(key), { createdAt: begunAt.one - 5, expiresAt: begunAt.one + hour })
    t.match(await other.store.get(key), { createdAt: begunAt.other - 5, expiresAt: begunAt.other + hour })
    t.equal(await other.store.update(key, record({ version: 'v2', createdAt: 0, expiresAt: 0 }), 'v1'), true)
    t.match(await one.store.get(key), { createdAt: begunAt.one - 5, expiresAt: begunAt.one + hour }, 'a write neither shortens a life nor changes when it began')
    t.equal(await other.store.touch(key, other.clock.now() + hour), begunAt.other + 1.5 * hour)
    advance(hour - 1)
    t.match(await one.store.get(key), { version: 'v2', expiresAt: begunAt.one + 1.5 * hour })
    advance(1)
    for (const { store } of [one, other]) t.equal(await store.get(key), undefined)
  }
})

t.test('however long a call takes there or back, no instant is read later than the truth', { skip: skipPostgres }, async (t) => {
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
  for (const [there, back] of [[0, 700], [700, 0], [700, 700]]) {
    const given = record({}, clock.now())
    await prompt.create(key, given)
    Object.assign(delays, { there, back })
    const early = { createdAt: given.createdAt - there, expiresAt: given.expiresAt - there }
    t.match(await store.get(key), early, `get, ${there} ms there, ${back} ms back`)
    t.equal(await store.touch(key, 0), early.expiresAt, 'touch')
    t.match(await store.delete(key), early, 'delete')
    Object.assign(delays, { there: 0, back: 0 })
  }
})

t.test('an app whose clock is an hour off from the real clock of the server: a session lives as long as it should', { skip: skipPostgres }, async (t) => {
  for (const skew of [hour, -hour]) {
    const clock = { now: () => Date.now() + skew, setTimeout }
    const { pool, table } = await postgresStore()
    const store = new PostgresStore({ pool, table, clock })
    const app = await serve(t, { store, clock })
    const browser = new Browser(app)
    await browser.get('/write/value')
    t.same((await browser.get('/read')).json(), { a: 'value' })
    const { rows: [{ age, left }] } = await pool.query(`SELECT extract(epoch FROM now() - created_at)::float8 AS age, extract(epoch FROM expires_at - now())::float8 AS left FROM ${table}`)
    t.ok(Math.abs(age) < 60 && Math.abs(left - 3600) < 60, `${age} s old, ${left} s left`)
    const session = await app.sessions.get(app.sessions.publicIdOf(browser.cookies.get('session_id') as string))
    t.ok(Math.abs(session?.createdAt as number - clock.now()) < 60_000 && session?.createdAt as number <= clock.now())
  }
})

t.test('an expired row gives way to a new record, and nothing of it remains', { skip: skipPostgres }, async (t) => {
  const clock = new TestClock()
  const { store, pool, table } = await postgresStore(clock)
  await store.create(key, record({ maxAge: 60 }, clock.now()))
  clock.advance(hour)
  const anew = record({ data: '', version: 'w1' }, clock.now())
  t.equal(await store.create(key, anew), true)
  t.same(await store.get(key), anew)
  t.equal((await pool.query(`SELECT FROM ${table}`)).rowCount, 1)
})

t.test('expired rows are deleted by whoever asks, in batches, each by one, and no live row', { skip: skipPostgres }, async (t) => {
  const clock = new TestClock()
  const { store, pool, table } = await postgresStore(clock)
  const expired = Array.from({ length: 250 }, (_, index) => `expired-${index}`)
  for (const each of expired) await store.create(each, record({}, clock.now()))
  clock.advance(2 * hour)
  await store.create('live', record({}, clock.now()))
  await store.create('short', record({ expiresAt: clock.now() + 1 }, clock.now()))
  const batches: Array<number | null> = []
  const stores = await Promise.all(Array.from({ length: 4 }, async () => {
    const own = timed(await openPool(t), () => clock.now())
    const watched: PostgresPool = {
      async query(text, values) {
        const answer = await own.query(text, values)
        batches.push(answer.rowCount)
        return answer
      }
    }
    return new PostgresStore({ pool: watched, table, clock })
  }))

  // One of them is being replaced at this moment, and nobody waits for it.
  const other = await connect(t, pool)
  await other.query('BEGIN')
  const replacing = new PostgresStore({ pool: timed(other as unknown as pg.Pool, () => clock.now()), table, clock })
  t.equal(await replacing.create('expired-7', record({}, clock.now())), true)

  const counts = await Promise.all(stores.map((each) => each.deleteExpired({ batch: 20 })))
  await other.query('COMMIT')
  t.equal(counts.reduce((sum, count) => sum + count), 249, counts.join(' + '))
  t.ok(batches.every((count) => (count as number) <= 20), batches.join())
  const left = async (): Promise<string[]> => (await pool.query(`SELECT key FROM ${table} ORDER BY key`)).rows.map((row) => row.key)
  t.same(await left(), ['expired-7', 'live', 'short'])
  t.equal((await store.get('expired-7'))?.version, 'v1')
  clock.advance(2 * hour)
  t.equal(await store.deleteExpired(), 3)
  t.same(await left(), [])
  t.equal(await store.deleteExpired(), 0)
  for (const batch of [0, -1, 1.5, NaN, '10']) await t.rejects(store.deleteExpired({ batch: batch as number }), { code: 'HOLDFAST_OPTION_INVALID' }, String(batch))
})

t.test('no record is deleted before it has expired, whatever the minute of the hour', { skip: skipPostgres }, async (t) => {
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
})

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
  const store = new PostgresStore({ pool: timed(client as unknown as pg.Pool, () => clock.now()), table, clock })
  await store.create(key, record({}, clock.now()))
  for (let minute = 0; minute < 10; minute += 1) {
    clock.advance(60_000)
    t.equal(await store.touch(key, clock.now() + hour), clock.now() + hour)
  }
  const { rows } = await client.query('SELECT pg_stat_get_xact_tuples_hot_updated($1::regclass)::int AS hot', [table])
  await client.query('COMMIT')
  t.same(rows, [{ hot: 10 }])
})

t.test('the table is made on request, also when it is there, and by several at once', { skip: skipPostgres }, async (t) => {
  const pool = await openPool(t)
  const store = new PostgresStore({ pool })
  await t.rejects(async () => store.get(key), { code: '42P01' }, 'not before')
  await Promise.all(Array.from({ length: 8 }, () => new PostgresStore({ pool }).createTable()))
  t.equal(await store.create(key, record()), true)
  await store.createTable()
  await pool.query(PostgresStore.ddl())
  t.equal((await store.get(key))?.version, 'v1', 'what is in it stays')
  const { rows } = await pool.query('SELECT relname, relpersistence FROM pg_class WHERE relname ~ \'^holdfast_sessions\' AND relnamespace = current_schema::regnamespace ORDER BY relname')
  t.same(rows, ['holdfast_sessions', 'holdfast_sessions_expiry', 'holdfast_sessions_pkey'].map((relname) => ({ relname, relpersistence: 'p' })))
})

t.test('a table in a schema, a name in capitals, a name as long as can be, an unlogged table', { skip: skipPostgres }, async (t) => {
  const pool = await openPool(t)
  const { rows: [{ schema }] } = await pool.query('SELECT current_schema AS schema')
  const elsewhere = await openPool(t, { search_path: 'pg_catalog' })
  for (const table of [`${schema}.in_a_schema`, `${schema}.Sessions`, `${schema}.${'x'.repeat(50)}`, `${schema}.select`, `${schema}._$1`]) {
    const store = new PostgresStore({ pool: elsewhere, table, unlogged: true })
    await store.createTable()
    t.equal(await store.create(key, record()), true, table)
    t.equal((await store.delete(key))?.version, 'v1')
    t.equal(await store.deleteExpired(), 0)
    const { rows } = await pool.query('SELECT relname FROM pg_class WHERE relname = $1 AND relpersistence = \'u\' AND relnamespace = current_schema::regnamespace', [table.slice(schema.length + 1)])
    t.equal(rows.length, 1, 'spelt as it was given')
  }
  const { rows } = await pool.query('SELECT indexname FROM pg_indexes WHERE schemaname = current_schema AND indexname ~ \'_expiry$\'')
  const indexes = new Set(rows.map(({ indexname }) => indexname))
  for (const table of ['in_a_schema', 'Sessions', 'x'.repeat(50), 'select', '_$1']) t.ok(indexes.has(`${table}_expiry`), `the index of ${table}`)
})

t.test('wrong options are refused', async (t) => {
  const pool: PostgresPool = { query: async () => ({ rows: [], rowCount: 0 }) }
  for (const [option, values] of Object.entries({
    pool: [undefined, null, {}, 'postgres://localhost'],
    table: ['', 'a.b.c', '.a', 'a.', 'a"b', 'a b', 'a;b', '1a', 'tablé', 'a\0', 'x'.repeat(51), 7, null],
    unlogged: ['yes', 1, null],
    maxPending: [0, -1, 1.5, '10'],
    clock: [{}, null, 5]
  })) {
    for (const value of values) {
      t.throws(() => new PostgresStore({ pool, [option]: value } as never), { code: 'HOLDFAST_OPTION_INVALID', message: new RegExp(option) }, `${option}: ${JSON.stringify(value)}`)
    }
  }
  t.throws(() => PostgresStore.ddl({ table: 'a;b' }), { code: 'HOLDFAST_OPTION_INVALID' })
  t.throws(() => PostgresStore.ddl({ unlogged: 1 as never }), { code: 'HOLDFAST_OPTION_INVALID' })
})

t.test('S27: a row that the serializer did not make is unknown, and a new session can begin', { skip: skipPostgres }, async (t) => {
  const { store, pool, table } = await postgresStore()
  const log: string[] = []
  const app = await serve(t, { store }, log)
  for (const spoilt of ['data = \'not json\'', 'data = \'7\'', 'expires_at = \'infinity\'', 'created_at = \'-infinity\'']) {
    const browser = new Browser(app)
    await browser.get('/write/value')
    await pool.query(`UPDATE ${table} SET ${spoilt}`)
    const reply = await browser.get('/read')
    t.same([reply.statusCode, reply.json()], [200, {}], spoilt)
    t.same(reply.cookies, [], spoilt)
    await pool.query(`DELETE FROM ${table}`)
  }
  t.equal(log.filter((line) => line.includes('could not be decoded')).length, 2)

  await store.create(key, record())
  await pool.query(`ALTER TABLE ${table} ALTER data TYPE jsonb USING data::jsonb`)
  t.equal(await store.get(key), undefined, 'a table that was changed by hand')
})

t.test('data with U+0000 is refused, and what is stored is as it was', { skip: skipPostgres }, async (t) => {
  const { store } = await postgresStore()
  await t.rejects(async () => store.create(key, record({ data: '"a\0b"' })), { code: '22021' })
  t.equal(await store.get(key), undefined)
  await store.create(key, record())
  await t.rejects(async () => store.update(key, record({ data: '"a\0b"', version: 'v2' }), 'v1'), { code: '22021' })
  t.match(await store.get(key), { data: '{"a":"old"}', version: 'v1' })
})

t.test('P10, S38: what the server quotes of a row that it refuses is kept from the log and from the reply', { skip: skipPostgres }, async (t) => {
  const { store, pool, table } = await postgresStore()
  await pool.query(`ALTER TABLE ${table} ADD CHECK (data NOT LIKE '%the-secret%')`)
  t.match(await pool.query(`INSERT INTO ${table} VALUES ('k', 'the-secret', '', 0, now(), now())`).catch((fault: unknown) => fault), { detail: /the-secret/ }, 'it does quote it')
  const log: string[] = []
  const app = await serve(t, { store }, log)
  app.addHook('onError', async ({ log }, _reply, { cause }) => { log.error(cause) })
  app.get('/write-the-secret', async ({ session }) => { session.a = 'the-secret' })
  const browser = new Browser(app)
  await browser.get('/write/value')
  const reply = await browser.get('/write-the-secret')
  t.equal(reply.statusCode, 503)
  t.equal(reply.json().code, 'HOLDFAST_STORE_FAILED')
  t.notMatch(reply.body, 'the-secret')
  t.match(log.find((line) => line.includes('23514')), 'violates check constraint', 'the log tells what is wrong')
  for (const line of log) t.notMatch(line.replaceAll('/write-the-secret', ''), 'the-secret')
  t.same((await browser.get('/read')).json(), { a: 'value' })
})

t.test('a call that would be one too many fails at once, and the others go on', { skip: skipPostgres }, async (t) => {
  const { table } = await postgresStore()
  const pool = await openPool(t)
  const store = new PostgresStore({ pool, table, maxPending: 3 })
  const answers = await Promise.allSettled(Array.from({ length: 5 }, () => store.get(key)))
  t.same(answers.map(({ status }) => status), ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'])
  t.equal(await store.get(key), undefined)
})

for (const [what, url, expected, options] of waits) {
  t.test(`${what} makes ${expected === 1 ? 'one statement' : `${expected} statements`}, each one round trip`, { skip: skipPostgres }, async (t) => {
    const { pool, table } = await postgresStore()
    let statements = 0
    const counted: PostgresPool = {
      query(text, values) {
        statements += 1
        return pool.query(text, values)
      }
    }
    const app = await serve(t, { store: new PostgresStore({ pool: counted, table }), ...options })
    const browser = new Browser(app)
    await browser.get('/write/old')
    statements = 0
    t.equal((await browser.get(url)).statusCode, 200)
    t.equal(statements, expected)
  })
}

t.test('nothing is left on a connection: statements have no name, and no transaction stays open', { skip: skipPostgres }, async (t) => {
  const { store, pool, table } = await postgresStore()
  const client = await connect(t, pool)
  const mine = new PostgresStore({ pool: client as unknown as pg.Pool, table })
  await mine.create(key, record())
  await mine.get(key)
  await mine.update(key, record({ version: 'v2' }), 'v1')
  await mine.touch(key, Date.now() + 2 * hour)
  t.equal((await store.delete(key))?.version, 'v2')
  await mine.deleteExpired()
  t.same((await client.query('SELECT FROM pg_prepared_statements')).rowCount, 0)
  t.same((await client.query('SELECT now() = statement_timestamp() AS alone')).rows, [{ alone: true }])
})

t.test('P8: an idle connection that breaks does not end the process, and the next call goes well', { skip: skipPostgres }, async (t) => {
  const { table, pool: control } = await postgresStore()
  const pool = await openPool(t)
  const store = new PostgresStore({ pool, table })
  t.equal(pool.listenerCount('error'), 1)
  const second = new PostgresStore({ pool, table })
  t.equal(pool.listenerCount('error'), 1, 'one who listens is enough')
  await second.create(key, record())
  const broken = once(pool, 'error')
  const { rows: [{ pid }] } = await pool.query('SELECT pg_backend_pid() AS pid')
  await control.query('SELECT pg_terminate_backend($1)', [pid])
  await broken
  t.equal((await store.get(key))?.version, 'v1')
})

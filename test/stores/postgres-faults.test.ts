import type { LightMyRequestResponse } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import { systemClock } from '../../lib/clock.ts'
import type { SessionOptions } from '../../lib/index.ts'
import { PostgresStore } from '../../lib/stores/postgres.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { openPool, preparePostgres, skipOwnServer } from '../helpers/postgres.ts'
import { startProxy } from '../helpers/proxy.ts'
import { begin, serve, stored, unhandled, type Served } from '../helpers/serve.ts'
import { WatchedStore, type Verb } from '../helpers/stores.ts'
import { signal } from '../helpers/waiting.ts'

interface Scene extends Served {
  readonly pool: pg.Pool
  /** Settles when so many calls of the store have been made that have no answer yet. */
  readonly pending: (count: number) => Promise<void>
  /** Settles when every call of the store has been answered. */
  readonly quiet: () => Promise<void>
  /** How many handlers have run. */
  readonly ran: () => number
}

/**
 * An app over a server; its time is the test's, so that nothing waits for a time-out. Nobody else
 * listens to the pool's errors.
 */
async function serveFrom(
  t: Test,
  pool: pg.Pool,
  { maxPending, ...options }: SessionOptions & { maxPending?: number } = {}
): Promise<Scene> {
  const clock = new TestClock()
  const store = new WatchedStore(
    new PostgresStore({
      pool,
      clock: options.clock ?? clock,
      ...(maxPending === undefined ? {} : { maxPending })
    })
  )
  const calls = new Set<Promise<unknown>>()
  let called: () => void = () => {}
  store.intercept = (_call, pass) => {
    const answer = pass() as Promise<never>
    calls.add(answer)
    answer.catch(() => {}).finally(() => calls.delete(answer))
    called()
    return answer
  }
  const served = await serve(t, { clock, store, ...options })
  let handled = 0
  served.app.addHook('preHandler', async () => {
    handled += 1
  })
  return {
    ...served,
    clock,
    pool,
    async pending(count) {
      while (calls.size < count)
        await new Promise<void>((resolve) => {
          called = resolve
        })
    },
    async quiet() {
      while (calls.size > 0) await Promise.allSettled(calls)
    },
    ran: () => handled
  }
}

/** That the reply is a coded 503 and carries nothing of a session. */
function isOutage(
  t: Test,
  reply: LightMyRequestResponse,
  code: string | RegExp,
  name: string
): void {
  t.equal(reply.statusCode, 503, `${name}: ${reply.body}`)
  t.match(reply.json().code, code, name)
  t.same(carriedBy(reply), { header: undefined, cookie: undefined }, name)
  t.equal(reply.headers['set-cookie'], undefined, name)
}

t.test('PostgresStore and a server in trouble', { skip: skipOwnServer }, async (t) => {
  const rejections = unhandled(t)
  const server = await preparePostgres(t)

  /** An app over an empty table of the running server. */
  async function emptied(
    t: Test,
    options?: Parameters<typeof serveFrom>[2],
    config: pg.PoolConfig = {}
  ): Promise<Scene> {
    const pool = await openPool(t, {}, { ...server.config, ...config })
    const scene = await serveFrom(t, pool, options)
    const control = await openPool(t, {}, server.config)
    await control.query('DROP TABLE IF EXISTS holdfast_sessions')
    await new PostgresStore({ pool: control }).createTable()
    return scene
  }

  await t.test('P8: the server is not there when the app starts: 503 until it is', async (t) => {
    const served = await serveFrom(t, await openPool(t, {}, server.config))
    const { app } = served
    await app.ready()
    isOutage(t, await app.inject('/read'), 'HOLDFAST_STORE_FAILED', 'a new session')
    for (const headers of [
      { 'x-session-id': crypto.randomUUID() },
      { cookie: `session_id=${crypto.randomUUID()}` }
    ]) {
      const before = served.ran()
      isOutage(t, await app.inject({ url: '/read', headers }), 'HOLDFAST_STORE_FAILED', 'an id')
      t.equal(served.ran(), before)
    }
    await server.start()
    isOutage(t, await app.inject('/write/a'), 'HOLDFAST_STORE_FAILED', 'without the table')
    await new PostgresStore({ pool: served.pool }).createTable()
    const id = await begin(app)
    t.same(await stored(app, id), { a: 'old' })
  })

  await t.test(
    'P4, P8: killed and started again under load: what was confirmed is kept, once, and every other reply is a coded 503',
    async (t) => {
      // Writers that collide pause, by the clock.
      const { app } = await emptied(t, { clock: systemClock, storeTimeout: 30 })
      const ids = await Promise.all([1, 2, 3, 4].map(() => begin(app)))
      const updates = 15
      let confirmed = 0
      let failed = 0
      let restart: Promise<void> | undefined
      const outage = async (): Promise<void> => {
        await server.kill()
        for (const id of ids)
          isOutage(
            t,
            await app.inject({ url: '/update', headers: { 'x-session-id': id } }),
            'HOLDFAST_STORE_FAILED',
            'down'
          )
        await server.start()
      }
      await Promise.all(
        ids.map(async (id) => {
          let unknown = 0
          const client = async (): Promise<number[]> => {
            const seen: number[] = []
            while (seen.length < updates) {
              const reply = await app.inject({
                url: '/update',
                headers: { cookie: `session_id=${id}` }
              })
              if (reply.statusCode === 200) {
                seen.push(reply.json().n)
                if ((confirmed += 1) === 30) restart = outage()
              } else {
                isOutage(t, reply, /^HOLDFAST_(?:STORE_FAILED|OUTCOME_UNKNOWN)$/, 'in the outage')
                unknown += 1
                failed += 1
                await restart
              }
            }
            return seen
          }
          const seen = await Promise.all([client(), client(), client()])
          await restart
          const { n } = (await stored(app, id)) as { n: number }
          for (const each of seen)
            t.same(
              each,
              each.toSorted((one, other) => one - other),
              'in order'
            )
          t.equal(new Set(seen.flat()).size, 3 * updates, 'each confirmed once')
          t.equal(Math.max(...seen.flat()), n, 'the last is kept')
          t.ok(
            n >= 3 * updates && n <= 3 * updates + unknown,
            `${n}, of ${3 * updates} confirmed and ${unknown} unknown`
          )
        })
      )
      t.ok(restart !== undefined && failed > 0, `${failed} failed`)
    }
  )

  await t.test(
    'P8: frozen: 503 in time, the calls that wait are bounded, and all goes well when it thaws',
    async (t) => {
      const served = await emptied(t, { maxPending: 8 }, { max: 4 })
      const { app, clock, pending, quiet, ran, pool } = served
      const id = await begin(app)
      const before = ran()
      await server.freeze()
      t.teardown(() => {
        server.thaw()
      })
      const carrying = [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]
      const waiting = Array.from({ length: 8 }, (_, index) =>
        app.inject({ url: '/update', headers: carrying[index % 2] }).then((reply) => reply)
      )
      await pending(8)
      for (let more = 0; more < 50; more += 1)
        isOutage(
          t,
          await app.inject({ url: '/update', headers: carrying[more % 2] }),
          'HOLDFAST_STORE_FAILED',
          'one too many'
        )
      t.ok(
        pool.totalCount <= 4 && pool.waitingCount <= 8,
        `${pool.totalCount} connections, ${pool.waitingCount} wait for one`
      )
      clock.advance(1999)
      clock.advance(1)
      for (const reply of await Promise.all(waiting))
        isOutage(t, reply, 'HOLDFAST_STORE_TIMEOUT', 'frozen')
      isOutage(
        t,
        await app.inject({ url: '/read', headers: carrying[0] }),
        'HOLDFAST_STORE_FAILED',
        'given up, but not yet over'
      )
      t.equal(ran(), before, 'no handler ran')
      server.thaw()
      await quiet()
      for (const headers of carrying)
        t.same((await app.inject({ url: '/read', headers })).json(), { a: 'old' })
      const replies = await Promise.all(
        carrying.map((headers) => app.inject({ url: '/update', headers }))
      )
      t.same(
        replies.map((reply) => reply.json().n).toSorted((one, other) => one - other),
        [1, 2]
      )
      t.equal(pool.waitingCount, 0)
    }
  )

  await t.test(
    'a server that is silent for good holds no place for longer than the pool waits for an answer',
    async (t) => {
      const { app, clock, store, pending, quiet, pool } = await emptied(
        t,
        { maxPending: 1 },
        { max: 1, query_timeout: 1000, connectionTimeoutMillis: 1000 }
      )
      const id = await begin(app)
      await server.freeze()
      t.teardown(() => {
        server.thaw()
      })
      for (let request = 0; request < 2; request += 1) {
        const reply = app
          .inject({ url: '/read', headers: { cookie: `session_id=${id}` } })
          .then((answer) => answer)
        await pending(1)
        await t.rejects(async () => store.get('another'), { message: /did not join/ })
        clock.advance(2000)
        isOutage(t, await reply, /^HOLDFAST_STORE_/, 'silent')
        await quiet()
      }
      t.equal(pool.totalCount, 0)
      server.thaw()
      t.same((await app.inject({ url: '/read', headers: { cookie: `session_id=${id}` } })).json(), {
        a: 'old'
      })
    }
  )

  await t.test(
    'P4, P8: frozen while a request commits: 503, and what was under way takes effect at most once',
    async (t) => {
      const { app, clock, store, quiet } = await emptied(t)
      t.teardown(() => {
        server.thaw()
      })
      const id = await begin(app)
      const headers = { cookie: `session_id=${id}` }
      for (const [url, verb, after] of [
        ['/update', 'update', { a: 'old', n: 1 }],
        ['/write/new', 'update', { a: 'new', n: 1 }],
        ['/touch', 'touch', { a: 'new', n: 1 }],
        ['/logout', 'delete', undefined]
      ] as const) {
        const { intercept } = store
        const [reached, reach] = signal()
        store.intercept = async (call, pass) => {
          if (call.verb !== verb) return intercept(call, pass)
          await server.freeze()
          store.intercept = intercept
          reach()
          return intercept(call, pass)
        }
        const reply = app.inject({ url, headers }).then((answer) => answer)
        await reached
        clock.advance(2000)
        const answer = await reply
        if (verb === 'touch')
          t.same(
            [answer.statusCode, carriedBy(answer)],
            [200, { header: undefined, cookie: undefined }],
            'a touch fails no request'
          )
        else isOutage(t, answer, 'HOLDFAST_STORE_TIMEOUT', url)
        server.thaw()
        await quiet()
        t.same(await stored(app, id), after, url)
      }
    }
  )

  for (const [url, verb, after] of [
    ['/update', 'update', { a: 'old', n: 1 }],
    ['/write/new', 'update', { a: 'new' }],
    ['/touch', 'touch', { a: 'old' }],
    ['/logout', 'delete', undefined],
    ['/write/fresh', 'create', undefined]
  ] as const) {
    await t.test(
      `P4: the answer to ${verb} of ${url} is lost after it took effect: it is recognised, and not made twice`,
      async (t) => {
        const proxy = await startProxy(t, server.port)
        const { app, store } = await emptied(t, {}, { port: proxy.port, max: 1 })
        const id = await begin(app)
        const { intercept } = store
        let lost: Promise<void> | undefined
        store.intercept = (call, pass) => {
          if (call.verb === verb && lost === undefined) lost = proxy.loseNextAnswer()
          return intercept(call, pass)
        }
        const reply = await app.inject({
          url,
          headers: verb === 'create' ? {} : { 'x-session-id': id }
        })
        await lost
        t.equal(reply.statusCode, 200, reply.body)
        if (verb === 'create')
          t.same(await stored(app, carriedBy(reply).header as string), { a: 'fresh' })
        else t.same(await stored(app, id), after)
        if (url === '/update') t.same(reply.json(), { n: 1 })
        if (verb === 'create' || verb === 'update')
          t.equal(
            store.calls.filter((call) => call.verb === verb).length,
            verb === 'create' ? 2 : 1
          )
      }
    )
  }

  await t.test('each verb waits for the server once', async (t) => {
    const proxy = await startProxy(t, server.port)
    const { store, clock } = await emptied(t, {}, { port: proxy.port, max: 1 })
    const now = clock.now()
    const record = { data: '{}', version: 'v1', createdAt: now, expiresAt: now + 60_000 }
    await store.get('warm')
    for (const [verb, call] of Object.entries<() => unknown>({
      create: () => store.create('k', record),
      get: () => store.get('k'),
      update: () => store.update('k', record, 'v1'),
      touch: () => store.touch('k', now),
      delete: () => store.delete('k')
    }) as Array<[Verb, () => unknown]>) {
      const before = proxy.roundTrips
      t.ok(await call(), verb)
      t.equal(proxy.roundTrips - before, 1, verb)
    }
  })

  await t.test(
    'P8: a pool that has run dry: 503 in time, and all goes well when a connection comes back',
    async (t) => {
      const { app, clock, pool, pending, quiet, ran } = await emptied(t, {}, { max: 1 })
      const id = await begin(app)
      const held = await pool.connect()
      const before = ran()
      const reply = app
        .inject({ url: '/read', headers: { cookie: `session_id=${id}` } })
        .then((answer) => answer)
      await pending(1)
      clock.advance(2000)
      isOutage(t, await reply, 'HOLDFAST_STORE_TIMEOUT', 'dry')
      t.equal(ran(), before)
      held.release()
      await quiet()
      t.same((await app.inject({ url: '/read', headers: { cookie: `session_id=${id}` } })).json(), {
        a: 'old'
      })
    }
  )

  await t.test(
    'P8: a server that is read only: reads go on, a touch fails no request, writes are 503',
    async (t) => {
      const { app: writing } = await emptied(t)
      const id = await begin(writing)
      const pool = await openPool(t, { default_transaction_read_only: 'on' }, server.config)
      const { app, clock } = await serveFrom(t, pool)
      const headers = { cookie: `session_id=${id}` }
      t.same((await app.inject({ url: '/read', headers })).json(), { a: 'old' })
      for (const url of ['/write/new', '/update', '/logout', '/login'])
        isOutage(t, await app.inject({ url, headers }), 'HOLDFAST_STORE_FAILED', url)
      isOutage(t, await app.inject('/write/new'), 'HOLDFAST_STORE_FAILED', 'a new session')
      clock.advance(60_000)
      for (const url of ['/touch', '/read']) {
        const reply = await app.inject({ url, headers })
        t.same(
          [reply.statusCode, carriedBy(reply)],
          [200, { header: undefined, cookie: undefined }],
          url
        )
      }
      t.same(await stored(writing, id), { a: 'old' })
    }
  )

  await t.test(
    'P8: every connection cut, by an administrator and by the network: the next requests go well',
    async (t) => {
      const proxy = await startProxy(t, server.port)
      const { app, pool } = await emptied(t, {}, { port: proxy.port })
      const browser = new Browser(app)
      await browser.get('/write/old')
      const control = await openPool(t, {}, server.config)
      for (const cut of [
        () => {
          proxy.cut()
        },
        () =>
          control.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name = ''"
          )
      ]) {
        await Promise.all(Array.from({ length: 5 }, () => browser.send('/read')))
        const gone = new Promise<void>((resolve) => {
          pool.on('remove', () => {
            if (pool.totalCount === 0) resolve()
          })
        })
        await cut()
        await gone
        t.same((await browser.get('/read')).json(), { a: 'old' })
      }
    }
  )

  t.same(rejections, [])
})

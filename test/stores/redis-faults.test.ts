import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import { systemClock } from '../../lib/clock.ts'
import type { Clock } from '../../lib/index.ts'
import { RedisStore, type RedisClient } from '../../lib/stores/redis.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { startProxy } from '../helpers/proxy.ts'
import { connect, skipOwnServer as skip, startRedis } from '../helpers/redis.ts'
import { serve, setCookies, unhandled } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'

/** The clients with their defaults, but for a shorter pause before they connect again. */
const libraries: Record<string, (t: Test, port: number) => RedisClient> = {
  redis(t, port) {
    const client = createClient({
      url: `redis://127.0.0.1:${port}`,
      socket: { reconnectStrategy: 20 }
    })
    client.on('error', () => {})
    client.connect().catch(() => {})
    t.teardown(() => {
      client.destroy()
    })
    return client
  },
  ioredis(t, port) {
    const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 20 })
    client.on('error', () => {})
    t.teardown(() => {
      client.disconnect()
    })
    return client
  }
}

interface Scene {
  readonly app: FastifyInstance
  readonly browser: Browser
  /** The addresses whose handlers have run. */
  readonly handled: readonly string[]
  /** What a reply must be while the store is out. */
  readonly isOutage: (reply: LightMyRequestResponse, code?: string | RegExp) => void
}

/** An app on a store, and a browser. */
async function scene(
  t: Test,
  client: RedisClient,
  clock: Clock,
  { maxPending = 1000, onHandler = (_url: string): void => {} } = {}
): Promise<Scene> {
  const { app } = await serve(t, { clock, store: new RedisStore({ client, maxPending, clock }) })
  const handled: string[] = []
  app.addHook('preHandler', async ({ url }) => {
    handled.push(url)
    onHandler(url)
  })
  const browser = new Browser(app)
  const isOutage = (
    reply: LightMyRequestResponse,
    code: string | RegExp = /^HOLDFAST_STORE_(?:FAILED|TIMEOUT)$/
  ): void => {
    t.equal(reply.statusCode, 503)
    t.match(reply.json().code, code)
    t.same(setCookies(reply), [], 'the cookie is left alone')
    t.equal(reply.headers['x-session-id'], undefined)
  }
  return { app, browser, handled, isOutage }
}

/** A test after which no rejection may have gone unhandled. */
function faultTest(name: string, body: (t: Test) => Promise<void>): void {
  t.test(name, { skip }, async (t) => {
    const rejections = unhandled(t)
    await body(t)
    await nextTurn()
    t.same(rejections, [], 'no rejection goes unhandled')
  })
}

/**
 * Sends requests until one is answered otherwise than with a 503: the client connects in its own
 * time.
 */
async function recovered(
  browser: Browser,
  url: string,
  clock?: TestClock
): Promise<LightMyRequestResponse> {
  for (;;) {
    const reply = await answered(browser.get(url), clock)
    if (reply.statusCode !== 503) return reply
  }
}

/** Lets time pass for the plugin until it answers. */
async function answered<T>(reply: Promise<T>, clock?: TestClock): Promise<T> {
  let done = false
  void reply
    .finally(() => {
      done = true
    })
    .catch(() => {})
  while (!done) {
    await nextTurn()
    clock?.advance(1)
  }
  return reply
}

for (const [library, open] of Object.entries(libraries)) {
  faultTest(
    `P8: a server that is killed and started again, under load, on ${library}`,
    async (t) => {
      const server = await startRedis(t)
      // On the system's clock, so that the load is a load.
      const { app } = await scene(t, open(t, server.port), systemClock)
      const counts = { ok: 0, outage: 0 }
      const cookies: string[] = []
      let phase: 'up' | 'down' | 'up again' = 'up'
      let stop = false
      const visitor = async (): Promise<void> => {
        const browser = new Browser(app)
        while (!stop) {
          const had = browser.cookies.get('session_id')
          const reply = await browser.get('/update')
          if (reply.statusCode === 503) {
            counts.outage += 1
            t.equal(browser.cookies.get('session_id'), had, 'the cookie stays')
          } else {
            t.equal(reply.statusCode, 200)
            if (phase === 'up again') cookies.push(idIn(browser))
            else counts.ok += 1
          }
        }
      }
      const visitors = Array.from({ length: 20 }, visitor)
      const until = async (condition: () => boolean): Promise<void> => {
        while (!condition()) await nextTurn()
      }
      await until(() => counts.ok >= 200)
      phase = 'down'
      await server.kill()
      await until(() => counts.outage >= 20)
      await server.start()
      phase = 'up again'
      await until(() => cookies.length >= 200)
      stop = true
      await Promise.all(visitors)
      t.ok(counts.outage >= 20)
      t.equal(
        (await app.inject({ url: '/read', headers: { cookie: `session_id=${cookies.at(-1)}` } }))
          .statusCode,
        200
      )
    }
  )

  faultTest(
    `P8: a server that is frozen: 503 in time, no more calls than may wait, and all well after it thaws, on ${library}`,
    async (t) => {
      const server = await startRedis(t)
      const client = open(t, server.port)
      let calls = 0
      const counted = counting(client, () => {
        calls += 1
      })
      const clock = new TestClock()
      const { browser, handled, isOutage } = await scene(t, counted, clock, { maxPending: 50 })
      await browser.get('/write/kept')
      await browser.get('/update')
      calls = 0
      const before = handled.length
      server.freeze()
      t.teardown(() => {
        server.thaw()
      })
      const replies = Array.from({ length: 5000 }, () => browser.send('/write/lost'))
      const refused = await Promise.race(replies)
      isOutage(refused, 'HOLDFAST_STORE_FAILED')
      await answered(Promise.all(replies), clock)
      for (const reply of [await replies[0], await replies[4999]]) isOutage(reply)
      t.equal(
        (await replies[0]).json().code,
        'HOLDFAST_STORE_TIMEOUT',
        'who waited ran out of time'
      )
      t.equal(
        (await replies[4999]).json().code,
        'HOLDFAST_STORE_FAILED',
        'who came later was not let in line'
      )
      t.ok((await Promise.all(replies)).every(({ statusCode }) => statusCode === 503))
      t.equal(calls, 50, 'no more than may wait have reached the client')
      t.equal(handled.length, before, 'no handler ran')
      server.thaw()
      t.same((await recovered(browser, '/read', clock)).json(), { a: 'kept', n: 1 })
    }
  )

  faultTest(`P8: a server that is not there when the app starts, on ${library}`, async (t) => {
    const server = await startRedis(t)
    await server.kill()
    const clock = new TestClock()
    const { app, browser, handled, isOutage } = await scene(t, open(t, server.port), clock)
    const headers = { cookie: 'session_id=an-id-from-before-the-outage' }
    isOutage(await answered(browser.send('/write/value', { headers }), clock))
    t.same(handled, [])
    isOutage(await answered(app.inject('/write/value'), clock))
    t.same(handled, ['/write/value'], 'a new session asks the store only in the end')
    await server.start()
    t.equal((await recovered(browser, '/write/value', clock)).statusCode, 200)
    t.same((await recovered(browser, '/read', clock)).json(), { a: 'value' })
  })

  for (const url of ['/update', '/write/new', '/login', '/logout', '/touch']) {
    faultTest(
      `P4, P8: an answer that is lost after ${url} took effect, on ${library}`,
      async (t) => {
        const server = await startRedis(t)
        const proxy = await startProxy(t, server.port)
        let armed = false
        let lost: Promise<void> | undefined
        const onHandler = (): void => {
          if (armed) lost ??= proxy.loseNextAnswer()
        }
        const { app, browser } = await scene(t, open(t, proxy.port), systemClock, { onHandler })
        // The server learns the scripts first, so that the lost answer is that of the call itself.
        for (const first of ['/update', '/touch', '/logout', '/update']) await browser.get(first)
        const id = idIn(browser)
        const key = app.sessions.publicIdOf(id)
        armed = true
        const reply = await browser.get(url)
        t.not(lost, undefined)
        await lost
        t.equal(reply.statusCode, 200)
        const stored = async (publicId: string): Promise<unknown> =>
          (await app.sessions.get(publicId))?.data
        if (url === '/update') t.same(await stored(key), { n: 2 }, 'once')
        if (url === '/write/new') t.same(await stored(key), { n: 1, a: 'new' })
        if (url === '/touch') t.same(await stored(key), { n: 1 })
        if (url === '/logout') t.equal(await stored(key), undefined)
        if (url === '/login') {
          t.equal(await stored(key), undefined, 'the old id is dead')
          t.same(await stored(app.sessions.publicIdOf(idIn(browser))), { user: 'ada' })
        }
      }
    )
  }

  faultTest(
    `P8: a server without memory left (noeviction) takes no writes; reading and logging out go on, on ${library}`,
    async (t) => {
      const server = await startRedis(t, '--maxmemory-policy', 'noeviction')
      const admin = await connect(t, server.url)
      const { app, browser, isOutage } = await scene(t, open(t, server.port), systemClock)
      await browser.get('/write/kept')
      await admin.configSet('maxmemory', '1')
      isOutage(await browser.get('/write/lost'), 'HOLDFAST_STORE_FAILED')
      isOutage(await browser.get('/update'), 'HOLDFAST_STORE_FAILED')
      isOutage(await app.inject('/write/new'), 'HOLDFAST_STORE_FAILED')
      t.same((await browser.get('/read')).json(), { a: 'kept' })
      await admin.configSet('maxmemory', '0')
      t.equal((await browser.get('/write/again')).statusCode, 200)
      await admin.configSet('maxmemory', '1')
      t.equal((await browser.get('/logout')).statusCode, 200)
      t.equal(browser.cookies.size, 0)
      t.equal(await admin.dbSize(), 0)
    }
  )

  faultTest(
    `P8: a server that has become a replica (READONLY) is read, and takes no writes, on ${library}`,
    async (t) => {
      const server = await startRedis(t)
      const admin = await connect(t, server.url)
      const { browser, isOutage } = await scene(t, open(t, server.port), systemClock)
      await browser.get('/write/kept')
      await admin.sendCommand(['REPLICAOF', '127.0.0.1', '1'])
      t.same((await browser.get('/read')).json(), { a: 'kept' })
      for (const url of ['/write/lost', '/update', '/login', '/logout'])
        isOutage(await browser.get(url), 'HOLDFAST_STORE_FAILED')
      await admin.sendCommand(['REPLICAOF', 'NO', 'ONE'])
      t.same((await browser.get('/read')).json(), { a: 'kept' })
      t.equal((await browser.get('/logout')).statusCode, 200)
    }
  )

  faultTest(
    `P8: a failover to a replica, which does not know the scripts, on ${library}`,
    async (t) => {
      const [primary, replica] = [
        await startRedis(t, '--repl-diskless-sync-delay', '0'),
        await startRedis(t)
      ]
      const [admin, other] = [await connect(t, primary.url), await connect(t, replica.url)]
      const proxy = await startProxy(t, primary.port)
      const clock = new TestClock()
      const { browser } = await scene(t, open(t, proxy.port), clock)
      await other.sendCommand(['REPLICAOF', '127.0.0.1', String(primary.port)])
      await browser.get('/write/kept')
      await browser.get('/update')
      // WAIT is about the writes of who asks.
      await admin.set('after', 'them all')
      while ((await admin.wait(1, 100)) !== 1);
      await primary.kill()
      await other.sendCommand(['REPLICAOF', 'NO', 'ONE'])
      await other.scriptFlush()
      proxy.lead(replica.port)
      t.same((await recovered(browser, '/read', clock)).json(), { a: 'kept', n: 1 })
      // The client is connected again. From here on the clock stands, so that no answer comes too
      // late: an update that was refused as too late may have taken effect, and is no longer one.
      t.same((await browser.get('/update')).json(), { n: 2 })
      t.equal((await browser.get('/logout')).statusCode, 200)
      t.same((await browser.get('/read')).json(), {})
    }
  )

  faultTest(`P8: a server that is still loading its data, on ${library}`, async (t) => {
    const server = await startRedis(
      t,
      '--appendonly',
      'yes',
      '--loading-process-events-interval-bytes',
      '1024'
    )
    const admin = await connect(t, server.url)
    const clock = new TestClock()
    const { browser, isOutage } = await scene(t, open(t, server.port), clock)
    await browser.get('/write/kept')
    for (let n = 0; n < 100; n += 1) await admin.set(`filler:${n}`, 'x'.repeat(100))
    await server.kill()
    const loading = server.start('--key-load-delay', '20000')
    isOutage(await answered(browser.get('/read'), clock))
    await loading
    t.same((await recovered(browser, '/read', clock)).json(), { a: 'kept' })
  })
}

/** A client that tells of every call. */
function counting(client: RedisClient, note: () => void): RedisClient {
  return new Proxy(client, {
    get(target, name) {
      const member = Reflect.get(target, name) as (...args: unknown[]) => unknown
      if (name === 'withCommandOptions')
        return (...args: unknown[]) => counting(member.apply(target, args) as RedisClient, note)
      if (!['eval', 'evalSha', 'evalsha'].includes(String(name))) return member
      return (...args: unknown[]) => {
        note()
        return member.apply(target, args)
      }
    }
  })
}

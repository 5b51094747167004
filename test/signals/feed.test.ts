import { EventEmitter } from 'node:events'

import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import { MemoryStore, SessionError, type EndNotice, type SessionFeed } from '../../lib/index.ts'
import { PostgresStore, type PostgresPool } from '../../lib/stores/postgres.ts'
import { RedisStore, type NodeRedisClient } from '../../lib/stores/redis.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { addWait, ended, endOf } from '../helpers/signals.ts'
import { slow, WatchedStore } from '../helpers/stores.ts'
import { settle } from '../helpers/waiting.ts'

/** A store whose feed is the test's. */
class TellingStore extends WatchedStore {
  override readonly feed: SessionFeed

  constructor(inner: MemoryStore, listen: SessionFeed['listen']) {
    super(inner)
    const look = (keys: readonly string[]): ReturnType<SessionFeed['look']> => inner.feed.look(keys)
    this.feed = { listen, look }
  }
}

interface World {
  readonly clock: TestClock
  readonly store: MemoryStore
  readonly signals: AbortSignal[]
  readonly key: () => string
  readonly close: () => Promise<void>
}

async function watch(test: Test, listen: SessionFeed['listen']): Promise<World> {
  const clock = new TestClock()
  const store = new MemoryStore({ clock })
  const { app } = await serve(test, { store: new TellingStore(store, listen), clock })
  const signals: AbortSignal[] = []
  let key = ''
  app.get('/wait', async ({ session }, reply) => {
    signals.push(session.signal)
    key = app.sessions.publicIdOf(session.id)
    reply.hijack()
  })
  const reply = await app.inject('/write/value')
  const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
  void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  await settle()
  return { clock, store, signals, key: () => key, close: () => app.close() }
}

for (const fail of [
  () => {
    throw new Error('not now')
  },
  async () => Promise.reject(new Error('not now'))
]) {
  t.test('P12: a feed that cannot be listened to is asked again', async (t) => {
    let asked = 0
    let tell: (notice: EndNotice) => void = () => {}
    const world = await watch(t, (listener) => {
      asked += 1
      if (asked < 3) return fail()
      tell = listener
      return () => {}
    })
    t.equal(asked, 1)
    for (let round = 0; round < 4; round += 1) {
      world.clock.advance(2000)
      await settle()
    }
    t.equal(asked, 3, 'until it can')
    world.store.delete(world.key())
    tell({ reason: 'destroyed', key: world.key() })
    t.equal(endOf(world.signals[0] as AbortSignal), 'HOLDFAST_SESSION_DESTROYED')
  })
}

t.test('a feed that is listened to too late is stopped', async (t) => {
  let stops = 0
  let answer: (stop: () => void) => void = () => {}
  const world = await watch(
    t,
    () =>
      new Promise((resolve) => {
        answer = resolve
      })
  )
  await world.close()
  answer(() => {
    stops += 1
  })
  await settle()
  t.equal(stops, 1)
  const other = await watch(t, () => () => {
    stops += 1
  })
  await other.close()
  t.equal(stops, 2)
})

t.test('P12: what is told is a hint: who lives goes on', async (t) => {
  let tell: (notice: EndNotice) => void = () => {}
  const world = await watch(t, (listener) => {
    tell = listener
    return () => {}
  })
  const key = world.key()
  const [signal] = world.signals as [AbortSignal]
  for (const notice of [
    { reason: 'destroyed', key },
    { key, successor: 'x'.repeat(43) },
    { reason: 'all destroyed' },
    {},
    { reason: 'limit', subject: 's'.repeat(16) },
    { key: 'y'.repeat(43) }
  ] as const) {
    tell(notice)
    world.clock.advance(2000)
    await settle()
    t.equal(endOf(signal), undefined, JSON.stringify(notice))
  }
  world.store.delete(key)
  world.clock.advance(2000)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE', 'and who tells nothing is found out')
})

t.test('P12: a store that answers late is looked at once at a time', async (t) => {
  const clock = new TestClock()
  const inner = slow(new MemoryStore({ clock }))
  const store = new WatchedStore(inner)
  const { app } = await serve(t, { store, clock, maxAge: 60 })
  const signals = addWait(app)
  const reply = await app.inject('/write/value')
  const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
  void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  await settle()
  store.taken()
  clock.advance(60_000)
  t.same(store.taken(), ['look'])
  await ended(signals[0] as AbortSignal)
  t.equal(endOf(signals[0] as AbortSignal), 'HOLDFAST_SESSION_IDLE')
})

/** An app over a store of which a test breaks the calls, with a signal for each cookie. */
async function over(
  t: Test,
  store: WatchedStore,
  clock: TestClock
): Promise<{
  readonly app: FastifyInstance
  readonly open: () => Promise<{ readonly signal: AbortSignal; readonly key: string }>
}> {
  const { app } = await serve(t, { store, clock })
  const signals: AbortSignal[] = []
  const keys: string[] = []
  app.get('/wait', async ({ session }, reply) => {
    signals.push(session.signal)
    keys.push(app.sessions.publicIdOf(session.id))
    reply.hijack()
  })
  return {
    app,
    async open() {
      const reply = await app.inject('/write/value')
      const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
      void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
      await settle()
      return { signal: signals.at(-1) as AbortSignal, key: keys.at(-1) as string }
    }
  }
}

for (const hasFeed of [true, false]) {
  t.test(
    `P12: a look that fails hides no other end (${hasFeed ? 'a feed' : 'none'})`,
    async (t) => {
      const clock = new TestClock()
      const inner = new MemoryStore({ clock })
      const store = new WatchedStore(inner)
      if (!hasFeed) delete (store as { feed?: unknown }).feed
      else (store.feed as { listen: SessionFeed['listen'] }).listen = () => () => {}
      const world = await over(t, store, clock)
      const [bad, good] = [await world.open(), await world.open()]
      store.intercept = (call, pass) => {
        if (['look', 'get'].includes(call.verb) && call.key.includes(bad.key)) throw new Error('no')
        return pass()
      }
      inner.delete(bad.key)
      inner.delete(good.key)
      clock.advance(2000)
      await settle()
      t.same([endOf(good.signal) !== undefined, endOf(bad.signal)], [true, undefined])
      store.intercept = (_call, pass) => pass()
      clock.advance(2000)
      await settle()
      t.not(endOf(bad.signal), undefined)
    }
  )
}

t.test('P12: a session that cannot be read here has not ended', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  delete (store as { feed?: unknown }).feed
  const { signal, key } = await (await over(t, store, clock)).open()
  store.intercept = (call, pass) => {
    if (call.verb === 'get') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    return pass()
  }
  clock.advance(60_000)
  await settle()
  t.equal(endOf(signal), undefined)
  store.intercept = (_call, pass) => pass()
  inner.delete(key)
  clock.advance(2000)
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
})

t.test('P12: an end whose call has failed is heard all the same', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  const world = await over(t, store, clock)
  const [lost, failed] = [await world.open(), await world.open()]
  store.intercept = (call, pass) => {
    if (call.verb !== 'delete') return pass()
    if (call.key === lost.key) pass()
    throw new Error('its answer is lost')
  }
  for (const { key } of [lost, failed]) {
    const isEnded = await world.app.sessions.destroy(key).catch(() => 'failed')
    t.equal(isEnded, 'failed')
  }
  await settle()
  t.equal(endOf(lost.signal), 'HOLDFAST_SESSION_DESTROYED')
  t.equal(endOf(failed.signal), undefined)
  inner.delete(failed.key)
  t.equal(endOf(failed.signal), 'HOLDFAST_SESSION_DESTROYED', 'what the feed tells is heard')
})

t.test('P12: an app that closes tells nobody that the session has ended', async (t) => {
  const clock = new TestClock()
  const store = slow(new MemoryStore({ clock }))
  const world = await over(t, store, clock)
  const { signal, key } = await world.open()
  store.intercept = async (_call, pass) => {
    await settle()
    return pass()
  }
  clock.advance(2000)
  void store.delete(key)
  await world.app.close()
  await settle()
  await settle()
  t.equal(endOf(signal), undefined)
})

t.test('a feed in plain JavaScript may look with null', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  const feed = store.feed as { look: SessionFeed['look'] }
  const look = feed.look.bind(feed)
  feed.look = async (keys) => (await look(keys)).map((each) => each ?? (null as never))
  const { signal, key } = await (await over(t, store, clock)).open()
  inner.delete(key)
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
})

t.test('PostgresStore on what makes no connections of its own hears nothing', async (t) => {
  const pool: PostgresPool = { query: async () => ({ rows: [], rowCount: 0 }) }
  const { feed } = new PostgresStore({ pool })
  const stop = await feed.listen(() => t.fail('nothing is told'))
  await stop()
  t.same(await feed.look([]), [])
})

/** A pool whose connections do what a test says. */
function poolOf(connect: (connection: EventEmitter) => Promise<void>): {
  readonly pool: PostgresPool
  readonly made: EventEmitter[]
  readonly closed: EventEmitter[]
} {
  const made: EventEmitter[] = []
  const closed: EventEmitter[] = []
  class Client extends EventEmitter {
    async connect(): Promise<void> {
      made.push(this)
      await connect(this)
    }
    async query(): Promise<void> {}
    async end(): Promise<void> {
      closed.push(this)
    }
  }
  const pool = { query: async () => ({ rows: [], rowCount: 0 }), Client }
  return { pool, made, closed }
}

t.test('PostgresStore that is stopped as it connects leaves no connection', async (t) => {
  const clock = new TestClock()
  let fail = (): void => {}
  const { pool, made, closed } = poolOf(
    () =>
      new Promise((_resolve, reject) => {
        fail = () => reject(new Error('stopped'))
      })
  )
  const stop = await new PostgresStore({ pool, clock }).feed.listen(() => t.fail('nothing is told'))
  await stop()
  fail()
  await settle()
  clock.advance(10_000)
  await settle()
  t.same([made.length, closed.length], [1, 1])
})

t.test('PostgresStore that is stopped between two connections makes no other', async (t) => {
  const clock = new TestClock()
  let notices = 0
  const { pool, made, closed } = poolOf(async () => {})
  const stop = await new PostgresStore({ pool, clock }).feed.listen(() => {
    notices += 1
  })
  await settle()
  t.equal(notices, 1, 'what was sent before it was connected is lost')
  const [first] = made as [EventEmitter]
  first.emit('end')
  t.doesNotThrow(() => first.emit('error', new Error('its socket')), 'ends no process')
  await stop()
  clock.advance(10_000)
  await settle()
  t.same([made.length, closed.length], [1, 1])
})

t.test('PostgresStore that cannot connect tries again', async (t) => {
  const clock = new TestClock()
  let notices = 0
  const { pool, made, closed } = poolOf(async () => {
    if (made.length < 3) throw new Error('not now')
  })
  const stop = await new PostgresStore({ pool, clock }).feed.listen(() => {
    notices += 1
  })
  for (const expected of [1, 2, 3, 3]) {
    await settle()
    t.same([made.length, closed.length], [expected, Math.min(expected, 2)])
    clock.advance(1000)
  }
  t.equal(notices, 1)
  await stop()
  t.equal(closed.length, 3)
})

t.test('RedisStore whose look fails says so', async (t) => {
  const client: NodeRedisClient = {
    eval: () => Promise.reject(new Error('it is loading')),
    evalSha: () => Promise.reject(new Error('it is loading'))
  }
  const { feed } = new RedisStore({ client })
  await t.rejects(Promise.resolve(feed.look(['a'.repeat(43), 'b'.repeat(43)])), /it is loading/)
})

t.test('P12: a store is listened to for as long as one of its apps waits', async (t) => {
  const clock = new TestClock()
  const calls: string[] = []
  const store = new TellingStore(new MemoryStore({ clock }), () => {
    calls.push('listen')
    return () => {
      calls.push('stop')
    }
  })
  const [one, other] = [await over(t, store, clock), await over(t, store, clock)]
  const first = await one.open()
  await other.open()
  await one.app.close()
  t.same(calls, ['listen'], 'the other one still waits')
  await other.app.close()
  t.same(calls, ['listen', 'stop'])
  const third = await over(t, store, clock)
  const { signal, key } = await third.open()
  t.same(calls, ['listen', 'stop', 'listen'])
  await third.app.sessions.destroy(key)
  t.same([endOf(first.signal), endOf(signal)], [undefined, 'HOLDFAST_SESSION_DESTROYED'])
})

t.test('P12: an app that has closed begins to wait for nothing', async (t) => {
  const clock = new TestClock()
  const store = new WatchedStore(new MemoryStore({ clock }))
  const { app } = await serve(t, { store, clock })
  let ask = (): AbortSignal => AbortSignal.abort()
  app.get('/late', async ({ session }) => {
    session.a = 'mine'
    ask = () => session.signal
  })
  await app.inject('/late')
  await app.close()
  const signal = ask()
  store.taken()
  clock.advance(10_000)
  await settle()
  t.same(store.taken(), [])
  t.equal(endOf(signal), undefined)
})

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { get } from 'node:http'
import type { AddressInfo } from 'node:net'

import t, { type Test } from 'tap'

import {
  MemoryStore,
  type EndNotice,
  type SessionEvents,
  type SessionFeed
} from '../../lib/index.ts'
import { RedisStore, type RedisClient } from '../../lib/stores/redis.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { between, endOf, open, pass, silent } from '../helpers/signals.ts'
import { WatchedStore } from '../helpers/stores.ts'
import { over, scene, second, type Device } from '../helpers/subjects.ts'
import { settle, signal as promised } from '../helpers/waiting.ts'

over('P12: who signs in while all are being ended lives', async (t, over) => {
  const world = await scene(over)
  const device: Device = { id: undefined }
  await world.visit(device, (session) => {
    session.a = 'mine'
  })
  const { signal, close } = await open(world, { ...device })
  await settle()
  between(over.store, 'endEverything', () =>
    world.visit(device, (session) => session.signIn('ada', { keep: 'all' }))
  )
  await world.app.sessions.destroyEverything()
  await pass(over, 2)
  t.equal(endOf(signal), undefined)
  await world.visit({ ...device }, ({ subject }) => t.equal(subject, 'ada'))
  await close()
})

over('P12: who begins anew in the request while the former session ends lives', async (t, over) => {
  const world = await scene(over)
  const device = await world.signIn('bob')
  const [isAsked, answer] = promised<AbortSignal>()
  const [mayGoOn, goOn] = promised()
  const [isCarol, becomeCarol] = promised()
  const [isBob, becomeBob] = promised()
  const [mayEnd, end] = promised()
  const reply = world.visit(device, async (session) => {
    answer(session.signal)
    await isCarol
    await session.signIn('carol')
    await session.save()
    goOn()
    await isBob
    await session.signIn('bob')
    await session.save()
    end()
    await mayEnd
    t.equal(session.subject, 'bob')
  })
  const signal = await isAsked
  await settle()
  const { intercept } = over.store
  over.store.intercept = (call, pass) => {
    if (call.verb !== 'endAll') return intercept(call, pass)
    over.store.intercept = intercept
    return (async () => {
      becomeCarol()
      await mayGoOn
      const ended = await intercept(call, pass)
      becomeBob()
      await mayEnd
      return ended
    })() as ReturnType<typeof pass>
  }
  await world.app.sessions.destroyAll('bob')
  t.equal(endOf(signal), undefined)
  t.equal((await reply).statusCode, 200)
})

over('P12: the end of a subject is heard at once after a sign-in elsewhere', async (t, over) => {
  const inner = over.store
  let tell: (notice: EndNotice) => void = () => {}
  const feed: SessionFeed = {
    listen(listener) {
      tell = listener
      return () => {}
    },
    look: (keys) => (inner.feed as SessionFeed).look(keys)
  }
  // Two processes: what the one does, the other one is told.
  const here = await scene(over, { store: { ...silent(inner), feed } })
  const elsewhere = await scene(over)
  const { sessions } = here.app
  const ways = ['told', 'here'] as const
  for (const way of ways) {
    const device: Device = { id: undefined }
    await elsewhere.visit(device, (session) => {
      session.a = 'mine'
    })
    const key = sessions.publicIdOf(device.id as string)
    const { signal, close } = await open(here, { ...device })
    await settle()
    await elsewhere.visit(device, (session) => session.signIn('ada', { keep: 'all' }))
    const successor = sessions.publicIdOf(device.id as string)
    tell({ key, successor })
    t.equal(endOf(signal), undefined)
    if (way === 'here') {
      await sessions.destroyAll('ada')
    } else {
      await elsewhere.app.sessions.destroyAll('ada')
      tell({ reason: 'all destroyed', subject: successor.slice(0, 16) })
      await settle()
      while (!signal.aborted) await settle()
    }
    t.equal(endOf(signal), 'HOLDFAST_SESSIONS_DESTROYED', way)
    await close()
  }
})

t.test('P12: a session that ends has nobody else looked at', async (t) => {
  const clock = new TestClock()
  const store = new WatchedStore(new MemoryStore({ clock }))
  const { app } = await serve(t, { store, clock })
  let asked = 0
  app.get<{ Querystring: { age: string } }>('/wait', async ({ session, query }, reply) => {
    session.maxAge = Number(query.age)
    session.a = 'mine'
    await session.save()
    asked += session.signal.aborted ? 0 : 1
    reply.hijack()
  })
  for (let count = 0; count < 90; count += 1) {
    void app.inject(`/wait?age=${count < 20 ? 60 : 3600}`).catch(() => {})
    clock.advance(1)
  }
  while (asked < 90) await settle()
  await settle()
  let keys = 0
  store.intercept = (call, pass) => {
    if (call.verb === 'look') keys += call.key.split(' ').length
    return pass()
  }
  for (let step = 0; step < 6200; step += 1) {
    clock.advance(10)
    await Promise.resolve()
    await Promise.resolve()
  }
  await settle()
  // 31 rounds, of 90 at most, and 20 that end.
  t.ok(keys <= 31 * 90 + 20, `${keys} looked at`)
  t.ok(keys >= 29 * 70, `${keys} looked at`)
})

t.test('P12: a signal is the same after its connection has closed', async (t) => {
  const { app } = await serve(t)
  const seen: unknown[] = []
  app.get('/wait', ({ session }, reply) => {
    reply.hijack()
    reply.raw.write('open')
    const { signal } = session
    signal.addEventListener('abort', () => reply.raw.end())
    reply.raw.once('close', () => {
      setImmediate(() => seen.push(session.signal === signal, endOf(session.signal)))
    })
  })
  const fresh = await app.inject('/sign-in-ada')
  const cookie = String(fresh.headers['set-cookie']).split(';')[0] as string
  await app.listen({ port: 0 })
  const { port } = app.server.address() as AddressInfo
  const asked = get({ port, path: '/wait', headers: { cookie }, agent: false })
  const [response] = await once(asked, 'response')
  response.resume()
  await app.inject({ url: '/logout', headers: { cookie } })
  while (seen.length === 0) await settle()
  t.same(seen, [true, 'HOLDFAST_SESSION_DESTROYED'])
})

t.test('P12: a request that is over waits for nothing, though it is stored later', async (t) => {
  const clock = new TestClock()
  const store = new WatchedStore(new MemoryStore({ clock }))
  const { app } = await serve(t, { store, clock })
  let isStored = false
  app.get('/late', ({ session }, reply) => {
    const { signal } = session
    reply.hijack()
    reply.raw.once('close', async () => {
      session.a = 'mine'
      await session.save()
      isStored = !signal.aborted
    })
    reply.raw.end()
  })
  const fresh = await app.inject('/sign-in-ada')
  const cookie = String(fresh.headers['set-cookie']).split(';')[0] as string
  await app.inject({ url: '/late', headers: { cookie } }).catch(() => {})
  while (!isStored) await settle()
  store.taken()
  clock.advance(10_000)
  await settle()
  t.notOk(store.taken().includes('look'))
})

/** Notes the sessions that end by time from now on. */
function expiriesOf(t: Test): ReadonlyArray<SessionEvents['expired']> {
  const seen: Array<SessionEvents['expired']> = []
  const note = (message: unknown): void => {
    seen.push(message as SessionEvents['expired'])
  }
  subscribe('fastify-holdfast:expired', note)
  t.teardown(() => unsubscribe('fastify-holdfast:expired', note))
  return seen
}

over('P12: what has moved and run out, unseen, has run out', async (t, over) => {
  const seen = expiriesOf(t)
  const world = await scene(over, { maxAge: 60, store: silent(over.store) })
  const elsewhere = await scene(over, { maxAge: 60 })
  const device: Device = { id: undefined }
  await elsewhere.visit(device, (session) => {
    session.a = 'mine'
  })
  const { signal, close } = await open(world, { ...device })
  await settle()
  await elsewhere.visit(device, (session) => session.regenerate('all'))
  await over.advance(61 * second)
  while (!signal.aborted) await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  t.match(seen, [{ session: world.app.sessions.publicIdOf(device.id as string), reason: 'idle' }])
  await close()
})

over('P12: disuse after an end that failed is disuse', async (t, over) => {
  const seen = expiriesOf(t)
  const world = await scene(over, { maxAge: 60 })
  const device: Device = { id: undefined }
  await world.visit(device, (session) => {
    session.a = 'mine'
  })
  const { signal, close } = await open(world, { ...device })
  await pass(over, 58)
  const { intercept } = over.store
  over.store.intercept = async (call, pass) => {
    if (call.verb === 'delete') throw new Error('not now')
    return intercept(call, pass)
  }
  const key = world.app.sessions.publicIdOf(device.id as string)
  await t.rejects(world.app.sessions.destroy(key), { code: 'HOLDFAST_STORE_FAILED' })
  over.store.intercept = intercept
  t.equal(endOf(signal), undefined)
  await pass(over, 3)
  while (!signal.aborted) await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  t.equal(seen.length, 1)
  await close()
})

over('P12: a step-up to an id that is taken has not ended the session', async (t, over) => {
  const made: string[] = []
  let next: string | undefined
  const world = await scene(over, {
    generateId() {
      const id = next ?? crypto.randomUUID()
      next = undefined
      made.push(id)
      return id
    }
  })
  await world.signIn('ada')
  const device = await world.signIn('ada')
  const { signal, close } = await open(world, { ...device })
  await settle()
  // The id of the first one.
  ;[next] = made
  await world.visit(device, (session) => session.reauthenticate(() => true))
  await pass(over, 2)
  t.equal(endOf(signal), undefined)
  await world.visit({ ...device }, ({ subject }) => t.equal(subject, 'ada'))
  await close()
})

/** A client of ioredis that answers nothing, and fails as a test says. */
function failing(fails: 'duplicate' | 'disconnect'): { client: RedisClient; tries: () => number } {
  let tries = 0
  const client = {
    eval: () => Promise.reject(new Error('not now')),
    evalsha: () => Promise.reject(new Error('not now')),
    duplicate() {
      tries += 1
      if (fails === 'duplicate') throw new Error('duplicate fails')
      return {
        on() {},
        off() {},
        subscribe: () => Promise.reject(new Error('not now')),
        unsubscribe: () => Promise.resolve(),
        disconnect() {
          throw new Error('disconnect fails')
        }
      }
    }
  }
  return { client: client as unknown as RedisClient, tries: () => tries }
}

for (const fails of ['duplicate', 'disconnect'] as const) {
  t.test(`P13: a client whose ${fails}() fails is tried again, and ends no process`, async (t) => {
    const clock = new TestClock()
    const { client, tries } = failing(fails)
    const { feed } = new RedisStore({ client, clock })
    const stop = await feed.listen(() => t.fail('nothing is told'))
    for (const expected of [1, 2, 3]) {
      await settle()
      t.equal(tries(), expected)
      clock.advance(1000)
    }
    await settle()
    await stop()
    clock.advance(10_000)
    await settle()
    t.equal(tries(), 4)
  })
}

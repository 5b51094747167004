import { subscribe, unsubscribe } from 'node:diagnostics_channel'

import t from 'tap'

import { MemoryStore, type SessionEvents, type SessionStore } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { addWait, ended, endOf, open, pass } from '../helpers/signals.ts'
import { over, scene, second, type Device } from '../helpers/subjects.ts'
import { settle } from '../helpers/waiting.ts'

/** Begins a session that nobody is signed in to. */
async function begin({ visit }: Awaited<ReturnType<typeof scene>>): Promise<Device> {
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  return device
}

over('P12: a signal aborts before destroy() resolves', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const { signal, close } = await open(world, device)
  t.equal(endOf(signal), undefined)
  await world.visit({ ...device }, async (session) => {
    await session.destroy()
    t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
  })
  t.equal((await close()).statusCode, 200)
})

over('P12: a signal aborts before an end from outside resolves', async (t, over) => {
  const world = await scene(over)
  const { sessions } = world.app
  const anonymous = await begin(world)
  const one = await open(world, anonymous)
  await sessions.destroy(sessions.publicIdOf(anonymous.id as string))
  t.equal(endOf(one.signal), 'HOLDFAST_SESSION_DESTROYED')
  const device = await world.signIn()
  const other = await world.signIn()
  const [handle] = (await sessions.list('ada')).sessions.map(({ publicId }) => publicId)
  const both = [await open(world, device), await open(world, other)]
  await sessions.destroy(handle as string)
  const ends = both.map(({ signal }) => endOf(signal)).filter((code) => code !== undefined)
  t.same(ends, ['HOLDFAST_SESSION_DESTROYED'], 'that one, and no other')
  const left = both.find(({ signal }) => !signal.aborted)?.signal as AbortSignal
  await sessions.destroyAll('ada')
  t.equal(endOf(left), 'HOLDFAST_SESSIONS_DESTROYED')
  const again = await open(world, await world.signIn())
  await sessions.destroyEverything()
  t.equal(endOf(again.signal), 'HOLDFAST_SESSIONS_DESTROYED')
  for (const { close } of [one, ...both, again]) await close()
})

over(
  'P12: destroyEverything() leaves the signals of those who are not signed in',
  async (t, over) => {
    const world = await scene(over)
    const anonymous = await begin(world)
    const [one, other] = [
      await open(world, { ...anonymous }),
      await open(world, await world.signIn())
    ]
    await world.app.sessions.destroyEverything()
    await over.advance(3 * second)
    await settle()
    t.equal(endOf(one.signal), undefined)
    t.equal(endOf(other.signal), 'HOLDFAST_SESSIONS_DESTROYED')
    await world.visit({ ...anonymous }, ({ a }) => t.equal(a, 'mine'))
    for (const { close } of [one, other]) await close()
  }
)

over('P12: destroyAll() leaves the signal of the session that it spares', async (t, over) => {
  const world = await scene(over)
  const [mine, other] = [await world.signIn(), await world.signIn()]
  const [spared, ended] = [await open(world, mine), await open(world, other)]
  await world.visit({ ...mine }, (session) =>
    world.app.sessions.destroyAll('ada', { except: session })
  )
  t.equal(endOf(ended.signal), 'HOLDFAST_SESSIONS_DESTROYED')
  t.equal(endOf(spared.signal), undefined)
  for (const { close } of [spared, ended]) await close()
})

over('P12: a session that gives way to a new one tells it', async (t, over) => {
  const limit = { subjectSessions: { max: 1, whenFull: 'end-oldest' } } as const
  const world = await scene(over, limit)
  const { signal, close } = await open(world, await world.signIn())
  await world.signIn()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_REPLACED')
  await close()
})

over('P12: a signal goes over to what the session goes on as', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const opened = [await open(world, { ...device })]
  await world.visit(device, (session) => session.regenerate('all'))
  opened.push(await open(world, { ...device }))
  await world.visit(device, (session) => session.signIn('ada', { keep: 'all' }))
  opened.push(await open(world, { ...device }))
  await world.visit(device, (session) => session.reauthenticate(() => true))
  opened.push(await open(world, { ...device }))
  await over.advance(30 * second)
  await settle()
  t.same(
    opened.map(({ signal }) => endOf(signal)),
    opened.map(() => undefined)
  )
  await world.visit(device, (session) => session.destroy())
  t.same(
    opened.map(({ signal }) => endOf(signal)),
    opened.map(() => 'HOLDFAST_SESSION_DESTROYED')
  )
  for (const { close } of opened) await close()
})

over('P12: a session that moves under its own signal is still heard', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const { signal, close } = await open(world, device, async (session) => {
    const { signal: before } = session
    await session.regenerate('all')
    t.equal(session.signal, before)
    await session.save()
  })
  await over.advance(3 * second)
  t.equal(endOf(signal), undefined)
  const reply = close()
  await reply
  t.not(device.id, undefined)
})

over('P12: disuse and the absolute lifetime abort a signal', async (t, over) => {
  const seen: SessionEvents['expired'][] = []
  const note = (message: unknown): void => {
    seen.push(message as SessionEvents['expired'])
  }
  subscribe('fastify-holdfast:expired', note)
  t.teardown(() => unsubscribe('fastify-holdfast:expired', note))
  const world = await scene(over, { maxAge: 60, absoluteTimeout: 90 })
  const device = await begin(world)
  const idle = await open(world, { ...device })
  await pass(over, 50)
  // Another process keeps it alive.
  await world.visit(device, (session) => session.touch())
  await pass(over, 39)
  t.equal(endOf(idle.signal), undefined)
  await pass(over, 1)
  await ended(idle.signal)
  t.equal(endOf(idle.signal), 'HOLDFAST_SESSION_EXPIRED')
  const other = await begin(world)
  const disused = await open(world, { ...other })
  await pass(over, 59)
  t.equal(endOf(disused.signal), undefined)
  await pass(over, 1)
  await ended(disused.signal)
  t.equal(endOf(disused.signal), 'HOLDFAST_SESSION_IDLE')
  for (const { close } of [idle, disused]) await close()
  t.match(seen, [
    { sessionName: 'session', session: String, reason: 'absolute' },
    { sessionName: 'session', session: String, reason: 'idle' }
  ])
})

over('P12: who comes after the end has a signal that is aborted', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  await world.visit(device, async (session) => {
    await session.destroy()
    t.equal(endOf(session.signal), 'HOLDFAST_SESSION_DESTROYED')
    session.a = 'begins another one'
  })
  await world.visit({ ...device }, async (session) => {
    await world.visit({ ...device }, (other) => other.destroy())
    session.b = 'late'
    await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
    const { signal } = session
    await ended(signal)
    t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
  })
})

over('P12: a new session is heard once it is stored', async (t, over) => {
  const world = await scene(over)
  const device: Device = { id: undefined }
  let publicId = ''
  const { signal, close } = await open(world, device, async (session) => {
    t.equal(endOf(session.signal), undefined)
    session.a = 'mine'
    await session.save()
    ;({ publicId } = session)
  })
  await world.app.sessions.destroy(publicId)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
  await close()
  const never = await open(world, { id: undefined })
  await over.advance(10 * second)
  t.equal(endOf(never.signal), undefined)
  await never.close()
})

over('P12: a store that is down ends nobody', async (t, over) => {
  const world = await scene(over, { maxAge: 60 })
  const device = await begin(world)
  const { signal, close } = await open(world, device)
  const { intercept } = over.store
  over.breakDown()
  await over.advance(120 * second)
  await settle()
  t.equal(endOf(signal), undefined)
  over.store.intercept = intercept
  await pass(over, 2)
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  await close()
})

over('P12: an end that nobody tells of is heard within two seconds', async (t, over) => {
  const { store: inner } = over
  const store: SessionStore = {
    get: (key) => inner.get(key),
    create: (...given) => inner.create(...given),
    update: (...given) => inner.update(...given),
    touch: (...given) => inner.touch(...given),
    delete: (key) => inner.delete(key),
    retire: (...given) => inner.retire(...given)
  }
  const world = await scene(over, { store })
  const device = await begin(world)
  const moved = { ...(await begin(world)) }
  const [one, other] = [await open(world, { ...device }), await open(world, { ...moved })]
  await world.visit(moved, (session) => session.regenerate('all'))
  const { sessions } = world.app
  await inner.delete(sessions.publicIdOf(device.id as string))
  await inner.delete(sessions.publicIdOf(moved.id as string))
  t.equal(endOf(one.signal), undefined)
  await pass(over, 2)
  for (const { signal, close } of [one, other]) {
    await ended(signal)
    t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
    await close()
  }
})

over('P12: a session that begins anew has a signal of its own', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const late = { ...device }
  await world.visit(device, (session) => session.regenerate('all'))
  let publicId = ''
  const { signal, close } = await open(world, late, async (session) => {
    t.equal(endOf(session.signal), undefined)
    await session.regenerate()
    session.a = 'mine'
    await session.save()
    ;({ publicId } = session)
  })
  await world.visit(device, (session) => session.destroy())
  t.equal(endOf(signal), undefined, 'the session that has moved is another one')
  await world.app.sessions.destroy(publicId)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
  await close()
})

over('P12: a signal that is asked for after the end is aborted', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  await world.visit({ ...device }, async (session) => {
    await world.visit({ ...device }, (other) => other.destroy())
    const { signal } = session
    await ended(signal)
    t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
  })
})

over('P12: what begins after destroy() has another signal', async (t, over) => {
  const world = await scene(over)
  const device: Device = { id: undefined }
  await world.visit(device, async (session) => {
    const { signal: first } = session
    await session.destroy()
    t.equal(endOf(first), 'HOLDFAST_SESSION_DESTROYED', 'one that was never stored, too')
    session.a = 'begins another one'
    await session.save()
  })
  const { signal, close } = await open(world, device)
  t.equal(endOf(signal), undefined)
  await close()
})

over('P12: a shorter life is heard of in time, once for a session', async (t, over) => {
  let told = 0
  const count = (): void => {
    told += 1
  }
  subscribe('fastify-holdfast:expired', count)
  t.teardown(() => unsubscribe('fastify-holdfast:expired', count))
  const world = await scene(over)
  const device = await begin(world)
  const opened = [await open(world, { ...device }), await open(world, { ...device })]
  await world.visit(device, (session) => {
    session.maxAge = 5
  })
  await pass(over, 4)
  t.same(
    opened.map(({ signal }) => endOf(signal)),
    [undefined, undefined]
  )
  await pass(over, 1)
  for (const { signal } of opened) {
    await ended(signal)
    t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  }
  t.equal(told, 1)
  for (const { close } of opened) await close()
})

over('a signal is watched as long as its request is open', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const opened = [await open(world, { ...device }), await open(world, { ...device })]
  const [first, second] = opened as [Awaited<ReturnType<typeof open>>, (typeof opened)[0]]
  await first.close()
  await settle()
  await world.visit({ ...device }, (session) => session.destroy())
  t.equal(endOf(first.signal), undefined)
  t.equal(endOf(second?.signal as AbortSignal), 'HOLDFAST_SESSION_DESTROYED')
  await second?.close()
  over.store.taken()
  await over.advance(60_000)
  t.same(over.store.taken(), [], 'nothing is looked at')
})

t.test('a full MemoryStore tells those that it evicts', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock, max: 3 })
  const { app } = await serve(t, { store, clock })
  let ended: string | undefined
  app.get('/wait', async ({ session }) => {
    const { signal } = session
    session.a = 'mine'
    await session.save()
    for (let count = 0; count < 5; count += 1) await app.inject('/write/other')
    ended = endOf(signal)
  })
  await app.inject('/wait')
  t.equal(ended, 'HOLDFAST_SESSION_EVICTED')
})

t.test('where there is no session, the signal is aborted', async (t) => {
  const { app } = await serve(t)
  app.get('/none', { config: { session: false } }, async ({ session }) => endOf(session.signal))
  t.equal((await app.inject('/none')).body, 'HOLDFAST_SESSION_UNAVAILABLE')
})

t.test('many that end at once let other work in between', async (t) => {
  const { app } = await serve(t)
  const signals = addWait(app)
  const reply = await app.inject('/sign-in-ada')
  const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
  for (let count = 0; count < 350; count += 1) {
    void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  }
  await settle()
  t.equal(signals.length, 350)
  let turns = 0
  let isOver = false
  const count = (): void => {
    turns += 1
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  await app.sessions.destroyAll('ada')
  isOver = true
  t.ok(signals.every(({ aborted }) => aborted))
  t.ok(turns >= 2, `${turns} turns`)
})

t.test('P11: who ends all as a MemoryStore evicts ends all', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock, max: 4 })
  const { app } = await serve(t, { store, clock })
  app.get('/who', async ({ session }) => session.subject ?? 'nobody')
  let isEnded = false
  app.get('/wait', async ({ session }, reply) => {
    session.signal.addEventListener('abort', () => {
      isEnded = true
      void app.sessions.destroyAll('ada')
    })
    reply.hijack()
  })
  const cookieOf = async (url: string): Promise<string> =>
    String((await app.inject(url)).headers['set-cookie']).split(';')[0] as string
  const evicted = await cookieOf('/write/value')
  void app.inject({ url: '/wait', headers: { cookie: evicted } }).catch(() => {})
  const cookies = []
  for (let count = 0; count < 4; count += 1) {
    const cookie = await cookieOf('/sign-in-ada')
    cookies.push(cookie)
    await app.inject({ url: '/who', headers: { cookie } })
  }
  t.ok(isEnded)
  for (const cookie of cookies) {
    t.equal((await app.inject({ url: '/who', headers: { cookie } })).body, 'nobody')
  }
})

t.test('nobody waits on a response that is over', async (t) => {
  const { app, store, clock } = await serve(t)
  const late: AbortSignal[] = []
  app.get('/late', async ({ session }, reply) => {
    reply.raw.once('close', () => setImmediate(() => late.push(session.signal)))
    session.a = 'mine'
  })
  await app.inject('/late')
  while (late.length === 0) await settle()
  store.taken()
  clock.advance(10_000)
  t.notOk(store.taken().includes('look'))
})

import t from 'tap'

import { MemoryStore, SessionError, type EndNotice, type SessionFeed } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { addWait, ended, endOf, faultsOf, open, pass, silent } from '../helpers/signals.ts'
import { nextTurn, WatchedStore } from '../helpers/stores.ts'
import { over, scene, second, type Device } from '../helpers/subjects.ts'
import { settle } from '../helpers/waiting.ts'

/** Begins a session that nobody is signed in to. */
async function begin({ visit }: Pick<Awaited<ReturnType<typeof scene>>, 'visit'>): Promise<Device> {
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  return device
}

for (const where of ['nowhere', 'in this process', 'in another']) {
  over(
    `P12: one that begins under the id of another is another session (moved: ${where})`,
    async (t, over) => {
      const store = silent(over.store)
      const { app } = await over.serve({ store, adoptUnknownIds: () => true })
      const other = await over.serve({ store: silent(over.store), adoptUnknownIds: () => true })
      const signals = addWait(app)
      const headers = { 'x-session-id': 'an-id-that-a-client-brings-along' }
      await app.inject({ url: '/write/first', headers })
      void app.inject({ url: '/wait', headers }).catch(() => {})
      while (signals.length === 0) await nextTurn()
      await settle()
      // Another process ends it, and begins another one, before anything is looked at.
      await over.store.delete(app.sessions.publicIdOf(headers['x-session-id']))
      await app.inject({ url: '/write/second', headers })
      const mover = where === 'in another' ? other.app : app
      if (where !== 'nowhere') await mover.inject({ url: '/step-up-all', headers })
      await pass(over, 2)
      await ended(signals[0] as AbortSignal)
      t.equal(endOf(signals[0] as AbortSignal), 'HOLDFAST_SESSION_GONE')
    }
  )
}

t.test(
  'P12: how an earlier session of the same id ended is not how a later one does',
  async (t) => {
    const clock = new TestClock()
    const { app } = await serve(t, { clock, adoptUnknownIds: () => true, maxAge: 1 })
    const signals = addWait(app)
    const [one, unrelated] = ['an-id-that-comes-back-again', 'an-id-of-somebody-else'].map(
      (id) => ({
        'x-session-id': id
      })
    )
    const wait = async (headers: typeof one): Promise<void> => {
      await app.inject({ url: '/write/x', headers })
      void app.inject({ url: '/wait', headers }).catch(() => {})
      await settle()
    }
    await wait(unrelated)
    await app.inject({ url: '/write/x', headers: one })
    await app.inject({ url: '/logout', headers: one })
    await wait(one)
    clock.advance(1000)
    await settle()
    t.equal(endOf(signals[1] as AbortSignal), 'HOLDFAST_SESSION_IDLE')
  }
)

t.test('P13: an end is told where the app has frozen Error', async (t) => {
  const { app } = await serve(t)
  await app.inject('/sign-in-ada')
  const publicId = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  const found = await app.sessions.get(publicId)
  t.equal(found?.signal.aborted, false)
  const limit = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit') as PropertyDescriptor
  Object.defineProperty(Error, 'stackTraceLimit', { ...limit, writable: false })
  t.teardown(() => Object.defineProperty(Error, 'stackTraceLimit', limit))
  await app.sessions.destroyAll('ada')
  t.equal((found?.signal.reason as SessionError | undefined)?.code, 'HOLDFAST_SESSIONS_DESTROYED')
})

t.test('P12: what a slow store says is as old as the question', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  const { app } = await serve(t, { store, clock, maxAge: 3, storeTimeout: 60_000 })
  const signals = addWait(app)
  const { headers } = await app.inject('/write/value')
  const cookie = String(headers['set-cookie']).split(';')[0] as string
  void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  await settle()
  let answer = (): void => {}
  store.intercept = (call, pass) => {
    if (call.verb !== 'look') return pass()
    const read = pass()
    return new Promise<typeof read>((resolve) => {
      answer = () => resolve(read)
    }) as typeof read
  }
  clock.advance(2000)
  // Another process keeps it alive after it was read.
  const key = app.sessions.publicIdOf(decodeURIComponent(cookie.split('=')[1] as string))
  inner.touch(key, clock.now() + 3000)
  const answerAll = async (): Promise<void> => {
    for (let count = 0; count < 5; count += 1) {
      answer()
      await settle()
    }
  }
  clock.advance(2000)
  await answerAll()
  t.equal(endOf(signals[0] as AbortSignal), undefined)
  clock.advance(1000)
  await answerAll()
  t.equal(endOf(signals[0] as AbortSignal), 'HOLDFAST_SESSION_IDLE')
})

const wrong: ReadonlyArray<readonly [string, unknown]> = [
  ['nothing', undefined],
  ['null', null],
  ['too few', []],
  ['what are no looks', [{}]],
  ['an instant that is none', [{ version: 'v', createdAt: 0, expiresAt: Number.NaN }]]
]
for (const [what, looks] of wrong) {
  for (const isLate of [false, true]) {
    t.test(`P13: a feed that returns ${what} ${isLate ? 'later ' : ''}ends nobody`, async (t) => {
      const clock = new TestClock()
      const inner = new MemoryStore({ clock })
      const store = new WatchedStore(inner)
      const feed = store.feed as { look: SessionFeed['look'] }
      const right = feed.look
      const world = await scene({ serve: (options) => serve(t, options) }, { store, clock })
      const device = await begin(world)
      const { signal, close } = await open(world, device)
      const faults = faultsOf(t)
      feed.look = (async (...given: Parameters<typeof right>) =>
        isLate ? (looks as never) : right(...given)) as never
      if (!isLate) feed.look = () => looks as never
      clock.advance(2000)
      await settle()
      t.equal(endOf(signal), undefined)
      t.match(faults, [{ verb: 'look', code: 'HOLDFAST_STORE_FAILED' }])
      feed.look = right
      inner.delete(world.app.sessions.publicIdOf(device.id as string))
      clock.advance(2000)
      await settle()
      t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
      await close()
    })
  }
}

over('P12: a session that begins after destroy() has a signal of its own', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const { signal, close } = await open(world, device, async (session) => {
    await session.destroy()
    t.equal(endOf(session.signal), 'HOLDFAST_SESSION_DESTROYED')
    session.a = 'begins another one'
    await session.save()
  })
  await pass(over, 2)
  t.equal(endOf(signal), undefined)
  await close()
  t.not(device.id, undefined)
})

over('P12: a session that has moved has not ended for who asks late', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const { signal, close } = await open(world, { ...device }, async (session) => {
    await world.visit(device, (other) => other.regenerate('all'))
    await t.rejects(
      session.update(() => {}),
      { code: 'HOLDFAST_SESSION_GONE' }
    )
  })
  await pass(over, 2)
  t.equal(endOf(signal), undefined)
  await world.visit(device, (session) => session.destroy())
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
  await close()
})

over('reload() of a session that this request has ended, or left, rejects', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  await world.visit({ ...device }, async (session) => {
    await session.destroy()
    await t.rejects(session.reload(), { code: 'HOLDFAST_SESSION_GONE' })
  })
  const other = await begin(world)
  await world.visit({ ...other }, async (session) => {
    await session.regenerate('all')
    await session.reload()
    t.equal(session.a, 'mine')
    await world.visit({ ...other }, (third) => third.destroy())
    await t.rejects(session.reload(), { code: 'HOLDFAST_SESSION_GONE' })
  })
})

over('P12: two apps on one store hear before destroy() resolves', async (t, over) => {
  const store = silent(over.store)
  const [one, other] = [await scene(over, { store }), await scene(over, { store })]
  const device = await begin(one)
  const first = await open(one, { ...device })
  const second = await open(other, { ...device })
  await one.visit({ ...device }, async (session) => {
    await session.destroy()
    t.same(
      [first, second].map(({ signal }) => endOf(signal)),
      ['HOLDFAST_SESSION_DESTROYED', 'HOLDFAST_SESSION_DESTROYED']
    )
  })
  await Promise.all([first.close(), second.close()])
  const again = await begin(one)
  const third = await open(other, { ...again })
  await one.app.close()
  await other.visit({ ...again }, (session) => session.destroy())
  t.equal(endOf(third.signal), 'HOLDFAST_SESSION_DESTROYED', 'also when the first has closed')
  await third.close()
})

over('P12: who has followed no move hears of the end by the old id', async (t, over) => {
  const world = await scene(over, { store: silent(over.store) })
  const device = await begin(world)
  const { signal, close } = await open(world, { ...device })
  const { sessions } = world.app
  const key = sessions.publicIdOf(device.id as string)
  const record = await over.store.get(key)
  if (record === undefined || record.successor !== undefined) throw new Error('it is there')
  // Another process has moved it, and nobody was told.
  const successor = 's'.repeat(43)
  await over.store.create(successor, { ...record, version: 'other.w' })
  const { expiresAt, version } = record
  await over.store.retire(key, { successor, version, expiresAt })
  await world.visit({ ...device }, (session) => session.destroy())
  t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED')
  await close()
})

over('P12: an end that has been made is told without another look', async (t, over) => {
  const limit = { subjectSessions: { max: 1, whenFull: 'end-oldest' } } as const
  const world = await scene(over, { store: silent(over.store), ...limit })
  const { sessions } = world.app
  const ends: ReadonlyArray<readonly [() => Promise<unknown>, string]> = [
    [() => sessions.destroyAll('ada'), 'HOLDFAST_SESSIONS_DESTROYED'],
    [() => sessions.destroyEverything(), 'HOLDFAST_SESSIONS_DESTROYED'],
    [
      async () => {
        const [only] = (await sessions.list('ada')).sessions
        await sessions.destroy(only?.publicId as string)
      },
      'HOLDFAST_SESSION_DESTROYED'
    ],
    [() => world.signIn(), 'HOLDFAST_SESSION_REPLACED']
  ]
  for (const [end, code] of ends) {
    const device = await world.signIn()
    const { signal, close } = await open(world, { ...device })
    await settle()
    const { intercept } = over.store
    over.store.intercept = (call, pass) => {
      if (call.verb === 'get') throw new Error('not now')
      return intercept(call, pass)
    }
    await end().catch((error: unknown) => t.fail(String(error)))
    t.equal(endOf(signal), code)
    over.store.intercept = intercept
    await close()
  }
})

over('P12: who is told of a move that is none still hears of the end', async (t, over) => {
  let tell: (notice: EndNotice) => void = () => {}
  const { store: inner } = over
  const feed: SessionFeed = {
    listen(listener) {
      tell = listener
      return () => {}
    },
    look: (keys) => (inner.feed as SessionFeed).look(keys)
  }
  const world = await scene(over, { store: { ...silent(inner), feed } })
  const [one, other] = [await begin(world), await begin(world)]
  const [first, second] = [await open(world, { ...one }), await open(world, { ...other })]
  const { sessions } = world.app
  const [key, successor] = [one, other].map(({ id }) => sessions.publicIdOf(id as string))
  tell({ key, successor })
  // And round and round.
  tell({ key: successor, successor: key })
  await pass(over, 4)
  t.same([endOf(first.signal), endOf(second.signal)], [undefined, undefined])
  await world.visit({ ...one }, (session) => session.destroy())
  t.same([endOf(first.signal), endOf(second.signal)], ['HOLDFAST_SESSION_DESTROYED', undefined])
  tell({ key: successor, successor: key })
  await inner.delete(successor as string)
  tell({ reason: 'destroyed', key: successor })
  await ended(second.signal)
  t.equal(endOf(second.signal), 'HOLDFAST_SESSION_DESTROYED')
  await Promise.all([first.close(), second.close()])
})

t.test('P12: traces that lead in a circle hold nobody up', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock })
  const world = await scene({ serve: (options) => serve(t, options) }, { store, clock })
  const device = await begin(world)
  const { signal, close } = await open(world, device)
  const key = world.app.sessions.publicIdOf(device.id as string)
  const { feed } = store
  const look = feed.look.bind(feed)
  feed.look = (keys) => keys.map((each) => ({ successor: each === key ? 's'.repeat(43) : key }))
  clock.advance(2000)
  await settle()
  t.equal(endOf(signal), undefined)
  feed.look = look
  await close()
})

t.test('P12: an outage costs no more calls than the looks that fail', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  const { app } = await serve(t, { store, clock })
  let waiting = 0
  app.get('/wait', async ({ session }, reply) => {
    waiting += session.signal.aborted ? 0 : 1
    reply.hijack()
  })
  for (let count = 0; count < 250; count += 1) {
    const { headers } = await app.inject('/write/value')
    const cookie = String(headers['set-cookie']).split(';')[0] as string
    void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  }
  while (waiting < 250) await nextTurn()
  await settle()
  const faults = faultsOf(t)
  for (const error of [new Error('down'), new SessionError('HOLDFAST_STORE_TIMEOUT')]) {
    store.taken()
    store.intercept = async () => {
      throw error
    }
    clock.advance(2000)
    await settle()
    await settle()
    const calls = store.taken().length
    t.ok(calls <= 12, `${calls} calls for three hundreds`)
  }
  t.ok(faults.every(({ session }) => session.length <= 43))
})

t.test('many sockets of one session end in turns', async (t) => {
  const { app } = await serve(t)
  const signals = addWait(app)
  const { headers } = await app.inject('/write/value')
  const cookie = String(headers['set-cookie']).split(';')[0] as string
  for (let count = 0; count < 350; count += 1) {
    void app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
  }
  await settle()
  let most = 0
  let since = 0
  for (const signal of signals) {
    signal.addEventListener('abort', () => {
      since += 1
      most = Math.max(most, since)
    })
  }
  const turn = (): void => {
    since = 0
    if (signals.some(({ aborted }) => !aborted)) setImmediate(turn)
  }
  turn()
  await app.inject({ url: '/logout', headers: { cookie } })
  t.ok(signals.every(({ aborted }) => aborted))
  t.ok(most <= 200, `${most} in a turn`)
})

over('P12: the time that is over tells, where nobody has', async (t, over) => {
  const world = await scene(over, { maxAge: 60 })
  const device = await begin(world)
  const { signal, close } = await open(world, device)
  await over.advance(61 * second)
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  await close()
})

over('P12: a shorter absolute lifetime counts here, whoever keeps it alive', async (t, over) => {
  const store = silent(over.store)
  const [one, other] = [
    await scene(over, { store, maxAge: 90, absoluteTimeout: 90 }),
    await scene(over, { store })
  ]
  const device = await begin(other)
  const { signal, close } = await open(one, { ...device })
  await pass(over, 80)
  await other.visit({ ...device }, (session) => session.touch())
  t.equal(endOf(signal), undefined)
  await pass(over, 10)
  await ended(signal)
  t.equal(endOf(signal), 'HOLDFAST_SESSION_EXPIRED')
  await other.visit({ ...device }, (session) => t.equal(session.a, 'mine'))
  await close()
})

over('P12: who misses what has moved on has a signal that is aborted', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  const late = { ...device }
  await world.visit(device, (session) => session.regenerate('all'))
  await world.visit(late, async (session) => {
    await session.regenerate('all')
    session.b = 'mine'
    await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
    t.equal(endOf(session.signal), 'HOLDFAST_SESSION_GONE')
  })
})

over('reload() leaves what cannot be stored to the one who has set it', async (t, over) => {
  const world = await scene(over)
  const device = await begin(world)
  await world.visit({ ...device }, async (session) => {
    const circle: Record<string, unknown> = {}
    circle['self'] = circle
    session['b'] = circle as never
    await session.reload()
    t.equal(session['b'], circle)
    delete session['b']
  })
})

t.test('P12: who looks while the end is being made knows how it was', async (t) => {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  ;(store.feed as { listen: SessionFeed['listen'] }).listen = () => () => {}
  const world = await scene({ serve: (options) => serve(t, options) }, { store, clock })
  const ends = [
    ['endAll', 'HOLDFAST_SESSIONS_DESTROYED', () => world.app.sessions.destroyAll('ada')],
    [
      'delete',
      'HOLDFAST_SESSION_DESTROYED',
      (device: Device) => world.visit({ ...device }, (session) => session.destroy())
    ]
  ] as const
  for (const [verb, code, end] of ends) {
    const device = await world.signIn()
    const { signal, close } = await open(world, { ...device })
    await settle()
    let seen: string | undefined
    store.intercept = (call, pass) => {
      const answer = pass()
      if (call.verb !== verb) return answer
      clock.advance(2000)
      seen = endOf(signal)
      return answer
    }
    await end(device)
    store.intercept = (_call, pass) => pass()
    t.equal(seen, code)
    await close()
  }
})

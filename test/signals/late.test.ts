import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'

import Fastify from 'fastify'
import t, { type Test } from 'tap'

import sessionPlugin, { MemoryStore, type EndNotice, type SessionFeed } from '../../lib/index.ts'
import { PostgresStore } from '../../lib/stores/postgres.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { between, ended, endOf, faultsOf, open, silent } from '../helpers/signals.ts'
import { WatchedStore } from '../helpers/stores.ts'
import { over, patient, scene, second, type Device, type Scene } from '../helpers/subjects.ts'
import { settle, signal as promised } from '../helpers/waiting.ts'

/** Holds up the answer to the next call of a verb. */
function holdAnswer(
  store: WatchedStore,
  verb: string
): {
  readonly held: Promise<void>
  readonly release: () => void
} {
  const [held, reach] = promised()
  const [released, release] = promised()
  between(store, verb, async () => {
    reach()
    await released
  })
  return { held, release }
}

/** A world in which a feed tells what a test says. */
async function told(
  t: Test,
  options: { maxAge?: number } = {}
): Promise<{
  world: Scene
  store: WatchedStore
  inner: MemoryStore
  clock: TestClock
  tell: (notice: EndNotice) => void
}> {
  const clock = new TestClock()
  const inner = new MemoryStore({ clock })
  const store = new WatchedStore(inner)
  let tell: (notice: EndNotice) => void = () => {}
  ;(store.feed as { listen: SessionFeed['listen'] }).listen = (listener) => {
    tell = listener
    return () => {}
  }
  const world = await scene(
    { serve: (given) => serve(t, given) },
    { store, clock, ...patient, ...options }
  )
  return { world, store, inner, clock, tell: (notice) => tell(notice) }
}

// What is watched late.

over('P12: who is stored late hears of an end before that, at once', async (t, over) => {
  const { app, visit } = await scene(over, { storeTimeout: 60 })
  const { held, release } = holdAnswer(over.store, 'create')
  const [isAsked, ask] = promised<{ signal: AbortSignal; publicId: string }>()
  const [mayEnd, end] = promised()
  const reply = visit({ id: undefined }, async (session) => {
    session.a = 'mine'
    ask(session)
    const { signal } = session
    await session.save()
    await ended(signal)
    await mayEnd
  })
  const { signal, publicId } = await isAsked
  await held
  t.equal(await app.sessions.destroy(publicId), true)
  release()
  await ended(signal)
  t.pass('no time has passed')
  end()
  await reply
})

over('P12: who moves late hears of an end of the subject, at once', async (t, over) => {
  const world = await scene(over, { storeTimeout: 60 })
  const device: Device = { id: undefined }
  await world.visit(device, (session) => {
    session.a = 'mine'
  })
  const before = await open(world, { ...device })
  await settle()
  // Signed in, and not yet gone from the old id.
  const { held, release } = holdAnswer(over.store, 'create')
  const signedIn = open(world, device, async (session) => {
    await session.signIn('ada')
    await session.save().catch(() => {})
  })
  await held
  await world.app.sessions.destroyAll('ada')
  release()
  const { close } = await signedIn
  await ended(before.signal)
  t.equal(endOf(before.signal), 'HOLDFAST_SESSIONS_DESTROYED')
  await close()
  await before.close()
})

t.test('P12: who is told of a move elsewhere looks where it has gone', async (t) => {
  const { world, inner, tell } = await told(t)
  const elsewhere = await scene({ serve: (given) => serve(t, given) }, { store: silent(inner) })
  const device: Device = { id: undefined }
  await elsewhere.visit(device, (session) => {
    session.a = 'mine'
  })
  const key = world.app.sessions.publicIdOf(device.id as string)
  const { signal, close } = await open(world, { ...device })
  await settle()
  await elsewhere.visit(device, (session) => session.signIn('ada'))
  const successor = world.app.sessions.publicIdOf(device.id as string)
  await elsewhere.app.sessions.destroyAll('ada')
  // The end was told before the move was.
  tell({ reason: 'all destroyed', subject: successor.slice(0, 16) })
  tell({ key, successor })
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSIONS_DESTROYED')
  await close()
})

// How it has ended.

t.test('P12: who looks as the message comes knows how the session ended', async (t) => {
  const { world, store, inner, clock, tell } = await told(t)
  const device = await world.signIn()
  const { signal, close } = await open(world, device)
  await settle()
  const subject = world.app.sessions.publicIdOf(device.id as string).slice(0, 16)
  void inner.subjects.endAll(subject)
  const { held, release } = holdAnswer(store, 'look')
  clock.advance(2000)
  await held
  const second = holdAnswer(store, 'look')
  tell({ reason: 'all destroyed', subject })
  await second.held
  release()
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSIONS_DESTROYED')
  second.release()
  await close()
})

over('P12: who moves as all are ended is told how', async (t, over) => {
  const world = await scene(over)
  const device = await world.signIn()
  const { signal, close } = await open(world, device, async (session) => {
    await session.reauthenticate(() => true)
  })
  await world.app.sessions.destroyAll('ada')
  t.equal(endOf(signal), 'HOLDFAST_SESSIONS_DESTROYED', 'before it resolves')
  await close()
})

t.test('P12: one that runs out while another one is being ended has run out', async (t) => {
  const { world, store, clock } = await told(t, { maxAge: 60 })
  let events = 0
  const note = (): void => {
    events += 1
  }
  subscribe('fastify-holdfast:expired', note)
  t.teardown(() => unsubscribe('fastify-holdfast:expired', note))
  const other = await world.signIn()
  const mine = await world.signIn()
  const { signal, close } = await open(world, mine)
  await settle()
  clock.advance(30 * second)
  let publicId = ''
  await world.visit(other, (session) => {
    ;({ publicId } = session)
    session.touch()
  })
  clock.advance(29 * second)
  await settle()
  const { held, release } = holdAnswer(store, 'endOne')
  const destroyed = world.app.sessions.destroy(publicId)
  await held
  clock.advance(2 * second)
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  t.equal(events, 1)
  release()
  t.equal(await destroyed, true)
  await close()
})

t.test(
  'P12: who is spared and ends otherwise meanwhile is not told of the end of all',
  async (t) => {
    const { world, store, inner, clock } = await told(t)
    const device = await world.signIn()
    const { signal, close } = await open(world, device)
    await settle()
    const { sessions } = await world.app.sessions.list('ada')
    const { publicId } = sessions[0] as { readonly publicId: string }
    const [subject, lineage] = publicId.split('.') as [string, string]
    const { held, release } = holdAnswer(store, 'endAll')
    const all = world.visit({ ...device }, async (session) => {
      await world.app.sessions.destroyAll('ada', { except: session }).catch(() => {})
    })
    await held
    void inner.subjects.endOne(subject, lineage)
    clock.advance(2000)
    await settle()
    t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
    release()
    await all
    await close()
  }
)

t.test('P12: an end whose answer was lost is told as what it was', async (t) => {
  const clock = new TestClock()
  const store = new WatchedStore(silent(new MemoryStore({ clock })))
  const world = await scene({ serve: (given) => serve(t, given) }, { store, clock })
  const anonymous: Device = { id: undefined }
  await world.visit(anonymous, (session) => {
    session.a = 'mine'
  })
  const cases = [
    [anonymous, 'delete'],
    [await world.signIn(), 'endOne']
  ] as const
  for (const [device, verb] of cases) {
    let publicId = ''
    const { signal, close } = await open(world, { ...device }, (session) => {
      ;({ publicId } = session)
    })
    await settle()
    store.intercept = (call, pass) => {
      if (call.verb !== verb) return pass()
      store.intercept = (_call, then) => then()
      return Promise.resolve(pass()).then(() => {
        throw new Error('its answer is lost')
      })
    }
    await world.app.sessions.destroy(publicId)
    t.equal(endOf(signal), 'HOLDFAST_SESSION_DESTROYED', verb)
    await close()
  }
})

t.test('P12: an end of all is not the reason of what ends later', async (t) => {
  const { world, inner, clock, tell } = await told(t)
  const waits = await open(world, await world.signIn('grace'))
  await settle()
  tell({ reason: 'all destroyed', subject: 'a-subject-of-none' })
  await world.app.sessions.destroyAll('ada')
  const device = await world.signIn('ada')
  let publicId = ''
  const { signal, close } = await open(world, device, (session) => {
    ;({ publicId } = session)
  })
  await settle()
  const [subject, lineage] = publicId.split('.') as [string, string]
  void inner.subjects.endOne(subject, lineage)
  clock.advance(2000)
  await settle()
  t.equal(endOf(signal), 'HOLDFAST_SESSION_GONE')
  t.equal(endOf(waits.signal), undefined)
  await close()
  await waits.close()
})

// Stores and feeds that fail.

t.test('P12: some that cannot be looked at do not hide the others', async (t) => {
  const { world, store, inner, clock } = await told(t)
  faultsOf(t)
  const opened: Array<Awaited<ReturnType<typeof open>>> = []
  const keys: string[] = []
  for (let count = 0; count < 6; count += 1) {
    const device: Device = { id: undefined }
    await world.visit(device, (session) => {
      session.a = `${count}`
    })
    opened.push(
      await open(world, device, ({ publicId }) => {
        keys.push(publicId)
      })
    )
  }
  await settle()
  for (const from of [0, 3]) {
    const unseen = keys.slice(from, from + 3)
    store.intercept = (call, pass) => {
      const isUnseen = call.verb === 'look' && unseen.some((key) => call.key.includes(key))
      return isUnseen ? Promise.reject(new Error('its node is away')) : pass()
    }
    const last = from === 0 ? 5 : 0
    void inner.delete(keys[last] as string)
    for (let round = 0; round < 10; round += 1) {
      clock.advance(2000)
      await settle()
    }
    t.ok(opened[last]?.signal.aborted, `with ${from} to ${from + 2} away`)
  }
  t.equal(opened.filter(({ signal }) => signal.aborted).length, 2)
  for (const { close } of opened) await close()
})

t.test('P13: a PostgresStore whose connection cannot be made tries again', async (t) => {
  const clock = new TestClock()
  let made = 0
  let notices = 0
  class Client extends EventEmitter {
    constructor() {
      super()
      made += 1
      if (made < 3) throw new Error('its certificate cannot be read')
    }
    async connect(): Promise<void> {}
    async query(): Promise<void> {}
    async end(): Promise<void> {}
  }
  const pool = { query: async () => ({ rows: [], rowCount: 0 }), Client }
  const stop = await new PostgresStore({ pool, clock }).feed.listen(() => {
    notices += 1
  })
  for (const expected of [1, 2, 3, 3]) {
    await settle()
    t.equal(made, expected)
    clock.advance(1000)
  }
  t.equal(notices, 1)
  await stop()
})

t.test('the store of the plugin is closed, though nothing can be heard any more', async (t) => {
  const app = Fastify()
  await app.register(sessionPlugin)
  const store = app.sessions.store as MemoryStore
  let isClosed = false
  const close = store.close.bind(store)
  store.close = () => {
    isClosed = true
    close()
  }
  store.feed.listen = () => () => Promise.reject(new Error('it cannot be stopped'))
  app.get('/wait', async ({ session }) => {
    session.a = 'mine'
    return { aborted: session.signal.aborted }
  })
  await app.inject('/wait')
  await t.rejects(app.close(), /it cannot be stopped/)
  t.equal(isClosed, true)
})

// Clocks.

t.test('who comes after another app on a store goes by its own clock', async (t) => {
  const store = new MemoryStore()
  t.teardown(() => store.close())
  const first = await serve(t, { store })
  await first.app.close()
  const clock = new TestClock(Date.now())
  const world = await scene(
    { serve: (given) => serve(t, given) },
    { store, clock, maxAge: 600, ...patient }
  )
  const device: Device = { id: undefined }
  await world.visit(device, (session) => {
    session.a = 'mine'
  })
  const { signal, close } = await open(world, device)
  await settle()
  for (let count = 0; count < 500; count += 1) {
    clock.advance(2000)
    await settle()
  }
  t.equal(endOf(signal), 'HOLDFAST_SESSION_IDLE')
  await close()
})

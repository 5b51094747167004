import { mock } from 'node:test'

import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import { systemClock } from '../lib/clock.ts'
import sessionPlugin, { MemoryStore, type SessionOptions } from '../lib/index.ts'
import { begin, logInto } from './helpers/serve.ts'
import { WatchedStore } from './helpers/stores.ts'

const real = { Date, setTimeout, clearTimeout, setImmediate, clearImmediate }

/** Lets happen what happens by itself, whatever is faked. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1)
    await new Promise<void>((resolve) => {
      real.setImmediate(resolve)
    })
}

/** Fake timers of a test runner. */
interface Fakes {
  readonly install: () => void
  readonly tick: (milliseconds: number) => void
  readonly uninstall: () => void
  /** How many are pending, where the runner tells. */
  readonly pending?: () => number
}

/** Fake timers like those of Vitest and sinon, which make what `setTimeout` returns. */
function fakes(make: (id: number) => unknown): Fakes {
  const pending = new Map<number, { readonly dueAt: number; readonly callback: () => void }>()
  let now = 0
  let count = 0
  class FakeDate extends Date {
    static override now(): number {
      return now
    }
  }
  const fake = {
    Date: FakeDate,
    setTimeout(callback: () => void, milliseconds: number): unknown {
      count += 1
      pending.set(count, { dueAt: now + milliseconds, callback })
      return make(count)
    },
    clearTimeout(timer: unknown): void {
      pending.delete(Number(timer))
    }
  }
  return {
    install() {
      now = Date.now()
      Object.assign(globalThis, fake)
    },
    tick(milliseconds) {
      now += milliseconds
      for (const [id, { dueAt, callback }] of pending) {
        if (dueAt > now) continue
        pending.delete(id)
        callback()
      }
    },
    uninstall() {
      Object.assign(globalThis, real)
    },
    pending: () => pending.size
  }
}

/** Of node:test; without a list it fakes all that it can. */
function ofNode(apis?: Array<'Date' | 'setTimeout'>): Fakes {
  const { timers } = mock
  return {
    install: () => timers.enable(apis && { apis }),
    tick: (milliseconds) => timers.tick(milliseconds),
    uninstall: () => timers.reset()
  }
}

const runners: Readonly<Record<string, () => Fakes>> = {
  'node:test': () => ofNode(['Date', 'setTimeout']),
  'node:test, which fakes all that it can': () => ofNode(),
  'sinon and Vitest': () =>
    fakes((id) => ({
      ref() {},
      unref() {},
      hasRef: () => true,
      refresh() {},
      [Symbol.toPrimitive]: () => id
    })),
  'a runner whose timers are numbers': () => fakes((id) => id)
}

/** An app whose time is that of the process. */
async function build(
  t: Test,
  options: SessionOptions = {},
  log: string[] = []
): Promise<FastifyInstance> {
  const app = Fastify({ logger: logInto(log) })
  t.teardown(() => app.close())
  await app.register(sessionPlugin, options)
  app.get('/read', async ({ session }) => ({ ...session }))
  app.get<{ Params: { value: string } }>('/write/:value', async ({ session, params }) => {
    session.a = params.value
  })
  return app
}

async function read(app: FastifyInstance, id: string): Promise<unknown> {
  return (await app.inject({ url: '/read', headers: { 'x-session-id': id } })).json()
}

for (const [name, make] of Object.entries(runners)) {
  t.test(`with the fake timers of ${name}`, async (t) => {
    /** Installs them for one test. */
    const install = (t: Test): Fakes => {
      const timers = make()
      timers.install()
      t.teardown(() => timers.uninstall())
      return timers
    }

    t.test('a session ends when its time has passed, and not before', async (t) => {
      for (const isFirst of [true, false]) {
        const early = isFirst ? install(t) : undefined
        const app = await build(t, { maxAge: 60 })
        const { tick, uninstall } = early ?? install(t)
        const id = await begin(app)
        tick(59_000)
        t.same(await read(app, id), { a: 'old' }, 'which is use')
        tick(59_000)
        t.same(await read(app, id), { a: 'old' })
        tick(61_000)
        t.same(await read(app, id), {})
        uninstall()
      }
    })

    t.test('the memory store sweeps what has expired', async (t) => {
      const { tick } = install(t)
      const store = new MemoryStore({ sweepInterval: 60 })
      t.teardown(() => store.close())
      const app = await build(t, { maxAge: 30, store })
      await begin(app)
      t.equal(store.size, 1)
      tick(59_000)
      t.equal(store.size, 1)
      tick(1000)
      t.equal(store.size, 0)
    })

    t.test('a closed memory store leaves no timer', async (t) => {
      const { pending } = install(t)
      const store = new MemoryStore()
      const app = await build(t, { store })
      const before = pending?.()
      await begin(app)
      if (before !== undefined) t.equal(pending?.(), before + 1)
      store.close()
      t.equal(pending?.(), before)
    })

    t.test('a store that never answers is a 503 after storeTimeout', async (t) => {
      const { tick } = install(t)
      const store = new WatchedStore(new MemoryStore())
      const app = await build(t, { store, storeTimeout: 2 })
      const id = await begin(app)
      store.intercept = () => new Promise(() => {})
      let reply: LightMyRequestResponse | undefined
      const asked = app
        .inject({ url: '/read', headers: { 'x-session-id': id } })
        .then((answer) => (reply = answer))
      await settle()
      tick(1999)
      await settle()
      t.equal(reply, undefined)
      tick(1)
      await asked
      t.same([reply?.statusCode, reply?.json().code], [503, 'HOLDFAST_STORE_TIMEOUT'])
    })

    t.test('an answer in time ends the deadline', async (t) => {
      const { pending } = install(t)
      const store = new WatchedStore(new MemoryStore())
      const app = await build(t, { store })
      const id = await begin(app)
      const before = pending?.()
      let answer!: () => void
      store.intercept = async (_call, pass) => {
        await new Promise<void>((resolve) => {
          answer = resolve
        })
        return pass()
      }
      const asked = app
        .inject({ url: '/read', headers: { 'x-session-id': id } })
        .then((reply) => reply.json())
      await settle()
      if (before !== undefined) t.equal(pending?.(), before + 1)
      answer()
      t.same(await asked, { a: 'old' })
      await settle()
      t.equal(pending?.(), before)
    })

    t.test(
      'an app that is closed after its fakes are gone leaves later ones as they are',
      async (t) => {
        const { install: again, tick, uninstall } = install(t)
        const app = await build(t)
        await begin(app)
        uninstall()
        await app.close()
        again()
        const fired: number[] = []
        for (const due of [1, 2, 3]) setTimeout(() => fired.push(due), due)
        tick(1)
        tick(2)
        t.same(fired, [1, 2, 3])
      }
    )

    t.test('writers that collide pause by them', async (t) => {
      const { tick } = install(t)
      const store = new WatchedStore(new MemoryStore())
      const app = await build(t, { store })
      const id = await begin(app)
      let refusals = 3
      store.intercept = (call, pass) => {
        if (call.verb !== 'update' || refusals === 0) return pass()
        refusals -= 1
        return Promise.resolve(false) as Promise<never>
      }
      let reply: LightMyRequestResponse | undefined
      const asked = app
        .inject({ url: '/write/new', headers: { 'x-session-id': id } })
        .then((answer) => (reply = answer))
      await settle()
      t.equal(reply, undefined, 'no time has passed')
      for (let pause = 0; pause < 3; pause += 1) {
        tick(64)
        await settle()
      }
      await asked
      t.equal(reply?.statusCode, 200)
      t.same(await read(app, id), { a: 'new' })
    })
  })
}

t.test('what is lost is warned of in the next turn, which the fakes may hold', async (t) => {
  const timers = ofNode()
  timers.install()
  t.teardown(() => timers.uninstall())
  const log: string[] = []
  const app = await build(t, {}, log)
  app.get('/late', async ({ session }, reply) => {
    reply.raw.once('close', () => {
      session.a = 'late'
    })
  })
  await app.inject('/late')
  await settle()
  timers.tick(1)
  await settle()
  t.match(log, [/was not stored/])
})

t.test('without fakes a timer is one of Node.js, which need not hold the process', async (t) => {
  const timer = systemClock.setTimeout(() => {}, 60_000) as NodeJS.Timeout
  t.equal(timer.hasRef(), true)
  timer.unref()
  t.equal(timer.hasRef(), false)
  timer.close()
})

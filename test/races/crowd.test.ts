import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import type { Session, SessionData, SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, later, memory, moving, type Backend } from '../helpers/backends.ts'
import { begin, serve, type Served } from '../helpers/serve.ts'
import { nextTurn, WatchedStore } from '../helpers/stores.ts'
import { settle, signal } from '../helpers/waiting.ts'
import { Gate } from './gate.ts'

/** Changes a draft, as `update()` has it. */
type Change = (draft: SessionData) => unknown

interface Crowded extends Served {
  readonly gate: Gate
  readonly key: string
  readonly headers: Record<string, string>
  readonly update: (change: Change) => Promise<unknown>
  readonly data: () => Promise<SessionData | undefined>
}

/** An app, and a session that holds a: 'old'. @param addRoutes adds routes of the test's own */
async function crowded(
  t: Test,
  options: SessionOptions = {},
  addRoutes: (app: FastifyInstance) => void = () => {}
): Promise<Crowded> {
  const clock = new TestClock()
  const gate = new Gate((await memory.open(clock)).store)
  const served = await serve(t, { clock, store: gate, ...options })
  const { app } = served
  addRoutes(app)
  const id = await begin(app)
  const key = app.sessions.publicIdOf(id)
  gate.taken()
  return {
    ...served,
    gate,
    key,
    headers: { 'x-session-id': id },
    update: (change) => app.sessions.update(key, change),
    data: async () => (await app.sessions.get(key))?.data
  }
}

/** What became of a promise: its value, or the code or message of its error. */
function told(promise: Promise<unknown>): Promise<unknown> {
  return promise.catch((error: Error & { code?: string }) => error.code ?? error.message)
}

/** Has these wait in line while another write is under way, and then all go on. */
async function inLine(
  { gate, update }: Crowded,
  writes: readonly (() => Promise<unknown>)[],
  meanwhile: () => unknown = () => {}
): Promise<unknown[]> {
  const held = gate.hold('update')
  const first = update((draft) => {
    draft.b = 'first'
  })
  await held.reached
  const results = Promise.all(writes.map((write) => told(write())))
  await settle()
  gate.taken()
  await meanwhile()
  held.release()
  await told(first)
  return results
}

/** Lets time pass until something is done. */
async function passingTime<T>(clock: TestClock, work: Promise<T>): Promise<T> {
  let done = false
  void work.finally(() => {
    done = true
  })
  while (!done) {
    await nextTurn()
    clock.advance(10)
  }
  return work
}

function append(name: string): Change {
  return (draft) => {
    draft.cart = [...(draft.cart ?? []), name]
    return draft.cart.length
  }
}

function count(draft: SessionData): number {
  return (draft.n = (draft.n ?? 0) + 1)
}

/** A test on each kind of store. */
function test(name: string, body: (t: Test, backend: Backend) => Promise<void>): void {
  for (const backend of [later, ...backends])
    t.test(`${name} (${backend.name})`, { skip: backend.skip }, async (t) => {
      await body(t, backend)
    })
}

test('P4: five hundred updates at once take effect once each, in a few writes', async (t, backend) => {
  const clock = new TestClock()
  const store = new WatchedStore((await backend.open(clock)).store)
  const { app } = await serve(t, { clock, store })
  const headers = { 'x-session-id': await begin(app) }
  store.taken()
  const replies = await Promise.all(
    Array.from({ length: 500 }, () => app.inject({ url: '/update', headers }))
  )
  t.same(
    replies.map((reply) => reply.json().n).toSorted((one, other) => one - other),
    Array.from({ length: 500 }, (_, index) => index + 1)
  )
  const written = store.taken().filter((verb) => verb === 'update').length
  // A store that answers at once has no line.
  t.ok(
    backend === memory || backend === moving ? written === 500 : written < 50,
    `${written} writes`
  )
})

test('P3, P4: crowds of two processes, of updates and of plain writes to other keys, all take effect', async (t, backend) => {
  const clock = new TestClock()
  const { store } = await backend.open(clock)
  const apps: Served[] = []
  for (let process = 0; process < 2; process += 1) {
    const served = await serve(t, { clock, store, storeTimeout: 1e6 })
    served.app.get<{ Params: { key: string } }>('/mark/:key', async ({ session, params }) => {
      session.set(params.key as 'a', 'marked')
    })
    apps.push(served)
  }
  const headers = { 'x-session-id': await begin(apps[0]?.app as Served['app']) }
  const replies = await passingTime(
    clock,
    Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        apps[index % 2]?.app.inject({
          url: index % 4 < 2 ? '/update' : `/mark/key-${index}`,
          headers
        })
      )
    )
  )
  t.same(new Set(replies.map((reply) => reply?.statusCode)), new Set([200]))
  const data = (await apps[0]?.app.inject({ url: '/read', headers }))?.json()
  const marked = Object.keys(data).filter((key) => key.startsWith('key-'))
  t.same([data.n, marked.length], [50, 50])
})

t.test('those that wait are one write, in order, each with its own result', async (t) => {
  const scene = await crowded(t)
  const names = Array.from({ length: 20 }, (_, index) => `item ${index}`)
  const results = await inLine(
    scene,
    names.map((name) => () => scene.update(append(name)))
  )
  t.same(
    results,
    names.map((_, index) => index + 1)
  )
  t.same(scene.gate.taken(), ['update'], 'what this process has just written need not be read')
  t.same(await scene.data(), { a: 'old', b: 'first', cart: names })
})

t.test('one that fails rejects alone, and leaves the draft to the next as it was', async (t) => {
  const scene = await crowded(t, { maxBytes: 1000 })
  const { update } = scene
  const fail = (error: Change): (() => Promise<unknown>) => {
    return () =>
      update((draft) => {
        draft.n = 100
        draft.cart?.push('of one that fails')
        return error(draft)
      })
  }
  const results = await inLine(scene, [
    () => update(append('one')),
    fail(() => {
      throw new Error('mine')
    }),
    fail(async () => {}),
    fail((draft) => Object.assign(draft, { save: 1 })),
    fail((draft) => (draft.c = 1n)),
    fail((draft) => (draft.c = 'x'.repeat(1000))),
    () => update(append('two'))
  ])
  t.same(results, [
    1,
    'mine',
    'HOLDFAST_UPDATE_ASYNC',
    'HOLDFAST_KEY_RESERVED',
    'HOLDFAST_DATA_UNSERIALIZABLE',
    'HOLDFAST_DATA_TOO_LARGE',
    2
  ])
  t.same(scene.gate.taken(), ['update'])
  t.same(await scene.data(), { a: 'old', b: 'first', cart: ['one', 'two'] })
})

t.test('where all fail nothing is sent, and the next is written', async (t) => {
  const scene = await crowded(t)
  const fail = (): never => {
    throw new Error('mine')
  }
  t.same(await inLine(scene, [() => scene.update(fail), () => scene.update(fail)]), [
    'mine',
    'mine'
  ])
  t.same(scene.gate.taken(), [])
  t.equal(await scene.update(count), 1)
})

t.test(
  'P9: what a request of the crowd has not stored is not shown to the others, and each goes on from what was written',
  async (t) => {
    const scene = await crowded(t, {}, (app) =>
      app.get('/pending', async ({ session }) => {
        session.a = 'pending'
        const failed = await told(
          session.update(() => {
            throw new Error('mine')
          })
        )
        const seen = { ...session }
        session.a = 'old'
        return { failed, seen }
      })
    )
    const { app, headers } = scene
    const replies = await inLine(scene, [
      () => app.inject({ url: '/pending', headers }).then((reply) => reply.json()),
      () => scene.update((draft) => draft.a),
      () => app.inject({ url: '/update', headers }).then((reply) => reply.json()),
      () => app.inject({ url: '/write/new', headers }).then(({ statusCode }) => statusCode)
    ])
    t.same(replies, [{ failed: 'mine', seen: { a: 'pending' } }, 'old', { n: 1 }, 200])
    t.same(await scene.data(), { a: 'new', b: 'first', n: 1 })
  }
)

t.test('a write that another process made in between has all run anew on it', async (t) => {
  const scene = await crowded(t)
  const { app: elsewhere } = await serve(t, { clock: scene.clock, store: scene.gate })
  let runs = 0
  const late = scene.gate.hold('update', 'after')
  const results = inLine(
    scene,
    ['one', 'two'].map(
      (name) => () =>
        scene.update((draft) => {
          runs += 1
          return append(name)(draft)
        })
    )
  )
  await late.reached
  await elsewhere.sessions.update(scene.key, append('theirs'))
  late.release()
  t.same(await results, [2, 3])
  t.equal(runs, 4)
  t.same((await scene.data())?.cart, ['theirs', 'one', 'two'])
})

t.test('P1: a session that ends is gone for all who wait, and is not brought back', async (t) => {
  const scene = await crowded(t)
  const { app, headers, gate, key } = scene
  const writes = [
    () => scene.update(count),
    () => app.inject({ url: '/update', headers }).then((reply) => reply.json().code),
    () => app.inject({ url: '/write/late', headers }).then((reply) => reply.headers['x-session-id'])
  ]
  const results = await inLine(scene, writes, () => app.sessions.destroy(key))
  t.same(results, ['HOLDFAST_SESSION_GONE', 'HOLDFAST_SESSION_GONE', undefined])
  t.equal(await scene.data(), undefined)
  t.notOk(gate.calls.some(({ verb }) => verb === 'create'))
})

t.test('P4: a lost answer is recognised for all, or unknown to all', async (t) => {
  for (const [others, expected] of [
    [0, [1, 2]],
    [3, [1, 2]],
    [8, ['HOLDFAST_OUTCOME_UNKNOWN', 'HOLDFAST_OUTCOME_UNKNOWN']]
  ] as const) {
    const scene = await crowded(t)
    const { gate, key } = scene
    const { app: elsewhere } = await serve(t, { clock: scene.clock, store: gate })
    const { intercept } = gate
    const errors: unknown[] = []
    const update = (): Promise<unknown> =>
      scene.update(count).catch((error: unknown) => {
        errors.push(error)
        throw error
      })
    const results = await inLine(scene, [update, update], () => {
      let writes = 0
      gate.intercept = async (call, pass) => {
        const answer = await intercept(call, pass)
        if (call.verb !== 'update' || ++writes !== 1) return answer
        for (let other = 0; other < others; other += 1)
          await elsewhere.sessions.update(key, () => {})
        throw new Error('connection reset')
      }
    })
    t.same(results, expected)
    t.equal((await scene.data())?.n, 2, 'once each')
    t.equal(new Set(errors).size, errors.length, 'each has an error of its own')
  }
})

t.test('who runs out of time in the line is told so, and asks for nothing', async (t) => {
  const scene = await crowded(t)
  const { app, clock, gate, headers } = scene
  const held = gate.hold('update')
  const first = told(scene.update(append('first')))
  await held.reached
  clock.advance(1)
  const late = told(scene.update(append('late')))
  const lateToo = app.inject({ url: '/write/late', headers }).then((reply) => reply.json())
  await settle()
  clock.advance(1000)
  const inTime = told(scene.update(append('in time')))
  await settle()
  gate.taken()
  const read = gate.hold('get')
  clock.advance(999)
  t.equal(await first, 'HOLDFAST_STORE_TIMEOUT')
  await read.reached
  clock.advance(1)
  t.equal(await late, 'HOLDFAST_SESSION_BUSY')
  t.match(await lateToo, { statusCode: 503, code: 'HOLDFAST_SESSION_BUSY' })
  t.same(gate.taken(), ['get'], 'for the one that has time left')
  read.release()
  t.equal(await inTime, 1)
  held.release()
  await settle()
  t.same(await scene.data(), { a: 'old', cart: ['in time'] })
})

t.test(
  'one whose time is over while its batch asks the store is not applied to what the others find later',
  async (t) => {
    const scene = await crowded(t)
    const { clock, gate, key } = scene
    const { app: elsewhere } = await serve(t, { clock, store: gate })
    const held = gate.hold('update')
    const first = told(scene.update(append('first')))
    await held.reached
    const early = told(scene.update(append('early')))
    await settle()
    clock.advance(1000)
    const last = told(scene.update(append('last')))
    await settle()
    const second = gate.hold('update')
    held.release()
    t.equal(await first, 1)
    await second.reached
    await elsewhere.sessions.update(key, append('theirs'))
    clock.advance(1000)
    t.equal(await early, 'HOLDFAST_STORE_TIMEOUT')
    second.release()
    t.equal(await last, 3)
    t.same((await scene.data())?.cart, ['first', 'theirs', 'last'])
  }
)

t.test('all whose batch meets a store that is silent are told, and the next goes on', async (t) => {
  const scene = await crowded(t)
  const { clock, gate } = scene
  const { intercept } = gate
  const [reached, arrive] = signal()
  const results = inLine(scene, [() => scene.update(count), () => scene.update(count)], () => {
    gate.intercept = async (call, pass) => {
      const answer = await intercept(call, pass)
      if (call.verb !== 'update') return answer
      gate.intercept = intercept
      arrive()
      return new Promise<never>(() => {})
    }
  })
  await reached
  clock.advance(2000)
  t.same(await results, ['HOLDFAST_STORE_TIMEOUT', 'HOLDFAST_STORE_TIMEOUT'])
  t.equal(await scene.update(count), 3)
})

t.test('a store that answers nonsense is a failure for all, and the line goes on', async (t) => {
  const scene = await crowded(t)
  const { gate, key } = scene
  const { intercept } = gate
  const results = await inLine(
    scene,
    [() => scene.update(count), () => scene.update(count)],
    () => {
      gate.intercept = async (call, pass) => {
        if (call.verb === 'get') return {} as never
        return call.verb === 'update' ? (false as never) : intercept(call, pass)
      }
    }
  )
  gate.intercept = intercept
  t.same(results, ['HOLDFAST_STORE_FAILED', 'HOLDFAST_STORE_FAILED'])
  t.ok(key)
  t.equal(await scene.update(count), 1)
})

t.test('a function that writes to its session in another way does not lock it', async (t) => {
  // Another request, such as that of a WebSocket, which has its session in its hands.
  const sessions: Session[] = []
  const scene = await crowded(t, {}, (server) =>
    server.get('/hand-over', async ({ session }) => {
      sessions.push(session)
    })
  )
  const { app, headers, gate } = scene
  await app.inject({ url: '/hand-over', headers })
  const [other] = sessions
  let nested: Promise<unknown> | undefined
  const change: Change = (draft) => {
    nested ??= other?.update(append('nested'))
    return append('outer')(draft)
  }
  t.equal(await scene.update(change), 2)
  t.equal(await nested, 1)
  nested = undefined
  t.same(await inLine(scene, [() => scene.update(change)]), [3])
  t.equal(await nested, 4)
  t.equal(gate.calls.filter(({ verb }) => verb === 'create').length, 0)
})

t.test('a crowd of first requests under one adopted id is one session', async (t) => {
  const clock = new TestClock()
  const { store } = await later.open(clock)
  const { app } = await serve(t, { clock, store, adoptUnknownIds: () => true })
  const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
  const replies = await Promise.all(
    Array.from({ length: 50 }, () => app.inject({ url: '/update', headers }))
  )
  t.same(
    replies.map((reply) => reply.json().n),
    Array.from({ length: 50 }, (_, index) => index + 1)
  )
})

t.test(
  'those of a former life of an adopted id are gone, and those of the new one go on',
  async (t) => {
    const scene = await crowded(t, { adoptUnknownIds: () => true })
    const { app, gate } = scene
    const headers = { 'x-session-id': 'chosen-by-the-client-000001' }
    const send = (url: string): Promise<unknown> =>
      app.inject({ url, headers }).then((reply) => reply.json())
    await send('/update')
    const held = gate.hold('update', 'after')
    const first = send('/update')
    await held.reached
    const former = send('/update')
    await settle()
    await app.inject({ url: '/logout', headers })
    const next = send('/update')
    await settle()
    held.release()
    t.same(await first, { n: 2 })
    t.match(await former, { code: 'HOLDFAST_SESSION_GONE' })
    t.same(await next, { n: 1 })
  }
)

/** What befalls the calls of a store, one after the other. */
const fates = ['answered', 'failed', 'lost', 'silent', 'silently done'] as const

t.test(
  'P4: whatever befalls the store calls, an update takes effect once or is an error',
  async (t) => {
    const property = fc.asyncProperty(
      fc.array(fc.constantFrom('answered', 'answered', ...fates), { maxLength: 30 }),
      fc.array(fc.nat(5), { minLength: 30, maxLength: 30 }),
      async (befall, delays) => {
        const clock = new TestClock()
        const gate = new Gate((await memory.open(clock)).store)
        const apps = await Promise.all([1, 2].map(() => serve(t, { clock, store: gate })))
        const id = await begin(apps[0]?.app as Served['app'])
        const key = apps[0]?.app.sessions.publicIdOf(id) as string
        let calls = 0
        const { intercept } = gate
        gate.intercept = async (call, pass) => {
          const fate = befall[calls++] ?? 'answered'
          if (fate === 'failed') throw new Error('connection refused')
          if (fate === 'silent') return new Promise<never>(() => {})
          const answer = await intercept(call, pass)
          if (fate === 'lost') throw new Error('connection reset')
          if (fate === 'silently done') return new Promise<never>(() => {})
          return answer
        }
        const results = passingTime(
          clock,
          Promise.all(
            delays.map(async (turns, index) => {
              for (let turn = 0; turn < turns; turn += 1) await nextTurn()
              return told(apps[index % 2]?.app.sessions.update(key, append(`${index}`)) as never)
            })
          )
        )
        const outcomes = await results
        gate.intercept = intercept
        const { cart = [] } = (await apps[0]?.app.sessions.get(key))?.data ?? {}
        for (const [index, outcome] of outcomes.entries()) {
          const times = cart.filter((name) => name === `${index}`).length
          const isDone = typeof outcome === 'number'
          const isOver = outcome === 'HOLDFAST_SESSION_BUSY'
          if (times > 1 || (isDone && times !== 1) || (isOver && times > 0)) {
            throw new Error(`${index}: ${times} times, and told ${outcome}`)
          }
          if (isDone && cart[(outcome as number) - 1] !== `${index}`)
            throw new Error('out of order')
        }
        await Promise.all(apps.map(({ app }) => app.close()))
      }
    )
    const result = await fc.check(property, { numRuns: 60 })
    t.notOk(result.failed, String(result.errorInstance))
  }
)

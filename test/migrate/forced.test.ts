import type { LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import { carryOver } from '../../lib/migrate/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, moving, type Backend } from '../helpers/backends.ts'
import { formerSecret, ofExpress, OldStore } from '../helpers/former.ts'
import { serve, setCookies } from '../helpers/serve.ts'
import { nextTurn, type Aging, type Verb } from '../helpers/stores.ts'
import { Gate, type Held } from '../races/gate.ts'

/** Seconds: time that passes while a real server is asked lets nobody down. */
const patient = 1e6

const sid = 'Gk3hR0pYxJw-6yF2sAqTn8vLz1bCe4dU'

interface Scene extends Pick<Aging, 'advance'> {
  readonly gate: Gate
  readonly old: OldStore
  readonly clock: TestClock
  readonly visit: (url?: string) => Promise<LightMyRequestResponse>
  /** Sends a first request, whose n-th call of a kind is held. */
  readonly slow: (verb: Verb, n?: number, when?: 'before' | 'after') => Promise<Slow>
}

interface Slow {
  readonly reply: Promise<LightMyRequestResponse>
  readonly held: Held
}

/** A test on each kind of store. */
function test(
  name: string,
  body: (t: Test, scene: Scene) => Promise<void>,
  storeTimeout = 2
): void {
  for (const backend of [...backends, moving])
    t.test(`${name} (${backend.name})`, { skip: backend.skip }, async (t) => {
      await body(t, await begin(t, backend, storeTimeout))
    })
}

async function begin(t: Test, backend: Backend, storeTimeout: number): Promise<Scene> {
  const clock = new TestClock()
  const { store, advance } = await backend.open(clock)
  const gate = new Gate(store)
  const old = new OldStore()
  old.put(sid, { user: 'ada' })
  const former = carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old })
  const { app } = await serve(t, { clock, store: gate, storeTimeout, carryOver: former })
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  const visit = (url = '/who'): Promise<LightMyRequestResponse> =>
    app.inject({ url, headers: ofExpress(sid) }).then((reply) => reply)
  const slow: Scene['slow'] = async (verb, n = 1, when = 'before') => {
    let held = gate.hold(verb, when)
    const reply = visit()
    await held.reached
    for (let count = 1; count < n; count += 1) {
      const passed = held
      held = gate.hold(verb, when)
      passed.release()
      await held.reached
    }
    return { reply, held }
  }
  return { gate, old, clock, advance, visit, slow }
}

/** Lets time pass until something is done: who waits pauses. */
async function passingTime<T>({ clock }: Scene, work: Promise<T>): Promise<T> {
  let isDone = false
  void work.finally(() => (isDone = true))
  while (!isDone) {
    await nextTurn()
    clock.advance(5)
  }
  return work
}

test('P1, S47: a session that is created late, by who had the claim, leads nowhere', async (t, scene) => {
  const { visit, slow, advance } = scene
  // The claim is its first call of create, the session the second.
  const { reply, held } = await slow('create', 2)
  await advance(2001)
  t.equal((await reply).statusCode, 503)
  t.equal((await visit()).payload, 'ada', 'another request has the claim')
  await visit('/logout')
  held.release()
  for (let turn = 0; turn < 50; turn += 1) await nextTurn()
  t.equal((await visit()).payload, 'nobody')
})

test('P1: a note that is made late, by who had the claim, changes nothing', async (t, scene) => {
  const { visit, slow, advance } = scene
  const { reply, held } = await slow('update')
  await advance(2001)
  t.equal((await reply).statusCode, 503)
  t.equal((await visit()).payload, 'ada')
  await visit('/logout')
  held.release()
  for (let turn = 0; turn < 50; turn += 1) await nextTurn()
  t.equal((await visit()).payload, 'nobody')
})

for (const [verb, when] of [
  ['get', 'before'],
  ['get', 'after'],
  ['create', 'before']
] as const) {
  test(
    `P1: a request that is slow ${when} its first ${verb} finds the logout`,
    async (t, scene) => {
      const { visit, slow } = scene
      const { reply, held } = await slow(verb, 1, when)
      await visit()
      await visit('/logout')
      held.release()
      t.equal((await passingTime(scene, reply)).payload, 'nobody')
    },
    patient
  )
}

test('P8: a request that was slow before its claim is not logged out by another', async (t, scene) => {
  const { old, visit } = scene
  // It has seen no note, and finds the former session gone.
  let release = (): void => {}
  let isHeld = false
  old.intercept = async (verb, pass) => {
    if (verb === 'get' && !isHeld) {
      isHeld = true
      await new Promise<void>((resolve) => (release = resolve))
    }
    return pass()
  }
  const slow = visit()
  while (!isHeld) await nextTurn()
  t.equal((await visit()).payload, 'ada')
  t.notOk(old.sessions.has(sid))
  release()
  t.equal((await slow).payload, 'ada')
})

test(
  'P8: who waits for a claim that is held gets the session, or a 503',
  async (t, scene) => {
    const { visit, slow } = scene
    const { reply, held } = await slow('create', 2)
    const waiting = visit()
    for (let turn = 0; turn < 50; turn += 1) await nextTurn()
    held.release()
    t.equal((await reply).payload, 'ada')
    const [id] = setCookies(await reply)
    const second = await passingTime(scene, waiting)
    t.equal(second.payload, 'ada')
    t.equal(setCookies(second)[0]?.split(';', 1)[0], id?.split(';', 1)[0])
  },
  patient
)

for (const [verb, n, when] of [
  ['create', 1, 'after'],
  ['create', 2, 'before'],
  ['create', 2, 'after'],
  ['update', 1, 'before'],
  ['update', 1, 'after']
] as const) {
  const where = `${when} its ${n === 2 ? 'second ' : ''}${verb}`
  test(`P8: a process dies ${where}: a 503, and then the session is there`, async (t, scene) => {
    const { visit, slow, advance } = scene
    await slow(verb, n, when)
    const waiting = await passingTime(scene, visit())
    if (waiting.statusCode === 200) t.equal(waiting.payload, 'ada')
    else {
      t.equal(waiting.json().code, 'HOLDFAST_STORE_TIMEOUT')
      t.same(setCookies(waiting), [], 'the former cookie stays')
    }
    await advance(2001)
    t.equal((await visit()).payload, 'ada')
    await visit('/logout')
    t.equal((await visit()).payload, 'nobody')
  })
}

test('P1, S47: a process dies before it removes the former session: a logout holds', async (t, scene) => {
  const { old, clock, visit } = scene
  let isAsked = false
  old.intercept = (verb, pass) => {
    if (verb !== 'destroy' || isAsked) return pass()
    isAsked = true
    return new Promise(() => {})
  }
  const died = visit()
  while (!isAsked) await nextTurn()
  t.equal((await visit()).payload, 'ada')
  t.ok(old.sessions.has(sid))
  await visit('/logout')
  t.equal((await visit()).payload, 'nobody')
  t.notOk(old.sessions.has(sid), 'the logout removes it')
  clock.advance(2001)
  await died
})

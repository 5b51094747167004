import Fastify from 'fastify'
import t from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { begin, serve } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'

t.test('S23: under a flood of requests that never return, what came back or holds data is served, and memory stays bounded', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock, max: 1000 })
  const { app } = await serve(t, { clock, store })
  const established: string[] = []
  for (let count = 0; count < 200; count += 1) {
    const id = await begin(app, `user-${count}`)
    if (count % 2 === 0) await app.inject({ url: '/read', headers: { 'x-session-id': id } })
    established.push(id)
  }
  for (let count = 0; count < 1500; count += 1) {
    await app.inject('/read')
    if (store.size > 1000) t.fail('beyond the bound')
  }
  for (const [count, id] of established.entries()) t.same((await app.inject({ url: '/read', headers: { 'x-session-id': id } })).json(), { a: `user-${count}` })
  // A flood that writes pushes out what never came back: by now all of them have.
  for (let count = 0; count < 1500; count += 1) await app.inject('/write/flood')
  t.equal(store.size, 1000)
  for (const [count, id] of established.entries()) t.same((await app.inject({ url: '/read', headers: { 'x-session-id': id } })).json(), { a: `user-${count}` })
})

t.test('S23: a million new sessions that never return leave memory bounded, the server answering and every established session alive', async (t) => {
  const max = 50_000
  const clock = new TestClock()
  const store = new MemoryStore({ clock, max })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock, store })
  app.get('/', async ({ session }) => session.visits = (session.visits ?? 0) + 1)
  const id = (await app.inject('/')).headers['x-session-id'] as string
  await app.inject({ url: '/', headers: { 'x-session-id': id } })

  const expiresAt = clock.now() + 3_600_000
  const record = (data: string): Parameters<MemoryStore['create']>[1] => ({ data, version: 'v', createdAt: clock.now(), expiresAt })
  const established = Array.from({ length: 10_000 }, (_, index) => `established-${index}`)
  for (const key of established) {
    store.create(key, record(`{"user":"${key}"}`))
    store.get(key)
  }
  const before = process.memoryUsage().heapUsed
  let visits = 2
  let last = ''
  const turns = 100
  for (let turn = 0; turn < turns; turn += 1) {
    // One turn of the event loop each, and requests in between.
    for (let count = 0; count < 10_000; count += 1) {
      last = `flood-${turn}-${count}-${Math.imul(count, 0x9e37_79b1)}`
      store.create(last, record(count % 2 === 0 ? '' : '{"flood":true}'))
    }
    await nextTurn()
    visits += 1
    const reply = await app.inject({ url: '/', headers: { 'x-session-id': id } })
    if (reply.body !== String(visits)) t.fail(`a session in use was lost at turn ${turn}`)
    if (store.size > max) t.fail('beyond the bound')
  }
  t.equal(visits, turns + 2)
  t.equal(store.size, max)
  t.ok(store.get(last), 'the latest newcomer is in')
  t.equal(established.filter((key) => store.get(key) === undefined).length, 0, 'every established session is alive')
  t.ok(process.memoryUsage().heapUsed - before < 200_000_000, 'a million records would take more than this')
})

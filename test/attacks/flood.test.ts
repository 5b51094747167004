import { spawnSync } from 'node:child_process'

import Fastify from 'fastify'
import t from 'tap'

import '../helpers/data.ts'
import sessionPlugin, { MemoryStore } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { begin, serve } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'

t.test(
  'S23: under a flood of requests that never return, what came back or holds data is served, and memory stays bounded',
  async (t) => {
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
    for (const [count, id] of established.entries())
      t.same((await app.inject({ url: '/read', headers: { 'x-session-id': id } })).json(), {
        a: `user-${count}`
      })
    // A flood that writes pushes out what never came back: by now all of them have.
    for (let count = 0; count < 1500; count += 1) await app.inject('/write/flood')
    t.equal(store.size, 1000)
    for (const [count, id] of established.entries())
      t.same((await app.inject({ url: '/read', headers: { 'x-session-id': id } })).json(), {
        a: `user-${count}`
      })
  }
)

t.test(
  'S23: a million new sessions that never return leave memory bounded, the server answering and every established session alive',
  async (t) => {
    const max = 50_000
    const clock = new TestClock()
    const store = new MemoryStore({ clock, max })
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(sessionPlugin, { clock, store })
    app.get('/', async ({ session }) => (session.visits = (session.visits ?? 0) + 1))
    const id = (await app.inject('/')).headers['x-session-id'] as string
    await app.inject({ url: '/', headers: { 'x-session-id': id } })

    const expiresAt = clock.now() + 3_600_000
    const record = (data: string): Parameters<MemoryStore['create']>[1] => ({
      data,
      version: 'v',
      createdAt: clock.now(),
      expiresAt
    })
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
    t.equal(
      established.filter((key) => store.get(key) === undefined).length,
      0,
      'every established session is alive'
    )
    t.ok(
      process.memoryUsage().heapUsed - before < 200_000_000,
      'a million records would take more than this'
    )
  }
)

/** Runs a flood of large sessions in a process with a small heap. Prints what came of it. */
const largeFlood = `
  import { setImmediate as nextTurn } from 'node:timers/promises'
  import { getHeapStatistics } from 'node:v8'
  import Fastify from ${JSON.stringify(import.meta.resolve('fastify'))}
  import sessionPlugin, { MemoryStore } from ${JSON.stringify(import.meta.resolve('../../lib/index.js'))}

  const texts = ['x'.repeat(20_000), 'x'.repeat(60_000), 'я'.repeat(10_000), 'я'.repeat(30_000)]
  texts.push('я' + 'x'.repeat(60_000))
  const app = Fastify()
  const store = new MemoryStore()
  await app.register(sessionPlugin, { store })
  app.post('/', async ({ session, query }) => { session.text = texts[query.text]; return '' })
  app.get('/', async ({ session }) => session.text ?? '')
  const begin = async (text) => {
    await nextTurn() // as each request from a socket has a turn of its own
    return (await app.inject({ method: 'POST', url: '/?text=' + text })).headers['x-session-id']
  }
  const isThere = async (id, text) => (await app.inject({ url: '/', headers: { 'x-session-id': id } })).body === texts[text]
  const heap = () => { gc(); gc(); return process.memoryUsage().heapUsed }

  await isThere(await begin(0), 0)
  store.close()
  const before = heap()
  const regulars = []
  for (let count = 0; count < 50; count += 1) {
    const text = count % texts.length
    regulars.push([await begin(text), text])
    await isThere(...regulars[count])
  }
  let flooded = 0
  let most = 0
  for (let count = 0; count < 4000; count += 1) {
    await begin(count % texts.length)
    most = Math.max(most, store.memory)
    flooded += texts[count % texts.length].length
    if (count % 100 === 0) await isThere(...regulars[count / 100])
  }
  const held = store.size
  const measured = heap() - before
  const counted = store.memory
  let alive = 0
  for (const regular of regulars) if (await isThere(...regular)) alive += 1
  const bound = Math.floor(getHeapStatistics().heap_size_limit / 4)
  console.log(JSON.stringify({ alive, bound, most, measured, counted, held, flooded }))
`

for (const megabytes of [64, 128]) {
  t.test(
    `S23: a flood of sessions of up to 60 KB ends neither those that came back nor a process with ${megabytes} MB`,
    async (t) => {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [
          `--max-old-space-size=${megabytes}`,
          '--expose-gc',
          '--input-type=module',
          '--eval',
          largeFlood
        ],
        { encoding: 'utf8', timeout: 150_000 }
      )
      t.equal(status, 0, stderr)
      const result = JSON.parse(stdout) as Record<
        'alive' | 'bound' | 'most' | 'measured' | 'counted' | 'held' | 'flooded',
        number
      >
      t.comment(stdout)
      t.equal(result.alive, 50)
      t.ok(result.most <= result.bound, 'never more than a quarter of the heap limit')
      t.ok(result.most > result.bound - 150_000, 'and as good as all of it')
      t.ok(result.flooded > 2 * result.most, 'the flood is more than fits')
      t.ok(result.held < 4000, 'most of it is gone')
      // What V8 compiles meanwhile takes up to two megabytes.
      t.ok(result.measured < result.counted + 4_000_000, 'no more is taken than is counted')
    }
  )
}

import cluster from 'node:cluster'
import { once } from 'node:events'
import { Writable } from 'node:stream'

import Fastify from 'fastify'
import t, { type Test } from 'tap'

import sessionPlugin, { MemoryStore, type SessionOptions } from '../lib/index.ts'

/** Registers the plugin under a NODE_ENV, serves a request, and returns what the log says of memory. */
async function logOf(
  t: Test,
  environment: string | undefined,
  ...registrations: SessionOptions[]
): Promise<Array<{ level: number; msg: string; sessionName: string }>> {
  const { NODE_ENV } = process.env
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = NODE_ENV
  })
  if (environment === undefined) delete process.env['NODE_ENV']
  else process.env['NODE_ENV'] = environment
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    }
  })
  const app = Fastify({ logger: { level: 'debug', stream } })
  t.teardown(() => app.close())
  for (const options of registrations) await app.register(sessionPlugin, options)
  app.get('/', async ({ session }) => {
    session.a = 1
  })
  await app.inject('/')
  await app.inject('/')
  return lines
    .map((line) => JSON.parse(line) as { level: number; msg: string; sessionName: string })
    .filter(({ msg }) => msg.includes('memory'))
}

t.test(
  'in production, who chose no store is warned, once for each registration, and told the cure',
  async (t) => {
    const lines = await logOf(t, 'production', {}, { sessionName: 'admin' })
    t.same(
      lines.map(({ level, sessionName }) => [level, sessionName]),
      [
        [40, 'session'],
        [40, 'admin']
      ]
    )
    t.match(lines[0].msg, /in the memory of this process.*RedisStore.*new MemoryStore\(\)/)
  }
)

t.test('who passes a MemoryStore has chosen it, and is not warned', async (t) => {
  t.same(await logOf(t, 'production', { store: new MemoryStore() }), [])
})

for (const environment of [undefined, 'development', 'test']) {
  t.test(`nobody is warned with NODE_ENV ${environment}`, async (t) => {
    t.same(await logOf(t, environment, {}), [])
  })
}

t.test('without a logger the plugin registers in production too', async (t) => {
  const { NODE_ENV } = process.env
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = NODE_ENV
  })
  process.env['NODE_ENV'] = 'production'
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin)
  t.ok(app.hasDecorator('sessions'))
})

t.test('in a worker of a cluster, who chose no store is warned, in any environment', async (t) => {
  const folder = t.testdir({
    'worker.mjs': `
      import Fastify from '${import.meta.resolve('fastify')}'
      import sessionPlugin, { MemoryStore } from '${new URL('../lib/index.js', import.meta.url).href}'
      const lines = []
      const stream = { write: (line) => lines.push(JSON.parse(line).msg) }
      for (const options of [{}, { store: new MemoryStore() }]) {
        const app = Fastify({ logger: { level: 'warn', stream } })
        await app.register(sessionPlugin, options)
        await app.close()
      }
      process.send(lines, () => process.disconnect())`
  })
  cluster.setupPrimary({ exec: `${folder}/worker.mjs` })
  const worker = cluster.fork({ NODE_ENV: 'development' })
  const [lines] = (await once(worker, 'message')) as [string[]]
  t.equal(lines.length, 1)
  t.match(lines[0], /in the memory of this worker, and no other worker knows them\. .*RedisStore/)
})

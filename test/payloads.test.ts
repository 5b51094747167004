import { EventEmitter } from 'node:events'
import { createReadStream, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable, Stream } from 'node:stream'

import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import sessionPlugin, { MemoryStore, type SessionStore } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { setCookies, stored, unhandled } from './helpers/serve.ts'
import { nextTurn, slow } from './helpers/stores.ts'
import { signal } from './helpers/waiting.ts'
import { Gate, type Held } from './races/gate.ts'

const file = join(t.testdir(), 'file.txt')
writeFileSync(file, 'body'.repeat(50_000))

/** A payload under way: what a handler sends, and how a test makes it come to its end or fail. */
interface Source {
  readonly payload: unknown
  readonly finish: () => void
  readonly fail: (error: Error) => void
  /** Whether nobody holds on to it any more. */
  readonly isOver?: () => boolean
}

function readable(stream = new Readable({ read() {} })): Source {
  return {
    payload: stream,
    finish: () => {
      stream.push('body')
      stream.push(null)
    },
    fail: (error) => {
      stream.destroy(error)
    },
    isOver: () => stream.destroyed
  }
}

/** A stream of before Node.js 0.10: it emits what it has, whether anybody listens or not. */
class OldStream extends Stream {
  destroyed = false
  destroy(): void {
    this.destroyed = true
  }
}

function oldStyle(): Source {
  const stream = new OldStream()
  return {
    payload: stream,
    finish: () => {
      stream.emit('data', 'bo')
      stream.emit('data', Buffer.from('dy'))
      stream.emit('end')
    },
    fail: (error) => {
      stream.emit('error', error)
    },
    isOver: () => stream.destroyed
  }
}

/** A stream that the app listens to as well, so that it flows at once. */
function flowing(): Source {
  const source = readable()
  ;(source.payload as Readable).on('data', () => {})
  return source
}

/** A stream that goes to a file as well. */
function piped(): Source {
  const source = readable()
  ;(source.payload as Readable).pipe(new PassThrough()).resume()
  return source
}

/** A stream that fails when it is destroyed, as the bodies of undici do. */
function touchy(): Source {
  return readable(
    new Readable({
      read() {},
      destroy(error, callback) {
        callback(error ?? new Error('aborted'))
      }
    })
  )
}

/** A stream that says that it failed, and stays as it is. */
function halfhearted(): Source {
  const source = readable()
  return {
    ...source,
    fail: (error) => {
      ;(source.payload as Readable).emit('error', error)
    }
  }
}

function web(): Source {
  let controller!: ReadableStreamDefaultController
  let cancelled = false
  const payload = new ReadableStream({
    start: (own) => {
      controller = own
    },
    cancel: () => {
      cancelled = true
    }
  })
  return {
    payload,
    finish: () => {
      controller.enqueue(new TextEncoder().encode('body'))
      controller.close()
    },
    fail: (error) => {
      controller.error(error)
    },
    isOver: () => cancelled
  }
}

function response(): Source {
  const source = web()
  return {
    ...source,
    payload: new Response(source.payload as ReadableStream, { headers: { 'x-response': '1' } })
  }
}

/** The Response of node-fetch: its body is a stream of Node. */
function foreignResponse(): Source {
  const source = readable()
  const payload = {
    [Symbol.toStringTag]: 'Response',
    status: 200,
    bodyUsed: false,
    headers: new Headers({ 'x-response': '1' }),
    body: source.payload
  }
  return { ...source, payload }
}

const sources: Readonly<Record<string, () => Source>> = {
  'a Readable': readable,
  'an old-style stream': oldStyle,
  'a stream that flows already': flowing,
  'a stream that goes elsewhere too': piped,
  'a stream that cannot be destroyed in peace': touchy,
  'a stream that is not destroyed by its error': halfhearted,
  'a web stream': web,
  'a Response': response,
  'a Response with a stream of Node': foreignResponse
}

type Phase = 'during' | 'after'

/** What a client gets: the status and the body, or that the connection broke. */
async function fetched(url: string): Promise<string> {
  try {
    const reply = await fetch(url)
    return `${reply.status} ${await reply.text()}`
  } catch {
    return 'broken'
  }
}

/** How a source comes to its end, and in which phase of the commit. */
interface End {
  readonly phase: Phase
  readonly fails: boolean
}

/** Has an app send what a source gives; on plain Fastify there is only one phase. */
async function sendOver(
  t: Test,
  make: () => Source,
  { phase, fails }: End,
  gate?: Gate
): Promise<{ got: string; source: Source }> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (gate !== undefined) await app.register(sessionPlugin, { store: gate })
  const source = make()
  const end = (): void => {
    if (fails) source.fail(Object.assign(new Error('the source failed'), { statusCode: 418 }))
    else source.finish()
  }
  const [sent, tellSent] = signal()
  app.get('/', (request, reply) => {
    if (gate !== undefined) request.session.user = 'ada'
    reply.type('text/plain')
    reply.send(source.payload)
    tellSent()
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const held = gate?.hold('create') as Held
  const got = fetched(url)
  await (gate === undefined ? sent : held.reached)
  if (phase !== 'after') {
    end()
    for (let turn = 0; turn < 5; turn += 1) await nextTurn()
  }
  held?.release()
  if (phase === 'after') {
    for (let turn = 0; turn < 5; turn += 1) await nextTurn()
    end()
  }
  return { got: await got, source }
}

for (const [name, make] of Object.entries(sources)) {
  for (const fails of [false, true]) {
    t.test(
      `P13: ${name} that ${fails ? 'fails' : 'ends'} while its commit is under way, or after it, comes to what it does in Fastify alone`,
      async (t) => {
        const rejections = unhandled(t)
        const alone = (await sendOver(t, make, { phase: 'during', fails })).got
        t.equal(
          alone,
          fails
            ? '418 {"statusCode":418,"error":"I\'m a Teapot","message":"the source failed"}'
            : '200 body'
        )
        for (const phase of ['during', 'after'] as const) {
          t.equal(
            (await sendOver(t, make, { phase, fails }, new Gate(new MemoryStore()))).got,
            alone,
            phase
          )
        }
        t.same(rejections, [])
      }
    )
  }

  t.test(
    `P13: ${name} whose commit fails: the reply is the error, and nobody holds on to the stream`,
    async (t) => {
      const rejections = unhandled(t)
      for (const fails of [undefined, 'during'] as const) {
        const gate = new Gate(new MemoryStore())
        const app = Fastify()
        t.teardown(() => app.close())
        await app.register(sessionPlugin, { store: gate })
        const source = make()
        app.get('/', (request, reply) => {
          request.session.user = 'ada'
          reply.send(source.payload)
        })
        const pass = gate.intercept
        const held = gate.hold('create')
        gate.intercept = async (call, next) => {
          await pass(call, next as () => never)
          throw new Error('the store is down')
        }
        const pending = app.inject('/').then((reply) => reply)
        await held.reached
        if (fails === 'during') source.fail(new Error('the source failed'))
        held.release()
        const reply = await pending
        for (let turn = 0; turn < 5; turn += 1) await nextTurn()
        t.same(
          [reply.statusCode, reply.json().code, setCookies(reply)],
          [503, 'HOLDFAST_STORE_FAILED', []]
        )
        if (fails === undefined && source.isOver !== undefined) t.equal(source.isOver(), true)
      }
      t.same(rejections, [])
    }
  )

  t.test(`P13: ${name} whose commit fails at once, over MemoryStore`, async (t) => {
    const rejections = unhandled(t)
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(sessionPlugin)
    app.get('/', (request, reply) => {
      request.session.a = 'x'.repeat(70_000)
      reply.send(make().payload)
    })
    const reply = await app.inject('/')
    for (let turn = 0; turn < 5; turn += 1) await nextTurn()
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
    t.same(rejections, [])
  })
}

async function appOver(t: Test, store: SessionStore): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { store })
  return app
}

t.test(
  'P13: a file that is missing is a 500, by one anonymous request, and the process lives',
  async (t) => {
    for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
      const app = await appOver(t, store)
      app.get('/returned', async (_request, reply) =>
        reply.send(createReadStream(`${file}-missing`))
      )
      app.get('/synchronous', (_request, reply) => {
        reply.send(createReadStream(`${file}-missing`))
      })
      app.get('/there', async (_request, reply) => reply.send(createReadStream(file)))
      for (const url of ['/returned', '/synchronous'])
        t.equal((await app.inject(url)).statusCode, 500)
      const reply = await app.inject('/there')
      t.same([reply.statusCode, reply.body.length], [200, 200_000])
      t.same(await stored(app, carriedBy(reply).cookie as string), {})
    }
  }
)

t.test('P13: a stream that failed before it was sent is a 500', async (t) => {
  for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
    const app = await appOver(t, store)
    app.get('/', async (_request, reply) => {
      const stream = new Readable({ read() {} }).on('error', () => {})
      stream.destroy(new Error('too early'))
      await nextTurn()
      return reply.send(stream)
    })
    t.match((await app.inject('/')).json(), { statusCode: 500, message: 'too early' })
  }
})

t.test(
  'P13: a stream that somebody begins to read while its commit is under way loses no byte',
  async (t) => {
    const begins: Readonly<Record<string, (stream: Readable) => void>> = {
      'by a listener': (stream) => {
        stream.on('data', () => {})
      },
      'by a pipe': (stream) => {
        stream.pipe(new PassThrough()).resume()
      },
      'by resume()': (stream) => {
        stream.resume()
      }
    }
    for (const [name, begin] of Object.entries(begins)) {
      for (const make of [
        () => createReadStream(file),
        () => Readable.from(['body'.repeat(50_000)])
      ]) {
        const gate = new Gate(new MemoryStore())
        const app = await appOver(t, gate)
        let sent!: Readable
        app.get('/', (_request, reply) => {
          sent = make()
          reply.send(sent)
        })
        const url = await app.listen({ port: 0, host: '127.0.0.1' })
        const held = gate.hold('create')
        const got = fetched(url)
        await held.reached
        begin(sent)
        for (let turn = 0; turn < 50; turn += 1) await nextTurn()
        held.release()
        t.equal((await got) === `200 ${'body'.repeat(50_000)}`, true, name)
      }
    }
  }
)

t.test(
  'what Fastify refuses or sends as a stream is its to judge, whatever the store',
  async (t) => {
    const payloads: Readonly<Record<string, () => unknown>> = {
      'an object with a method pipe and no events': () => ({
        pipe: (to: NodeJS.WritableStream) => to.end('piped')
      }),
      'an object with a method pipe and events': () =>
        Object.assign(new EventEmitter(), { pipe: (to: NodeJS.WritableStream) => to.end('piped') }),
      'Response.error()': () => Response.error(),
      'a Response that was read': () => {
        const response = new Response('read')
        void response.text()
        return response
      },
      'a Response that is being read': () => {
        const response = new Response('being read')
        response.body?.getReader()
        return response
      },
      'a Response-like with a status that has no body': () => ({
        [Symbol.toStringTag]: 'Response',
        status: 204,
        headers: new Headers(),
        body: new Blob(['none']).stream()
      }),
      'a Response-like without headers': () => ({
        [Symbol.toStringTag]: 'Response',
        status: 201,
        headers: {},
        body: new Blob(['body']).stream()
      })
    }
    for (const [name, make] of Object.entries(payloads)) {
      const plain = Fastify()
      t.teardown(() => plain.close())
      plain.get('/', async () => make())
      const { statusCode, body } = await plain.inject('/')
      for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
        const app = await appOver(t, store)
        app.get('/', async ({ session }) => {
          session.user = 'ada'
          return make()
        })
        const reply = await app.inject('/')
        t.same([reply.statusCode, reply.body], [statusCode, body], name)
        t.same(
          await stored(app, carriedBy(reply).cookie as string),
          { user: 'ada' },
          `${name}: the session was stored, and its id goes out`
        )
      }
    }
  }
)

t.test(
  'the request itself as the payload: an echo, and under a commit that fails a 503',
  async (t) => {
    for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
      const app = await appOver(t, store)
      app.addContentTypeParser('text/plain', (_request, payload, done) => {
        done(null, payload)
      })
      app.post('/echo', async ({ raw }, reply) => reply.send(raw))
      app.post('/fails', async ({ raw, session }, reply) => {
        session.a = 'x'.repeat(70_000)
        return reply.send(raw)
      })
      app.post('/late', ({ raw, session }, reply) => {
        session.user = 'ada'
        reply.send('first')
        if (!reply.raw.writableEnded) reply.send(raw)
      })
      const url = await app.listen({ port: 0, host: '127.0.0.1' })
      for (const [path, status, body] of [
        ['echo', 200, 'hello'],
        ['fails', 500, undefined],
        ['late', 200, 'first']
      ] as const) {
        const reply = await fetch(`${url}/${path}`, {
          method: 'POST',
          body: 'hello',
          headers: { 'content-type': 'text/plain' }
        })
        t.equal(reply.status, status, path)
        if (body !== undefined) t.equal(await reply.text(), body, path)
      }
    }
  }
)

t.test('a Response brings its status and headers, and its body comes whole', async (t) => {
  for (const store of [new MemoryStore(), slow(new MemoryStore())]) {
    const app = await appOver(t, store)
    app.get(
      '/web',
      async () =>
        new Response('body', { status: 201, headers: { 'x-own': '1', 'set-cookie': 'theme=dark' } })
    )
    app.get('/empty', async () => new Response(null, { status: 204 }))
    app.get('/upstream', async () => fetch(`data:text/plain,${'body'.repeat(5000)}`))
    const reply = await app.inject('/web')
    t.same(
      [
        reply.statusCode,
        reply.body,
        reply.headers['x-own'],
        reply.cookies.map(({ name }) => name).toSorted()
      ],
      [201, 'body', '1', ['session_id', 'theme']]
    )
    t.equal((await app.inject('/empty')).statusCode, 204)
    t.equal((await app.inject('/upstream')).body.length, 20_000)
  }
})

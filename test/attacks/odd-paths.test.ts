import { once } from 'node:events'
import { get, request as httpRequest, type IncomingMessage } from 'node:http'
import {
  connect as connectHttp2,
  type ClientHttp2Session,
  type IncomingHttpHeaders
} from 'node:http2'
import { connect } from 'node:net'
import { Readable } from 'node:stream'

import websocket from '@fastify/websocket'
import type { FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'

import type { Session } from '../../lib/index.ts'
import { overEveryStore, type Serve } from '../helpers/attack.ts'
import { carriedBy } from '../helpers/browser.ts'
import { begin, listen, setCookies, stored, unhandled, type Served } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'
import { settle, signal } from '../helpers/waiting.ts'

const undeliverable = 'HOLDFAST_ID_UNDELIVERABLE'

async function codeOf(operation: Promise<unknown>): Promise<string> {
  try {
    await operation
    return 'done'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

// WebSocket.

interface Socket {
  readonly headers: IncomingMessage['headers']
  readonly ask: (probe: string) => Promise<string>
  readonly close: () => void
}

interface Sockets extends Served {
  /** Opens a socket with the cookie of a session, or without. */
  readonly dial: (id?: string, path?: string) => Promise<Socket>
}

/** An app whose /ws answers each message with what a probe of that name comes to. */
async function sockets(
  serveOver: Serve,
  probes: Record<string, (session: Session) => unknown>
): Promise<Sockets> {
  const served = await serveOver()
  const { app } = served
  await app.register(websocket)
  app.addHook('preHandler', async (request) => {
    if (request.url === '/ws-hook')
      (request as unknown as { hook: string }).hook = await codeOf(request.session.save())
  })
  const handler = (socket: WebSocket, request: { session: Session; hook?: string }): void => {
    socket.on('message', (message: Buffer) => {
      const name = message.toString()
      const answer = name === 'hook' ? request.hook : probes[name]?.(request.session)
      Promise.resolve(answer).then(
        (value) => {
          socket.send(String(value))
        },
        (error: unknown) => {
          socket.send(String(error))
        }
      )
    })
  }
  await app.register(async (app) => {
    for (const url of ['/ws', '/ws-hook']) app.get(url, { websocket: true }, handler as never)
  })
  const port = await listen(app)
  return {
    ...served,
    dial: async (id, path = '/ws') => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, {
        headers: id === undefined ? {} : { cookie: `session_id=${id}` }
      })
      const [[response]] = await Promise.all([
        once(socket, 'upgrade') as Promise<[IncomingMessage]>,
        once(socket, 'open')
      ])
      return {
        headers: response.headers,
        ask: async (probe) => {
          socket.send(probe)
          const [answer] = (await once(socket, 'message')) as [Buffer]
          return answer.toString()
        },
        close: () => {
          socket.terminate()
        }
      }
    }
  }
}

const probes = {
  read: (session: Session) => JSON.stringify(session),
  write: (session: Session) => {
    session.a = 'by socket'
    return 'written'
  },
  save: (session: Session) => codeOf(session.save()),
  update: (session: Session) => codeOf(session.update((draft) => (draft.n = (draft.n ?? 0) + 1))),
  regenerate: (session: Session) => codeOf(session.regenerate()),
  destroy: (session: Session) => codeOf(session.destroy())
}

overEveryStore(
  t,
  'S40: a WebSocket upgrade mints nothing, however much the handler looks and writes',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const { store, dial } = await sockets(serveOver, probes)
    const socket = await dial()
    t.equal(socket.headers['set-cookie'], undefined)
    t.equal(await socket.ask('read'), '{}')
    t.equal(await socket.ask('write'), 'written')
    t.equal(
      await socket.ask('save'),
      undeliverable,
      'a new session: its id could not reach the client'
    )
    t.equal(await socket.ask('update'), undeliverable)
    const early = await dial(undefined, '/ws-hook')
    t.equal(await early.ask('hook'), undeliverable, 'in a hook before the upgrade too')
    socket.close()
    early.close()
    await settle()
    t.same(store.taken(), [], 'no store call at all')
    t.same(rejections, [])
  }
)

overEveryStore(
  t,
  'S40: on a socket save() and update() store a session that was loaded, and destroy() ends it',
  async (t, serveOver) => {
    const { app, dial } = await sockets(serveOver, probes)
    const id = await begin(app)
    const socket = await dial(id)
    t.equal(await socket.ask('read'), '{"a":"old"}')
    t.equal(await socket.ask('write'), 'written')
    t.same(await stored(app, id), { a: 'old' }, 'not before it is saved')
    t.equal(await socket.ask('save'), 'done')
    t.same(await stored(app, id), { a: 'by socket' })
    t.equal(await socket.ask('update'), 'done')
    t.equal(await socket.ask('update'), 'done')
    t.same(await stored(app, id), { a: 'by socket', n: 2 })
    await app.inject({ url: '/write/x', cookies: { session_id: id } })
    t.equal(await socket.ask('update'), 'done')
    t.same(await stored(app, id), { a: 'x', n: 3 }, 'with what others wrote meanwhile')
    t.equal(await socket.ask('destroy'), 'done')
    t.equal(await stored(app, id), undefined)
    t.equal(await socket.ask('write'), 'written')
    t.equal(await socket.ask('save'), undeliverable, 'what follows would be a new session')
    const other = await dial(await begin(app))
    t.equal(await other.ask('regenerate'), undeliverable, 'nor can the socket be told a new id')
    t.equal(await other.ask('update'), 'done', 'and nothing was removed')
    socket.close()
    other.close()
  }
)

overEveryStore(
  t,
  'S40: a session that ended meanwhile is not brought back by a socket that holds it',
  async (t, serveOver) => {
    const { app, dial } = await sockets(serveOver, probes)
    const id = await begin(app)
    const socket = await dial(id)
    await app.inject({ url: '/logout', cookies: { session_id: id } })
    await socket.ask('write')
    t.equal(await socket.ask('save'), 'HOLDFAST_SESSION_GONE')
    t.equal(await socket.ask('update'), 'HOLDFAST_SESSION_GONE')
    t.equal(await stored(app, id), undefined)
    socket.close()
  }
)

overEveryStore(
  t,
  'S40: a handshake that is refused mints nothing either, unless it is written to',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.get('/refused', async (_request, reply) => reply.code(401).send('no'))
    for (const upgrade of ['websocket', 'WebSocket']) {
      const reply = await app.inject({
        url: '/refused',
        headers: { upgrade, connection: 'upgrade' }
      })
      t.same([reply.statusCode, carriedBy(reply)], [401, { header: undefined, cookie: undefined }])
    }
    t.same(store.taken(), [])
    t.ok(
      carriedBy(
        await app.inject({ url: '/read', headers: { upgrade: 'h2c', connection: 'upgrade' } })
      ).cookie,
      'another upgrade is answered as any request is'
    )
    t.ok(
      carriedBy(
        await app.inject({
          url: '/write/x',
          headers: { upgrade: 'websocket', connection: 'upgrade' }
        })
      ).cookie,
      'a reply that Fastify makes carries what was written'
    )
  }
)

// Replies that go past Fastify.

/** Routes that answer by themselves. */
function rawRoutes({ app }: Served, probe: (session: Session) => Promise<unknown>): void {
  app.get('/hijack', async ({ session }, reply) => {
    reply.hijack()
    reply.raw.end(String(await probe(session)))
  })
  app.get('/events', async ({ session }, reply) => {
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write('data: open\n\n')
    reply.raw.end(`data: ${String(await probe(session))}\n\n`)
    return reply
  })
  app.get('/raw', async ({ session }, reply) => {
    const answer = await probe(session)
    reply.raw.end(String(answer))
    return reply
  })
}

function told(log: readonly string[]): string[] {
  return log.map((line) => (JSON.parse(line) as { msg: string }).msg)
}

overEveryStore(
  t,
  'S41: after hijack() and in server-sent events save() stores a session that was loaded, and refuses a new one',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const served = await serveOver()
    const { app, store, log } = served
    rawRoutes(served, async (session) => {
      session.a = 'saved'
      const code = await codeOf(session.save())
      // What cannot be stored is taken back, so that it is not reported as lost.
      if (code !== 'done') delete session.a
      return code
    })
    const port = await listen(app)
    for (const url of ['/hijack', '/events']) {
      const id = await begin(app)
      const reply = await fetch(`http://127.0.0.1:${port}${url}`, {
        headers: { cookie: `session_id=${id}` }
      })
      t.match(await reply.text(), /done/)
      t.same(reply.headers.getSetCookie(), [])
      t.same(await stored(app, id), { a: 'saved' }, url)
      store.taken()
      t.match(await (await fetch(`http://127.0.0.1:${port}${url}`)).text(), undeliverable, url)
      t.same(store.taken(), [], 'nothing is stored under an id that nobody has')
    }
    await settle()
    t.same(rejections, [])
    t.same(log, [])
  }
)

overEveryStore(
  t,
  'S41: a changed session that was never committed is reported once, without its data',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const served = await serveOver()
    const { app, log } = served
    rawRoutes(served, async (session) => {
      session.a = 'a lost secret'
    })
    const port = await listen(app)
    for (const url of ['/hijack', '/events', '/raw']) {
      const id = await begin(app)
      for (const headers of [{ cookie: `session_id=${id}` }, {}] as const) {
        ;(log as string[]).length = 0
        await (await fetch(`http://127.0.0.1:${port}${url}`, { headers })).text()
        await settle()
        const lines = told(log).filter((message) => message.includes('was not stored'))
        t.equal(lines.length, 1, url)
        t.match(lines[0], /session\.save\(\)/)
        t.notOk(log.join('').includes('a lost secret') || log.join('').includes(id))
      }
      t.same(await stored(app, id), { a: 'old' }, url)
    }
    t.same(rejections, [])
  }
)

overEveryStore(
  t,
  'S41: nor is a change that could not have been stored passed over',
  async (t, serveOver) => {
    const served = await serveOver()
    const { app, log } = served
    rawRoutes(served, async (session) => {
      session.a = 1n
    })
    await (await fetch(`http://127.0.0.1:${await listen(app)}/hijack`)).text()
    await settle()
    t.match(told(log), [/was not stored/])
  }
)

overEveryStore(
  t,
  'S41: a session that began and whose id went past the client is reported',
  async (t, serveOver) => {
    const served = await serveOver()
    const { app, log } = served
    rawRoutes(served, (session) => session.save())
    await (await fetch(`http://127.0.0.1:${await listen(app)}/raw`)).text()
    await settle()
    t.match(told(log), [/whose id the client did not get/])
  }
)

overEveryStore(
  t,
  'S41: what only reads, or saves what it changed, is not reported; nor is a reply that Fastify makes',
  async (t, serveOver) => {
    const served = await serveOver()
    const { app, log } = served
    rawRoutes(served, async (session) => session.a)
    app.get('/throws', async ({ session }) => {
      session.a = 'x'
      throw Object.assign(new Error('expected'), { statusCode: 418 })
    })
    app.get('/streams', async ({ session }, reply) => {
      session.a = 'x'
      return reply.send(Readable.from(['a', 'b']))
    })
    const port = await listen(app)
    const id = await begin(app)
    for (const url of [
      '/hijack',
      '/events',
      '/raw',
      '/read',
      '/write/x',
      '/throws',
      '/streams',
      '/login',
      '/logout'
    ]) {
      await (
        await fetch(`http://127.0.0.1:${port}${url}`, { headers: { cookie: `session_id=${id}` } })
      ).text()
    }
    await settle()
    t.same(log, [])
  }
)

overEveryStore(
  t,
  'S41: without a logger nothing waits for a report that nobody would read, nor where nobody looked',
  async (t, serveOver) => {
    for (const [logger, path, more] of [
      [false, '/looks', 0],
      [true, '/looks-away', 0],
      [true, '/looks', 1]
    ] as const) {
      const { app } = await serveOver({}, logger ? {} : { logger })
      let before = 0
      app.addHook('onRequest', async (_request, reply) => {
        before = reply.raw.listenerCount('close')
      })
      app.get('/looks', async ({ session }, reply) => {
        session.get('a')
        return reply.raw.listenerCount('close') - before
      })
      app.get('/looks-away', async (_request, reply) => reply.raw.listenerCount('close') - before)
      t.equal((await app.inject(path)).body, String(more))
    }
  }
)

overEveryStore(
  t,
  'S41: operations of a new session that begin after its reply are refused, and nothing is stored under an id that nobody has',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const { app, store } = await serveOver({ saveUninitialized: false })
    let late!: Promise<string>
    app.get('/late', async ({ session }, reply) => {
      await reply.send('sent')
      session.a = 'late'
      late = codeOf(session.save())
      session.update(() => {}).catch(() => {})
    })
    t.equal((await app.inject('/late')).body, 'sent')
    t.equal(await late, undeliverable)
    await settle()
    t.same(store.taken(), [])
    t.same(rejections, [])
  }
)

overEveryStore(
  t,
  'S41: nor in an onSend hook after ours, whose reply has been made but not sent',
  async (t, serveOver) => {
    const { app, store } = await serveOver({ saveUninitialized: false })
    let late = ''
    app.addHook('onSend', async ({ session }) => {
      late = await codeOf(session.save())
    })
    t.same(setCookies(await app.inject('/read')), [])
    t.equal(late, undeliverable)
    t.same(store.taken(), [])
  }
)

overEveryStore(
  t,
  'S41: an upload that is broken off, and a client that goes away, do no harm',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const { app, log } = await serveOver()
    const aborted: string[] = []
    app.addHook('onRequestAbort', async (request) => {
      aborted.push(request.url)
    })
    app.post('/upload', async ({ session }) => {
      session.a = 'uploaded'
      return 'ok'
    })
    const id = await begin(app)
    const port = await listen(app)
    for (let count = 0; count < 10; count += 1) {
      const upload = httpRequest({
        port,
        host: '127.0.0.1',
        method: 'POST',
        path: '/upload',
        headers: {
          cookie: `session_id=${id}`,
          'content-type': 'application/json',
          'content-length': 1000
        }
      })
      upload.on('error', () => {})
      upload.write('{"half":')
      await settle()
      upload.destroy()
    }
    while (aborted.length < 10) await nextTurn()
    await settle()
    t.same(await stored(app, id), { a: 'old' }, 'the handler did not run')
    t.equal(
      await (
        await fetch(`http://127.0.0.1:${port}/read`, { headers: { cookie: `session_id=${id}` } })
      ).text(),
      '{"a":"old"}',
      'the server lives'
    )
    t.same(rejections, [])
    t.notOk(log.join('').includes(id))
    t.notMatch(log.join(''), /ERR_HTTP_HEADERS_SENT/)
  }
)

overEveryStore(
  t,
  'S41: pipelined requests have a session each, and their replies come in order',
  async (t, serveOver) => {
    const { app, log } = await serveOver()
    const [one, two] = [await begin(app, 'one'), await begin(app, 'two')]
    const port = await listen(app)
    const socket = connect(port, '127.0.0.1')
    const chunks: Buffer[] = []
    socket.on('data', (chunk) => {
      chunks.push(chunk)
    })
    const ask = (path: string, header: string, last = false): string =>
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${header}${last ? 'Connection: close\r\n' : ''}\r\n`
    socket.write(
      [
        ask('/read', `X-Session-ID: ${one}\r\n`),
        ask('/write/three', ''),
        ask('/read', `Cookie: session_id=${two}\r\n`),
        ask('/write/one-more', `X-Session-ID: ${one}\r\n`),
        ask('/read', `X-Session-ID: ${one}\r\n`, true)
      ].join('')
    )
    await once(socket, 'close')
    const replies = Buffer.concat(chunks)
      .toString()
      .split(/(?=HTTP\/1\.1 )/)
    t.equal(replies.length, 5)
    t.same(
      replies
        .map((reply) => reply.slice(reply.indexOf('\r\n\r\n') + 4))
        .filter((body) => body !== 'written')
        .slice(0, 2),
      ['{"a":"one"}', '{"a":"two"}']
    )
    const ids = replies.map((reply) => /^x-session-id: (.*)$/im.exec(reply)?.[1]?.trim())
    t.equal(ids[0], one)
    t.not(ids[1], one)
    t.not(ids[1], two)
    t.equal(ids[2], undefined, 'the cookie session is not shown')
    t.same([ids[3], ids[4]], [one, one])
    t.same(await stored(app, one), { a: 'one-more' })
    t.same(await stored(app, ids[1] as string), { a: 'three' })
    t.same(log, [])
  }
)

// HTTP/2.

function ask2(
  client: ClientHttp2Session,
  path: string,
  headers: Record<string, string> = {},
  method = 'GET'
): Promise<{ headers: IncomingHttpHeaders; body: string }> {
  return new Promise((resolve, reject) => {
    const stream = client.request({ ':path': path, ':method': method, ...headers })
    let body = ''
    let received: IncomingHttpHeaders = {}
    stream
      .on('response', (headers) => {
        received = headers
      })
      .on('error', reject)
    stream
      .setEncoding('utf8')
      .on('data', (chunk: string) => {
        body += chunk
      })
      .on('end', () => {
        resolve({ headers: received, body })
      })
      .end()
  })
}

overEveryStore(
  t,
  'S41: over HTTP/2 sessions load, store and travel on both transports',
  async (t, serveOver) => {
    const rejections = unhandled(t)
    const served = await serveOver({}, { http2: true } as FastifyServerOptions)
    const { app, log } = served
    rawRoutes(served, async (session) => {
      session.a = 'saved'
      return codeOf(session.save())
    })
    const client = connectHttp2(`http://127.0.0.1:${await listen(app)}`)
    t.teardown(() => {
      client.destroy()
    })
    const first = await ask2(client, '/write/x')
    const id = first.headers['x-session-id'] as string
    t.match(first.headers['set-cookie'], [new RegExp(`^session_id=${id};`)])
    t.equal(first.headers.vary, 'Cookie, X-Session-ID')
    t.equal((await ask2(client, '/read', { 'x-session-id': id })).body, '{"a":"x"}')
    t.equal((await ask2(client, '/read', { cookie: `a=b; session_id=${id}` })).body, '{"a":"x"}')
    t.equal((await ask2(client, '/read', { 'x-session-id': `${id}, ${id}` })).body, '{}', 'S5')
    const many = await Promise.all(
      Array.from({ length: 20 }, (_, index) => ask2(client, `/write/${index}`))
    )
    t.equal(
      new Set(many.map(({ headers }) => headers['x-session-id'])).size,
      20,
      'streams of one connection share nothing'
    )
    t.equal((await ask2(client, '/write/y', { cookie: `session_id=${id}` }, 'HEAD')).body, '')
    t.same(await stored(app, id), { a: 'y' })
    t.equal((await ask2(client, '/hijack', { cookie: `session_id=${id}` })).body, 'done')
    t.same(await stored(app, id), { a: 'saved' })
    client.close()
    await settle()
    t.same(rejections, [])
    t.same(log, [])
  }
)

// onSend twice.

overEveryStore(
  t,
  "S42: the reply to a commit's error passes through onSend again: one commit, and no cookie",
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    let sends = 0
    app.addHook('onSend', async () => {
      sends += 1
    })
    store.intercept = (call, pass) => {
      if (call.verb === 'create') throw new Error('no answer')
      return pass()
    }
    const reply = await app.inject('/write/x')
    t.equal(reply.statusCode, 503)
    t.same(setCookies(reply), [])
    t.same(store.taken(), ['create', 'get', 'create', 'get'], 'one commit, with its second try')
    t.equal(sends, 1)
  }
)

overEveryStore(
  t,
  'S42: hooks of the app that throw in onSend, before ours or after it: one commit, at most one cookie of ours',
  async (t, serveOver) => {
    const { app, store } = await serveOver()
    app.addHook('onSend', async (request, reply) => {
      if (request.url.endsWith('thrice') && sends < 3) {
        sends += 1
        throw Object.assign(new Error('again'), {
          statusCode: reply.statusCode === 200 ? 418 : 419
        })
      }
    })
    let sends = 0
    const reply = await app.inject('/write/thrice')
    t.ok(reply.statusCode >= 400)
    t.equal(setCookies(reply).length <= 1, true)
    t.equal(store.taken().filter((verb) => verb === 'create').length, 1)
  }
)

overEveryStore(
  t,
  'S41: a client that leaves before its reply: what the handler wrote is stored, and no error ends the process',
  async (t: Test, serveOver) => {
    const rejections = unhandled(t)
    const { app, log } = await serveOver()
    const [reached, arrived] = signal()
    const [released, goOn] = signal()
    app.get('/slow', async ({ session }) => {
      session.a = 'written'
      arrived()
      await released
      return Readable.from(['a', 'b'])
    })
    const id = await begin(app)
    const client = get({
      port: await listen(app),
      host: '127.0.0.1',
      path: '/slow',
      headers: { cookie: `session_id=${id}` }
    })
    client.on('error', () => {})
    await reached
    client.destroy()
    await settle()
    goOn()
    for (
      let tries = 0;
      tries < 1000 && JSON.stringify(await stored(app, id)) !== '{"a":"written"}';
      tries += 1
    )
      await nextTurn()
    t.same(await stored(app, id), { a: 'written' })
    t.same(rejections, [])
    t.notMatch(log.join(''), /ERR_HTTP_HEADERS_SENT/)
  }
)

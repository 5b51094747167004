import { EventEmitter, once } from 'node:events'
import { get as request, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import sse from '@fastify/sse'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'

import { MemoryStore, type SessionError } from '../../lib/index.ts'
import { seedSession } from '../../lib/testing/index.ts'
import { serve } from '../helpers/serve.ts'
import { slow, WatchedStore } from '../helpers/stores.ts'
import { settle } from '../helpers/waiting.ts'

/** A feed that has no end. */
function endless(): Readable {
  return new Readable({
    read() {
      setImmediate(() => this.push('data: tick\n\n'))
    }
  })
}

interface World {
  readonly app: FastifyInstance
  readonly store: WatchedStore
  readonly port: number
  readonly cookie: string
  /** Whether somebody still waits for an end. */
  readonly isWatched: () => Promise<boolean>
  readonly logOut: () => Promise<unknown>
}

async function listen(
  t: Test,
  store: WatchedStore,
  addRoutes: (app: FastifyInstance) => unknown
): Promise<World> {
  const { app, clock } = await serve(t, { store })
  await addRoutes(app)
  app.get('/log-out', async ({ session }) => session.destroy())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const reply = await app.inject('/sign-in-ada')
  const cookie = String(reply.headers['set-cookie']).split(';')[0] as string
  return {
    app,
    store,
    port: (app.server.address() as AddressInfo).port,
    cookie,
    async isWatched() {
      await settle()
      store.taken()
      clock.advance(2000)
      await settle()
      return store.taken().includes('look')
    },
    logOut: () => app.inject({ url: '/log-out', headers: { cookie } })
  }
}

const stores = {
  'memory store': () => new WatchedStore(new MemoryStore()),
  'slow store': () => slow(new MemoryStore())
}

for (const [name, open] of Object.entries(stores)) {
  t.test(`P12: a WebSocket closes when its session ends (${name})`, async (t) => {
    const world = await listen(t, open(), async (app) => {
      await app.register(websocket)
      app.get('/socket', { websocket: true }, (socket, { session }) => {
        session.signal.addEventListener('abort', () => {
          socket.close(4401, (session.signal.reason as SessionError).code)
        })
        socket.send('open')
      })
    })
    const url = `ws://127.0.0.1:${world.port}/socket`
    const connect = async (): Promise<WebSocket> => {
      const socket = new WebSocket(url, { headers: { cookie: world.cookie } })
      await once(socket, 'message')
      return socket
    }
    const left = await connect()
    t.equal(await world.isWatched(), true)
    left.close()
    await once(left, 'close')
    t.equal(await world.isWatched(), false, 'a socket that has closed waits for nothing')
    const socket = await connect()
    const closed = once(socket, 'close')
    await world.logOut()
    const [code, reason] = (await closed) as [number, Buffer]
    t.same([code, String(reason)], [4401, 'HOLDFAST_SESSION_DESTROYED'])
    t.equal(await world.isWatched(), false)
  })

  t.test(`P12: streams end when their session does (${name})`, async (t) => {
    const errors: unknown[] = []
    const world = await listen(t, open(), async (app) => {
      // What its types have for a module is the plugin itself.
      await app.register(sse as unknown as typeof sse.default)
      app.get('/hijacked', async ({ session }, reply) => {
        await session.save()
        reply.hijack()
        reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
        await pipeline(endless(), reply.raw, { signal: session.signal }).catch((error: unknown) =>
          errors.push(error)
        )
      })
      app.get('/plugin', { sse: 'only' }, async ({ session }, reply) => {
        session.signal.addEventListener('abort', () => reply.sse.close())
        await reply.sse.send({ data: 'open' })
        reply.sse.keepAlive()
      })
      app.get('/stream', async ({ session }, reply) => {
        const feed = endless()
        session.signal.addEventListener('abort', () => feed.push(null))
        return reply.type('text/event-stream').send(feed)
      })
    })
    for (const path of ['/hijacked', '/plugin', '/stream']) {
      const fresh = await world.app.inject('/sign-in-ada')
      const cookie = String(fresh.headers['set-cookie']).split(';')[0] as string
      const asked = request({
        port: world.port,
        path,
        agent: false,
        headers: { cookie, accept: 'text/event-stream' }
      })
      const [response] = (await once(asked, 'response')) as [IncomingMessage]
      await once(response, 'data')
      // A stream that is cut off is an error, too.
      response.on('error', () => {})
      const over = new Promise((resolve) => {
        response.once('close', resolve)
      })
      response.resume()
      await world.app.inject({ url: '/log-out', headers: { cookie } })
      await over
      t.equal(await world.isWatched(), false, path)
    }
    // Of Node.js 24 and later the stream that is cut off tells first.
    t.match(errors, [{ code: /^(ABORT_ERR|ERR_STREAM_PREMATURE_CLOSE)$/ }])
  })

  t.test(`P12: a socket past Fastify closes, too (${name})`, async (t) => {
    const world = await listen(t, open(), () => {})
    const { sessions, server } = world.app
    const sockets = new WebSocketServer({ noServer: true })
    server.on('upgrade', async (upgrade, socket, head) => {
      const session = await sessions.fromRequest(upgrade)
      sockets.handleUpgrade(upgrade, socket, head, (accepted) => {
        session?.signal.addEventListener('abort', () => accepted.close(4401))
        accepted.send(session?.subject ?? 'nobody')
      })
    })
    const connect = async (): Promise<WebSocket> => {
      const socket = new WebSocket(`ws://127.0.0.1:${world.port}`, {
        headers: { cookie: world.cookie }
      })
      t.equal(String((await once(socket, 'message'))[0]), 'ada')
      return socket
    }
    const left = await connect()
    t.equal(await world.isWatched(), true)
    left.terminate()
    await once(left, 'close')
    while (await world.isWatched()) await settle()
    const socket = await connect()
    const closed = once(socket, 'close')
    await world.logOut()
    t.equal((await closed)[0], 4401)
  })
}

t.test('what get() has found tells of its end, and is copied without', async (t) => {
  const { app } = await serve(t)
  await app.inject('/sign-in-ada')
  const publicId = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  const found = await app.sessions.get(publicId)
  t.notOk(Object.keys({ ...found }).includes('signal'))
  t.equal(found?.signal.aborted, false)
  t.equal(found?.signal, found?.signal)
  await app.sessions.destroyAll('ada')
  t.equal((found?.signal.reason as SessionError | undefined)?.code, 'HOLDFAST_SESSIONS_DESTROYED')
  const named = await app.sessions.fromRequest({
    socket: 'a header',
    cookie: 'session_id=x'
  } as never)
  t.equal(named, undefined)
})

t.test('a connection that asks again and again has one signal for each session', async (t) => {
  const warnings: unknown[] = []
  const note = (warning: unknown): void => {
    warnings.push(warning)
  }
  process.on('warning', note)
  t.teardown(() => process.off('warning', note))
  const world = await listen(t, new WatchedStore(new MemoryStore()), () => {})
  const socket = new EventEmitter()
  const headers = { cookie: world.cookie }
  const other = await seedSession(world.app, { a: 'x' })
  const signals = new Set<AbortSignal | undefined>()
  for (let count = 0; count < 30; count += 1) {
    for (const each of [headers, other]) {
      const found = await world.app.sessions.fromRequest({ headers: each, socket } as never)
      t.equal(found?.signal.aborted, false)
      signals.add(found?.signal)
    }
  }
  // Who is signed in keeps the signal under the next id.
  const moved = await world.app.inject({ url: '/step-up-all', headers })
  const cookie = String(moved.headers['set-cookie']).split(';', 1)[0] as string
  const next = await world.app.sessions.fromRequest({ headers: { cookie }, socket } as never)
  signals.add(next?.signal)
  t.equal(next?.subject, 'ada')
  t.equal(signals.size, 2)
  t.equal(socket.listenerCount('close'), 1)
  socket.emit('close')
  t.equal(await world.isWatched(), false)
  const gone = Object.assign(new EventEmitter(), { destroyed: true })
  const found = await world.app.sessions.fromRequest({ headers: other, socket: gone } as never)
  t.equal(found?.signal.aborted, false)
  t.equal(await world.isWatched(), false)
  await settle()
  t.same(warnings, [])
})

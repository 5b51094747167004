import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request, type IncomingMessage } from 'node:http'

import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'

import type { RawRequest } from '../lib/index.ts'
import { seedSession } from '../lib/testing/index.ts'
import { overEach } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { begin, listen, serve } from './helpers/serve.ts'

const stores = [...backends, later]
const minute = 60_000
const secret = 'x'.repeat(32)

for (const options of [
  {},
  { secret },
  { sessionName: 'session', sessionCookie: '__Host-sid', cookie: { secure: true } }
]) {
  const how = Object.keys(options).join(', ') || 'no options'
  overEach(stores, t, `the session of a raw request is found, with ${how}`, async (t, over) => {
    const { app } = await over.serve(options)
    const headers = await seedSession(app, { user: 'ada' })
    const inHeader = await seedSession(app, { user: 'ada' }, { transport: 'header' })
    const shapes: readonly RawRequest[] = [
      { headers },
      headers,
      new Headers(headers),
      { headers: new Headers(headers) },
      new Request('http://app.example/', { headers }),
      { headers: { ...headers, cookie: `a=1; ${headers['cookie']}; b=2` } },
      { headers: inHeader },
      new Headers(inHeader)
    ]
    for (const [index, shape] of shapes.entries()) {
      const found = await app.sessions.fromRequest(shape)
      t.match(found, { data: { user: 'ada' }, maxAge: undefined }, `shape ${index}`)
      t.same((await app.sessions.get(found?.publicId ?? ''))?.data, { user: 'ada' })
    }
  })
}

overEach(stores, t, 'a raw request of nobody has no session', async (t, over) => {
  const { app } = await over.serve()
  const dead = await begin(app)
  await app.inject({ url: '/logout', cookies: { session_id: dead } })
  over.store.taken()
  const none: readonly RawRequest[] = [
    {},
    { headers: {} },
    new Headers(),
    { cookie: '' },
    { cookie: 'other=1' },
    { cookie: 'session_id=' },
    { cookie: 'session_id=short' },
    { 'x-session-id': 'new' }
  ]
  for (const [index, shape] of none.entries()) {
    t.equal(await app.sessions.fromRequest(shape), undefined, `shape ${index}`)
  }
  t.same(over.store.taken(), [], 'the store is not asked')
  for (const id of [dead, randomUUID()]) {
    t.equal(await app.sessions.fromRequest({ cookie: `session_id=${id}` }), undefined)
  }
  t.equal(await app.sessions.fromRequest({ cookie: `session_id=${await expired()}` }), undefined)

  async function expired(): Promise<string> {
    const id = await begin(app)
    await over.advance(60 * minute)
    return id
  }
})

overEach(
  stores,
  t,
  'forged ids of raw requests are refused without asking the store',
  async (t, over) => {
    const { app } = await over.serve({ secret: [secret, 'o'.repeat(32)] })
    const token = await begin(app, 'mine')
    const [id = '', signature = ''] = token.split('.')
    over.store.taken()
    for (const forged of [
      id,
      `${id}.`,
      `${randomUUID()}.${signature}`,
      `${id}.${'A'.repeat(43)}`,
      token.slice(0, -1),
      `${token}.${signature}`
    ]) {
      t.equal(await app.sessions.fromRequest({ cookie: `session_id=${forged}` }), undefined, forged)
      t.equal(await app.sessions.fromRequest({ 'x-session-id': forged }), undefined, forged)
    }
    t.same(over.store.taken(), [])
    t.match(await app.sessions.fromRequest({ cookie: `session_id=${token}` }), {
      data: { a: 'mine' }
    })
    const other = await over.serve({ secret: 'o'.repeat(32) })
    const byOld = await begin(other.app, 'old')
    t.match(await app.sessions.fromRequest({ cookie: `session_id=${byOld}` }), {
      data: { a: 'old' }
    })
  }
)

overEach(stores, t, 'several cookies of a raw request count as elsewhere', async (t, over) => {
  const { app } = await over.serve()
  const [one, other] = [await begin(app, 'one'), await begin(app, 'other')]
  const reads = async (...values: readonly string[]): Promise<unknown> => {
    const cookie = values.map((value) => `session_id=${value}`).join('; ')
    return (await app.sessions.fromRequest({ cookie }))?.data
  }
  t.same(await reads(one, one), { a: 'one' })
  t.same(await reads(randomUUID(), one), { a: 'one' })
  t.same(await reads('', one, 'x'), { a: 'one' })
  t.same(await reads(`"${one}"`), { a: 'one' })
  t.equal(await reads(one, other), undefined)
})

overEach(stores, t, 'to read the session of a raw request is no use of it', async (t, over) => {
  const { app } = await over.serve({ touchAfter: 0 })
  const headers = { cookie: `session_id=${await begin(app, 'mine')}` }
  for (let count = 1; count < 60; count += 1) {
    await over.advance(minute)
    t.match(await app.sessions.fromRequest({ headers }), { data: { a: 'mine' } })
  }
  await over.advance(minute)
  t.equal(await app.sessions.fromRequest({ headers }), undefined)
  t.notOk(over.store.taken().includes('touch'))
})

overEach(stores, t, 'a store that is down is no reason to answer nobody', async (t, over) => {
  const { app } = await over.serve()
  const cookie = `session_id=${await begin(app)}`
  over.breakDown()
  await t.rejects(app.sessions.fromRequest({ cookie }), { code: 'HOLDFAST_STORE_FAILED' })
  const two = `${cookie}; session_id=${randomUUID()}`
  await t.rejects(app.sessions.fromRequest({ cookie: two }), { code: 'HOLDFAST_STORE_FAILED' })
})

t.test('what is no request is refused', async (t) => {
  const { app } = await serve(t)
  for (const wrong of [undefined, null, 'session_id=x', 1]) {
    await t.rejects(
      app.sessions.fromRequest(wrong as unknown as RawRequest),
      { code: 'HOLDFAST_VALUE_INVALID' },
      JSON.stringify(wrong)
    )
  }
})

t.test('the request of a Node server past Fastify has its session', async (t) => {
  const { app } = await serve(t, { secret })
  await app.ready()
  const token = await begin(app, 'mine')
  const server = createServer((incoming, outgoing) => {
    void app.sessions.fromRequest(incoming).then((found) => {
      outgoing.end(JSON.stringify(found?.data ?? null))
    })
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const ask = async (headers: Record<string, string | string[]>): Promise<string> => {
    const sent = request({ host: '127.0.0.1', port, headers, agent: false }).end()
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    return (await response.setEncoding('utf8').toArray()).join('')
  }
  t.equal(await ask({ cookie: `session_id=${token}` }), '{"a":"mine"}')
  t.equal(await ask({ cookie: ['a=1', `session_id=${token}`] }), '{"a":"mine"}')
  t.equal(await ask({ 'X-Session-ID': token }), '{"a":"mine"}')
  t.equal(await ask({ 'X-Session-ID': [token, token] }), 'null', 'two lines are no id')
  t.equal(await ask({ cookie: `session_id=${token.split('.')[0]}` }), 'null')
})

t.test('a socket server lets in whoever is signed in', async (t) => {
  const { app } = await serve(t, { secret })
  const sockets = new WebSocketServer({ noServer: true })
  app.server.on('upgrade', (incoming, socket, head) => {
    void app.sessions.fromRequest(incoming).then((found) => {
      if (found?.data.user === undefined) return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n')
      sockets.handleUpgrade(incoming, socket, head, (connected) => {
        connected.send(found.data.user ?? '')
        connected.close()
      })
    })
  })
  const port = await listen(app)
  const headers = await seedSession(app, { user: 'ada' })
  const open = (sent: Record<string, string>): WebSocket =>
    new WebSocket(`ws://127.0.0.1:${port}`, { headers: sent })
  const [message] = (await once(open(headers), 'message')) as [Buffer]
  t.equal(String(message), 'ada')
  const refused = open({ cookie: (headers['cookie'] as string).replace(/\..*/, '') })
  const [error] = (await once(refused, 'error').catch((caught: unknown) => [caught])) as [Error]
  t.match(error.message, '401')
})

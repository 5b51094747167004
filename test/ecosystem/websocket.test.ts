import { once } from 'node:events'

import websocket from '@fastify/websocket'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'

import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { Browser } from '../helpers/browser.ts'
import { begin, serve, stored, unhandled, type Served } from '../helpers/serve.ts'
import { nextTurn, slow, WatchedStore } from '../helpers/stores.ts'

type Asked = 'read' | 'write' | 'count' | 'save' | 'id' | 'regenerate' | 'destroy'

/** A chat: each message asks for one thing, and is answered what came of it. */
async function chat(t: Test, options: SessionOptions = {}): Promise<Served & { url: string }> {
  const served = await serve(t, options)
  const { app } = served
  await app.register(websocket)
  app.get('/count', async ({ session }) => session.update((draft) => { draft.n = (draft.n ?? 0) + 1 }))
  app.get('/chat', { websocket: true }, (socket, { session }) => {
    const acts: Record<Asked, () => unknown> = {
      read: () => ({ ...session }),
      write: () => { session.cart = [...session.cart ?? [], 'pear'] },
      count: () => session.update((draft) => draft.n = (draft.n ?? 0) + 1),
      save: () => session.save(),
      id: () => session.id,
      regenerate: () => session.regenerate(['cart']),
      destroy: () => session.destroy()
    }
    socket.on('message', async (asked: Buffer) => {
      try {
        socket.send(JSON.stringify(await acts[asked.toString() as Asked]() ?? 'done'))
      } catch (error) {
        socket.send(JSON.stringify((error as { code?: string }).code))
      }
    })
  })
  app.get('/members', { websocket: true, preValidation: async ({ session }, reply) => { if (session.user === undefined) await reply.code(401).send('log in') } }, (socket, { session }) => {
    socket.send(JSON.stringify({ user: session.user }))
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { ...served, url: url.replace('http', 'ws') }
}

interface Client {
  readonly socket: WebSocket
  readonly ask: (...messages: Asked[]) => Promise<unknown[]>
}

async function connect(t: Test, url: string, headers: Record<string, string> = {}): Promise<Client> {
  const socket = new WebSocket(url, { headers })
  t.teardown(() => { socket.terminate() })
  await once(socket, 'open')
  return {
    socket,
    ask: async (...messages) => {
      const answers: unknown[] = []
      for (const message of messages) {
        const answer = once(socket, 'message')
        socket.send(message)
        answers.push(JSON.parse(String((await answer)[0])))
      }
      return answers
    }
  }
}

for (const transport of ['cookie', 'header'] as const) {
  t.test(`the session of the handshake is in the handler, by ${transport}, and save() persists what each message changes`, async (t) => {
    for (const store of [new WatchedStore(new MemoryStore()), slow(new MemoryStore())]) {
      const { app, url } = await chat(t, { store })
      const id = await begin(app)
      const { ask } = await connect(t, `${url}/chat`, transport === 'cookie' ? { cookie: `session_id=${id}` } : { 'x-session-id': id })
      t.same(await ask('id', 'read', 'write'), [id, { a: 'old' }, 'done'])
      t.same(await stored(app, id), { a: 'old' }, 'no reply is sent, so nothing is stored by itself')
      t.same(await ask('save'), ['done'])
      t.same(await stored(app, id), { a: 'old', cart: ['pear'] })
      t.same(await ask('write', 'save', 'write', 'save', 'read'), ['done', 'done', 'done', 'done', { a: 'old', cart: ['pear', 'pear', 'pear'] }])
      t.same(await stored(app, id), { a: 'old', cart: ['pear', 'pear', 'pear'] })
      store.taken()
      t.same(await ask('save', 'save'), ['done', 'done'])
      t.same(store.taken(), [], 'nothing changed, nothing written')
    }
  })
}

t.test('P3, P4: a connection and requests beside it do not overwrite each other', async (t) => {
  const { app, url } = await chat(t)
  const id = await begin(app)
  const cookies = { session_id: id }
  const one = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
  const two = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
  await one.ask('write')
  await app.inject({ url: '/write/new', cookies })
  await Promise.all([one.ask('save', 'count', 'count'), two.ask('count', 'count'), app.inject({ url: '/count', cookies })])
  t.same(await stored(app, id), { a: 'new', cart: ['pear'], n: 5 })
})

t.test('P1: after a logout elsewhere save() and update() reject as gone, and nothing is brought back', async (t) => {
  for (const path of ['/logout', '/login']) {
    const { app, url } = await chat(t)
    const id = await begin(app)
    const { ask } = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
    t.same(await ask('write', 'save'), ['done', 'done'])
    await app.inject({ url: path, cookies: { session_id: id } })
    t.same(await ask('write', 'save', 'save', 'count'), ['done', 'HOLDFAST_SESSION_GONE', 'HOLDFAST_SESSION_GONE', 'HOLDFAST_SESSION_GONE'], path)
    t.equal(await stored(app, id), undefined)
    t.equal((app.sessions.store as WatchedStore).calls.filter(({ verb }) => verb === 'create').length, path === '/login' ? 2 : 1, 'no record but those of the requests')
  }
})

t.test('P1: a session that expired while the connection was open is gone', async (t) => {
  const { app, url, clock } = await chat(t)
  const id = await begin(app)
  const { ask } = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
  clock.advance(3_600_000)
  t.same(await ask('write', 'save'), ['done', 'HOLDFAST_SESSION_GONE'])
})

t.test('destroy() in a handler ends the session for everybody', async (t) => {
  const { app, url } = await chat(t)
  const browser = new Browser(app)
  await browser.get('/write/x')
  const { ask } = await connect(t, `${url}/chat`, { cookie: `session_id=${browser.cookies.get('session_id')}` })
  t.same(await ask('destroy', 'read'), ['done', {}])
  t.same((await browser.get('/read')).json(), {})
})

t.test('S40: a handshake mints nothing, and a connection that is dropped leaves nothing behind', async (t) => {
  const rejections = unhandled(t)
  const { app, url, store, log } = await chat(t)
  const { socket, ask } = await connect(t, `${url}/chat`)
  t.same(await ask('read', 'write'), [{}, 'done'])
  const closed = new Promise<void>((resolve) => { for (const client of app.websocketServer.clients) client.once('close', () => { resolve() }) })
  socket.terminate()
  await closed
  for (let turn = 0; turn < 20; turn += 1) await nextTurn()
  t.same(store.taken(), [])
  t.same([rejections, log], [[], []])
})

t.test('S40: a hook before the handshake sees the session, and can refuse, which mints nothing', async (t) => {
  const { app, url, store } = await chat(t)
  const refused = new WebSocket(`${url}/members`)
  refused.on('error', () => {})
  const [, response] = await once(refused, 'unexpected-response') as [unknown, { statusCode: number, headers: object }]
  t.equal(response.statusCode, 401)
  t.notMatch(response.headers, { 'set-cookie': Array })
  t.notMatch(response.headers, { 'x-session-id': String })
  t.same(store.taken(), [])
  const browser = new Browser(app)
  await browser.get('/login')
  const accepted = new WebSocket(`${url}/members`, { headers: { cookie: `session_id=${browser.cookies.get('session_id')}` } })
  t.teardown(() => { accepted.terminate() })
  t.same(JSON.parse(String((await once(accepted, 'message'))[0])), { user: 'ada' })
})

t.test('injectWS, as tests of an app use it', async (t) => {
  const { app } = await serve(t)
  await app.register(websocket)
  app.get('/', { websocket: true }, (socket, { session }) => {
    socket.on('message', async () => {
      session.n = (session.n ?? 0) + 1
      await session.save()
      socket.send(String(session.n))
    })
  })
  const id = await begin(app)
  const socket = await app.injectWS('/', { headers: { cookie: `session_id=${id}` } }) as unknown as WebSocket
  t.teardown(() => { socket.terminate() })
  for (const n of [1, 2]) {
    const answer = once(socket, 'message')
    socket.send('more')
    t.equal(String((await answer)[0]), String(n))
  }
  t.same(await stored(app, id), { a: 'old', n: 2 })
})

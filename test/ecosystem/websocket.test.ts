import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'

import websocket from '@fastify/websocket'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { overAnswers, overStores, type Beside } from '../helpers/ecosystem.ts'
import { begin, stored, unhandled, type Served } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'

/** Where a handshake can be refused. */
const hooks = ['onRequest', 'preValidation', 'preHandler'] as const

type Asked = 'read' | 'write' | 'count' | 'save' | 'id' | 'regenerate' | 'destroy'

interface Chat extends Served {
  readonly url: string
  /** The members' paths to which a socket was opened. */
  readonly opened: readonly string[]
}

/** A chat: each message asks for one thing, and is answered what came of it. */
async function chat({ serve, answer }: Beside, options?: SessionOptions): Promise<Chat> {
  const served = await serve(options)
  const { app } = served
  await app.register(websocket)
  app.get('/count', async ({ session }) =>
    session.update((draft) => {
      draft.n = (draft.n ?? 0) + 1
    })
  )
  app.get('/chat', { websocket: true }, (socket, { session }) => {
    const acts: Record<Asked, () => unknown> = {
      read: () => ({ ...session }),
      write: () => {
        session.cart = [...(session.cart ?? []), 'pear']
      },
      count: () => session.update((draft) => (draft.n = (draft.n ?? 0) + 1)),
      save: () => session.save(),
      id: () => session.id,
      regenerate: () => session.regenerate(['cart']),
      destroy: () => session.destroy()
    }
    socket.on('message', async (asked: Buffer) => {
      try {
        socket.send(JSON.stringify((await acts[asked.toString() as Asked]()) ?? 'done'))
      } catch (error) {
        socket.send(JSON.stringify((error as { code?: string }).code))
      }
    })
  })
  const opened: string[] = []
  for (const hook of hooks) {
    app.get(
      `/members/${hook}`,
      {
        websocket: true,
        async [hook]({ session }: FastifyRequest, reply: FastifyReply) {
          if (session.user !== undefined) return
          // What is stored has the refusal wait, and the handler with it.
          if (!session.isNew) session.b = hook
          return answer(reply.code(401).send('log in'))
        }
      },
      (socket, { session, url }) => {
        opened.push(url)
        socket.send(JSON.stringify({ user: session.user }))
      }
    )
  }
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { ...served, url: url.replace('http', 'ws'), opened }
}

interface Client {
  readonly socket: WebSocket
  readonly ask: (...messages: Asked[]) => Promise<unknown[]>
}

async function connect(
  t: Test,
  url: string,
  headers: Record<string, string> = {}
): Promise<Client> {
  const socket = new WebSocket(url, { headers })
  t.teardown(() => {
    socket.terminate()
  })
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
  overStores(
    t,
    `the session of the handshake is in the handler, by ${transport}, ` +
      'and save() persists what each message changes',
    async (t, over) => {
      const { app, url, store } = await chat(over)
      const id = await begin(app)
      const carried = { cookie: { cookie: `session_id=${id}` }, header: { 'x-session-id': id } }
      const { ask } = await connect(t, `${url}/chat`, carried[transport])
      t.same(await ask('id', 'read', 'write'), [id, { a: 'old' }, 'done'])
      t.same(
        await stored(app, id),
        { a: 'old' },
        'no reply is sent, so nothing is stored by itself'
      )
      t.same(await ask('save'), ['done'])
      t.same(await stored(app, id), { a: 'old', cart: ['pear'] })
      const all = { a: 'old', cart: ['pear', 'pear', 'pear'] }
      const twice = ['write', 'save', 'write', 'save', 'read'] as const
      t.same(await ask(...twice), ['done', 'done', 'done', 'done', all])
      t.same(await stored(app, id), all)
      store.taken()
      t.same(await ask('save', 'save'), ['done', 'done'])
      t.same(store.taken(), [], 'nothing changed, nothing written')
    }
  )
}

overStores(
  t,
  'P3, P4: a connection and requests beside it do not overwrite each other',
  async (t, over) => {
    // Writers that collide pause for each other, in real time: the clock of the test stands still.
    const clock = { now: () => over.clock.now(), setTimeout }
    const { app, url } = await chat(over, { clock })
    const id = await begin(app)
    const cookies = { session_id: id }
    const one = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
    const two = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
    await one.ask('write')
    await app.inject({ url: '/write/new', cookies })
    await Promise.all([
      one.ask('save', 'count', 'count'),
      two.ask('count', 'count'),
      app.inject({ url: '/count', cookies })
    ])
    t.same(await stored(app, id), { a: 'new', cart: ['pear'], n: 5 })
  }
)

overStores(
  t,
  'P1: after a logout elsewhere save() and update() reject as gone, ' +
    'and nothing is brought back',
  async (t, over) => {
    for (const path of ['/logout', '/login']) {
      const { app, url, store } = await chat(over)
      const id = await begin(app)
      const { ask } = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
      store.calls.length = 0
      t.same(await ask('write', 'save'), ['done', 'done'])
      await app.inject({ url: path, cookies: { session_id: id } })
      t.same(
        await ask('write', 'save', 'save', 'count'),
        ['done', 'HOLDFAST_SESSION_GONE', 'HOLDFAST_SESSION_GONE', 'HOLDFAST_SESSION_GONE'],
        path
      )
      t.equal(await stored(app, id), undefined)
      const creates = store.calls.filter(({ verb }) => verb === 'create')
      t.equal(creates.length, path === '/login' ? 1 : 0, 'no record but that of the login')
    }
  }
)

overStores(
  t,
  'P1: a session that expired while the connection was open is gone',
  async (t, over) => {
    const { app, url } = await chat(over)
    const id = await begin(app)
    const { ask } = await connect(t, `${url}/chat`, { cookie: `session_id=${id}` })
    await over.advance(3_600_000)
    t.same(await ask('write', 'save'), ['done', 'HOLDFAST_SESSION_GONE'])
  }
)

overStores(t, 'destroy() in a handler ends the session for everybody', async (t, over) => {
  const { app, url } = await chat(over)
  const browser = new Browser(app)
  await browser.get('/write/x')
  const { ask } = await connect(t, `${url}/chat`, {
    cookie: `session_id=${idIn(browser)}`
  })
  t.same(await ask('destroy', 'read'), ['done', {}])
  t.same((await browser.get('/read')).json(), {})
})

overStores(
  t,
  'S40: a handshake mints nothing, and a connection that is dropped leaves nothing behind',
  async (t, over) => {
    const rejections = unhandled(t)
    const { app, url, store, log } = await chat(over)
    for (const [asked, told] of [
      ['read', []],
      ['write', [/was not stored/]]
    ] as const) {
      const { socket, ask } = await connect(t, `${url}/chat`)
      await ask(asked)
      const [client] = app.websocketServer.clients
      const closed = once(client as WebSocket, 'close')
      socket.terminate()
      await closed
      for (let turn = 0; turn < 20; turn += 1) await nextTurn()
      t.same(store.taken(), [])
      t.equal(log.length, told.length, 'but a line for what it changed, and never saved')
      t.match(log, told)
      t.same(rejections, [])
    }
  }
)

overAnswers(
  t,
  'S40: a hook before the handshake sees the session, and can refuse, which mints nothing',
  async (t, over) => {
    const { app, url, store, opened } = await chat(over)
    const visitor = new Browser(app)
    const member = new Browser(app)
    await visitor.get('/write/x')
    await member.get('/login')
    for (const hook of hooks) {
      const path = `/members/${hook}`
      store.taken()
      const { headers, ...stranger } = await refusal(url + path)
      t.same(stranger, { status: 401, body: 'log in' }, hook)
      t.notMatch(headers, { 'set-cookie': Array })
      t.notMatch(headers, { 'x-session-id': String })
      t.same(store.taken(), [], hook)
      t.match(await refusal(url + path, cookieOf(visitor)), { status: 401, body: 'log in' }, hook)
      t.same(store.taken(), ['get', 'update'], hook)
      t.same((await visitor.get('/read')).json(), { a: 'x', b: hook })
      t.notOk(opened.includes(path), 'no socket was opened')
      const accepted = new WebSocket(url + path, { headers: cookieOf(member) })
      t.teardown(() => {
        accepted.terminate()
      })
      t.same(JSON.parse(String((await once(accepted, 'message'))[0])), { user: 'ada' })
    }
    t.same(
      opened,
      hooks.map((hook) => `/members/${hook}`)
    )
  }
)

/** What a handshake is answered that does not come off. */
async function refusal(
  url: string,
  carried: Record<string, string> = {}
): Promise<{ status: number | undefined; headers: IncomingHttpHeaders; body: string }> {
  const socket = new WebSocket(url, { headers: carried })
  socket.on('error', () => {})
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
  const { statusCode: status, headers } = response
  return { status, headers, body: await text(response) }
}

function cookieOf({ cookies }: Browser): { cookie: string } {
  return { cookie: `session_id=${cookies.get('session_id')}` }
}

overStores(t, 'injectWS, as tests of an app use it', async (t, over) => {
  const { app } = await over.serve()
  await app.register(websocket)
  app.get('/', { websocket: true }, (socket, { session }) => {
    socket.on('message', async () => {
      session.n = (session.n ?? 0) + 1
      await session.save()
      socket.send(String(session.n))
    })
  })
  const id = await begin(app)
  const socket = (await app.injectWS('/', {
    headers: { cookie: `session_id=${id}` }
  })) as unknown as WebSocket
  t.teardown(() => {
    socket.terminate()
  })
  for (const n of [1, 2]) {
    const answer = once(socket, 'message')
    socket.send('more')
    t.equal(String((await answer)[0]), String(n))
  }
  t.same(await stored(app, id), { a: 'old', n: 2 })
})

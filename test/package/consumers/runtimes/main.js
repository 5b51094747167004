// The main path, over sockets, on memory and on Redis: on whatever runtime this is run with, and on
// the Fastify that is named. `main.js fastify redis://…`
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'

import sessionPlugin, { MemoryStore } from 'fastify-holdfast'
import { RedisStore } from 'fastify-holdfast/redis'
import { createClient } from 'redis'

const [name, url] = process.argv.slice(2)
const { default: Fastify } = await import(name)

const client = createClient({ url })
await client.connect()
for (const store of [new MemoryStore(), new RedisStore({ client, prefix: `${Date.now()}:` })])
  await mainPath(store)
await client.close()
console.log('works')

async function mainPath(store) {
  const app = Fastify({ forceCloseConnections: true })
  await app.register(sessionPlugin, { store })
  const gate = new EventEmitter()
  let signal

  app.get('/', async ({ session }) => ({ ...session.data(), user: session.subject ?? 'nobody' }))
  app.post('/add', async ({ session }) =>
    session.update((draft) => (draft.items = (draft.items ?? 0) + 1))
  )
  app.post('/login', async ({ session }) => {
    const isRight = await session.signIn('ada', { verify: async () => true, keep: ['items'] })
    await session.save()
    ;({ signal } = await app.sessions.get(session.publicId))
    signal.throwIfAborted() // is listened to from here on
    return { isRight }
  })
  app.get('/slow', async ({ session }) => {
    gate.emit('reached')
    await once(gate, 'open')
    session.items = 99
    return {}
  })
  app.get('/devices', async ({ session }) => (await app.sessions.list(session.subject)).sessions)
  app.post('/logout', async ({ session }) => {
    await session.destroy()
    return {}
  })
  app.post('/everywhere', async ({ session }) => {
    await app.sessions.destroyAll(session.subject)
    return {}
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })

  const visitor = { cookie: '' }
  async function send(method, path, cookie = visitor.cookie) {
    const reply = await fetch(`${origin}${path}`, {
      method,
      headers: cookie === '' ? {} : { cookie }
    })
    assert.equal(reply.status, 200, `${method} ${path}: ${await reply.clone().text()}`)
    const [set] = reply.headers.getSetCookie()
    if (set !== undefined && cookie === visitor.cookie) visitor.cookie = set.split(';')[0]
    return reply.json()
  }

  assert.equal(await send('POST', '/add'), 1)
  const guest = visitor.cookie
  assert.match(guest, /^session_id=./)
  await Promise.all(Array.from({ length: 20 }, () => send('POST', '/add', guest)))
  assert.deepEqual(await send('GET', '/'), { items: 21, user: 'nobody' }, 'no increment is lost')

  assert.deepEqual(await send('POST', '/login'), { isRight: true })
  assert.notEqual(visitor.cookie, guest)
  assert.deepEqual(await send('GET', '/'), { items: 21, user: 'ada' })
  assert.deepEqual(await send('GET', '/', guest), { user: 'nobody' }, 'the old id opens nothing')
  assert.equal((await send('GET', '/devices')).length, 1)

  const signedIn = visitor.cookie
  const reached = once(gate, 'reached')
  const slow = send('GET', '/slow', signedIn)
  await reached
  await send('POST', '/logout')
  gate.emit('open')
  await slow
  assert.deepEqual(
    await send('GET', '/', signedIn),
    { user: 'nobody' },
    'the logout stays a logout'
  )

  visitor.cookie = ''
  await send('POST', '/login')
  const ended = signal.aborted ? undefined : once(signal, 'abort')
  const last = visitor.cookie
  await send('POST', '/everywhere')
  await ended
  assert.equal(signal.reason.code, 'HOLDFAST_SESSIONS_DESTROYED')
  assert.deepEqual(await send('GET', '/', last), { user: 'nobody' })
  await app.close()
}

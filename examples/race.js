// One app, on @fastify/session and on fastify-holdfast. Ada logs out while another of her requests
// waits for a slow database. What does her old cookie read once that request has finished?
import { EventEmitter, once } from 'node:events'

import cookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import Fastify from 'fastify'
import holdfast from 'fastify-holdfast'

const secret = 'at least 32 characters, as it asks'

await race('@fastify/session', async (app) => {
  await app.register(cookie)
  await app.register(fastifySession, { secret, cookie: { secure: false } })
})
await race('fastify-holdfast', async (app) => {
  await app.register(holdfast)
})

async function race(name, register) {
  const app = Fastify()
  await register(app)
  const database = new EventEmitter()

  app.get('/', async ({ session }) => session.user ?? 'nobody')
  app.post('/login', async ({ session }) => (session.user = 'ada'))
  app.post('/logout', async ({ session }) => {
    await session.destroy()
    return 'goodbye'
  })
  app.post('/add/fig', async ({ session }) => {
    const answer = once(database, 'answer')
    database.emit('query')
    await answer
    return (session.fruit = 'fig')
  })

  const [{ name: key, value }] = (await app.inject({ method: 'POST', url: '/login' })).cookies
  const send = async (method, url) =>
    (await app.inject({ method, url, cookies: { [key]: value } })).body

  const query = once(database, 'query')
  const slow = send('POST', '/add/fig')
  await query
  await send('POST', '/logout')
  database.emit('answer')
  await slow
  const says = 'logged out, then a slow request finished. The old cookie reads:'
  console.log(`${name.padEnd(18)} ${says} ${await send('GET', '/')}`)
}

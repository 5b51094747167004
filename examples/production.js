// An app that follows the production checklist of SECURITY.md; the numbers are its lines. It runs
// behind a TLS proxy on this machine: REDIS_URL=redis://localhost:6379 SESSION_SECRETS=$(openssl
// rand -base64 32) ADA_PASSWORD=… node examples/production.js
import { subscribe } from 'node:diagnostics_channel'

import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import sessionPlugin from 'fastify-holdfast'
import { RedisStore } from 'fastify-holdfast/redis'
import { createClient } from 'redis'

const { ADA_PASSWORD, PORT = '3000', REDIS_URL, SESSION_SECRETS } = process.env
if (REDIS_URL === undefined || SESSION_SECRETS === undefined)
  throw new Error(
    'Set REDIS_URL and SESSION_SECRETS, one or several separated by commas, newest first'
  )

const app = Fastify({
  trustProxy: 'loopback', // 1: the address of the proxy that ends TLS
  logger: { redact: ['req.headers.cookie', 'req.headers["x-session-id"]'] } // 13
})

const client = createClient({ url: REDIS_URL })
client.on('error', (err) => {
  app.log.error({ err }, 'Redis')
})
await client.connect()
app.addHook('onClose', () => {
  client.destroy()
})

await app.register(sessionPlugin, {
  sessionHeader: false, // 2: this app is for browsers
  sessionCookie: '__Host-session', // 3
  cookie: { secure: true, sameSite: 'lax' }, // 3
  secret: SESSION_SECRETS.split(','), // 4
  store: new RedisStore({ client }), // 5
  maxAge: 60 * 60, // 6: AAL2
  absoluteTimeout: 24 * 60 * 60, // 6: AAL2
  saveUninitialized: false // 7
})

await app.register(rateLimit, { global: false }) // 12

// 11: a request that changes something comes from a page of this very site. Browsers that send no
// Sec-Fetch-Site send Origin.
app.addHook('onRequest', async ({ headers, host, method }, reply) => {
  if (['GET', 'HEAD', 'OPTIONS'].includes(method)) return
  const site = headers['sec-fetch-site']
  const isOurs =
    site === undefined
      ? headers.origin === undefined || headers.origin === `https://${host}`
      : site === 'same-origin'
  if (!isOurs) return reply.code(403).send({ error: 'The request comes from another site' })
})

// 14
for (const event of ['rejected', 'fault', 'evicted']) {
  subscribe(`fastify-holdfast:${event}`, (message) => {
    app.log.warn({ event, ...message }, 'session event')
  })
}

/** Yours: a slow hash of the password, compared in constant time. */
const isRightPassword = (user, password) => user === 'ada' && password === ADA_PASSWORD

const credentials = {
  body: {
    type: 'object',
    required: ['user', 'password'],
    properties: { user: { type: 'string' }, password: { type: 'string' } }
  }
}

app.post(
  '/login',
  { schema: credentials, config: { rateLimit: { max: 5, timeWindow: '1 minute' } } },
  async ({ body, session }, reply) => {
    if (!isRightPassword(body.user, body.password))
      return reply.code(401).send({ error: 'Wrong user or password' })
    await session.regenerate() // 8
    session.user = body.user
    await client.sAdd(`sessions-of:${body.user}`, session.publicId) // 10
    return { user: session.user }
  }
)

app.post('/logout', async ({ session }) => {
  await session.destroy() // 9
  return { goodbye: true }
})

app.get('/me', async ({ session }, reply) => {
  reply.header('cache-control', 'no-store')
  return session.user === undefined
    ? reply.code(401).send({ error: 'Log in' })
    : { user: session.user }
})

// 10: as after a change of the password
app.post('/logout-elsewhere', async ({ session }, reply) => {
  const { publicId, user } = session
  if (user === undefined) return reply.code(401).send({ error: 'Log in' })
  const others = (await client.sMembers(`sessions-of:${user}`)).filter(
    (other) => other !== publicId
  )
  const ended = await Promise.all(others.map((other) => app.sessions.destroy(other)))
  if (others.length > 0) await client.sRem(`sessions-of:${user}`, others)
  return { ended: ended.filter(Boolean).length }
})

app.get('/health', { config: { session: false } }, async () => ({ ok: true })) // 7

// 15: what is under way is answered and committed
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())

await app.listen({ port: Number(PORT) })

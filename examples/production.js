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
  saveUninitialized: false, // 7
  subjectSessions: { max: 20, whenFull: 'end-oldest' } // 10
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

/** Yours: slow hashes of the passwords, compared in constant time. */
const passwords = new Map([['ada', ADA_PASSWORD]])
const isRightPassword = (user, password) => passwords.get(user) === password

/** The schema of a body with these fields. */
const strings = (...fields) => ({
  body: {
    type: 'object',
    required: fields,
    properties: Object.fromEntries(
      fields.map((field) => [field, { type: 'string', minLength: 1, maxLength: 200 }])
    )
  }
})

const limited = { rateLimit: { max: 5, timeWindow: '1 minute' } } // 12

app.post(
  '/login',
  { schema: strings('user', 'password'), config: limited },
  async ({ body: { user, password }, headers, session }, reply) => {
    const isRight = await session.signIn(user, {
      verify: () => isRightPassword(user, password), // 8
      info: { browser: headers['user-agent']?.slice(0, 200) } // 10
    })
    return isRight ? { user } : reply.code(401).send({ error: 'Wrong user or password' })
  }
)

app.post('/logout', async ({ session }) => {
  await session.destroy() // 9
  return { goodbye: true }
})

app.register(async (app) => {
  app.addHook('preHandler', async ({ session }, reply) => {
    reply.header('cache-control', 'no-store')
    if (session.subject === undefined) return reply.code(401).send({ error: 'Log in' })
  })

  app.get('/me', async ({ session }) => ({ user: session.subject }))

  // 10
  app.get('/sessions', async ({ session }) =>
    app.sessions.list(session.subject, { current: session })
  )

  // 10: who has not logged in lately confirms the password first
  const recently = { config: { session: { fresh: 15 * 60 } } }

  app.post('/sessions/:publicId/end', recently, async ({ params: { publicId }, session }) => {
    const found = await app.sessions.get(publicId)
    const isOwn = found?.subject === session.subject
    return { ended: isOwn && (await app.sessions.destroy(publicId)) }
  })

  app.post('/logout-elsewhere', recently, async ({ session }) => {
    await app.sessions.destroyAll(session.subject, { except: session })
    return { ended: true }
  })

  app.post(
    '/confirm',
    { schema: strings('password'), config: limited },
    async ({ body, session }, reply) => {
      const verify = () => isRightPassword(session.subject, body.password)
      return (await session.reauthenticate(verify)) // 8
        ? { confirmed: true }
        : reply.code(401).send({ error: 'Wrong password' })
    }
  )

  app.post(
    '/password',
    { schema: strings('password', 'next'), config: limited },
    async ({ body, session }, reply) => {
      const { subject } = session
      if (!(await session.reauthenticate(() => isRightPassword(subject, body.password))))
        return reply.code(401).send({ error: 'Wrong password' })
      passwords.set(subject, body.next) // first: a login with the old one then loses
      await app.sessions.destroyAll(subject, { except: session }) // 10
      return { changed: true }
    }
  )
})

app.get('/health', { config: { session: false } }, async () => ({ ok: true })) // 7

// 15: what is under way is answered and committed
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())

await app.listen({ port: Number(PORT) })

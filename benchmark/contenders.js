// Who is measured. Each is set up as its README says, behind the same routes, with a cookie of the
// same name.
import { hash, randomBytes, randomUUID } from 'node:crypto'

import fastifyCookie from '@fastify/cookie'
import Fastify from 'fastify'

import { connectRedis, cookieName, dataOf, hour, secret } from './common.js'
import { bareExpress, expressSession } from './express.js'

/** The routes of every app on Fastify: what is done with the session is the contender's. */
function routes(app, { read, write, login, seed, increment = write }) {
  app.get('/ignore', async () => ({ ok: true }))
  app.get('/read', async (request, reply) => ({ n: (await read(request, reply)) ?? null }))
  app.get('/write', async (request, reply) => ({ n: await write(request, reply) }))
  app.get('/increment', async (request, reply) => ({ n: await increment(request, reply) }))
  app.get('/login', async (request, reply) => ({ user: await login(request, reply) }))
  app.get('/seed/:bytes', async (request, reply) => ({
    ok: await seed(request, reply, dataOf(Number(request.params.bytes)))
  }))
  return app
}

/** For those whose session is an object with plain properties. */
const plain = {
  read: ({ session }) => session.n,
  write: ({ session }) => (session.n = (session.n ?? 0) + 1),
  async login(request) {
    await request.session.regenerate()
    return (request.session.user = 'ada')
  },
  seed({ session }, _reply, data) {
    Object.assign(session, data)
  }
}

async function bare() {
  const nothing = () => 0
  return routes(Fastify(), { read: nothing, write: nothing, login: nothing, seed: nothing })
}

/**
 * What no session can do without: it parses one cookie and sets one. On Redis, with so many bare
 * calls of the client: 1 reads, 2 read and write.
 */
async function floor({ redis, calls = 0 }) {
  const app = Fastify()
  await app.register(fastifyCookie)
  app.addHook('onRequest', function setOne(request, reply, done) {
    reply.setCookie(cookieName, request.cookies[cookieName] ?? randomUUID(), {
      path: '/',
      httpOnly: true,
      sameSite: 'lax',
      maxAge: hour
    })
    done()
  })
  if (calls > 0)
    app.addHook('onRequest', async () => {
      await redis.get('floor')
    })
  if (calls > 1)
    app.addHook('onSend', async () => {
      await redis.set('floor', 'what a session holds', { expiration: { type: 'EX', value: hour } })
    })
  const nothing = () => 0
  return routes(app, { read: nothing, write: nothing, login: nothing, seed: nothing })
}

/**
 * The least that a server-side session can do: finds its id in the cookie, hashes it, parses the
 * data when it is asked for, and serialises it to see what has changed. No expiry, no bound, no
 * versions, no merge, no header, no signature.
 */
async function least() {
  const app = Fastify()
  const stored = new Map()
  const keyOf = (id) => hash('sha256', id, 'base64url')
  app.decorateRequest('sessionId', null)
  app.decorateRequest('sessionText', null)
  app.decorateRequest('sessionData', null)
  app.decorateRequest('session', {
    getter() {
      return (this.sessionData ??=
        this.sessionText === undefined ? {} : JSON.parse(this.sessionText))
    }
  })
  app.addHook('onRequest', function resolve(request, _reply, done) {
    request.sessionId = /(?:^|; )session_id=([^;]*)/.exec(request.headers.cookie)?.[1]
    request.sessionText =
      request.sessionId === undefined ? undefined : stored.get(keyOf(request.sessionId))
    done()
  })
  app.addHook('onSend', function commit(request, reply, _payload, done) {
    if (request.sessionData !== null) {
      const text = JSON.stringify(request.sessionData)
      if (text !== request.sessionText) {
        request.sessionId ??= randomUUID()
        stored.set(keyOf(request.sessionId), text)
        reply
          .header(
            'set-cookie',
            `${cookieName}=${request.sessionId}; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax`
          )
          .header('cache-control', 'private')
      }
      reply.header('vary', 'Cookie')
    }
    done()
  })
  return routes(app, {
    ...plain,
    login(request) {
      stored.delete(keyOf(request.sessionId))
      request.sessionId = undefined
      request.sessionText = undefined
      request.sessionData = { user: 'ada' }
      return 'ada'
    }
  })
}

async function holdfast({
  redis,
  dist = new URL('../dist/', import.meta.url).href,
  logger = false,
  ...options
}) {
  const { sessionPlugin } = await import(`${dist}lib/index.js`)
  const app = Fastify({ logger })
  let store
  if (redis !== undefined) {
    const { RedisStore } = await import(`${dist}lib/stores/redis.js`)
    store = new RedisStore({ client: redis })
  }
  await app.register(sessionPlugin, { ...(store && { store }), ...options })
  let subjects = 0
  app.get('/sign-in', async ({ session }) => {
    await session.signIn(String((subjects += 1)))
    return { n: (session.n = 1) }
  })
  return routes(app, {
    ...plain,
    increment: ({ session }) => session.update((draft) => (draft.n = (draft.n ?? 0) + 1))
  })
}

async function fastifySession({ redis, ...options }) {
  const { default: plugin } = await import('@fastify/session')
  const app = Fastify()
  await app.register(fastifyCookie)
  await app.register(plugin, {
    secret,
    cookieName,
    cookie: { secure: false, maxAge: hour * 1000 },
    ...(await connectRedis(redis)),
    ...options
  })
  return routes(app, plain)
}

async function secureSession() {
  const { default: plugin } = await import('@fastify/secure-session')
  const app = Fastify()
  await app.register(plugin, {
    key: randomBytes(32),
    cookieName,
    expiry: hour,
    cookie: { path: '/', httpOnly: true }
  })
  return routes(app, {
    read: ({ session }) => session.get('n'),
    write({ session }) {
      session.set('n', (session.get('n') ?? 0) + 1)
      return session.get('n')
    },
    login({ session }) {
      session.regenerate()
      session.set('user', 'ada')
      return session.get('user')
    },
    seed({ session }, _reply, data) {
      for (const key of Object.keys(data)) session.set(key, data[key])
    }
  })
}

async function ironSession() {
  const { getIronSession } = await import('iron-session')
  const sessionOf = ({ raw }, reply) =>
    getIronSession(raw, reply.raw, {
      password: secret,
      cookieName,
      ttl: hour,
      cookieOptions: { secure: false }
    })
  return routes(Fastify(), {
    read: async (request, reply) => (await sessionOf(request, reply)).n,
    async write(request, reply) {
      const session = await sessionOf(request, reply)
      session.n = (session.n ?? 0) + 1
      await session.save()
      return session.n
    },
    async login(request, reply) {
      const session = await sessionOf(request, reply)
      for (const key of Object.keys(session)) delete session[key]
      session.user = 'ada'
      await session.save()
      return session.user
    },
    async seed(request, reply, data) {
      const session = await sessionOf(request, reply)
      Object.assign(session, data)
      await session.save()
    }
  })
}

/**
 * `most`: bytes of data that fit. `by`: on what the client sends its id. `slow`: how many times as
 * long a request takes, so that a sample has fewer.
 */
export const contenders = {
  'Fastify, bare': { make: bare, sessions: false, most: Infinity },
  floor: { make: floor, sessions: false, most: Infinity },
  'floor, GET': { make: floor, options: { calls: 1 }, sessions: false, most: Infinity },
  'floor, GET and SET': { make: floor, options: { calls: 2 }, sessions: false, most: Infinity },
  'the least': { make: least, most: Infinity },
  holdfast: { make: holdfast, most: Infinity },
  'holdfast, header': { make: holdfast, by: 'header', most: Infinity },
  'holdfast, secret': { make: holdfast, options: { secret }, most: Infinity },
  // It notes what of a session was changed too late to be stored, to warn of it.
  'holdfast, logger': {
    make: holdfast,
    options: { logger: { level: 'warn', stream: { write() {} } } },
    most: Infinity
  },
  'holdfast, touching every time': { make: holdfast, options: { touchAfter: 0 }, most: Infinity },
  // To compare two builds: HOLDFAST_BEFORE is the address of the other's dist folder,
  // file:///…/dist/
  'holdfast, before': {
    make: holdfast,
    options: { dist: process.env['HOLDFAST_BEFORE'] },
    most: Infinity
  },
  '@fastify/session': { make: fastifySession, most: Infinity },
  '@fastify/session, not rolling': {
    make: fastifySession,
    options: { rolling: false },
    most: Infinity
  },
  '@fastify/secure-session': { make: secureSession, clientSide: true, most: 2000 },
  'iron-session': { make: ironSession, clientSide: true, slow: 4, most: 2000 },
  'Express, bare': { make: bareExpress, express: true, sessions: false, slow: 2, most: Infinity },
  'express-session': { make: expressSession, express: true, slow: 2, most: Infinity }
}

/**
 * What a visitor sends next, after such a reply: the cookie, or the header if that is what it
 * speaks.
 */
export function follow(sent, { 'set-cookie': cookies, 'x-session-id': id }) {
  if (sent['x-session-id'] !== undefined)
    return { ...sent, 'x-session-id': id ?? sent['x-session-id'] }
  const cookie = [cookies ?? []]
    .flat()
    .find((each) => each.startsWith(`${cookieName}=`))
    ?.split(';', 1)[0]
  return cookie === undefined ? sent : { ...sent, cookie }
}

/** Those that are compared with each other on memory. */
export function onMemory() {
  return Object.keys(contenders).filter((name) => {
    if (name === 'holdfast, before') return process.env['HOLDFAST_BEFORE'] !== undefined
    return !name.startsWith('floor, GET')
  })
}

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Readable } from 'node:stream'

import type {
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  LightMyRequestResponse,
  RouteShorthandOptions
} from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import type { SessionEvents } from '../lib/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, logInto, serve, setCookies, stored } from './helpers/serve.ts'

type Committed = SessionEvents['committed']

/** Collects the commits that are published while a test runs. */
function commits(t: Test): Committed[] {
  const messages: Committed[] = []
  const note = (message: unknown): void => {
    messages.push(message as Committed)
  }
  subscribe('fastify-holdfast:committed', note)
  t.teardown(() => {
    unsubscribe('fastify-holdfast:committed', note)
  })
  return messages
}

interface Line {
  readonly level: number
  readonly msg: string
  readonly session?: string
  readonly err?: { readonly code: string }
}

/** Takes the lines of a log that tell of a lost commit. */
function lossesIn(log: string[]): Line[] {
  return log
    .splice(0)
    .map((line) => JSON.parse(line) as Line)
    .filter(({ msg }) => msg.includes('could not be committed'))
}

/** Takes the lines of a log that have an error of the store. */
function failuresIn(log: string[]): Line[] {
  return log
    .splice(0)
    .map((line) => JSON.parse(line) as Line)
    .filter(({ err }) => err?.code === 'HOLDFAST_STORE_FAILED')
}

/** Runs a test once over every store, and over one that answers later. */
function overStores(t: Test, name: string, test: (t: Test, over: Over) => Promise<void>): void {
  overEach([...backends, later], t, name, test)
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

/** How an app replies with an error, and what then goes out. */
const replies: Readonly<
  Record<
    string,
    {
      readonly handler: Handler
      readonly options?: RouteShorthandOptions
      readonly status: number
      readonly body: string | RegExp
    }
  >
> = {
  'a refusal': {
    handler: async (_request, reply) => reply.code(401).send({ refused: true }),
    status: 401,
    body: '{"refused":true}'
  },
  'an error that the handler throws': {
    handler: async () => {
      throw new Error("the handler's own")
    },
    status: 500,
    body: /"message":"the handler's own"/
  },
  'the page of an error handler': {
    handler: async () => {
      throw new Error("the handler's own")
    },
    options: { errorHandler: (_error, _request, reply) => reply.code(422).send('handled') },
    status: 422,
    body: 'handled'
  },
  'what is not found': {
    handler: async (_request, reply) => reply.callNotFound(),
    status: 404,
    body: 'nothing here'
  },
  'a stream': {
    handler: async (_request, reply) => reply.code(403).send(Readable.from(['not', ' you'])),
    status: 403,
    body: 'not you'
  },
  'a web Response': {
    handler: async () => new Response('not you', { status: 403 }),
    status: 403,
    body: 'not you'
  }
}

const own = {
  'cache-control': 'public, max-age=60',
  etag: '"1"',
  'www-authenticate': 'Basic',
  'set-cookie': 'theme=dark'
}

function urlOf(name: string): string {
  return `/${name.replaceAll(' ', '-')}`
}

/** Adds a route for each reply, which does something to its session first. */
function addReplies(app: FastifyInstance, act: Handler): void {
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).send('nothing here'))
  for (const [name, { handler, options }] of Object.entries(replies)) {
    app.get(urlOf(name), { ...options }, async (request, reply) => {
      reply.headers(own)
      await act(request, reply)
      return handler(request, reply)
    })
  }
}

/** That a reply is the app's to the letter, and has nothing of the session. */
function isOwn(t: Test, reply: LightMyRequestResponse, name: string): void {
  const { status, body } = replies[name] as (typeof replies)[string]
  t.equal(reply.statusCode, status, name)
  t.match(reply.body, body, name)
  t.same(carriedBy(reply), { header: undefined, cookie: undefined }, name)
  t.same(setCookies(reply), ['theme=dark'], name)
  for (const [header, value] of Object.entries(own))
    if (header !== 'set-cookie') t.equal(reply.headers[header], value, `${name}: ${header}`)
}

overStores(
  t,
  'P13, S28: a commit that fails under an error of the app leaves it as it is, and is told',
  async (t, { serve, store, breakDown }) => {
    const messages = commits(t)
    const log: string[] = []
    const { app } = await serve({}, { logger: logInto(log) })
    addReplies(app, async ({ session }) => {
      session.a = 'new'
      breakDown()
    })
    const { intercept } = store
    const id = await begin(app)
    for (const name of Object.keys(replies)) {
      for (const headers of [{}, { 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
        messages.length = 0
        const reply = await app.inject({ url: urlOf(name), headers })
        store.intercept = intercept
        isOwn(t, reply, name)
        t.match(messages, [{ sessionName: 'session', outcome: 'lost' }], name)
        t.equal(messages.length, 1)
        const { session } = messages[0] as Committed
        if (Object.keys(headers).length > 0) t.equal(session, app.sessions.publicIdOf(id))
        t.notOk(log.join('').includes(id), 'S38')
        t.match(
          lossesIn(log),
          [{ level: 50, session, err: { code: 'HOLDFAST_STORE_FAILED' } }],
          name
        )
        t.same(await stored(app, id), { a: 'old' })
      }
    }
    const head = await app.inject({ method: 'HEAD', url: urlOf('a refusal') })
    t.same([head.statusCode, head.body, setCookies(head)], [401, '', ['theme=dark']])
  }
)

overStores(
  t,
  'S28: with replaceErrorReplies a failed commit is the reply, whatever the app replied',
  async (t, { serve, store, breakDown }) => {
    const messages = commits(t)
    const log: string[] = []
    const { app } = await serve({ replaceErrorReplies: true }, { logger: logInto(log) })
    addReplies(app, async ({ session }) => {
      session.a = 'new'
      breakDown()
    })
    const { intercept } = store
    const id = await begin(app)
    for (const name of Object.keys(replies)) {
      for (const headers of [{}, { 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
        messages.length = 0
        const reply = await app.inject({ url: urlOf(name), headers })
        store.intercept = intercept
        t.equal(reply.statusCode, 503, name)
        t.match(reply.json(), { statusCode: 503, code: 'HOLDFAST_STORE_FAILED' }, name)
        t.same(carriedBy(reply), { header: undefined, cookie: undefined }, name)
        t.same(setCookies(reply), ['theme=dark'], name)
        t.equal(reply.headers['cache-control'], 'private', 'another cookie is on it')
        t.equal(reply.headers.etag, undefined, name)
        t.match(messages, [{ outcome: 'failed' }], name)
        t.equal(messages.length, 1)
        t.same(await stored(app, id), { a: 'old' })
        t.same(
          failuresIn(log).map(({ level }) => level),
          [50],
          `${name}: the log says it once`
        )
      }
    }
  }
)

/** How a request changes its session so that the commit fails, and what by. */
const failures: Readonly<Record<string, { act: Handler; code: string; level: number }>> = {
  'an operation that nobody awaits': {
    act: async ({ session }) => {
      void session.destroy()
    },
    code: 'HOLDFAST_STORE_FAILED',
    level: 50
  },
  'data that is too large': {
    act: async ({ session }) => {
      session.a = 'x'.repeat(65_536)
    },
    code: 'HOLDFAST_DATA_TOO_LARGE',
    level: 50
  },
  'data that cannot be kept': {
    act: async ({ session }) => {
      session.set('a', new Map() as never)
    },
    code: 'HOLDFAST_DATA_UNSERIALIZABLE',
    level: 50
  },
  'a move of a session that has ended': {
    act: async ({ session, server }) => {
      const { publicId } = session
      await session.regenerate()
      session.user = 'ada'
      await server.sessions.destroy(publicId)
    },
    code: 'HOLDFAST_SESSION_GONE',
    level: 30
  }
}

for (const [name, { act, code, level }] of Object.entries(failures)) {
  overStores(
    t,
    `S28: an error of the app stays as it is if the commit fails by ${name}`,
    async (t, { serve, store }) => {
      const messages = commits(t)
      const log: string[] = []
      for (const replaceErrorReplies of [false, true]) {
        const { app } = await serve({ replaceErrorReplies }, { logger: logInto(log, 'info') })
        addReplies(app, act)
        const { intercept } = store
        const id = await begin(app)
        if (code === 'HOLDFAST_STORE_FAILED')
          store.intercept = (call, pass) => {
            if (call.verb === 'delete') throw new Error('the store is down')
            return pass()
          }
        messages.length = 0
        const reply = await app.inject({
          url: urlOf('a refusal'),
          headers: { cookie: `session_id=${id}` }
        })
        store.intercept = intercept
        const losses = lossesIn(log)
        if (replaceErrorReplies) {
          const { code: told, statusCode } = reply.json()
          const status = { 50: 500, 30: 409 }[level]
          t.same([told, statusCode], [code, code === 'HOLDFAST_STORE_FAILED' ? 503 : status])
          t.equal(reply.statusCode, statusCode)
          t.same(losses, [])
        } else {
          isOwn(t, reply, 'a refusal')
          t.match(losses, [{ level, err: { code } }])
          t.equal(losses.length, 1)
        }
        t.match(messages.at(-1), { outcome: replaceErrorReplies ? 'failed' : 'lost' })
      }
    }
  )
}

overEach(
  [later],
  t,
  'S28: the status that counts is that of the moment of the commit, whoever has set it',
  async (t, { store, clock, breakDown }) => {
    const statusOnSend = (app: FastifyInstance): void => {
      app.addHook('onSend', async (request, reply) => {
        if (request.url === '/before') reply.code(418)
      })
    }
    const { app } = await serve(t, { store, clock }, {}, statusOnSend)
    app.addHook('onSend', async (request, reply) => {
      if (request.url === '/after') reply.code(418)
    })
    for (const url of ['/before', '/after']) {
      app.get(url, async ({ session }) => {
        session.a = 'new'
        breakDown()
        return 'a teapot'
      })
    }
    const kept = await app.inject('/before')
    t.same([kept.statusCode, kept.body], [418, 'a teapot'])
    t.same(carriedBy(kept), { header: undefined, cookie: undefined })
    const replaced = await app.inject('/after')
    t.equal(replaced.json().code, 'HOLDFAST_STORE_FAILED', 'it was a success until then')
  }
)

overStores(
  t,
  'P8: the new id of a move that save() has made stays on the error, for the old id is dead',
  async (t, { serve, breakDown }) => {
    const { app } = await serve()
    app.get('/', async ({ session }, reply) => {
      await session.regenerate()
      session.user = 'ada'
      await session.save()
      session.a = 'new'
      breakDown()
      return reply.code(401).send('one more factor')
    })
    const headers = { cookie: `session_id=${await begin(app)}` }
    const reply = await app.inject({ url: '/', headers })
    t.same([reply.statusCode, reply.body], [401, 'one more factor'])
    t.match(carriedBy(reply).cookie, /./)
  }
)

t.test('a stream that replaceErrorReplies replaces is destroyed', async (t) => {
  const { app, store } = await serve(t, { replaceErrorReplies: true })
  const stream = new Readable({ read() {} })
  app.get('/', async ({ session }, reply) => {
    session.a = 'new'
    return reply.code(403).send(stream)
  })
  store.intercept = () => {
    throw new Error('the store is down')
  }
  t.equal((await app.inject('/')).statusCode, 503)
  t.equal(stream.destroyed, true)
})

t.test("an error that is none of the plugin's replaces a reply as a 500", async (t) => {
  const lines: string[] = []
  const { app } = await serve(t, { replaceErrorReplies: true }, { logger: logInto(lines, 'debug') })
  app.get('/', async (request, reply) => {
    request.session.a = 'new'
    Object.assign(reply.log, {
      debug: () => {
        throw new Error('the disk of the log is full')
      }
    })
    return reply.code(401).send('no')
  })
  const reply = await app.inject('/')
  t.same([reply.statusCode, reply.json().message], [500, 'the disk of the log is full'])
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
})

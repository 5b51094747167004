import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

import Fastify from 'fastify'
import t from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore, SessionError, type SessionOptions } from '../lib/index.ts'
import { PostgresStore } from '../lib/stores/postgres.ts'
import { RedisStore } from '../lib/stores/redis.ts'
import { TestClock } from '../lib/testing/index.ts'

/** What registration throws. */
async function refusal(options: unknown): Promise<SessionError> {
  const app = Fastify()
  try {
    await app.register(sessionPlugin, options as SessionOptions)
    await app.ready()
  } catch (error) {
    return error as SessionError
  } finally {
    await app.close()
  }
  throw new Error('registration accepts the options')
}

function withoutVerb(verb: string): object {
  const names = ['get', 'create', 'update', 'touch', 'delete'].filter((name) => name !== verb)
  return Object.fromEntries(names.map((name) => [name, () => undefined]))
}

let count = 0

interface Refused {
  /** What the message must say. */
  readonly cure: RegExp
  readonly values: readonly unknown[]
}

/** What is refused, option by option. */
const refused: Readonly<Record<string, Refused>> = {
  sessionName: { cure: /name/, values: ['', 'two words', '1st', 'a-b', 7, null] },
  sessionHeader: {
    cure: /name.*false/,
    values: ['', 'X Session', 'X:Y', 'é', 'X\r\nY', true, null, 7, 'Cookie', 'set-cookie']
  },
  sessionCookie: {
    cure: /name.*false/,
    values: ['', 'a b', 'a=b', 'a;b', 'a,b', 'a"b', 'é', 'a\tb', '(a)', true, null, 7]
  },
  maxAge: {
    cure: /integer.*34560000/,
    values: [0, -1, 1.5, 34_560_001, NaN, Infinity, '3600', null, false, true]
  },
  absoluteTimeout: { cure: /positive.*false/, values: [0, -1, NaN, Infinity, '30', null, true] },
  touchAfter: {
    cure: /less than maxAge/,
    values: [-1, 3600, 3601, NaN, Infinity, '60', null, false]
  },
  cookie: { cure: /object/, values: [null, 'path=/', 7, true] },
  store: {
    cure: /get, create, update, touch, delete/,
    values: [null, 7, {}, Map, ...['get', 'create', 'update', 'touch', 'delete'].map(withoutVerb)]
  },
  storeTimeout: { cure: /positive/, values: [0, -1, NaN, Infinity, '2', null, false, 2_147_484] },
  secret: {
    cure: /string or Buffer.*32 bytes.*openssl rand/,
    values: [
      '',
      'x'.repeat(31),
      'é'.repeat(15),
      Buffer.alloc(31),
      [],
      ['x'.repeat(32), 'short'],
      [[]],
      7,
      null,
      true,
      {},
      [undefined]
    ]
  },
  generateId: { cure: /function/, values: ['uuid', null, {}, false] },
  saveUninitialized: { cure: /true or false/, values: [0, 1, 'false', null] },
  mirror: { cure: /true or false/, values: [0, 1, 'false', null] },
  replaceErrorReplies: { cure: /true or false/, values: [0, 1, 'false', null] },
  adoptUnknownIds: { cure: /false.*function/, values: [true, 'yes', null, {}, /x/] },
  serializer: {
    cure: /stringify.*parse/,
    values: [
      null,
      'json',
      {},
      { stringify: JSON.stringify },
      { parse: JSON.parse },
      { stringify: (data: object) => Buffer.from(JSON.stringify(data)), parse: JSON.parse },
      {
        stringify: (data: object) => `${JSON.stringify(data)}${' '.repeat((count += 1))}`,
        parse: JSON.parse
      },
      { stringify: JSON.stringify, parse: () => ({}) },
      {
        stringify: JSON.stringify,
        parse() {
          throw new Error('never')
        }
      }
    ]
  },
  maxBytes: { cure: /positive integer/, values: [0, -1, 1.5, NaN, Infinity, '65536', null] },
  clock: { cure: /now.*setTimeout/, values: [null, Date, {}, 7] },
  nonsense: { cure: /there is no option nonsense/, values: [true, undefined] },
  cookieName: { cure: /is called sessionCookie/, values: ['sid'] },
  rolling: { cure: /is not needed/, values: [true] }
}

for (const [option, { cure, values }] of Object.entries(refused)) {
  t.test(`a wrong ${option} is refused at registration, with the cure`, async (t) => {
    for (const value of values) {
      const error = await refusal({ [option]: value })
      t.ok(error instanceof SessionError, `${JSON.stringify(value)}: ${error.message}`)
      t.equal(error.code, 'HOLDFAST_OPTION_INVALID')
      t.match(error.message, new RegExp(`\\b${option}\\b`))
      t.match(error.message, cure)
    }
  })
}

/** The same for the attributes of the cookie. */
const attributes: Readonly<Record<string, Refused>> = {
  domain: { cure: /host/, values: ['', 'a;b', 'a b', 'a\nb', 'exämple.com', 7, null, true] },
  path: {
    cure: /begins with \//,
    values: ['', 'shop', '/a;b', '/a\u0000b', '/a\u007fb', '/é', 7, null]
  },
  httpOnly: { cure: /true or false/, values: [1, 'true', null] },
  sameSite: { cure: /'strict', 'lax' or 'none'/, values: ['Lax', 'always', '', false, null] },
  secure: { cure: /'auto'/, values: [1, 'true', null] },
  partitioned: { cure: /true or false/, values: [1, 'yes', null] },
  priority: { cure: /'low', 'medium' or 'high'/, values: ['High', 'urgent', 1, null] },
  persistent: { cure: /true or false/, values: [1, 'no', null] },
  maxAge: { cure: /maxAge/, values: [60] },
  expires: { cure: /maxAge/, values: [new Date()] },
  signed: { cure: /the option secret signs/, values: [true] },
  nonsense: { cure: /attributes are/, values: [1] }
}

for (const [attribute, { cure, values }] of Object.entries(attributes)) {
  t.test(`S29: a wrong cookie.${attribute} is refused, with the cure`, async (t) => {
    for (const value of values) {
      const error = await refusal({ cookie: { [attribute]: value } })
      t.equal(error.code, 'HOLDFAST_OPTION_INVALID', `${String(value)}: ${error.message}`)
      t.match(error.message, `cookie.${attribute}`)
      t.match(error.message, cure)
    }
  })
}

const combinations: ReadonlyArray<[name: string, options: SessionOptions, message: RegExp]> = [
  ['no transport', { sessionHeader: false, sessionCookie: false }, /sessionHeader.*sessionCookie/],
  ['SameSite=None with secure auto', { cookie: { sameSite: 'none' } }, /cookie\.secure.*true/],
  [
    'SameSite=None without secure',
    { cookie: { sameSite: 'none', secure: false } },
    /cookie\.secure.*true/
  ],
  ['Partitioned with secure auto', { cookie: { partitioned: true } }, /cookie\.secure.*true/],
  [
    'Partitioned without secure',
    { cookie: { partitioned: true, secure: false } },
    /cookie\.secure.*true/
  ],
  ['__Secure- with secure auto', { sessionCookie: '__Secure-id' }, /cookie\.secure.*true/],
  [
    '__Secure- without secure',
    { sessionCookie: '__Secure-id', cookie: { secure: false } },
    /cookie\.secure.*true/
  ],
  ['__Host- with secure auto', { sessionCookie: '__Host-id' }, /cookie\.secure.*true/],
  [
    '__Host- with a path',
    { sessionCookie: '__Host-id', cookie: { secure: true, path: '/shop' } },
    /cookie\.path.*__Host-/
  ],
  [
    '__Host- with a domain',
    { sessionCookie: '__Host-id', cookie: { secure: true, domain: 'example.com' } },
    /cookie\.domain.*__Host-/
  ],
  [
    'a look-alike of __Host-',
    { sessionCookie: '__host-id', cookie: { secure: true } },
    /sessionCookie.*__Host-/
  ],
  [
    'a look-alike of __Secure-',
    { sessionCookie: '__SECURE-id', cookie: { secure: true } },
    /sessionCookie.*__Secure-/
  ],
  [
    "an id of the client's choice that it would have to sign",
    { secret: 'x'.repeat(32), adoptUnknownIds: () => true },
    /adoptUnknownIds.*left out with secret/
  ],
  ['an hour in milliseconds', { maxAge: 3_600_000 }, /maxAge.*seconds.*2592000 seconds/],
  [
    'an idle lifetime that never counts',
    { maxAge: 3601, absoluteTimeout: 3600 },
    /maxAge.*seconds.*absoluteTimeout/
  ],
  ['a touch that a short life does not see', { maxAge: 60, touchAfter: 60 }, /touchAfter.*maxAge/]
]

for (const [name, options, message] of combinations) {
  t.test(`S29: ${name} is refused`, async (t) => {
    const error = await refusal(options)
    t.equal(error.code, 'HOLDFAST_OPTION_INVALID')
    t.match(error.message, message)
  })
}

const accepted: ReadonlyArray<
  SessionOptions & { prefix?: string; logLevel?: string; logSerializers?: object }
> = [
  {},
  { sessionCookie: '__Host-id', cookie: { secure: true } },
  { sessionCookie: '__Secure-id', cookie: { secure: true, path: '/shop', domain: 'example.com' } },
  { cookie: { secure: true, sameSite: 'none', partitioned: true, priority: 'low' } },
  { maxAge: 1 },
  { maxAge: 34_560_000, absoluteTimeout: false },
  { maxAge: 3600, absoluteTimeout: 3600 },
  { maxAge: 1, touchAfter: 0.5 },
  { touchAfter: 0 },
  { absoluteTimeout: false },
  { maxAge: 1, absoluteTimeout: 1.5 },
  { sessionHeader: false },
  { sessionCookie: false },
  { storeTimeout: 0.001 },
  { maxBytes: 1 },
  { sessionName: '$visit_2' },
  { adoptUnknownIds: false },
  { secret: 'x'.repeat(32) },
  { secret: 'é'.repeat(16) },
  { secret: Buffer.alloc(32) },
  { secret: new Uint8Array(64) },
  { secret: ['x'.repeat(32), Buffer.alloc(32)] },
  { prefix: '/shop' },
  { logLevel: 'warn' },
  { logSerializers: {} },
  { maxAge: undefined, cookie: undefined, store: undefined } as unknown as SessionOptions
]

t.test("what is right is accepted, and so are Fastify's own options", async (t) => {
  for (const options of accepted) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(sessionPlugin, options as SessionOptions)
    app.get('/', async (request) => 'a' in request[(options.sessionName ?? 'session') as 'session'])
    const reply = await app.inject('/')
    t.equal(reply.statusCode, 200, JSON.stringify(options))
  }
})

t.test('S29: a secret that is refused is not quoted', async (t) => {
  const error = await refusal({ secret: ['a-good-secret-of-more-than-32-bytes', 'a-short-secret'] })
  t.equal(error.code, 'HOLDFAST_OPTION_INVALID')
  t.notMatch(error.message, /a-good-secret|a-short-secret/)
})

t.test(
  'a frozen object of options is accepted and none is changed, not even its cookie',
  async (t) => {
    const options: SessionOptions = {
      clock: new TestClock(),
      store: new MemoryStore(),
      maxAge: 60,
      cookie: { sameSite: 'strict' }
    }
    const before = { ...options, cookie: { ...options.cookie } }
    for (const given of [
      options,
      Object.freeze({ ...options, cookie: Object.freeze({ ...options.cookie }) })
    ]) {
      const app = Fastify()
      t.teardown(() => app.close())
      await app.register(sessionPlugin, given)
      app.get('/', async ({ session }) => {
        session.options({ path: '/elsewhere' })
        session.a = 'x'
      })
      t.match(
        (await app.inject('/')).headers['set-cookie'],
        /Max-Age=60; Path=\/elsewhere; HttpOnly; SameSite=Strict/
      )
      t.strictSame(given, before)
    }
  }
)

t.test('what the caller changes afterwards changes nothing', async (t) => {
  const cookie: NonNullable<SessionOptions['cookie']> = { sameSite: 'strict' }
  const options: SessionOptions = { maxAge: 60, cookie }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, options)
  app.get('/', async ({ session }) => {
    session.a = 'x'
  })
  cookie.sameSite = 'lax'
  options.maxAge = 7
  t.match((await app.inject('/')).headers['set-cookie'], /Max-Age=60; .*SameSite=Strict/)
})

t.test('touchAfter is a minute, or a tenth of maxAge if that is less', async (t) => {
  for (const [maxAge, due] of [
    [3600, 60],
    [600, 60],
    [100, 10]
  ] as const) {
    const clock = new TestClock()
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(sessionPlugin, { clock, maxAge })
    app.get('/', async ({ session }) => {
      session.a = 'x'
    })
    const cookies = { session_id: (await app.inject('/')).cookies[0]?.value as string }
    clock.advance(due * 1000 - 1)
    t.equal((await app.inject({ url: '/', cookies })).headers['set-cookie'], undefined)
    clock.advance(1)
    t.ok((await app.inject({ url: '/', cookies })).headers['set-cookie'])
  }
})

t.test('a domain is accepted by the first registration of a process', async (t) => {
  const program = `
    import Fastify from 'fastify'
    import plugin from ${JSON.stringify(new URL('../lib/index.js', import.meta.url).href)}
    const app = Fastify()
    app.register(plugin, { cookie: { domain: 'example.com' } })
    console.log(await app.ready().then(() => 'accepted', ({ message }) => message))`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { timeout: 20_000 }
  )
  t.equal(stdout, 'accepted\n')
})

/** What users of other plugins may write, and what the error says. */
const ofPeers: ReadonlyArray<[options: object, message: string]> = [
  [{ cookieName: 'sid' }, 'cookieName is called sessionCookie here'],
  [{ name: 'sid' }, 'name is called sessionCookie here'],
  [{ session_cookie: 'sid' }, 'session_cookie is called sessionCookie here'],
  [{ max_age: 60 }, 'max_age is called maxAge here'],
  [{ genid: () => 'x' }, 'genid is called generateId here'],
  [{ idGenerator: () => 'x' }, 'idGenerator is called generateId here'],
  [{ ttl: 60 }, 'ttl is called maxAge (in seconds) here'],
  [{ expiry: 60 }, 'expiry is called absoluteTimeout here'],
  [{ saveUninitialised: false }, 'saveUninitialised is called saveUninitialized here'],
  [{ saveuninitialized: false }, 'saveuninitialized is called saveUninitialized here'],
  [{ rolling: true }, 'rolling is not needed: every use moves the expiry'],
  [{ resave: false }, 'resave is not needed: only what has changed is written'],
  [{ unset: 'destroy' }, 'unset is not needed: session.destroy()'],
  [{ proxy: true }, 'proxy is not needed: the option trustProxy of Fastify'],
  [{ cookiePrefix: 's:' }, 'cookiePrefix is not needed: the cookie has the id as it is'],
  [{ key: 'x' }, 'key is not needed: the data stays on the server'],
  [{ cookie: { maxAge: 3_600_000 } }, 'cookie.maxAge is the option maxAge here'],
  [{ cookie: { expires: new Date(0) } }, 'cookie.expires is not needed'],
  [{ constructor: 1 }, 'there is no option constructor; the options are sessionName, '],
  [{ cookie: { __proto__: null, toString: 1 } }, 'there is no attribute cookie.toString']
]

for (const [options, message] of ofPeers) {
  const name = JSON.stringify(options)
  t.test(`an option of another plugin is refused by the name it has here: ${name}`, async (t) => {
    const error = await refusal(options)
    t.equal(error.code, 'HOLDFAST_OPTION_INVALID')
    t.ok(error.message.startsWith(`A session option is wrong: ${message}`), error.message)
  })
}

t.test('an option of another store is refused, with what to do instead', async (t) => {
  const client = { eval: async () => null, sendCommand: async () => null }
  const pool = { query: async () => ({ rows: [], rowCount: 0 }) }
  for (const [make, message] of [
    [() => new MemoryStore({ ttl: 60 } as object), /: ttl is not needed/],
    [() => new RedisStore({ client, ttl: 60 } as never), /: ttl is not needed/],
    [() => new RedisStore({ client, disableTouch: true } as never), /: disableTouch is not needed/],
    [
      () => new PostgresStore({ pool, tableName: 's' } as never),
      /: tableName is called table here/
    ],
    [() => new PostgresStore({ pool, size: 3 } as never), /: there is no option size of the store/]
  ] as const) {
    t.throws(make, { code: 'HOLDFAST_OPTION_INVALID', message })
  }
})

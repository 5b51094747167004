import { readFileSync } from 'node:fs'

import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import { systemClock } from '../../lib/clock.ts'
import sessionPlugin, {
  type EndNotice,
  type SessionOptions,
  type SessionRecord,
  type SessionTrace
} from '../../lib/index.ts'
import { RedisStore, type RedisStoreOptions } from '../../lib/stores/redis.ts'
import { seedSession, TestClock } from '../../lib/testing/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { startProxy } from '../helpers/proxy.ts'
import {
  connect,
  redis,
  redisStore,
  redisUrl,
  skipOwnServer,
  skipRedis,
  startRedis
} from '../helpers/redis.ts'
import { logInto, serve } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'
import { waits } from '../helpers/waits.ts'

const hour = 3_600_000
const key = 'q1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyBg'

function record(over: Partial<SessionRecord> = {}): SessionRecord {
  const now = Date.now()
  return { data: '{"a":"old"}', version: 'v1', createdAt: now, expiresAt: now + hour, ...over }
}

function trace(over: Partial<SessionTrace> = {}): SessionTrace {
  return { successor: 'b'.repeat(43), version: 'v1', expiresAt: Date.now() + 600_000, ...over }
}

/** An app on the system's clock, which is the server's too. */
async function appOn(t: Test, options: SessionOptions): Promise<FastifyInstance> {
  return (await serve(t, { clock: systemClock, ...options })).app
}

function prefix(): string {
  return `test:${crypto.randomUUID()}:`
}

t.test(
  'S20: a session is one key, the prefix and the public id, which dies with it; the server holds no id',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const app = await appOn(t, { store: new RedisStore({ client, prefix: mine }) })
    const browser = new Browser(app)
    await browser.get('/write/value')
    const id = idIn(browser)
    const keys = await client.keys(`${mine}*`)
    t.same(keys, [mine + app.sessions.publicIdOf(id)])
    t.notMatch(`${keys} ${await client.get(keys[0])}`, id)
    const left = await client.pTTL(keys[0])
    t.ok(left <= hour && left > hour - 60_000, `lives ${left} ms`)
    await browser.get('/logout')
    t.same(await client.keys(`${mine}*`), [])
  }
)

t.test(
  'S21: sessions of two prefixes, and of two names under one prefix, are not interchangeable',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const one = await appOn(t, { store: new RedisStore({ client, prefix: mine }) })
    const others = [
      await appOn(t, { store: new RedisStore({ client, prefix: prefix() }) }),
      await appOn(t, {
        store: new RedisStore({ client, prefix: mine }),
        sessionName: 'session',
        sessionCookie: 'session_id'
      })
    ]
    const named = Fastify()
    t.teardown(() => named.close())
    await named.register(sessionPlugin, {
      store: new RedisStore({ client, prefix: mine }),
      sessionName: 'admin',
      sessionCookie: 'session_id',
      sessionHeader: false
    })
    named.get('/read', async (request) => ({ ...(request as unknown as { admin: object }).admin }))
    const browser = new Browser(one)
    await browser.get('/write/secret')
    const headers = { cookie: `session_id=${idIn(browser)}` }
    t.same((await others[0].inject({ url: '/read', headers })).json(), {}, 'another prefix')
    t.same(
      (await others[1].inject({ url: '/read', headers })).json(),
      { a: 'secret' },
      'the same prefix and name'
    )
    t.same((await named.inject({ url: '/read', headers })).json(), {}, 'another name')
  }
)

/** Has the server learn the scripts that are for subjects alone. */
async function learnSubjects({ subjects }: RedisStore): Promise<void> {
  const of = (letter: string): string => `${'s'.repeat(16)}.${letter.repeat(43)}`
  const stamp = await subjects.stamp('s'.repeat(16))
  await subjects.create(of('a'), record(), { stamp })
  await subjects.list('s'.repeat(16))
  await subjects.move(of('a'), record(), trace({ successor: of('b') }))
}

for (const library of ['redis', 'ioredis']) {
  for (const { what, url, roundTrips, options, before: first = '/write/old' } of waits) {
    t.test(
      `${what} waits for the server ${roundTrips === 1 ? 'once' : `${roundTrips} times`}, on ${library}`,
      { skip: skipRedis },
      async (t) => {
        const proxy = await startProxy(t, Number(new URL(await redisUrl()).port))
        const address = `redis://127.0.0.1:${proxy.port}`
        const client = library === 'redis' ? await connect(t, address) : new Redis(address)
        if (client instanceof Redis)
          t.teardown(() => {
            client.disconnect()
          })
        const store = new RedisStore({ client, prefix: prefix() })
        const app = await appOn(t, { store, ...options })
        const browser = new Browser(app)
        await browser.get(first)
        // The server learns each script from its first call.
        await store.create(key, record())
        await store.update(key, record({ version: 'v2' }), 'v1')
        await store.touch(key, 0)
        await store.delete(key)
        await store.retire(key, trace())
        await learnSubjects(store)
        const before = proxy.roundTrips
        t.equal((await browser.get(url)).statusCode, 200)
        t.equal(proxy.roundTrips - before, roundTrips)
      }
    )
  }
}

t.test(
  'a request that opted out, a 404 and one with an id of the wrong form ask the server nothing',
  { skip: skipRedis },
  async (t) => {
    const proxy = await startProxy(t, Number(new URL(await redisUrl()).port))
    const client = await connect(t, `redis://127.0.0.1:${proxy.port}`)
    const app = await appOn(t, { store: new RedisStore({ client, prefix: prefix() }) })
    app.get('/health', { config: { session: false } }, async () => 'ok')
    const before = proxy.roundTrips
    for (const url of ['/health', '/nowhere']) await app.inject({ url })
    await app.inject({ url: '/read', headers: { cookie: 'session_id=short' } })
    t.equal(proxy.roundTrips, before)
  }
)

t.test(
  'a server that has forgotten its scripts is told them again',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const client = await connect(t, server.url)
    const store = new RedisStore({ client })
    const verbs: ReadonlyArray<() => Promise<unknown>> = [
      async () => t.equal(await store.create(key, record()), true),
      async () => t.match(await store.get(key), { version: 'v1' }),
      async () => t.equal(await store.update(key, record({ version: 'v2' }), 'v1'), true),
      async () => t.ok(await store.touch(key, Date.now() + 2 * hour)),
      async () => t.equal(await store.retire(key, trace({ version: 'v2' })), true),
      async () => t.match(await store.delete(key), { version: 'v2', successor: 'b'.repeat(43) })
    ]
    for (const verb of verbs) {
      await client.scriptFlush()
      await verb()
    }
  }
)

t.test(
  'clocks of apps that are hours off do not matter: lives are counted by the server',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const [ahead, behind] = [
      new TestClock(Date.now() + 3 * hour),
      new TestClock(Date.now() - 3 * hour)
    ]
    const [one, other] = [ahead, behind].map(
      (clock) => new RedisStore({ client, prefix: mine, clock })
    )
    const given = record({ createdAt: ahead.now() - 60_000, expiresAt: ahead.now() + hour })
    t.equal(await one.create(key, given), true)
    const near = (actual: number | undefined, expected: number, what: string): void => {
      t.ok(
        actual !== undefined && Math.abs(actual - expected) < 10_000,
        `${what}: ${actual} is about ${expected}`
      )
    }
    const read = await other.get(key)
    t.equal((read as SessionRecord | undefined)?.createdAt, given.createdAt)
    near(read?.expiresAt, behind.now() + hour, 'expiresAt')
    t.equal(
      await other.update(
        key,
        record({ version: 'v2', createdAt: behind.now(), expiresAt: behind.now() + hour / 2 }),
        'v1'
      ),
      true
    )
    t.equal(((await one.get(key)) as SessionRecord | undefined)?.createdAt, given.createdAt)
    near((await one.get(key))?.expiresAt, given.expiresAt, 'expiresAt, which no write shortens')
    near(
      await other.touch(key, behind.now() + 2 * hour),
      behind.now() + 2 * hour,
      'what touch answers'
    )
    near(
      (await one.get(key))?.expiresAt,
      ahead.now() + 2 * hour,
      'expiresAt, after a touch by the other'
    )
    const left = trace({ version: 'v2', expiresAt: ahead.now() + 600_000 })
    t.equal(await one.retire(key, left), true)
    near(
      ((await other.delete(key)) as SessionTrace)?.expiresAt,
      behind.now() + 600_000,
      'expiresAt of a trace'
    )
  }
)

const forEver = { version: '', createdAt: Infinity, expiresAt: Infinity }

const foreign: Record<
  string,
  (client: Awaited<ReturnType<typeof redis>>, name: string) => Promise<unknown>
> = {
  'the session of another library': (client, name) =>
    client.set(name, '{"cookie":{"maxAge":3600}}', { EX: 3600 }),
  'a text without an expiry': (client, name) => client.set(name, '1764000000000  v1 {}'),
  'a text that begins like a trace': (client, name) =>
    client.set(name, '> somewhere', { EX: 3600 }),
  'a trace without an expiry': (client, name) => client.set(name, '> somewhere v0'),
  'an empty text': (client, name) => client.set(name, '', { EX: 3600 }),
  'a list': (client, name) => client.rPush(name, 'entry'),
  'a hash': (client, name) => client.hSet(name, 'version', 'v1')
}
for (const [what, put] of Object.entries(foreign)) {
  t.test(
    `S27: ${what} under the key of a session is not taken for none, and can be ended`,
    { skip: skipRedis },
    async (t) => {
      const client = await redis()
      const mine = prefix()
      const store = new RedisStore({ client, prefix: mine })
      await put(client, mine + key)
      const before = await client.dump(mine + key)
      await t.rejects(store.get(key), { code: 'HOLDFAST_DATA_UNDECODABLE' })
      t.same(await store.feed.look([key]), [forEver], 'nobody is told that it has ended')
      t.equal(await store.create(key, record()), false)
      t.equal(await store.update(key, record({ version: 'v2' }), 'v0'), false)
      t.equal(await store.retire(key, trace({ version: 'v0' })), false)
      t.same(await client.dump(mine + key), before)
      const app = await appOn(t, { store })
      const id = 'an-id-that-a-client-brings-along'
      await put(client, mine + app.sessions.publicIdOf(id))
      const headers = { cookie: `session_id=${id}` }
      const write = await app.inject({ url: '/write/new', headers })
      t.same([write.statusCode, write.cookies], [503, []])
      t.equal((await app.inject({ url: '/logout', headers })).statusCode, 200)
      t.equal(await client.exists(mine + app.sessions.publicIdOf(id)), 0)
      t.equal(await store.delete(key), true)
      t.equal(await store.delete(key), undefined)
    }
  )
}

/** The scripts of version 0.1.0. */
const old = {
  get: `local value = redis.call('GET', KEYS[1])
    if not value then return false end
    local time = redis.call('TIME')
    return { value, redis.call('PTTL', KEYS[1]), time[1], time[2] }`,
  create: `local life, age, head, data = unpack(ARGV)
    local time = redis.call('TIME')
    local createdAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - age)
    return redis.call('SET', KEYS[1], createdAt .. ' ' .. head .. data, 'NX', 'PX', life) and 1 or 0`,
  update: `local life, expected, head, data = unpack(ARGV)
    local createdAt, version = string.match(
      redis.call('GETRANGE', KEYS[1], 0, #expected + 40), '^(%d+) %S* (%S+) '
    )
    if version ~= expected then return 0 end
    redis.call(
      'SET', KEYS[1], createdAt .. ' ' .. head .. data,
      'PX', math.max(1, life, redis.call('PTTL', KEYS[1]))
    )
    return 1`,
  touch: `local life, left = tonumber(ARGV[1]), redis.call('PTTL', KEYS[1])
    if left < 0 then return false end
    if life <= left then return left end
    redis.call('PEXPIRE', KEYS[1], life)
    return life`,
  delete: `local value = redis.call('GET', KEYS[1])
    if not value then return false end
    redis.call('DEL', KEYS[1])
    return { value }`
}

/** The form of a record, as version 0.1.0 reads it. */
const oldRecord = /^(\d+) (\S*) (\S+) /

t.test(
  'a process of version 0.1.0 finds no record in a trace, and its records can be retired',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const store = new RedisStore({ client, prefix: mine })
    const call = (verb: keyof typeof old, ...args: string[]): Promise<unknown> =>
      client.eval(old[verb], { keys: [mine + key], arguments: args })
    for (const head of [' v1 ', '60 v1 ', ' v1;86400000!x ', '60 v1;0 ']) {
      t.equal(await call('create', '3600000', '0', head, ' {"a":"v1 "}'), 1)
      t.equal(await store.retire(key, trace({ version: 'v1;0' })), false)
      t.equal(await store.retire(key, trace({ version: '60' })), false)
      t.equal(await store.retire(key, trace()), true, `retired after "${head}"`)
      t.equal(await client.get(mine + key), `> ${'b'.repeat(43)} v1`, 'nothing of it is left')
      const [text] = (await call('get')) as string[]
      t.notMatch(text, oldRecord)
      for (const expected of ['v1', 'b'.repeat(43), '>', ''])
        t.equal(await call('update', '3600000', expected, ' v2 ', '{}'), 0, expected)
      t.equal(await call('create', '3600000', '0', ' w1 ', '{}'), 0)
      t.match(await store.get(key), { version: 'v1', successor: 'b'.repeat(43) })
      t.equal(await call('touch', '7200000'), 7_200_000, 'it makes a trace last longer')
      t.match(await store.get(key), { version: 'v1', successor: 'b'.repeat(43) })
      const [removed] = (await call('delete')) as string[]
      t.notMatch(removed, oldRecord, 'it ends a trace, and takes it for nothing')
      t.equal(await store.get(key), undefined)
    }
  }
)

t.test(
  'a user of the server who may do only what the page lists can keep sessions',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const admin = await connect(t, server.url)
    const page = readFileSync('docs/several-machines.md', 'utf8')
    const [all, signIns, ends] = [...page.matchAll(/^ {4}ACL .*$/gm)].map(([line]) =>
      line.trim().replace('>password', '>secret').split(' ')
    ) as [string[], string[], string[]]
    await admin.sendCommand(all)
    const client = createClient({ url: server.url, username: 'app', password: 'secret' })
    t.teardown(() => {
      client.destroy()
    })
    await client.connect()
    const store = new RedisStore({ client })
    t.equal(await store.create(key, record()), true)
    t.equal(await store.update(key, record({ version: 'v2' }), 'v1'), true)
    t.ok(await store.touch(key, Date.now() + 2 * hour))
    t.match(await store.get(key), { version: 'v2' })
    t.equal(await store.retire(key, trace({ version: 'v2' })), true)
    t.match(await store.delete(key), { version: 'v2' })
    await admin.del(`sess:${key}`)
    await store.create(key, record())
    t.match(await store.delete(key), { version: 'v1' })
    await store.create(key, record())
    t.equal(await store.retire(key, trace({ expiresAt: 0 })), true)
    t.equal(await admin.exists(`sess:${key}`), 0)

    await admin.sendCommand(signIns)
    const app = await appOn(t, { store })
    const headers = (): Promise<Record<string, string>> => seedSession(app, {}, { subject: 'ada' })
    await headers()
    t.equal((await app.sessions.list('ada')).sessions.length, 1)
    await app.sessions.destroyAll('ada')
    const { cookie } = await headers()
    await app.inject({ url: '/step-up-all', headers: { cookie } })
    await app.sessions.destroyEverything()
    t.same((await app.sessions.list('ada')).sessions, [])

    await admin.sendCommand(ends)
    const heard: EndNotice[] = []
    const stop = await store.feed.listen((notice) => heard.push(notice))
    while (heard.length === 0) await nextTurn()
    await store.create(key, record())
    await store.delete(key)
    while (heard.length === 1) await nextTurn()
    t.match(heard, [{}, { reason: 'destroyed', key }])
    await stop()
  }
)

t.test(
  'S38: what ioredis keeps on its errors of the command that failed does not reach a log',
  { skip: skipOwnServer },
  async (t) => {
    const server = await startRedis(t)
    const admin = await connect(t, server.url)
    const client = new Redis(server.url)
    t.teardown(() => {
      client.disconnect()
    })
    const lines: string[] = []
    const { app } = await serve(
      t,
      { clock: systemClock, store: new RedisStore({ client }) },
      { logger: logInto(lines, 'trace') }
    )
    app.setErrorHandler((error, request, reply) => {
      request.log.error({ err: error, cause: (error as Error).cause }, 'failed')
      return reply.code(503).send({})
    })
    await admin.configSet('maxmemory', '1')
    const reply = await app.inject({ url: '/write/the-secret-of-a-user' })
    t.equal(reply.statusCode, 503)
    t.match(lines.join(''), 'OOM', 'the cause is there')
    t.notMatch(lines.filter((line) => !line.includes('"req":')).join(''), 'the-secret-of-a-user')
  }
)

const wrong: Record<string, RedisStoreOptions> = {
  'client must be': { client: undefined as never },
  'client must be a client': { client: { get() {} } as never },
  'prefix must be a string': { client: { eval() {}, evalSha() {} } as never, prefix: 7 as never },
  'maxPending must be': { client: { eval() {}, evalSha() {} } as never, maxPending: 0 }
}
for (const [message, options] of Object.entries(wrong)) {
  t.test(`a wrong option is refused: ${message}`, async (t) => {
    t.throws(() => new RedisStore(options), { code: 'HOLDFAST_OPTION_INVALID', message })
  })
}

t.test(
  'the records of a store age by the clock of the test and of the server alike',
  { skip: skipRedis },
  async (t) => {
    const clock = new TestClock()
    const { store, advance } = await redisStore(clock)
    const given = { ...record(), createdAt: clock.now(), expiresAt: clock.now() + hour }
    await store.create(key, given)
    await advance(hour / 2)
    t.ok(Math.abs(((await store.get(key)) as SessionRecord).expiresAt - given.expiresAt) < 10_000)
    await advance(hour / 2)
    t.equal(await store.get(key), undefined)
  }
)

t.test(
  'sessions that have expired leave the list of their subject, as it is read and as it grows',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const { subjects } = new RedisStore({ client, prefix: mine })
    const subject = 's'.repeat(16)
    const list = `${mine}{${subject}}`
    const digest = (index: number): string => String(index).padStart(43, '0')
    const stamp = await subjects.stamp(subject)
    let added = 0
    const add = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index += 1) {
        added += 1
        const key = `${subject}.${digest(added)}`
        await subjects.create(key, record({ version: `l${added}` }), { stamp })
      }
    }
    /** What a server does when they expire. */
    const expire = (): Promise<unknown> =>
      Promise.all(
        Array.from({ length: added }, (_, index) => client.del(`${list}.${digest(index + 1)}`))
      )
    await add(10)
    await expire()
    t.same((await subjects.list(subject)).sessions, [])
    t.same(await client.hKeys(list), ['*', '#'])
    await add(22)
    await expire()
    await add(16)
    const { sessions } = await subjects.list(subject, '0')
    t.equal(sessions.length, 16, 'those that live stay')
    const [first] = sessions
    await client.hSet(list, 'other', digest(999))
    await subjects.list(subject)
    t.equal(await client.hExists(list, 'other'), 0)
    t.equal(await client.hExists(list, first?.lineage ?? ''), 1)
    await t.rejects(async () => subjects.list(subject, 'x'), { code: 'HOLDFAST_VALUE_INVALID' })
  }
)

t.test(
  'a subject that signs in again and again keeps a short list, though nobody reads it',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const { subjects } = new RedisStore({ client, prefix: mine })
    const subject = 's'.repeat(16)
    const list = `${mine}{${subject}}`
    const stamp = await subjects.stamp(subject)
    for (let index = 0; index < 320; index += 1) {
      const digest = String(index).padStart(43, '0')
      await subjects.create(`${subject}.${digest}`, record({ version: `l${index}` }), { stamp })
      // What the server does when it expires.
      await client.del(`${list}.${digest}`)
    }
    // Each waits for what was sent before: the last look, and what follows from it.
    const lengths = [await client.hLen(list), await client.hLen(list), await client.hLen(list)]
    t.ok((lengths.at(-1) as number) < 20, `${lengths}`)
  }
)

t.test(
  'what cannot be read is not listed, and a failure is one',
  { skip: skipRedis },
  async (t) => {
    const client = await redis()
    const mine = prefix()
    const store = new RedisStore({ client, prefix: mine })
    const subject = 's'.repeat(16)
    const stamp = await store.subjects.stamp(subject)
    for (const letter of ['a', 'b']) {
      const key = `${subject}.${letter.repeat(43)}`
      await store.subjects.create(key, record({ version: letter }), { stamp })
    }
    await client.persist(`${mine}{${subject}}.${'a'.repeat(43)}`)
    t.match((await store.subjects.list(subject)).sessions, [{ lineage: 'b' }])
    const broken = {
      eval: client.eval.bind(client),
      evalSha: async (sha: string, options: { keys: string[]; arguments: string[] }) => {
        if (options.keys.length === 2) throw new Error('not now')
        return client.evalSha(sha, options)
      }
    }
    const { subjects } = new RedisStore({ client: broken, prefix: mine })
    await t.rejects(async () => subjects.list(subject), { message: 'not now' })
  }
)

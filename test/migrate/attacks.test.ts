import type { LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import { carryOver, type CarryOverOptions } from '../../lib/migrate/index.ts'
import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { formerSecret, ofExpress, OldStore, sign } from '../helpers/former.ts'
import { serve, setCookies, unhandled, type Served } from '../helpers/serve.ts'
import { slow } from '../helpers/stores.ts'
import { settle } from '../helpers/waiting.ts'

const sid = 'Gk3hR0pYxJw-6yF2sAqTn8vLz1bCe4dU'

interface Scene extends Served {
  readonly old: OldStore
  readonly visit: (headers?: Record<string, string>) => Promise<LightMyRequestResponse>
}

async function begin(
  t: Test,
  former: Partial<CarryOverOptions> = {},
  options: SessionOptions = {}
): Promise<Scene> {
  const old = new OldStore()
  old.put(sid, { user: 'ada' })
  const clock = new TestClock()
  const served = await serve(t, {
    clock,
    store: slow(new MemoryStore({ clock })),
    carryOver: carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old, ...former }),
    ...options
  })
  served.app.get('/who', async ({ session }) => session.user ?? 'nobody')
  const visit: Scene['visit'] = (headers = ofExpress(sid)) =>
    served.app.inject({ url: '/who', headers })
  return { ...served, old, visit }
}

const raw = (value: string): { cookie: string } => ({ cookie: `connect.sid=${value}` })
const signed = sign(sid)
const signature = signed.slice(sid.length + 1)

const forged: Readonly<Record<string, { cookie: string }>> = {
  'no signature': raw(sid),
  'an empty signature': raw(`${sid}.`),
  'no id': raw(`.${signature}`),
  nothing: raw(''),
  'another id under the signature': raw(`${sid.toLowerCase()}.${signature}`),
  'a signature that is cut': raw(signed.slice(0, -1)),
  'a signature that goes on': raw(`${signed}A`),
  'the padding of the signature': raw(`${signed}=`),
  'base64url in place of base64': raw(
    `${sid}.${sign('i3').slice(3).replaceAll('+', '-').replaceAll('/', '_')}`
  ),
  'a signature of another secret': ofExpress(sid, 'another keyboard cat'),
  'a signature with no secret': ofExpress(sid, ''),
  'broken percent-encoding': raw('s%3A%ZZ'),
  'a huge value': raw(`${'x'.repeat(15_000)}.${signature}`),
  'a list of values': {
    cookie: Array.from({ length: 500 }, (_, n) => `connect.sid=${n}`).join('; ')
  },
  'another name': { cookie: `connect_sid=${signed}` }
}

for (const [name, headers] of Object.entries(forged)) {
  t.test(`S46: a former cookie that is forged reaches no store: ${name}`, async (t) => {
    const { old, visit } = await begin(t)
    const reply = await visit(headers)
    t.equal(reply.payload, 'nobody')
    t.same(old.calls, [])
    t.ok(old.sessions.has(sid))
  })
}

t.test('each secret of a list is accepted, and no other', async (t) => {
  const secrets = ['a newer one', Buffer.from(formerSecret)]
  const { visit } = await begin(t, { secret: secrets })
  t.equal((await visit(ofExpress(sid, 'an older one'))).payload, 'nobody')
  t.equal((await visit()).payload, 'ada')
})

t.test('a signature of its own is checked by the app', async (t) => {
  const unsign = (value: string): string | undefined =>
    value.startsWith('mine ') ? value.slice(5) : undefined
  const { secret: _, ...rest } = { secret: 0 }
  const old = new OldStore()
  old.put(sid, { user: 'ada' })
  const { app } = await serve(t, {
    carryOver: carryOver({ cookie: 'sid', unsign, store: old, ...rest })
  })
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  for (const [value, user] of [
    [`theirs%20${sid}`, 'nobody'],
    [`mine%20${sid}`, 'ada']
  ] as const) {
    t.equal((await app.inject({ url: '/who', headers: { cookie: `sid=${value}` } })).payload, user)
  }
})

t.test('a check of the app that returns what is no id is refused', async (t) => {
  for (const wrong of ['', 7, '\ud800', true]) {
    const store = new OldStore()
    const unsign = (() => wrong) as never
    const { app } = await serve(t, { carryOver: carryOver({ cookie: 'sid', unsign, store }) })
    const reply = await app.inject({ url: '/read', headers: { cookie: 'sid=a' } })
    t.equal(reply.statusCode, 500)
    t.equal(reply.json().code, 'HOLDFAST_VALUE_INVALID')
    t.same(store.calls, [])
  }
})

t.test('S44: names in the former data lead nowhere', async (t) => {
  const { app, old } = await begin(t)
  const text = '{"cookie":{},"cart":[],"a":{"__proto__":{"admin":true},"constructor":{"x":1}}}'
  old.sessions.set('polluter', text)
  app.get('/admin', async ({ session }) => {
    const { a } = session as { a?: { admin?: boolean; constructor: unknown } }
    return { admin: a?.admin ?? false, everybody: 'admin' in {}, made: typeof a?.constructor }
  })
  const reply = await app.inject({ url: '/admin', headers: ofExpress('polluter') })
  t.same(reply.json(), { admin: false, everybody: false, made: 'object' })
})

for (const key of ['id', 'save', 'subject', 'destroy', '__proto__', 'constructor', 'maxAge']) {
  t.test(
    `a former session with the key ${key}, which is reserved here, is refused and kept`,
    async (t) => {
      const { old, visit, log } = await begin(t)
      old.sessions.set('theirs', `{"cookie":{},"user":"ada","${key}":"x"}`)
      const reply = await visit(ofExpress('theirs'))
      t.equal(reply.statusCode, 500)
      t.equal(reply.json().code, 'HOLDFAST_KEY_RESERVED')
      t.match(reply.json().message, /rename it in data of carryOver\(\)/)
      t.same(setCookies(reply), [], 'its cookie stays')
      t.ok(old.sessions.has('theirs'), 'and so does what it leads to')
      t.notMatch(log.join(), /theirs/)
      const renamed = await begin(t, { data: ({ user }) => ({ user }) })
      renamed.old.sessions.set('theirs', `{"cookie":{},"user":"ada","${key}":"x"}`)
      t.equal((await renamed.visit(ofExpress('theirs'))).payload, 'ada')
    }
  )
}

for (const [name, former, code] of [
  ['no object', { data: () => 'ada' as never }, 'HOLDFAST_VALUE_INVALID'],
  ['a promise', { data: (async () => ({})) as never }, 'HOLDFAST_VALUE_INVALID'],
  ['a Map', { data: () => ({ a: new Map() }) }, 'HOLDFAST_DATA_UNSERIALIZABLE'],
  ['too much', { data: () => ({ a: 'x'.repeat(70_000) }) }, 'HOLDFAST_DATA_TOO_LARGE'],
  ['a lifetime in milliseconds', { maxAge: () => 3_600_000_000 }, 'HOLDFAST_VALUE_INVALID']
] as const) {
  t.test(`data that cannot be stored is refused before anything is: ${name}`, async (t) => {
    const { store, old, visit } = await begin(t, former)
    const reply = await visit()
    t.equal(reply.statusCode, 500)
    t.equal(reply.json().code, code)
    t.same(setCookies(reply), [])
    t.ok(old.sessions.has(sid))
    t.notOk(store.taken().includes('create'))
  })
}

for (const verb of ['get', 'destroy'] as const) {
  t.test(`P8: a former store that fails in ${verb} logs nobody out`, async (t) => {
    const rejections = unhandled(t)
    const { old, visit, log } = await begin(t)
    for (const fail of [
      () => Promise.reject(new Error('the former store is down')),
      () => {
        throw new Error('the former store is down')
      }
    ]) {
      old.intercept = (called, pass) => (called === verb ? fail() : pass())
      const reply = await visit()
      if (verb === 'get') {
        t.equal(reply.statusCode, 503)
        t.equal(reply.json().code, 'HOLDFAST_STORE_FAILED')
        t.same(setCookies(reply), [])
      } else {
        t.equal(reply.payload, 'ada')
        t.match(log.join(), /could not be removed/)
      }
    }
    old.intercept = (_verb, pass) => pass()
    t.equal((await visit()).payload, 'ada')
    t.same(rejections, [])
  })

  t.test(`P8: a former store that is silent in ${verb} logs nobody out`, async (t) => {
    const { clock, old, visit } = await begin(t)
    let isAsked = false
    old.intercept = (called, pass) => {
      if (called !== verb) return pass()
      isAsked = true
      return new Promise(() => {})
    }
    const silent = visit()
    while (!isAsked) await settle()
    clock.advance(2000)
    const reply = await silent
    t.equal(reply.json().code, 'HOLDFAST_STORE_TIMEOUT')
    t.same(setCookies(reply), [])
    old.intercept = (_verb, pass) => pass()
    t.equal((await visit()).payload, 'ada')
  })
}

t.test('a former store that says by an error that it has no such session', async (t) => {
  const { old, visit } = await begin(t)
  old.intercept = () => {
    throw Object.assign(new Error('no such file'), { code: 'ENOENT', syscall: 'open' })
  }
  t.equal((await visit()).payload, 'nobody')
})

t.test('P8: a server that is not there logs nobody out, even if a socket is missing', async (t) => {
  const { old, visit } = await begin(t)
  for (const code of ['ENOENT', 'ECONNREFUSED']) {
    old.intercept = () => {
      throw Object.assign(new Error('no server'), { code, syscall: 'connect' })
    }
    const reply = await visit()
    t.equal(reply.statusCode, 503)
    t.same(setCookies(reply), [])
  }
  old.intercept = (_verb, pass) => pass()
  t.equal((await visit()).payload, 'ada')
})

for (const [name, text] of Object.entries({ list: '["ada"]', text: '"ada"', number: '7' })) {
  t.test(`a former store that returns a ${name} has failed: nobody is logged out`, async (t) => {
    const { old, visit } = await begin(t)
    old.sessions.set(sid, text)
    const reply = await visit()
    t.equal(reply.statusCode, 503)
    t.equal(reply.json().code, 'HOLDFAST_STORE_FAILED')
    t.same(setCookies(reply), [])
  })
}

t.test('a former session may say anything of its life', async (t) => {
  for (const cookie of [
    { originalMaxAge: 1e300 },
    { originalMaxAge: '3600000' },
    { expires: 'soon' },
    { expires: {} },
    { expires: 8e15 },
    null
  ]) {
    const { old, visit } = await begin(t)
    old.put(sid, { user: 'ada' }, cookie as object)
    t.equal((await visit()).payload, 'ada')
    await visit()
    t.equal((await visit()).payload, 'ada')
  }
})

t.test('what data() does to a former session is not seen elsewhere', async (t) => {
  const data: CarryOverOptions['data'] = (former) => {
    const { user, cookie } = former
    delete (cookie as { originalMaxAge?: number }).originalMaxAge
    return { user }
  }
  const { visit, clock, store } = await begin(t, { data })
  await visit()
  const note = store.calls.find(({ verb, key }) => verb === 'update' && key.startsWith('former-'))
  t.ok(note)
  clock.advance(3_500_000)
  t.equal((await visit()).payload, 'ada')
})

t.test('S46: the store of ours sees neither the former id nor its cookie', async (t) => {
  const { store, visit } = await begin(t)
  await visit()
  for (const { key } of store.calls) t.match(key, /^(?:former-)?[\w-]{43}$/)
  t.notMatch(JSON.stringify(store.calls), sid)
})

t.test('what is no option of carryOver is refused, with the cure', async (t) => {
  const store = new OldStore()
  const right = { cookie: 'connect.sid', secret: 'x', store }
  for (const [options, message] of [
    [undefined, /carryOver.cookie must be the name/],
    [{ ...right, cookie: 'a b' }, /carryOver.cookie must be the name/],
    [{ ...right, secret: '' }, /carryOver.secret must be the secret/],
    [{ ...right, secret: [] }, /carryOver.secret must be/],
    [{ cookie: 'sid', store }, /or leave it out and give unsign/],
    [{ ...right, unsign: () => 'x' }, /carryOver.secret must be/],
    [{ ...right, store: {} }, /carryOver.store must be the store of the former plugin/],
    [{ ...right, data: {} }, /carryOver.data must be a function/],
    [{ ...right, scope: { sameSite: 'lax' } }, /carryOver.scope must be an object with domain/],
    [{ ...right, scope: { partitioned: 'yes' } }, /carryOver.scope must be/],
    [{ ...right, sideBySide: 'yes' }, /carryOver.sideBySide must be true or false/],
    [{ ...right, name: 'sid' }, /given none but the options cookie, secret/]
  ] as const) {
    t.throws(() => carryOver(options as never), { code: 'HOLDFAST_OPTION_INVALID', message })
  }
  for (const [options, message] of [
    ...[{ path: '/;a' }, { path: '/\n' }, { path: '/<é>' }, { domain: 'a b' }].map((scope) => [
      { carryOver: carryOver({ ...right, scope }) },
      /carryOver.scope must be what a cookie can have/
    ]),
    [{ carryOver: right }, /what carryOver\(\) of fastify-holdfast\/migrate returns/],
    [{ carryOver: null }, /what carryOver\(\)/],
    [{ carryOver: carryOver(right), sessionCookie: false }, /sessionCookie must be a name/],
    [
      { carryOver: carryOver({ ...right, sideBySide: true }), sessionCookie: 'connect.sid' },
      /sessionCookie must be another name/
    ]
  ] as const) {
    await t.rejects(serve(t, options as SessionOptions), {
      code: 'HOLDFAST_OPTION_INVALID',
      message
    })
  }
})

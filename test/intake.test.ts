import t from 'tap'

import type { SessionOptions } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'

const unknownId = 'unknown-to-the-store-0001'

t.test(
  'P7, S2: an unknown id and a write give a new id, and no record under the one supplied',
  async (t) => {
    const { app } = await serve(t)
    for (const headers of [{ 'x-session-id': unknownId }, { cookie: `session_id=${unknownId}` }]) {
      const { cookie } = carriedBy(await app.inject({ url: '/write/x', headers }))
      t.match(cookie, /^[\w-]{36}$/)
      t.equal(await stored(app, unknownId), undefined)
      t.same(await stored(app, cookie as string), { a: 'x' })
    }
  }
)

const malformed: readonly string[] = [
  '',
  'new',
  'a'.repeat(21),
  'a'.repeat(129),
  'a'.repeat(12_000),
  '../../../../etc/passwd-or-so',
  '%00'.repeat(10),
  'aaaaaaaaaaaaaa\taaaaaaaaaaaaaa',
  'é'.repeat(30),
  '\u00ff'.repeat(30),
  '""aaaaaaaaaaaaaaaaaaaaaaaaaa""',
  "'aaaaaaaaaaaaaaaaaaaaaaaaaa'",
  '__proto__',
  'constructor',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaa.signature',
  'aaaaaaaaaaaaaaaaaaaaaa aaaaaaaaaa',
  'aaaaaaaaaaaaaaaaaaaaaaaa%61',
  'aaaaaaaaaaaaaaaaaaaaaaaaaa=',
  's:aaaaaaaaaaaaaaaaaaaaaaaaaa'
]

t.test(
  'P7, S4: what has not the form of an id reaches no store, and is neither echoed nor logged',
  async (t) => {
    const { app, store, log } = await serve(t)
    for (const id of malformed) {
      for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
        const name = `${Object.keys(headers)[0]} ${id.slice(0, 40)}`
        const reply = await app.inject({ url: '/read', headers })
        t.equal(reply.statusCode, 200, name)
        t.same(reply.json(), {}, name)
        t.notOk(store.taken().includes('get'), `${name} was looked up`)
        if (id !== '') t.notOk(JSON.stringify(reply.headers).includes(id), `${name} was echoed`)
        t.equal(
          carriedBy(reply).cookie === undefined,
          'cookie' in headers,
          'a dead cookie gets nothing, a header is answered as no id is'
        )
      }
    }
    t.same(log, [])
  }
)

t.test('S4: what lies at the ends of the form is looked up', async (t) => {
  const { app, store } = await serve(t)
  for (const id of ['a'.repeat(22), 'a'.repeat(128), '-_-_-_-_-_-_-_-_-_-_-_-_']) {
    for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
      await app.inject({ url: '/look-away', headers })
      t.equal(store.taken()[0], 'get', id)
    }
  }
})

t.test('S5: of two header lines neither is used, over a real socket too', async (t) => {
  const { app } = await serve(t)
  const id = await begin(app)
  const other = await begin(app)
  for (const value of [`${id}, ${other}`, `${id}, ${id}`, `${id},`]) {
    t.same(
      (await app.inject({ url: '/read', headers: { 'x-session-id': value } })).json(),
      {},
      'inject'
    )
  }
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const two = new Headers([
    ['x-session-id', id],
    ['x-session-id', other]
  ])
  t.same(await (await fetch(`${url}/read`, { headers: two })).json(), {}, 'two lines')
  t.same(
    await (await fetch(`${url}/read`, { headers: { 'x-session-id': id } })).json(),
    { a: 'old' },
    'one line'
  )
})

t.test('S6: of two cookies with live sessions neither is used, with one warning', async (t) => {
  const { app, log, store } = await serve(t)
  const id = await begin(app)
  const other = await begin(app)
  store.taken()
  for (const cookie of [
    `session_id=${id}; session_id=${other}`,
    `session_id=${id}; x=y;  session_id =${other}`,
    `session_id="${other}";session_id=forged; session_id=${id}`
  ]) {
    const reply = await app.inject({ url: '/read', headers: { cookie } })
    t.same(reply.json(), {}, cookie)
    t.same(setCookies(reply), [], cookie)
    t.same(store.taken(), ['get', 'get'], cookie)
  }
  t.equal(log.length, 1, 'one warning')
  t.match(log.join(''), 'formerCookies')
  t.notOk(log.some((line) => line.includes(id) || line.includes(other)))
})

t.test('of several cookies, those that are equal or hold no id do not count', async (t) => {
  const { app, log, store } = await serve(t)
  const id = await begin(app)
  store.taken()
  for (const cookie of [
    `session_id=${id};session_id=${id}`,
    `session_id=; session_id=${id}`,
    `session_id=${id};\tsession_id=forged`,
    `session_id="${id}"; session_id=${id}`
  ]) {
    t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { a: 'old' }, cookie)
    t.same(store.taken(), ['get'], cookie)
  }
  t.same(log, [])
})

t.test('S7: a name that only looks like ours is not read', async (t) => {
  const { app, store } = await serve(t)
  const id = await begin(app)
  store.taken()
  for (const cookie of [
    `=session_id=${id}`,
    `session%5Fid=${id}`,
    `Session_Id=${id}`,
    `SESSION_ID=${id}`,
    `xsession_id=${id}`,
    `session_idx=${id}`,
    `a=session_id=${id}`,
    `a b session_id=${id}`,
    `"session_id"=${id}`,
    `session_id`,
    `a="; session_id2=${id}; "`
  ]) {
    t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), {}, cookie)
    t.notOk(store.taken().includes('get'), cookie)
  }
  for (const cookie of [
    `session_id=${id}`,
    `a=b;session_id=${id};c=d`,
    ` session_id=${id} `,
    `a; session_id=${id}`,
    `session_id2=x; session_id=${id}`
  ]) {
    t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { a: 'old' }, cookie)
  }
})

t.test('S7: a cookie header of 16 KB of nothing works, and asks no store', async (t) => {
  const { app, store } = await serve(t)
  for (const cookie of [
    ';'.repeat(16_384),
    `session_id${';'.repeat(16_384)}`,
    `${' '.repeat(16_384)}session_id`,
    `${'session_id=;'.repeat(1365)}`,
    `session_id${' '.repeat(16_384)}`,
    `;${'\t'.repeat(16_384)}`
  ]) {
    const reply = await app.inject({ url: '/look-away', headers: { cookie } })
    t.equal(reply.body, 'seen nothing')
    t.notOk(store.taken().includes('get'))
  }
})

t.test('S8: an id in the URL, the query or the body is not read', async (t) => {
  const { app, store } = await serve(t)
  app.post('/read/:session_id', async ({ session }) => ({ ...session }))
  const id = await begin(app)
  store.taken()
  const reply = await app.inject({
    method: 'POST',
    url: `/read/${id}?session_id=${id}&X-Session-ID=${id}`,
    payload: { session_id: id, 'X-Session-ID': id }
  })
  t.equal(reply.statusCode, 200)
  t.same(reply.json(), {})
  t.notOk(store.taken().includes('get'))
})

t.test(
  'S9: a header that is present decides; the cookie session beside it is neither loaded nor changed, nor its cookie overwritten',
  async (t) => {
    for (const mirror of [false, true]) {
      const { app, store } = await serve(t, { mirror })
      const [inHeader, inCookie] = [await begin(app, 'header'), await begin(app, 'cookie')]
      for (const header of [inHeader, unknownId, 'malformed', '']) {
        store.calls.length = 0
        const reply = await app.inject({
          url: '/write/new',
          headers: { 'x-session-id': header, cookie: `session_id=${inCookie}` }
        })
        t.notOk(
          store.calls.some(({ key }) => key === app.sessions.publicIdOf(inCookie)),
          `not asked for beside ${header}`
        )
        t.same(setCookies(reply), [])
      }
      t.same(await stored(app, inCookie), { a: 'cookie' })
      t.same(await stored(app, inHeader), { a: 'new' })
    }
  }
)

/** Ids from a list, the last one for ever. */
function from(...ids: string[]): () => string {
  return () => (ids.length > 1 ? ids.shift() : ids[0]) as string
}

const taken = 'an-id-that-is-taken-0001'
const free = 'an-id-that-is-free-00001'

t.test(
  'S15: a minted id that is taken is exchanged for another, twice; the owner keeps everything',
  async (t) => {
    const { app } = await serve(t, { generateId: from(taken, taken, taken, free) })
    t.equal(await begin(app, 'owner'), taken)
    const reply = await app.inject('/write/second')
    t.same(carriedBy(reply), { header: free, cookie: free })
    t.same(await stored(app, taken), { a: 'owner' })
    t.same(await stored(app, free), { a: 'second' })
  }
)

t.test(
  'S15: after three ids that are taken the request fails with a coded error, and the owner keeps everything',
  async (t) => {
    const { app, store } = await serve(t, { generateId: from(taken, taken, taken, taken, free) })
    await begin(app, 'owner')
    store.taken()
    const reply = await app.inject('/write/second')
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_ID_TAKEN'])
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    t.equal(store.taken().filter((verb) => verb === 'create').length, 3)
    t.same(await stored(app, taken), { a: 'owner' })
  }
)

t.test('S15: an id that the handler has read is not exchanged: a coded error', async (t) => {
  for (const name of ['id', 'publicId'] as const) {
    const { app } = await serve(t, { generateId: from(taken, taken, free) })
    app.get('/read-id', async ({ session }) => {
      session.a = session[name]
    })
    await begin(app, 'owner')
    const reply = await app.inject('/read-id')
    t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_ID_TAKEN'], name)
    t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    t.same(await stored(app, taken), { a: 'owner' })
  }
})

t.test(
  'S1: a generator that fails, or makes a wrong form, fails the request; nothing weaker steps in',
  async (t) => {
    const generators: ReadonlyArray<[name: string, generateId: unknown]> = [
      [
        'throws',
        () => {
          throw new Error('no entropy')
        }
      ],
      ['makes a short id', () => 'a'.repeat(21)],
      ['makes a long id', () => 'a'.repeat(129)],
      ['makes another character', () => 'aaaaaaaaaaaaaaaaaaaaaaaa.a'],
      ['makes undefined', () => undefined],
      ['makes a number', () => 1_234_567_890_123_456_789_012_345],
      ['makes an object that looks like an id', () => ({ toString: () => 'a'.repeat(30) })],
      ['makes a promise', () => Promise.resolve('a'.repeat(30))]
    ]
    for (const [name, generateId] of generators) {
      const { app, store } = await serve(t, { generateId } as SessionOptions)
      const reply = await app.inject('/write/x')
      t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_ID_INVALID'], name)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined }, name)
      t.same(store.taken(), [], name)
      t.notMatch(reply.body, /entropy/)
    }
  }
)

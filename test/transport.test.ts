import Fastify from 'fastify'
import t from 'tap'

import sessionPlugin, {
  MemoryStore,
  type CookieAttributes,
  type SessionOptions
} from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin, serve, setCookies, stored } from './helpers/serve.ts'
import { slow } from './helpers/stores.ts'

const unknownId = 'unknown-to-the-store-0001'

/**
 * What a request carries: of the session that is asked for (`mine`), of another (`other`), or an
 * unknown id.
 */
type Carries = Partial<Record<'header' | 'cookie', 'mine' | 'other' | 'unknown' | 'malformed'>> & {
  browser?: true
}
interface Row {
  readonly name: string
  readonly carries?: Carries
  /** What the reply is to carry: the session's id, a new one, or none. */
  readonly header?: 'mine' | 'new'
  readonly cookie?: 'mine' | 'new'
}

const both: readonly Row[] = [
  { name: 'no id, from a browser', carries: { browser: true }, cookie: 'new' },
  { name: 'no id, otherwise', header: 'new', cookie: 'new' },
  { name: 'a known header', carries: { header: 'mine' }, header: 'mine', cookie: 'mine' },
  {
    name: 'a known header, from a browser',
    carries: { header: 'mine', browser: true },
    header: 'mine',
    cookie: 'mine'
  },
  { name: 'an unknown header', carries: { header: 'unknown' }, header: 'new', cookie: 'new' },
  {
    name: 'a malformed header, from a browser',
    carries: { header: 'malformed', browser: true },
    header: 'new',
    cookie: 'new'
  },
  {
    name: 'a known header beside another cookie',
    carries: { header: 'mine', cookie: 'other' },
    header: 'mine'
  },
  {
    name: 'an unknown header beside another cookie',
    carries: { header: 'unknown', cookie: 'other' },
    header: 'new'
  },
  {
    name: 'header and cookie with one id',
    carries: { header: 'mine', cookie: 'mine' },
    header: 'mine',
    cookie: 'mine'
  },
  {
    name: 'header and cookie with one unknown id',
    carries: { header: 'unknown', cookie: 'unknown' },
    header: 'new',
    cookie: 'new'
  },
  { name: 'only the cookie', carries: { cookie: 'mine' }, cookie: 'mine' },
  {
    name: 'only the cookie, from a browser',
    carries: { cookie: 'mine', browser: true },
    cookie: 'mine'
  },
  { name: 'only an unknown cookie', carries: { cookie: 'unknown' }, cookie: 'new' }
]

const tables: readonly {
  readonly settings: string
  readonly options: SessionOptions
  readonly rows: readonly Row[]
}[] = [
  { settings: 'by default', options: {}, rows: both },
  {
    settings: 'mirror: true',
    options: { mirror: true },
    // Another session's cookie is left alone all the same (S9).
    rows: both.map((row) => (row.cookie === undefined ? row : { ...row, header: row.cookie }))
  },
  {
    settings: 'sessionHeader: false',
    options: { sessionHeader: false },
    rows: [
      { name: 'no id, otherwise', cookie: 'new' },
      { name: 'a known header', carries: { header: 'mine' }, cookie: 'new' },
      {
        name: 'a header beside the cookie',
        carries: { header: 'other', cookie: 'mine' },
        cookie: 'mine'
      },
      { name: 'only the cookie', carries: { cookie: 'mine' }, cookie: 'mine' }
    ]
  },
  {
    settings: 'sessionCookie: false',
    options: { sessionCookie: false },
    rows: [
      { name: 'no id, from a browser', carries: { browser: true }, header: 'new' },
      { name: 'no id, otherwise', header: 'new' },
      { name: 'a known header', carries: { header: 'mine' }, header: 'mine' },
      {
        name: 'a known header beside a cookie',
        carries: { header: 'mine', cookie: 'other' },
        header: 'mine'
      },
      { name: 'only the cookie', carries: { cookie: 'mine' }, header: 'new' }
    ]
  }
]

for (const { settings, options, rows } of tables) {
  for (const { name, carries = {}, header, cookie } of rows) {
    t.test(
      `${settings}, a request with ${name} that writes is answered in ${[header && 'the header', cookie && 'the cookie'].filter(Boolean).join(' and ')}`,
      async (t) => {
        const { app } = await serve(t, options)
        const start = async (value: string): Promise<string> => {
          const { header, cookie } = carriedBy(await app.inject(`/write/${value}`))
          return (header ?? cookie) as string
        }
        const ids = {
          mine: await start('mine'),
          other: await start('other'),
          unknown: unknownId,
          malformed: 'new'
        }
        const carried = carriedBy(
          await app.inject({
            url: '/write/written',
            headers: {
              ...(carries.header && { 'x-session-id': ids[carries.header] }),
              ...(carries.cookie && { cookie: `session_id=${ids[carries.cookie]}` }),
              ...(carries.browser && { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' })
            }
          })
        )
        const id = carried.header ?? (carried.cookie as string)
        const kind = (value: string | undefined): string | undefined => {
          if (value === undefined) return undefined
          return Object.values(ids).includes(value) ? 'mine' : 'new'
        }
        t.same({ header: kind(carried.header), cookie: kind(carried.cookie) }, { header, cookie })
        if (carried.header !== undefined && carried.cookie !== undefined)
          t.equal(carried.header, carried.cookie, 'one id on both')
        t.same(
          await stored(app, id),
          { a: 'written' },
          'the id that went out is that of the session written to'
        )
        t.same(await stored(app, ids.other), { a: 'other' }, 'the other session is as it was')
        t.equal(await stored(app, unknownId), undefined)
      }
    )
  }
}

t.test(
  'the header repeats a live id every time; the cookie goes out when its id is new, touched, written or regenerated',
  async (t) => {
    const rows = [
      { url: '/look-away', later: 0, header: 'mine', cookie: undefined },
      { url: '/read', later: 0, header: 'mine', cookie: undefined },
      { url: '/read', later: 59_999, header: 'mine', cookie: undefined },
      { url: '/read', later: 60_000, header: 'mine', cookie: 'mine' },
      { url: '/touch', later: 0, header: 'mine', cookie: 'mine' },
      { url: '/write/old', later: 0, header: 'mine', cookie: undefined },
      { url: '/write/new', later: 0, header: 'mine', cookie: 'mine' },
      { url: '/login', later: 0, header: 'new', cookie: 'new' }
    ] as const
    for (const { url, later, header, cookie } of rows) {
      const { app, clock } = await serve(t)
      const name = `${url} after ${later} ms`
      for (const transport of ['header', 'cookie'] as const) {
        const mine = await begin(app)
        clock.advance(later)
        const carried = carriedBy(
          await app.inject({
            url,
            headers:
              transport === 'header' ? { 'x-session-id': mine } : { cookie: `session_id=${mine}` }
          })
        )
        const kind = (id: string | undefined): string | undefined => {
          if (id === undefined) return undefined
          return id === mine ? 'mine' : 'new'
        }
        t.same(
          { header: kind(carried.header), cookie: kind(carried.cookie) },
          { header: transport === 'header' ? header : undefined, cookie },
          `${transport}: ${name}`
        )
      }
    }
  }
)

t.test(
  'a read that finds nothing by the id it sent is answered as if no id had come, but for a dead cookie, which gets nothing',
  async (t) => {
    const { app, store } = await serve(t)
    const asked = carriedBy(
      await app.inject({ url: '/read', headers: { 'x-session-id': unknownId } })
    )
    t.match(asked.header, /^[\w-]{36}$/)
    t.equal(asked.cookie, asked.header)
    store.taken()
    t.same(
      carriedBy(await app.inject({ url: '/read', headers: { cookie: `session_id=${unknownId}` } })),
      { header: undefined, cookie: undefined }
    )
    t.same(store.taken(), ['get'])
  }
)

t.test('mirror: true repeats the id on both, on a read too', async (t) => {
  const { app } = await serve(t, { mirror: true })
  const id = await begin(app)
  for (const headers of [{ 'x-session-id': id }, { cookie: `session_id=${id}` }]) {
    t.same(carriedBy(await app.inject({ url: '/read', headers })), { header: id, cookie: id })
  }
})

t.test(
  'header and cookie go by the names that were given, in any letter case of the header',
  async (t) => {
    const { app } = await serve(t, { sessionHeader: 'X-Shop-ID', sessionCookie: 'shop$id.' })
    const first = await app.inject('/write/old')
    const id = first.headers['x-shop-id'] as string
    t.equal(first.headers['x-session-id'], undefined)
    t.same(
      first.cookies.map(({ name, value }) => [name, value]),
      [['shop$id.', id]]
    )
    t.same((await app.inject({ url: '/read', headers: { 'x-sHOP-iD': id } })).json(), { a: 'old' })
    t.same((await app.inject({ url: '/read', headers: { cookie: `shop$id.=${id}` } })).json(), {
      a: 'old'
    })
    t.same(
      (
        await app.inject({
          url: '/read',
          headers: { cookie: `shop$idx=${id}; session_id=${id}`, 'x-session-id': id }
        })
      ).json(),
      {}
    )
  }
)

t.test(
  'adoptUnknownIds: a header that the predicate takes names the new session; a cookie never does',
  async (t) => {
    const asked: string[] = []
    const { app } = await serve(t, {
      adoptUnknownIds: (id) => {
        asked.push(id)
        return id.startsWith('take-')
      }
    })
    const adopted = 'take-this-id-for-my-session'
    const headers = { 'x-session-id': adopted }
    t.same(carriedBy(await app.inject({ url: '/write/chosen', headers })), {
      header: adopted,
      cookie: adopted
    })
    t.same((await app.inject({ url: '/read', headers })).json(), { a: 'chosen' })
    const refused = carriedBy(
      await app.inject({ url: '/write/minted', headers: { 'x-session-id': unknownId } })
    ).header
    t.match(refused, /^[\w-]{36}$/)
    t.not(refused, unknownId)
    for (const malformed of ['take-short', 'take-this/is-not-an-id-at-all', ''])
      await app.inject({ url: '/write/x', headers: { 'x-session-id': malformed } })
    const byCookie = carriedBy(
      await app.inject({
        url: '/write/x',
        headers: { cookie: 'session_id=take-this-from-the-cookie' }
      })
    ).cookie
    t.not(byCookie, 'take-this-from-the-cookie')
    t.equal(await stored(app, 'take-this-from-the-cookie'), undefined)
    t.same(asked, [adopted, unknownId], 'asked about unknown well-formed ids of the header alone')
  }
)

t.test('S2: adoptUnknownIds: only true adopts; a promise of it does not', async (t) => {
  for (const answer of [Promise.resolve(true), Promise.resolve(false), 1, 'yes', {}]) {
    const { app } = await serve(t, { adoptUnknownIds: (() => answer) as unknown as () => boolean })
    const { header } = carriedBy(
      await app.inject({ url: '/write/x', headers: { 'x-session-id': unknownId } })
    )
    t.match(header, /^[\w-]{36}$/)
    t.equal(await stored(app, unknownId), undefined)
  }
})

t.test('two parallel first requests under one adopted id both take effect', async (t) => {
  const { app } = await serve(t, { adoptUnknownIds: () => true, store: slow(new MemoryStore()) })
  app.get('/write-b', async ({ session }) => {
    session.b = 'too'
  })
  const headers = { 'x-session-id': unknownId }
  const replies = await Promise.all([
    app.inject({ url: '/write/one', headers }),
    app.inject({ url: '/write-b', headers })
  ])
  t.same(
    replies.map((reply) => carriedBy(reply).header),
    [unknownId, unknownId]
  )
  t.same(await stored(app, unknownId), { a: 'one', b: 'too' })
})

t.test(
  'S33: secure by request.protocol, which a forged X-Forwarded-Proto does not change without trustProxy',
  async (t) => {
    const rows = [
      { secure: 'auto', trustProxy: false, forwarded: 'http', expected: '' },
      { secure: 'auto', trustProxy: false, forwarded: 'https', expected: '' },
      { secure: 'auto', trustProxy: true, forwarded: 'http', expected: '' },
      { secure: 'auto', trustProxy: true, forwarded: 'https', expected: '; Secure' },
      { secure: true, trustProxy: true, forwarded: 'https', expected: '; Secure' },
      { secure: false, trustProxy: true, forwarded: 'https', expected: '' }
    ] as const
    for (const { secure, trustProxy, forwarded, expected } of rows) {
      const { app, log } = await serve(t, { cookie: { secure } }, { trustProxy })
      const [line] = setCookies(
        await app.inject({ url: '/write/x', headers: { 'x-forwarded-proto': forwarded } })
      )
      t.equal(
        line?.replace(/=[\w-]{36};/, '=ID;'),
        `session_id=ID; Max-Age=3600; Path=/; HttpOnly${expected}; SameSite=Lax`
      )
      t.same(log, [])
    }
  }
)

t.test('S33: secure: true over http sends no cookie, and warns once with the cure', async (t) => {
  for (const headers of [{}, { 'x-forwarded-proto': 'https' }]) {
    const { app, log } = await serve(t, { cookie: { secure: true } })
    for (const reply of [
      await app.inject({ url: '/write/x', headers }),
      await app.inject({ url: '/write/x', headers })
    ]) {
      t.same(setCookies(reply), [])
      t.ok(carriedBy(reply).header, 'the header is not concerned')
    }
    t.equal(log.length, 1)
    t.match(log[0], /trustProxy/)
  }
})

t.test("options() changes one session's cookie", async (t) => {
  const { app } = await serve(t)
  app.get('/options', async ({ session }) => {
    session.a = 'x'
    session.options({
      sameSite: 'strict',
      path: '/shop',
      domain: 'example.com',
      httpOnly: false,
      priority: 'high',
      persistent: false
    })
  })
  const line = setCookies(await app.inject('/options')).at(-1)
  t.equal(
    line?.replace(/=[\w-]{36};/, '=ID;'),
    'session_id=ID; Domain=example.com; Path=/shop; Priority=High; SameSite=Strict'
  )
  t.match(
    setCookies(await app.inject('/write/x'))[0],
    /Max-Age=3600; Path=\/; HttpOnly; SameSite=Lax$/
  )
})

t.test(
  'session.options() refuses what no browser would take, and the cookie goes out as it was',
  async (t) => {
    const { app } = await serve(t)
    app.get('/options', async ({ session }) => {
      session.options({ path: '/shop' })
      const wrongs = [
        { sameSite: 'none', secure: false },
        { path: 'shop' },
        { domain: 'a;b' },
        { priority: 'urgent' },
        { partitioned: true, secure: false }
      ]
      for (const wrong of wrongs) {
        t.throws(
          () => {
            session.options(wrong as CookieAttributes)
          },
          { code: 'HOLDFAST_VALUE_INVALID', cause: { code: 'HOLDFAST_OPTION_INVALID' } },
          JSON.stringify(wrong)
        )
      }
      session.a = 'x'
    })
    const reply = await app.inject('/options')
    t.equal(reply.statusCode, 200)
    t.match(setCookies(reply), [
      /^session_id=; Max-Age=0; [^;]+; Path=\/; HttpOnly; SameSite=Lax$/,
      /^session_id=[^;]+; Max-Age=3600; Path=\/shop; HttpOnly; SameSite=Lax$/
    ])
  }
)

t.test(
  'persistent: false leaves out what would outlive the browser; the clearing cookie is dated all the same',
  async (t) => {
    const { app } = await serve(t, { cookie: { persistent: false } })
    const reply = await app.inject('/write/x')
    t.notMatch(setCookies(reply)[0], /Max-Age|Expires/i)
    const [cleared] = setCookies(
      await app.inject({
        url: '/logout',
        cookies: { session_id: reply.cookies[0]?.value as string }
      })
    )
    t.match(cleared, /^session_id=; .*Max-Age=0/)
  }
)

t.test(
  'Max-Age is the remaining life of the record, not more than the absolute deadline allows',
  async (t) => {
    const { app, clock } = await serve(t, { absoluteTimeout: 5000 })
    const id = await begin(app)
    clock.advance(2_000_000)
    t.equal(
      (await app.inject({ url: '/touch', cookies: { session_id: id } })).cookies[0]?.maxAge,
      3000
    )
  }
)

t.test(
  'S13, S29: the clearing cookie has every attribute of the session cookie, and Max-Age 0; it goes to the cookie that held the session alone',
  async (t) => {
    const { app } = await serve(
      t,
      {
        cookie: {
          domain: 'example.com',
          path: '/shop',
          sameSite: 'none',
          secure: true,
          partitioned: true,
          priority: 'low'
        }
      },
      { trustProxy: true }
    )
    const headers = { 'x-forwarded-proto': 'https' }
    const live = setCookies(await app.inject({ url: '/write/x', headers })).at(-1) as string
    const id = /=([\w-]+)/.exec(live)?.[1] as string
    const other = await app.inject({ url: '/write/y', headers })
    const attributes = (line: string): string[] =>
      line
        .split('; ')
        .slice(1)
        .filter((part) => !/^(?:Max-Age|Expires)=/.test(part))
    const reply = await app.inject({
      url: '/logout',
      headers: { ...headers, cookie: `session_id=${id}` }
    })
    const cleared = setCookies(reply).at(-1)
    t.match(cleared, /^session_id=; Max-Age=0;/)
    t.same(attributes(cleared as string), attributes(live))
    t.equal(attributes(live).length, 7)
    t.equal(carriedBy(reply).header, undefined)
    t.same(
      setCookies(
        await app.inject({
          url: '/logout',
          headers: { ...headers, 'x-session-id': carriedBy(other).header as string }
        })
      ),
      [],
      'a session of the header clears no cookie'
    )
    t.same(
      setCookies(
        await app.inject({ url: '/logout', headers: { ...headers, cookie: `session_id=${id}` } })
      ),
      [],
      'nor does one that is gone'
    )
  }
)

t.test('S30: other cookies of the reply are kept, and one Set-Cookie has our name', async (t) => {
  const { app } = await serve(t)
  const rows = [
    ['none', []],
    ['theme=dark', ['theme=dark']],
    [
      ['theme=dark; Path=/', 'lang=en'],
      ['theme=dark; Path=/', 'lang=en']
    ],
    [['session_id=forged', 'lang=en', 'session_id=forged-too; Path=/'], ['lang=en']],
    [
      ['session_id2=x', 'xsession_id=y'],
      ['session_id2=x', 'xsession_id=y']
    ]
  ] as const
  for (const [index, [given]] of rows.entries()) {
    app.get(`/cookies/${index}`, async ({ session }, reply) => {
      if (given !== 'none') reply.header('set-cookie', given)
      session.a = 'x'
    })
  }
  for (const [index, [, kept]] of rows.entries()) {
    const lines = setCookies(await app.inject(`/cookies/${index}`))
    t.same(
      lines.filter((line) => !line.startsWith('session_id=')),
      kept
    )
    t.equal(lines.filter((line) => /^session_id=[\w-]{36};/.test(line)).length, 1)
    t.equal(lines.length, kept.length + 1)
  }
})

t.test('S34: no Access-Control header is ever set', async (t) => {
  const { app } = await serve(t)
  const reply = await app.inject({
    url: '/write/x',
    headers: { origin: 'https://elsewhere.example' }
  })
  t.same(
    Object.keys(reply.headers).filter((name) => name.startsWith('access-control')),
    []
  )
  t.ok(reply.headers['x-session-id'])
})

t.test('without any options both transports carry the id', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin)
  app.get('/', async ({ session }) => session.id)
  const reply = await app.inject('/')
  t.same(carriedBy(reply), { header: reply.body, cookie: reply.body })
})

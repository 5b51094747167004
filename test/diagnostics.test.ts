import { execFile } from 'node:child_process'
import { Channel, subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'

import t, { type Test } from 'tap'

import './helpers/data.ts'
import { MemoryStore, type SessionEvents } from '../lib/index.ts'
import { overEveryStore } from './helpers/attack.ts'
import { carriedBy } from './helpers/browser.ts'
import { runProgram } from './helpers/program.ts'
import { begin, serve, type Served } from './helpers/serve.ts'

type Name = keyof SessionEvents

const names: readonly Name[] = [
  'created',
  'committed',
  'merged',
  'gone',
  'rejected',
  'regenerated',
  'destroyed',
  'expired',
  'evicted',
  'fault'
]

/** Collects what is published while the test runs. */
function watch(t: Test): { readonly taken: (...only: Name[]) => Array<[Name, object]> } {
  const messages: Array<[Name, object]> = []
  for (const name of names) {
    const note = (message: unknown): void => {
      messages.push([name, { ...(message as object) }])
    }
    subscribe(`fastify-holdfast:${name}`, note)
    t.teardown(() => {
      unsubscribe(`fastify-holdfast:${name}`, note)
    })
  }
  return {
    taken: (...only) =>
      messages.splice(0).filter(([name]) => only.length === 0 || only.includes(name))
  }
}

overEveryStore(t, 'the life of a session, as it is published', async (t, serveOver) => {
  const { app } = await serveOver()
  const { taken } = watch(t)
  const sessionName = 'session'
  const key = (id: string): string => app.sessions.publicIdOf(id)
  const visit = async (url: string, id: string): Promise<string | undefined> =>
    carriedBy(await app.inject({ url, headers: { 'x-session-id': id } })).header
  const committed = (
    session: string | undefined,
    status: string,
    outcome: string,
    removed?: string
  ): [Name, object] => ['committed', { sessionName, session, removed, status, outcome }]

  const id = await begin(app)
  const session = key(id)
  t.strictSame(taken(), [
    ['created', { sessionName, session }],
    committed(session, 'new', 'created')
  ])
  await visit('/read', id)
  t.strictSame(taken(), [committed(session, 'loaded', 'nothing')])
  await visit('/touch', id)
  t.strictSame(taken(), [committed(session, 'loaded', 'touched')])
  await visit('/write/new', id)
  t.strictSame(taken(), [committed(session, 'loaded', 'updated')])
  const next = key((await visit('/login', id)) as string)
  t.strictSame(taken(), [
    ['created', { sessionName, session: next }],
    ['regenerated', { sessionName, session }],
    committed(next, 'regenerated', 'created', session)
  ])
  const other = await begin(app)
  taken()
  await visit('/logout', other)
  t.strictSame(taken(), [
    ['destroyed', { sessionName, session: key(other) }],
    committed(undefined, 'destroyed', 'nothing', key(other))
  ])
  t.equal(await app.sessions.destroy(next), true)
  t.strictSame(taken(), [['destroyed', { sessionName, session: next }]])
  t.equal(await app.sessions.destroy(next), false)
  t.strictSame(taken(), [])
})

overEveryStore(
  t,
  'what a request carried and was no session is published with the reason, and without the value',
  async (t, serveOver, advance) => {
    const secret = 'a-secret-of-more-than-thirty-two-bytes'
    const plain = await serveOver()
    const signing = await serveOver({ secret })
    const { taken } = watch(t)
    const rows: readonly {
      readonly served: Served
      readonly header?: string
      readonly cookie?: string
      readonly reason?: string
    }[] = [
      { served: plain, header: 'malformed', reason: 'malformed' },
      { served: plain, header: '', reason: 'malformed' },
      { served: plain, header: 'new' },
      { served: plain, cookie: 'session_id=../etc', reason: 'malformed' },
      { served: plain, cookie: 'session_id=a; session_id=b', reason: 'malformed' },
      { served: plain, cookie: 'other=a' },
      { served: plain, header: 'unknown-to-the-store-0001', reason: 'unknown' },
      { served: plain, cookie: 'session_id=unknown-to-the-store-0001', reason: 'unknown' },
      { served: signing, header: 'unknown-to-the-store-0001', reason: 'signature' },
      {
        served: signing,
        header: `unknown-to-the-store-0001.${'A'.repeat(43)}`,
        reason: 'signature'
      },
      { served: signing, cookie: 'session_id=malformed', reason: 'malformed' },
      { served: signing, header: 'new' },
      { served: signing, cookie: 'session_id=a; session_id=b', reason: 'malformed' }
    ]
    for (const { served, header, cookie, reason } of rows) {
      const { app } = served
      await app.inject({
        url: '/look-away',
        headers: {
          ...(header !== undefined && { 'x-session-id': header }),
          ...(cookie !== undefined && { cookie })
        }
      })
      const session =
        reason === 'unknown' ? app.sessions.publicIdOf('unknown-to-the-store-0001') : undefined
      t.strictSame(
        taken('rejected'),
        reason === undefined
          ? []
          : [
              [
                'rejected',
                {
                  sessionName: 'session',
                  transport: header === undefined ? 'cookie' : 'header',
                  reason,
                  session
                }
              ]
            ],
        `${header} ${cookie}`
      )
    }
    const two = [await begin(plain.app), await begin(plain.app)]
    taken()
    const cookie = two.map((each) => `session_id=${each}`).join('; ')
    await plain.app.inject({ url: '/read', headers: { cookie } })
    t.strictSame(taken('rejected'), [
      [
        'rejected',
        {
          sessionName: 'session',
          transport: 'cookie',
          reason: 'duplicate',
          session: undefined
        }
      ]
    ])
    const { app: strict } = await serveOver({ maxAge: 10, absoluteTimeout: 10 })
    const id = await begin(plain.app)
    await advance(10_000)
    taken()
    await strict.inject({ url: '/read', headers: { 'x-session-id': id } })
    t.match(taken('rejected'), [
      ['rejected', { reason: 'expired', session: strict.sessions.publicIdOf(id) }]
    ])
  }
)

overEveryStore(
  t,
  'a merge, an end while the request ran, a fault of the store and an undecodable record are published',
  async (t, serveOver) => {
    const { app, store, clock } = await serveOver()
    const { taken } = watch(t)
    app.get<{ Querystring: { meanwhile: string } }>(
      '/meanwhile',
      async ({ session, query, headers }) => {
        session.b = query.meanwhile
        await app.inject({
          url: query.meanwhile,
          headers: { 'x-session-id': headers['x-session-id'] as string }
        })
        return 'done'
      }
    )
    const id = await begin(app)
    const session = app.sessions.publicIdOf(id)
    const headers = { 'x-session-id': id }
    await app.inject({ url: '/meanwhile?meanwhile=/write/theirs', headers })
    t.strictSame(taken('merged'), [['merged', { sessionName: 'session', session }]])
    store.intercept = (call, pass) => {
      if (call.verb === 'touch') throw new Error('a store that says 10.1.2.3')
      return pass()
    }
    await app.inject({ url: '/touch', headers })
    t.strictSame(
      taken('fault'),
      Array.from({ length: 2 }, () => [
        'fault',
        { sessionName: 'session', session, verb: 'touch', code: 'HOLDFAST_STORE_FAILED' }
      ]),
      'the call and its second try'
    )
    store.intercept = (_call, pass) => pass()
    await app.inject({ url: '/meanwhile?meanwhile=/logout', headers })
    t.strictSame(taken('gone', 'committed').slice(1), [
      ['gone', { sessionName: 'session', session }],
      [
        'committed',
        { sessionName: 'session', session, removed: undefined, status: 'loaded', outcome: 'gone' }
      ]
    ])
    await store.create(session, {
      data: '{"a',
      version: 'v',
      createdAt: clock.now(),
      expiresAt: clock.now() + 3_600_000
    })
    await app.inject({ url: '/read', headers })
    t.strictSame(
      taken('fault'),
      [
        [
          'fault',
          { sessionName: 'session', session, verb: 'get', code: 'HOLDFAST_DATA_UNDECODABLE' }
        ]
      ],
      'S27'
    )
  }
)

t.test('a time-out of the store is a fault', async (t) => {
  const { app, store, clock } = await serve(t)
  const { taken } = watch(t)
  const id = await begin(app)
  store.intercept = () => new Promise(() => {})
  const reply = app
    .inject({ url: '/read', headers: { 'x-session-id': id } })
    .then(({ statusCode }) => statusCode)
  while (store.taken().at(-1) !== 'get')
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
  clock.advance(2000)
  t.equal(await reply, 503)
  t.match(taken('fault'), [['fault', { verb: 'get', code: 'HOLDFAST_STORE_TIMEOUT' }]])
})

t.test('S23: what a full MemoryStore drops is published', async (t) => {
  const { taken } = watch(t)
  const store = new MemoryStore({ max: 2 })
  const record = {
    data: '',
    version: 'v',
    createdAt: Date.now(),
    expiresAt: Date.now() + 3_600_000
  }
  for (const key of ['returned', 'empty', 'next']) {
    store.create(key, record)
    if (key !== 'empty') store.get(key)
  }
  store.create('last', record)
  store.close()
  t.strictSame(taken(), [
    ['evicted', { session: 'empty', returned: false }],
    ['evicted', { session: 'returned', returned: true }]
  ])
})

t.test('P10: no id and no data is in what is published', async (t) => {
  const secret = 'a-secret-of-more-than-thirty-two-bytes'
  const { app } = await serve(t, { secret })
  const { taken } = watch(t)
  const wires = new Set<string>()
  for (const url of ['/write/data-of-the-user', '/login', '/read', '/logout', '/touch']) {
    let wire = await begin(app, 'data-of-the-user')
    wires.add(wire)
    for (const _ of [1, 2, 3]) {
      wire = carriedBy(await app.inject({ url, headers: { 'x-session-id': wire } })).header ?? wire
      wires.add(wire)
    }
  }
  const published = JSON.stringify(taken())
  t.ok(published.length > 1000)
  for (const text of ['data-of-the-user', secret, ...[...wires].flatMap((wire) => wire.split('.'))])
    t.notOk(published.includes(text))
})

t.test('without a subscriber nothing is published, nor made to be', async (t) => {
  const { prototype } = Channel
  const publish = Object.getOwnPropertyDescriptor(prototype, 'publish') as PropertyDescriptor
  t.teardown(() => {
    Object.defineProperty(prototype, 'publish', publish)
  })
  const published: unknown[] = []
  prototype.publish = function (this: Channel, message) {
    if (String(this.name).startsWith('fastify-holdfast')) published.push(message)
  }
  const { app, store } = await serve(t)
  const id = await begin(app)
  store.intercept = (call, pass) => {
    if (call.verb === 'update') throw new Error('no answer')
    return pass()
  }
  for (const url of ['/read', '/touch', '/write/x', '/login', '/logout']) {
    for (const value of [id, 'malformed', 'unknown-to-the-store-0001'])
      await app.inject({ url, headers: { 'x-session-id': value } })
  }
  t.same(published, [])
})

t.test(
  'S13: a subscriber that throws does not stop destroy(), nor any reply: Node hands its error to the process',
  async (t) => {
    const program = `
    import { subscribe } from 'node:diagnostics_channel'
    import Fastify from 'fastify'
    import plugin from ${JSON.stringify(new URL('../lib/index.js', import.meta.url).href)}
    const uncaught = []
    process.on('uncaughtException', ({ message }) => { uncaught.push(message) })
    for (const name of ${JSON.stringify(names)}) subscribe('fastify-holdfast:' + name, () => { throw new Error(name) })
    const app = Fastify()
    await app.register(plugin)
    app.get('/write', async ({ session }) => { session.a = 1 })
    app.get('/read', async ({ session }) => ({ ...session }))
    app.get('/logout', async ({ session }) => { await session.destroy() })
    const first = await app.inject('/write')
    const headers = { 'x-session-id': first.headers['x-session-id'] }
    const out = await app.inject({ url: '/logout', headers })
    const after = await app.inject({ url: '/read', headers })
    await new Promise((resolve) => setImmediate(resolve))
    console.log(JSON.stringify([first.statusCode, out.statusCode, after.body, [...new Set(uncaught)].sort()]))`
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '--eval', program],
      { timeout: 20_000 }
    )
    t.same(JSON.parse(stdout), [200, 200, '{}', ['committed', 'created', 'destroyed', 'rejected']])
  }
)

overEveryStore(
  t,
  'a session that ended is published as gone once, however often its request meets that',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const { taken } = watch(t)
    app.get('/', async ({ session }) => {
      await app.sessions.destroy(session.publicId)
      await session.regenerate(['a']).catch(() => {})
      await session.destroy()
    })
    const id = await begin(app)
    await app.inject({ url: '/', headers: { 'x-session-id': id } })
    t.equal(taken('gone').length, 1)
  }
)

t.test('the page has every event, and no other', async (t) => {
  const table =
    readFileSync('docs/reference.md', 'utf8').split('| event | when |')[1]?.split('\n\n')[0] ?? ''
  t.same(
    [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name),
    names
  )
  const published = [...readFileSync('lib/events.ts', 'utf8').matchAll(/topic\('(\w+)'\)/g)].map(
    ([, name]) => name
  )
  t.same(published, names)
})

t.test('the example of the metrics counts what happens', async (t) => {
  const { url } = await runProgram(t, 'examples/metrics.js')
  const visit = async (path: string, id: string): Promise<string | null> =>
    (await fetch(`${url}${path}`, { headers: { 'x-session-id': id } })).headers.get('x-session-id')
  const id = (await visit('/visit', 'new')) as string
  await visit('/visit', id)
  await visit('/visit', 'nonsense')
  await visit('/logout', id)
  await visit('/visit', id)
  const reply = await fetch(`${url}/metrics`)
  t.match(reply.headers.get('content-type'), 'text/plain; version=0.0.4')
  const text = await reply.text()
  for (const line of [
    'holdfast_created_total 3',
    'holdfast_committed_total{status="new",outcome="created"} 3',
    'holdfast_committed_total{status="loaded",outcome="updated"} 1',
    'holdfast_rejected_total{transport="header",reason="malformed"} 1',
    'holdfast_rejected_total{transport="header",reason="unknown"} 1',
    'holdfast_destroyed_total 1'
  ])
    t.ok(text.split('\n').includes(line), line)
  for (const name of names) t.match(text, `# TYPE holdfast_${name}_total counter`)
  t.notOk(text.includes(id))
})

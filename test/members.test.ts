import Fastify from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore, type Session } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { Browser } from './helpers/browser.ts'
import { slow, WatchedStore } from './helpers/stores.ts'

const unavailable = 'HOLDFAST_SESSION_UNAVAILABLE'
const goneError = 'HOLDFAST_SESSION_GONE'

const statuses = ['new', 'loaded', 'regenerated', 'destroyed', 'gone', 'opted-out'] as const
type Status = typeof statuses[number]

/** What a probe may compare with: the loaded session was begun ten seconds before the request. */
interface Known {
  readonly sentId: string
  readonly publicIdOf: (id: string) => string
  readonly now: number
}

type Probe = (session: Session, known: Known) => unknown

/** Each member, asked in a request whose session is in each status. A code stands for the error that is thrown or rejected with. */
const table: Readonly<Record<string, readonly [Probe, ...expected: unknown[]]>> = {
  //                 new,        loaded,   regenerated, destroyed,  gone,     opted-out
  'id': [namedId, 'a new one', 'as sent', 'a new one', 'a new one', 'as sent', 'none'],
  'publicId': [namedDigest, 'of the id', 'of the id', 'of the id', 'of the id', 'of the id', 'none'],
  'isNew': [({ isNew }) => isNew, true, false, true, true, false, false],
  'transport': [({ transport }) => transport, undefined, 'cookie', undefined, undefined, 'cookie', undefined],
  'createdAt': [(session, known) => secondsFrom(known, session, session.createdAt), 0, -10, 0, 0, -10, 'an instant'],
  'expiresAt': [(session, known) => secondsFrom(known, session, session.expiresAt), 3600, 1790, 3600, 3600, 1790, 'an instant'],
  'maxAge': [({ maxAge }) => maxAge, 3600, 1800, 3600, 3600, 1800, 3600],
  'maxAge =': [setMaxAge, 60, 60, 60, 60, 60, unavailable],
  'get': [(session) => session.get('a'), undefined, 'old', undefined, undefined, 'old', undefined],
  'get, of a member': [(session) => session.get('id'), undefined, undefined, undefined, undefined, undefined, undefined],
  'set': [(session) => shown(session, session.set('a', 1)), { a: 1 }, { a: 1 }, { a: 1 }, { a: 1 }, { a: 1 }, unavailable],
  'key =': [(session) => shown(session, session.a = 1), { a: 1 }, { a: 1 }, { a: 1 }, { a: 1 }, { a: 1 }, unavailable],
  'data': [(session) => session.data(), {}, { a: 'old' }, {}, {}, { a: 'old' }, {}],
  'options': [(session) => session.options({ path: '/' }), undefined, undefined, undefined, undefined, undefined, unavailable],
  'touch': [(session) => session.touch(), undefined, undefined, undefined, undefined, undefined, unavailable],
  'update': [(session) => session.update((draft) => ({ ...draft })), {}, { a: 'old' }, {}, {}, goneError, unavailable],
  'save': [(session) => session.save(), undefined, undefined, undefined, undefined, goneError, unavailable],
  'regenerate': [async (session) => shown(session, await session.regenerate()), {}, {}, {}, {}, {}, unavailable],
  'regenerate, keeping': [async (session) => shown(session, await session.regenerate(['a'])), {}, { a: 'old' }, {}, {}, goneError, unavailable],
  'destroy': [async (session) => shown(session, await session.destroy()), {}, {}, {}, {}, {}, unavailable]
}

function namedId({ id }: Session, { sentId }: Known): string {
  return id === '' ? 'none' : id === sentId ? 'as sent' : id.length === 36 ? 'a new one' : id
}

function namedDigest({ id, publicId }: Session, { publicIdOf }: Known): string {
  return publicId === '' ? 'none' : publicId === publicIdOf(id) ? 'of the id' : publicId
}

/** The session of an opted-out route is nobody's: its instants say nothing, but are instants. */
function secondsFrom({ now }: Known, { publicId }: Session, instant: number): number | string {
  return publicId === '' && Number.isFinite(instant) ? 'an instant' : (instant - now) / 1000
}

function setMaxAge(session: Session): number {
  session.maxAge = 60
  return session.maxAge
}

function shown(session: Session, _done: unknown): object {
  return { ...session }
}

async function outcome(probe: () => unknown): Promise<unknown> {
  try {
    return await probe()
  } catch (error) {
    return (error as { code?: string }).code ?? (error as Error).name
  }
}

async function probeIn(t: Test, status: Status, probe: Probe, wrap: (inner: MemoryStore) => WatchedStore): Promise<unknown> {
  const clock = new TestClock()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock, store: wrap(new MemoryStore({ clock })) })
  app.get('/begin', async ({ session }) => {
    session.a = 'old'
    session.maxAge = 1800
  })
  let result: unknown
  const publicIdOf = (id: string): string => app.sessions.publicIdOf(id)
  const ask = async (session: Session): Promise<void> => {
    result = await outcome(() => probe(session, { sentId: browser.cookies.get('session_id') ?? '', publicIdOf, now: clock.now() }))
  }
  app.get('/new', async ({ session }) => ask(session))
  app.get('/loaded', async ({ session }) => ask(session))
  app.get('/regenerated', async ({ session }) => {
    await session.regenerate()
    await ask(session)
  })
  app.get('/destroyed', async ({ session }) => {
    await session.destroy()
    await ask(session)
  })
  app.get('/gone', async ({ session }) => {
    await app.sessions.destroy(session.publicId)
    await session.update(() => {}).catch(() => {})
    await ask(session)
  })
  app.get('/opted-out', { config: { session: false } }, async ({ session }) => ask(session))
  const browser = new Browser(app)
  clock.advance(10_000)
  if (status !== 'new') await browser.get('/begin')
  clock.advance(10_000)
  const reply = await browser.get(`/${status}`)
  t.equal(reply.statusCode, 200)
  return result
}

for (const [member, [probe, ...expected]] of Object.entries(table)) {
  t.test(`session.${member}`, async (t) => {
    t.equal(expected.length, statuses.length)
    for (const [column, status] of statuses.entries()) {
      for (const wrap of [(inner: MemoryStore) => new WatchedStore(inner), slow]) {
        const result = await probeIn(t, status, probe, wrap)
        t.same(typeof result === 'object' && result !== null ? { ...result } : result, expected[column], status)
      }
    }
  })
}

t.test('the session is truthy and the same object for the whole request', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin)
  const seen = new Set<unknown>()
  app.get('/', async (request) => {
    seen.add(request.session)
    await request.session.save()
    seen.add(request.session)
    await request.session.regenerate()
    seen.add(request.session)
    await request.session.destroy()
    seen.add(request.session)
  })
  t.equal((await app.inject('/')).statusCode, 200)
  t.equal(seen.size, 1)
  t.ok([...seen][0])
})

t.test('the members can\'t be replaced, and a name reserved for later reads as undefined', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessionPlugin)
  let session!: Session
  app.get('/', async (request) => { session = request.session })
  await app.inject('/')
  t.ok(Object.isFrozen(Object.getPrototypeOf(session)))
  for (const name of ['signal', 'subject', 'cookie', 'reload']) {
    t.equal((session as unknown as Record<string, unknown>)[name], undefined, name)
    t.throws(() => { (session as unknown as Record<string, unknown>)[name] = 1 }, { code: 'HOLDFAST_KEY_RESERVED' }, name)
  }
})

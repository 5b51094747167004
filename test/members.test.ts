import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import type { Session } from '../lib/index.ts'
import { serve } from './helpers/serve.ts'
import { wraps, type Wrap } from './helpers/stores.ts'
import { world } from './helpers/world.ts'

const unavailable = 'HOLDFAST_SESSION_UNAVAILABLE'
const goneError = 'HOLDFAST_SESSION_GONE'

const statuses = ['new', 'loaded', 'regenerated', 'destroyed', 'gone', 'opted-out'] as const
type Status = (typeof statuses)[number]

/** What a probe may compare with: the loaded session was begun ten seconds before the request. */
interface Known {
  readonly sentId: string
  readonly publicIdOf: (id: string) => string
  readonly now: number
}

type Probe = (session: Session, known: Known) => unknown

interface Row {
  readonly ask: Probe
  readonly expected: Readonly<Record<Status, unknown>>
}

/** The same in each status but those that are given. */
function everywhere(value: unknown, but: Partial<Record<Status, unknown>> = {}): Row['expected'] {
  return {
    new: value,
    loaded: value,
    regenerated: value,
    destroyed: value,
    gone: value,
    'opted-out': value,
    ...but
  }
}

/**
 * Each member, asked in a request whose session is in each status. A code stands for the error that
 * is thrown or rejected with. A session that is gone still shows what was loaded.
 */
const table: Readonly<Record<string, Row>> = {
  id: {
    ask: namedId,
    expected: everywhere('a new one', { loaded: 'as sent', gone: 'as sent', 'opted-out': 'none' })
  },
  publicId: {
    ask: namedDigest,
    expected: everywhere('of the id', { 'opted-out': 'none' })
  },
  isNew: {
    ask: ({ isNew }) => isNew,
    expected: everywhere(true, { loaded: false, gone: false, 'opted-out': false })
  },
  transport: {
    ask: ({ transport }) => transport,
    expected: everywhere(undefined, { loaded: 'cookie', gone: 'cookie' })
  },
  createdAt: {
    ask: (session, known) => secondsFrom(known, session, session.createdAt),
    expected: everywhere(0, { loaded: -10, gone: -10, 'opted-out': 'an instant' })
  },
  expiresAt: {
    ask: (session, known) => secondsFrom(known, session, session.expiresAt),
    expected: everywhere(3600, { loaded: 1790, gone: 1790, 'opted-out': 'an instant' })
  },
  maxAge: {
    ask: ({ maxAge }) => maxAge,
    expected: everywhere(3600, { loaded: 1800, gone: 1800 })
  },
  'maxAge =': {
    ask: setMaxAge,
    expected: everywhere(60, { 'opted-out': unavailable })
  },
  get: {
    ask: (session) => session.get('a'),
    expected: everywhere(undefined, { loaded: 'old', gone: 'old' })
  },
  'get, of a member': {
    ask: (session) => session.get('id'),
    expected: everywhere(undefined)
  },
  set: {
    ask: (session) => shown(session, session.set('a', 1)),
    expected: everywhere({ a: 1 }, { 'opted-out': unavailable })
  },
  'key =': {
    ask: (session) => shown(session, (session.a = 1)),
    expected: everywhere({ a: 1 }, { 'opted-out': unavailable })
  },
  data: {
    ask: (session) => session.data(),
    expected: everywhere({}, { loaded: { a: 'old' }, gone: { a: 'old' } })
  },
  options: {
    ask: (session) => session.options({ path: '/' }),
    expected: everywhere(undefined, { 'opted-out': unavailable })
  },
  touch: {
    ask: (session) => session.touch(),
    expected: everywhere(undefined, { 'opted-out': unavailable })
  },
  update: {
    ask: (session) => session.update((draft) => ({ ...draft })),
    expected: everywhere(
      {},
      {
        loaded: { a: 'old' },
        gone: goneError,
        'opted-out': unavailable
      }
    )
  },
  save: {
    ask: (session) => session.save(),
    expected: everywhere(undefined, { gone: goneError, 'opted-out': unavailable })
  },
  regenerate: {
    ask: async (session) => shown(session, await session.regenerate()),
    expected: everywhere({}, { gone: goneError, 'opted-out': unavailable })
  },
  'regenerate, keeping': {
    ask: async (session) => shown(session, await session.regenerate(['a'])),
    expected: everywhere(
      {},
      {
        loaded: { a: 'old' },
        gone: goneError,
        'opted-out': unavailable
      }
    )
  },
  destroy: {
    ask: async (session) => shown(session, await session.destroy()),
    expected: everywhere({}, { 'opted-out': unavailable })
  }
}

function namedId({ id }: Session, { sentId }: Known): string {
  if (id === '') return 'none'
  if (id === sentId) return 'as sent'
  return id.length === 36 ? 'a new one' : id
}

function namedDigest({ id, publicId }: Session, { publicIdOf }: Known): string {
  if (publicId === '') return 'none'
  return publicId === publicIdOf(id) ? 'of the id' : publicId
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

/** What brings a request's session into a status. */
const arrangements: Readonly<Record<Status, (session: Session, app: FastifyInstance) => unknown>> =
  {
    new: () => {},
    loaded: () => {},
    regenerated: (session) => session.regenerate(),
    destroyed: (session) => session.destroy(),
    async gone(session, app) {
      await app.sessions.destroy(session.publicId)
      await session.update(() => {}).catch(() => {})
    },
    'opted-out': () => {}
  }

async function probeIn(t: Test, status: Status, ask: Probe, wrap: Wrap): Promise<unknown> {
  const { app, browser, clock, id, route, visit } = await world(t, {}, { wrap })
  let result: unknown
  const probe = async (session: Session): Promise<void> => {
    await arrangements[status](session, app)
    const known = {
      sentId: id(),
      publicIdOf: (of: string) => app.sessions.publicIdOf(of),
      now: clock.now()
    }
    result = await outcome(() => ask(session, known))
  }
  app.get('/opted-out', { config: { session: false } }, ({ session }) => probe(session))
  clock.advance(10_000)
  if (status !== 'new')
    await visit((session) => {
      session.a = 'old'
      session.maxAge = 1800
    })
  clock.advance(10_000)
  const reply = await browser.get(status === 'opted-out' ? '/opted-out' : route(probe))
  t.equal(reply.statusCode, 200)
  return result
}

for (const [member, { ask, expected }] of Object.entries(table)) {
  t.test(`session.${member}`, async (t) => {
    for (const status of statuses) {
      for (const wrap of Object.values(wraps)) {
        const result = await probeIn(t, status, ask, wrap)
        t.same(
          typeof result === 'object' && result !== null ? { ...result } : result,
          expected[status],
          status
        )
      }
    }
  })
}

t.test('the session is truthy and the same object for the whole request', async (t) => {
  const { app } = await serve(t)
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

t.test(
  "the members can't be replaced, and a name reserved for later reads as undefined",
  async (t) => {
    const { app } = await serve(t)
    let session!: Session
    app.get('/', async (request) => {
      session = request.session
    })
    await app.inject('/')
    t.ok(Object.isFrozen(Object.getPrototypeOf(session)))
    for (const name of ['signal', 'subject', 'cookie', 'reload']) {
      const isMember = name === 'signal' || name === 'reload'
      t.equal((session as unknown as Record<string, unknown>)[name] !== undefined, isMember, name)
      t.throws(
        () => {
          ;(session as unknown as Record<string, unknown>)[name] = 1
        },
        { code: 'HOLDFAST_KEY_RESERVED' },
        name
      )
    }
  }
)

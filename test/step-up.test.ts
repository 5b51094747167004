import t from 'tap'

import type { Session } from '../lib/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Browser, idIn } from './helpers/browser.ts'

const stores = [...backends, later]
const second = 1000
const hour = 3600
const day = 24 * hour

/** A browser that is signed in for ten days, and whose requests have a handler each. */
async function signedIn(over: Over): Promise<{
  readonly visit: (work: (session: Session) => unknown) => Promise<string>
  /** Sends a request of another client with the session's id. */
  readonly beside: (work: (session: Session) => unknown) => Promise<unknown>
  readonly id: () => string
}> {
  const { app } = await over.serve({ absoluteTimeout: 20 * day })
  const works: Array<(session: Session) => unknown> = []
  app.get('/visit', async ({ session }) => (await works.shift()?.(session)) ?? 'done')
  const browser = new Browser(app)
  const visit = async (work: (session: Session) => unknown): Promise<string> => {
    works.push(work)
    return (await browser.get('/visit')).body
  }
  await visit((session) => {
    session.user = 'ada'
    session.a = 'kept'
    session.maxAge = 10 * day
  })
  const beside = (work: (session: Session) => unknown): Promise<unknown> => {
    works.push(work)
    return app.inject({ url: '/visit', headers: { 'x-session-id': idIn(browser) } })
  }
  return { visit, beside, id: () => idIn(browser) }
}

overEach(
  stores,
  t,
  'S17: a session that steps up each day ends by its absolute lifetime',
  async (t, over) => {
    const { visit, id } = await signedIn(over)
    let before = id()
    for (let count = 1; count < 20; count += 1) {
      await over.advance(day * second)
      const seen = await visit(async (session) => {
        const { createdAt, maxAge } = session
        await session.regenerate('all', { keepLifetime: true })
        return [session.createdAt === createdAt, session.maxAge === maxAge, session.data()]
      })
      t.same(JSON.parse(seen), [true, true, { user: 'ada', a: 'kept' }], `day ${count}`)
      t.not(id(), before)
      before = id()
    }
    await over.advance((day - 1) * second)
    t.equal(await visit((session) => session.user), 'ada')
    await over.advance(second)
    t.equal(await visit((session) => String(session.user)), 'undefined')
  }
)

overEach(stores, t, 'a login begins both lifetimes anew, whatever it keeps', async (t, over) => {
  for (const keep of [undefined, ['user', 'a'], 'all'] as const) {
    const { visit } = await signedIn(over)
    await over.advance(day * second)
    const seen = await visit(async (session) => {
      await session.regenerate(keep)
      session.b = 'new'
      return [session.createdAt === over.clock.now(), session.maxAge]
    })
    t.same(JSON.parse(seen), [true, hour])
  }
})

overEach(stores, t, 'what goes along with a step-up is whole and fresh', async (t, over) => {
  const { visit, beside } = await signedIn(over)
  await visit(async (session) => {
    session.a = 'changed'
    await session.regenerate('all', { keepLifetime: true })
    await beside((other) => {
      other.b = 'written beside'
      other.maxAge = 5 * day
    })
  })
  const seen = await visit((session) => [session.data(), session.maxAge])
  t.same(JSON.parse(seen), [{ user: 'ada', a: 'changed', b: 'written beside' }, 5 * day])
})

overEach(stores, t, 'a lifetime set with the step-up counts', async (t, over) => {
  const { visit, beside } = await signedIn(over)
  await visit(async (session) => {
    await session.regenerate('all', { keepLifetime: true })
    session.maxAge = 2 * day
    await beside((other) => {
      other.maxAge = 5 * day
    })
  })
  t.equal(await visit((session) => session.maxAge), String(2 * day))
})

overEach(stores, t, 'of two moves in one request both decide what goes along', async (t, over) => {
  type Given = Parameters<Session['regenerate']>
  const cases: ReadonlyArray<readonly [Given, Given, object, boolean]> = [
    [
      ['all', { keepLifetime: true }],
      ['all', { keepLifetime: true }],
      { user: 'ada', a: 'kept' },
      true
    ],
    [['all', { keepLifetime: true }], [['a'], { keepLifetime: true }], { a: 'kept' }, true],
    [[['user'], { keepLifetime: true }], ['all', {}], { user: 'ada' }, false],
    [[['user']], ['all', { keepLifetime: true }], { user: 'ada' }, false],
    [[['user', 'a']], [['a', 'b']], { a: 'kept' }, false]
  ]
  for (const [first, second, data, keepsLifetime] of cases) {
    const { visit } = await signedIn(over)
    await visit(async (session) => {
      await session.regenerate(...first)
      await session.regenerate(...second)
    })
    const seen = await visit((session) => [session.data(), session.maxAge === 10 * day])
    t.same(JSON.parse(seen), [data, keepsLifetime])
  }
})

overEach(stores, t, 'a session that is not stored keeps its lifetime too', async (t, over) => {
  const { app } = await over.serve()
  app.get('/', async ({ session }) => {
    session.a = 'kept'
    session.maxAge = 60
    await session.regenerate('all', { keepLifetime: true })
    return [session.data(), session.maxAge]
  })
  const reply = await app.inject('/')
  t.same(reply.json(), [{ a: 'kept' }, 60])
  t.equal(reply.cookies[0]?.maxAge, 60)
})

t.test('what regenerate() cannot take is a coded error, and ends nothing', async (t) => {
  const wrong: unknown[][] = [
    ['ALL'],
    ['a'],
    [7],
    [null],
    [new Set(['a'])],
    ['all', null],
    ['all', true],
    ['all', { keepLifetime: 'yes' }],
    ['all', { keepLifetimes: true }]
  ]
  overEach([later], t, 'given', async (t, over) => {
    const { visit, id } = await signedIn(over)
    const before = id()
    for (const given of wrong) {
      await visit((session) =>
        t.rejects(session.regenerate(...(given as [])), { code: 'HOLDFAST_VALUE_INVALID' })
      )
    }
    await visit((session) =>
      t.rejects(session.regenerate('all', {}, ...([() => {}] as unknown as [])), {
        code: 'HOLDFAST_CALLBACK_UNSUPPORTED'
      })
    )
    t.equal(id(), before)
    t.equal(await visit((session) => session.a), 'kept')
  })
})

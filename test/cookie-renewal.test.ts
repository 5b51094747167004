import { setImmediate } from 'node:timers/promises'

import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import type { Session, SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { overEach, type Over } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { Jar } from './helpers/jar.ts'

const site = 'https://app.example'
const second = 1000
const hour = 3600 * second
const stores = [...backends, later]

/** A visitor who is signed in, and whose browser has a clock of its own. */
interface Visitor {
  readonly jar: Jar
  readonly app: FastifyInstance
  readonly publicId: string
  /** The headers of another client of the session. */
  readonly headers: Record<string, string>
  /** Lets time pass for the server, its store and the browser. */
  readonly pass: (milliseconds: number) => Promise<void>
  /** The user that the app sees. */
  readonly user: (isLost?: boolean) => Promise<string | undefined>
  /** The session of the request to /hold. */
  readonly held: () => Session
}

async function visitor(over: Over, options: SessionOptions = {}): Promise<Visitor> {
  const { app } = await over.serve({ maxAge: 600, ...options }, { trustProxy: true })
  let held: Session | undefined
  app.get('/hold', async ({ session }) => {
    held = session
    return session.user
  })
  app.get('/remember', async ({ session }) => {
    session.maxAge = 3000
    return 'ok'
  })
  const browserClock = new TestClock()
  const jar = new Jar(app, browserClock)
  await jar.visit(`${site}/login`)
  const [id = ''] = (jar.cookies[0]?.value ?? '').split('.')
  return {
    jar,
    app,
    publicId: app.sessions.publicIdOf(id),
    headers: { 'x-session-id': jar.cookies[0]?.value ?? '' },
    async pass(milliseconds) {
      await over.advance(milliseconds)
      browserClock.advance(milliseconds)
    },
    async user(isLost = false) {
      return (await jar.visit(`${site}/read`, { isLost })).json<{ user?: string }>().user
    },
    held: () => held as Session
  }
}

/** What else moves the expiry of the record, beside the visitor's own requests. */
const movers: ReadonlyArray<{
  readonly what: string
  readonly move: (visitor: Visitor) => Promise<unknown>
}> = [
  {
    what: 'app.sessions.update',
    move: ({ app, publicId }) =>
      app.sessions.update(publicId, (draft) => {
        draft.n = (draft.n ?? 0) + 1
      })
  },
  { what: 'a header client that touches', move: read('/touch') },
  { what: 'a header client that updates', move: read('/update') },
  { what: 'a header client that reads', move: read('/read') },
  {
    what: 'an update() after the reply',
    move: ({ held }) =>
      held().update((draft) => {
        draft.n = (draft.n ?? 0) + 1
      })
  },
  { what: 'a touch() after the reply', move: async ({ held }) => held().touch() }
]

function read(url: string): (visitor: Visitor) => Promise<unknown> {
  return ({ app, headers }) => app.inject({ url, headers })
}

/** Holds that the browser's cookie lasts until a touch after the session's last use. */
function lasts(t: Test, { jar }: Visitor, clock: TestClock, { maxAge, slack }: Limits): void {
  const [cookie] = jar.cookies
  const left = (cookie?.expiresAt ?? 0) - clock.now()
  t.ok(left > (maxAge - slack) * second, `${left / second} of ${maxAge} seconds are left`)
}

interface Limits {
  readonly maxAge: number
  readonly slack: number
}

for (const { what, move } of movers) {
  for (const secret of [undefined, 'x'.repeat(32)]) {
    const how = secret === undefined ? '' : ', signed'
    overEach(stores, t, `an active user keeps the cookie beside ${what}${how}`, async (t, over) => {
      const visitor = await visitorWith(over, secret)
      for (let passed = 0; passed < 1800; passed += 90) {
        t.equal((await visitor.jar.visit(`${site}/hold`)).body, 'ada', `after ${passed} seconds`)
        lasts(t, visitor, over.clock, { maxAge: 600, slack: 150 })
        for (let count = 0; count < 3; count += 1) {
          await visitor.pass(30 * second)
          await move(visitor)
        }
        await setImmediate()
      }
      t.equal(visitor.jar.cookies.length, 1)
      t.equal(await visitor.user(), 'ada')
    })
  }
}

function visitorWith(over: Over, secret: string | undefined): Promise<Visitor> {
  return visitor(over, secret === undefined ? {} : { secret })
}

overEach(stores, t, 'an active user keeps the cookie beside a busy client', async (t, over) => {
  // Their requests alternate: whoever comes first moves the expiry, and the other one's is close.
  const user = await visitor(over)
  for (let passed = 0; passed < 1800; passed += 62) {
    await read('/read')(user)
    await user.pass(second)
    t.equal(await user.user(), 'ada', `after ${passed} seconds`)
    await user.pass(61 * second)
  }
})

overEach(stores, t, 'who moves the session to a longer life keeps the cookie', async (t, over) => {
  const user = await visitor(over)
  await read('/remember')(user)
  await user.pass(300 * second)
  t.equal(await user.user(), 'ada')
  await user.pass(2900 * second)
  t.equal(await user.user(), 'ada', 'the reply has told the browser')
})

for (const steps of ['once', 'again and again'] as const) {
  overEach(
    stores,
    t,
    `a clock that steps back by an hour, ${steps}, does not sign an active user out`,
    async (t, over) => {
      const user = await visitor(over, { maxAge: 3600 })
      for (let passed = 0; passed < 6 * 3600; passed += 300) {
        t.equal(await user.user(), 'ada', `after ${passed} seconds`)
        await user.pass(300 * second)
        const isDue = steps === 'once' ? passed === 600 : passed % 5400 === 600
        if (isDue) over.clock.advance(-hour)
      }
      t.equal(user.jar.cookies.length, 1)
    }
  )
}

overEach(
  stores,
  t,
  'a clock that steps back by an hour beside app.sessions.update signs nobody out',
  async (t, over) => {
    const user = await visitor(over, { maxAge: 3600 })
    for (let passed = 0; passed < 4 * 3600; passed += 300) {
      t.equal(await user.user(), 'ada', `after ${passed} seconds`)
      await user.pass(250 * second)
      await movers[0]?.move(user)
      await user.pass(50 * second)
      if (passed === 600) over.clock.advance(-hour)
    }
  }
)

// The cookie is of 600 seconds, a touch is due after 60.
const losses: ReadonlyArray<{ readonly lostAt: number; readonly nextAt: number }> = [
  { lostAt: 60, nextAt: 599 },
  { lostAt: 300, nextAt: 361 },
  { lostAt: 300, nextAt: 599 },
  { lostAt: 419, nextAt: 480 },
  { lostAt: 421, nextAt: 430 },
  { lostAt: 530, nextAt: 590 },
  { lostAt: 580, nextAt: 590 },
  { lostAt: 597, nextAt: 599 }
]

for (const { lostAt, nextAt } of losses) {
  overEach(
    stores,
    t,
    `a reply that was lost after ${lostAt} seconds signs nobody out who comes back after ${nextAt}`,
    async (t, over) => {
      for (const between of [0, 30]) {
        const user = await visitor(over)
        await user.pass(lostAt * second)
        t.equal(await user.user(true), 'ada')
        await user.pass((nextAt - lostAt) * second)
        t.equal(await user.user(), 'ada', 'still')
        await user.pass(between * second)
        t.equal(await user.user(), 'ada')
        await user.pass((560 - between) * second)
        t.equal(await user.user(), 'ada', 'again, when the first cookie has run out')
      }
    }
  )
}

overEach(stores, t, 'every third reply may be lost', async (t, over) => {
  const user = await visitor(over)
  for (let count = 1; count < 40; count += 1) {
    await user.pass(70 * second)
    t.equal(await user.user(count % 3 === 0), 'ada', `${count}`)
  }
})

overEach(
  stores,
  t,
  'a reply that was lost beside another client signs nobody out',
  async (t, over) => {
    const user = await visitor(over)
    for (let count = 1; count < 30; count += 1) {
      for (let step = 0; step < 4; step += 1) {
        await user.pass(30 * second)
        await movers[0]?.move(user)
      }
      t.equal(await user.user(count % 4 === 0), 'ada', `${count}`)
    }
  }
)

const writes: ReadonlySet<string> = new Set(['create', 'update', 'touch', 'delete'])

/** How often the visitor comes, in seconds. */
const rhythms: ReadonlyArray<readonly [name: string, SessionOptions, ...pauses: number[]]> = [
  ['each 10 seconds', {}, 10],
  ['each 59 seconds', {}, 59],
  ['each 61 seconds', {}, 61],
  ['at odd times', {}, 7, 53, 90, 1, 120, 30],
  ['each 9 of 60 seconds', { maxAge: 60 }, 9],
  ['with a touchAfter of its own', { touchAfter: 200 }, 50],
  ['with a secret', { secret: 'x'.repeat(32) }, 20],
  ['with a cookie of its own kind', { cookie: { persistent: false } }, 20]
]

for (const [name, options, ...pauses] of rhythms) {
  overEach(
    stores,
    t,
    `a plain reader makes no more writes than one per touchAfter: ${name}`,
    async (t, over) => {
      const user = await visitor(over, options)
      const { maxAge = 600 } = options
      const touchAfter = (options.touchAfter ?? Math.min(60, maxAge / 10)) * second
      over.store.taken()
      const before = over.clock.now()
      const instants = [before]
      for (let count = 0; count < 100; count += 1) {
        await user.pass((pauses[count % pauses.length] as number) * second)
        const reply = await user.jar.visit(`${site}/read`)
        t.equal(reply.json<{ user?: string }>().user, 'ada')
        const written = over.store.taken().filter((verb) => writes.has(verb))
        for (const _ of written) instants.push(over.clock.now())
        t.equal(reply.cookies.length, written.length, 'each write sends the cookie')
      }
      const gaps = instants.slice(1).map((instant, index) => instant - (instants[index] as number))
      t.ok(Math.min(...gaps) >= touchAfter, `${gaps.map((gap) => gap / second)}`)
      t.ok(gaps.length > 2)
    }
  )
}

overEach(stores, t, 'a clock that steps back costs a reader one write', async (t, over) => {
  const user = await visitor(over)
  await user.pass(100 * second)
  await user.user()
  over.clock.advance(-hour)
  over.store.taken()
  for (let count = 0; count < 60; count += 1) {
    await user.pass(10 * second)
    t.equal(await user.user(), 'ada')
  }
  const verbs = over.store.taken().filter((verb) => writes.has(verb))
  t.ok(verbs.length <= 600 / 60 + 1, `${verbs}`)
})

overEach(stores, t, 'a header client makes no more writes than before', async (t, over) => {
  const user = await visitor(over)
  over.store.taken()
  for (let count = 0; count < 60; count += 1) {
    await user.pass(10 * second)
    await read('/read')(user)
  }
  const verbs = over.store.taken().filter((verb) => writes.has(verb))
  t.ok(verbs.length <= 10, `${verbs}`)
  t.ok(verbs.length >= 5)
})

import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'

import './helpers/data.ts'
import { MemoryStore, type Session, type SessionOptions } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { world, type World } from './helpers/world.ts'

const second = 1000
const hour = 3600 * second
const day = 24 * hour

/** Whether the browser's session is stored, which is no use of it. */
async function lives({ stored, store }: World): Promise<boolean> {
  const data = await stored()
  store.taken()
  return data !== undefined
}

function begin({ visit }: World, seconds?: number): Promise<LightMyRequestResponse> {
  return visit((session) => {
    session.user = 'ada'
    if (seconds !== undefined) session.maxAge = seconds
  })
}

/** Whether the browser's session still answers to its cookie. */
async function isKnown({ visit }: World): Promise<boolean> {
  let user: string | undefined
  await visit((session) => {
    ;({ user } = session)
  })
  return user === 'ada'
}

function maxAgeOf(reply: LightMyRequestResponse): number | undefined {
  return reply.cookies.find(({ name }) => name === 'session_id')?.maxAge
}

t.test('S16: the idle lifetime ends a session to the millisecond', async (t) => {
  for (const [elapsed, known] of [
    [hour - 1, true],
    [hour, false],
    [hour + 1, false]
  ] as const) {
    const scene = await world(t)
    await begin(scene)
    scene.clock.advance(elapsed)
    t.equal(await isKnown(scene), known, `after ${elapsed} ms`)
  }
})

t.test('use extends the idle lifetime, for as long as it goes on', async (t) => {
  const scene = await world(t)
  await begin(scene)
  for (let use = 0; use < 10; use += 1) {
    scene.clock.advance(hour - 1)
    t.equal(await isKnown(scene), true)
  }
  scene.clock.advance(hour)
  t.equal(await isKnown(scene), false)
})

const uses: Readonly<Record<string, (session: Session, n: number) => unknown>> = {
  reading: (session) => session.user,
  writing: (session, n) => {
    session.n = n
  },
  'save()': async (session, n) => {
    session.n = n
    await session.save()
  },
  'update()': (session, n) =>
    session.update((draft) => {
      draft.n = n
    }),
  'touch()': (session) => session.touch(),
  'an own maxAge': (session) => {
    session.maxAge = 100 * 24 * 3600
  }
}

for (const [name, use] of Object.entries(uses)) {
  t.test(`S17: the absolute lifetime is not extended by ${name}`, async (t) => {
    const scene = await world(t, { maxAge: 3600, absoluteTimeout: 3 * 3600, touchAfter: 0 })
    await begin(scene)
    for (let n = 1; n <= 5; n += 1) {
      scene.clock.advance(hour / 2)
      await scene.visit((session) => use(session, n))
      t.equal(await isKnown(scene), true)
    }
    scene.clock.advance(hour / 2 - 1)
    t.equal(await isKnown(scene), true, 'a millisecond before')
    scene.clock.advance(1)
    t.equal(await isKnown(scene), false, 'at the deadline')
  })
}

t.test('S17: regenerate() starts the absolute lifetime anew', async (t) => {
  const scene = await world(t, { absoluteTimeout: 3600 })
  await begin(scene)
  scene.clock.advance(hour / 2)
  await scene.visit((session) => session.regenerate(['user']))
  scene.clock.advance(hour - 1)
  t.equal(await isKnown(scene), true)
  scene.clock.advance(1)
  t.equal(await isKnown(scene), false)
})

t.test('absoluteTimeout: false lets a session in use live on', async (t) => {
  const scene = await world(t, { absoluteTimeout: false, maxAge: 30 * 24 * 3600 })
  await begin(scene)
  for (let use = 0; use < 60; use += 1) {
    scene.clock.advance(29 * day)
    if (!(await isKnown(scene))) t.fail(`ended at use ${use}`)
  }
  t.equal(await isKnown(scene), true)
})

t.test('lowering absoluteTimeout ends the sessions that are too old for it', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock, sweepInterval: 2_000_000 })
  const before = await world(t, { clock, store, maxAge: 10 * 24 * 3600 })
  await begin(before)
  clock.advance(2 * day)
  t.equal(await isKnown(before), true)
  const after = await world(t, { clock, store, maxAge: 24 * 3600, absoluteTimeout: 24 * 3600 })
  after.browser.cookies.set('session_id', before.id())
  t.equal(await lives(after), false)
  t.equal(await isKnown(after), false)
  t.equal(await lives(before), true, 'it was the option that ended it')
})

t.test('S18: lifetimes of more than 2^31 milliseconds', async (t) => {
  const scene = await world(t, { maxAge: 60 * 24 * 3600, absoluteTimeout: 300 * 24 * 3600 })
  t.equal(maxAgeOf(await begin(scene)), 60 * 24 * 3600)
  scene.clock.advance(60 * day - 1)
  t.equal(await isKnown(scene), true)
  scene.clock.advance(60 * day)
  t.equal(await isKnown(scene), false)
})

t.test("a session's own maxAge is kept with it, and counts instead of the option", async (t) => {
  const scene = await world(t)
  t.equal(maxAgeOf(await begin(scene, 30 * 3600)), 30 * 3600)
  scene.clock.advance(30 * hour - 1)
  await scene.visit((session) => {
    t.equal(session.maxAge, 30 * 3600)
  })
  scene.clock.advance(30 * hour - 1)
  t.equal(await isKnown(scene), true)
  scene.clock.advance(30 * hour)
  t.equal(await isKnown(scene), false)
})

t.test('setting nothing but maxAge is a change, and moves the expiry at once', async (t) => {
  const scene = await world(t)
  await begin(scene)
  scene.store.taken()
  const reply = await scene.visit((session) => {
    session.maxAge = 7200
  })
  t.same(scene.store.taken(), ['get', 'update'])
  t.equal(maxAgeOf(reply), 7200)
  await scene.visit((session) => {
    session.maxAge = 7200
  })
  t.same(scene.store.taken(), ['get'], 'the same again is none')
})

t.test("a maxAge that can't be is a coded error", async (t) => {
  const scene = await world(t)
  await begin(scene)
  scene.store.taken()
  await scene.visit((session) => {
    for (const wrong of [
      0,
      -1,
      1.5,
      Number.NaN,
      Infinity,
      34_560_001,
      '60',
      null,
      {}
    ] as number[]) {
      t.throws(
        () => {
          session.maxAge = wrong
        },
        { code: 'HOLDFAST_VALUE_INVALID' },
        String(wrong)
      )
    }
    t.equal(session.maxAge, 3600)
  })
  t.same(scene.store.taken(), ['get'])
  t.equal(
    maxAgeOf(
      await scene.visit((session) => {
        session.maxAge = 34_560_000
      })
    ),
    30 * 24 * 3600,
    '400 days can, up to the absolute lifetime'
  )
})

t.test('a maxAge of undefined goes back to the option', async (t) => {
  const scene = await world(t)
  await begin(scene, 60)
  await scene.visit((session) => {
    session.maxAge = undefined
    t.equal(session.maxAge, 3600)
  })
  await scene.visit((session) => {
    t.equal(session.maxAge, 3600)
  })
  scene.clock.advance(hour - 1)
  t.equal(await isKnown(scene), true)
})

t.test('a shorter maxAge counts from the use that sets it', async (t) => {
  const scene = await world(t)
  await begin(scene)
  const reply = await scene.visit((session) => {
    session.maxAge = 60
  })
  t.equal(maxAgeOf(reply), 60)
  scene.clock.advance(59 * second)
  t.equal(await isKnown(scene), true)
  scene.clock.advance(60 * second)
  t.equal(await isKnown(scene), false)
})

t.test("regenerate() drops the session's own maxAge", async (t) => {
  const scene = await world(t)
  await begin(scene, 7200)
  const reply = await scene.visit(async (session) => {
    await session.regenerate(['user'])
    t.equal(session.maxAge, 3600)
  })
  t.equal(maxAgeOf(reply), 3600)
  scene.clock.advance(hour)
  t.equal(await isKnown(scene), false)
})

/** How long after the session's beginning a request touches it. */
const touches: readonly {
  readonly name: string
  readonly options?: SessionOptions
  readonly ownMaxAge?: number
  readonly dueAfter: number
}[] = [
  { name: 'by default 60 seconds', dueAfter: 60 * second },
  {
    name: 'by default a tenth of a short maxAge',
    options: { maxAge: 100 },
    dueAfter: 10 * second
  },
  { name: 'as set', options: { touchAfter: 600 }, dueAfter: 600 * second },
  { name: '0: on every request', options: { touchAfter: 0 }, dueAfter: 0 },
  {
    name: "a tenth of a short maxAge of the session's own",
    ownMaxAge: 100,
    dueAfter: 10 * second
  }
]

for (const { name, options = {}, ownMaxAge, dueAfter } of touches) {
  t.test(`touchAfter, ${name}`, async (t) => {
    const scene = await world(t, options)
    await begin(scene, ownMaxAge)
    scene.store.taken()
    if (dueAfter > 0) {
      scene.clock.advance(dueAfter - 1)
      t.equal(maxAgeOf(await scene.visit()), undefined)
      t.same(scene.store.taken(), ['get'], 'a millisecond before')
      scene.clock.advance(1)
    }
    t.equal(maxAgeOf(await scene.visit()), ownMaxAge ?? options.maxAge ?? 3600)
    t.same(scene.store.taken(), ['get', 'touch'])
    if (dueAfter === 0) return
    await scene.visit()
    t.same(scene.store.taken(), ['get'], 'not again at once')
  })
}

t.test("the cookie's Max-Age is the record's remaining life", async (t) => {
  const scene = await world(t, { absoluteTimeout: 2 * 3600 })
  t.equal(maxAgeOf(await begin(scene)), 3600)
  scene.clock.advance(hour / 2)
  t.equal(maxAgeOf(await scene.visit()), 3600, 'after a touch')
  scene.clock.advance((hour * 3) / 4)
  t.equal(maxAgeOf(await scene.visit()), 2700, 'capped by the absolute lifetime')
  scene.clock.advance(hour / 2)
  t.equal(maxAgeOf(await scene.visit()), undefined, "a touch can't move it any more")
  t.equal(
    maxAgeOf(
      await scene.visit((session) => {
        session.n = 1
      })
    ),
    900,
    'after a write'
  )
  t.equal(
    maxAgeOf(
      await scene.visit((session) => {
        session.touch()
      })
    ),
    900,
    'after touch()'
  )
  scene.clock.advance(1)
  t.equal(
    maxAgeOf(
      await scene.visit((session) => {
        session.touch()
      })
    ),
    900,
    'rounded up: a cookie does not end before its session'
  )
})

t.test(
  'P5: a touch beside a request that has the session remembered for longer does not cut its cookie short',
  async (t) => {
    const scene = await world(t)
    await begin(scene)
    const reply = await scene.visit(async (session) => {
      session.touch()
      await scene.visit((same) => {
        same.maxAge = 30 * 24 * 3600
      })
    })
    t.equal(maxAgeOf(reply), 30 * 24 * 3600)
  }
)

t.test('P5: no touch goes past the absolute deadline', async (t) => {
  const scene = await world(t, { absoluteTimeout: 4000, touchAfter: 0 })
  await begin(scene)
  const deadline = scene.clock.now() + 4000 * second
  for (const step of [1, 1000, 2000, 900]) {
    scene.clock.advance(step * second)
    await scene.visit((session) => {
      session.touch()
      t.ok(session.expiresAt <= deadline)
    })
    const stored = await scene.store.get(scene.app.sessions.publicIdOf(scene.id()))
    t.equal(stored?.expiresAt, Math.min(scene.clock.now() + hour, deadline))
  }
})

const slowWork: Readonly<Record<string, (session: Session) => unknown>> = {
  'a write': (session) => {
    session.n = 1
  },
  'a touch': (session) => session.touch(),
  'a save': async (session) => {
    session.n = 1
    await session.save().catch((error: { code?: string }) => {
      if (error.code !== 'HOLDFAST_SESSION_GONE') throw error
    })
  },
  'an update': (session) =>
    session
      .update((draft) => {
        draft.n = 1
      })
      .catch((error: { code?: string }) => {
        if (error.code !== 'HOLDFAST_SESSION_GONE') throw error
      }),
  'a destroy': (session) => session.destroy(),
  reading: (session) => session.user
}

for (const [deadline, options] of Object.entries({
  idle: {},
  absolute: { absoluteTimeout: 3600 }
})) {
  for (const [name, work] of Object.entries(slowWork)) {
    t.test(
      `P1: a session that ends by its ${deadline} lifetime while a request runs is not brought back by ${name}`,
      async (t) => {
        const scene = await world(t, { ...options, touchAfter: 0 })
        await begin(scene)
        const id = scene.id()
        const reply = await scene.visit((session) => {
          scene.clock.advance(hour)
          return work(session)
        })
        t.equal(reply.statusCode, 200)
        t.same(carriedBy(reply), { header: undefined, cookie: undefined })
        t.equal(await lives(scene), false)
        scene.browser.cookies.set('session_id', id)
        t.equal(await isKnown(scene), false)
      }
    )
  }
}

t.test('P1: what a session held is not carried to a new id after it ended', async (t) => {
  const scene = await world(t)
  await begin(scene)
  await scene.visit(async (session) => {
    scene.clock.advance(hour)
    await session.regenerate(['user'])
    await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
  })
  t.equal(await isKnown(scene), false)
})

import t, { type Test } from 'tap'

import './helpers/data.ts'
import { overEach } from './helpers/attack.ts'
import { backends, later } from './helpers/backends.ts'
import { carriedBy } from './helpers/browser.ts'
import { begin as beginIn } from './helpers/serve.ts'
import { nextTurn, wraps, type Wrap } from './helpers/stores.ts'
import { world, type World } from './helpers/world.ts'

interface Begun extends World {
  readonly publicId: string
}

/** A world whose browser has a session: user ada, an own maxAge of 1800 seconds. */
async function begin(t: Test, wrap: Wrap): Promise<Begun> {
  const scene = await world(t, {}, { wrap })
  const { body: publicId } = await scene.visit((session) => {
    session.user = 'ada'
    session.maxAge = 1800
    return session.publicId
  })
  scene.store.taken()
  return { ...scene, publicId }
}

const unknown = 'A'.repeat(43)

for (const [kind, wrap] of Object.entries(wraps)) {
  t.test(`fastify.sessions, on the ${kind}`, async (t) => {
    t.test('store is the store', async (t) => {
      const { app, store } = await begin(t, wrap)
      t.equal(app.sessions.store, store)
    })

    t.test('publicIdOf gives the key of an id, which does not show the id', async (t) => {
      const { app, id, publicId } = await begin(t, wrap)
      t.equal(app.sessions.publicIdOf(id()), publicId)
      t.match(publicId, /^[A-Za-z0-9_-]{43}$/)
      t.notOk(publicId.includes(id()))
    })

    t.test('get answers what is stored, and writes nothing', async (t) => {
      const { app, clock, publicId, store } = await begin(t, wrap)
      const now = clock.now()
      clock.advance(1000)
      t.same(await app.sessions.get(publicId), {
        publicId,
        data: { user: 'ada' },
        createdAt: now,
        expiresAt: now + 1_800_000,
        maxAge: 1800
      })
      t.same(store.taken(), ['get'])
    })

    t.test('get shares nothing with the session', async (t) => {
      const { app, publicId } = await begin(t, wrap)
      const found = await app.sessions.get(publicId)
      if (found !== undefined) found.data.user = 'eve'
      t.same((await app.sessions.get(publicId))?.data, { user: 'ada' })
    })

    t.test(
      'update changes the stored session, answers the result, and the next request sees it',
      async (t) => {
        const { app, browser, publicId } = await begin(t, wrap)
        t.equal(
          await app.sessions.update(publicId, (draft) => {
            draft.n = 1
            return `for ${draft.user}`
          }),
          'for ada'
        )
        t.same((await browser.get('/read')).json(), { user: 'ada', n: 1 })
        t.equal((await app.sessions.get(publicId))?.maxAge, 1800, 'its own lifetime is kept')
      }
    )

    t.test('update refuses what session.update() refuses, and stores nothing', async (t) => {
      const { app, publicId, store } = await begin(t, wrap)
      const thrown = new Error('mine')
      await t.rejects(
        app.sessions.update(publicId, async (draft) => {
          draft.n = 1
        }),
        { code: 'HOLDFAST_UPDATE_ASYNC' }
      )
      await t.rejects(
        app.sessions.update(publicId, (draft) => {
          ;(draft as Record<string, unknown>)['id'] = 1
        }),
        { code: 'HOLDFAST_KEY_RESERVED' }
      )
      await t.rejects(
        app.sessions.update(publicId, (draft) => {
          draft.a = 1n
        }),
        { code: 'HOLDFAST_DATA_UNSERIALIZABLE' }
      )
      await t.rejects(
        app.sessions.update(publicId, () => {
          throw thrown
        }),
        thrown
      )
      t.notOk(store.taken().includes('update'))
      t.same((await app.sessions.get(publicId))?.data, { user: 'ada' })
    })

    t.test('concurrent updates all count', async (t) => {
      const { app, clock, publicId } = await begin(t, wrap)
      let done = false
      const all = Promise.all(
        Array.from({ length: 50 }, () =>
          app.sessions.update(publicId, (draft) => (draft.n = (draft.n ?? 0) + 1))
        )
      ).finally(() => {
        done = true
      })
      // Time passes, for the pauses between tries, but not as far as the time-out.
      for (let turn = 0; !done && turn < 1900; turn += 1) {
        await nextTurn()
        if (kind === 'slow store') clock.advance(1)
      }
      t.same(
        (await all).toSorted((one, other) => one - other),
        Array.from({ length: 50 }, (_, index) => index + 1)
      )
      t.equal((await app.sessions.get(publicId))?.data.n, 50)
    })

    t.test('destroy ends a session, and says whether there was one', async (t) => {
      const { app, browser, publicId } = await begin(t, wrap)
      t.equal(await app.sessions.destroy(publicId), true)
      t.equal(await app.sessions.destroy(publicId), false)
      t.same((await browser.get('/read')).json(), {})
    })

    const absent: Readonly<Record<string, (scene: Begun) => Promise<string> | string>> = {
      unknown: () => unknown,
      malformed: () => '../x',
      destroyed: async ({ app, publicId }) => {
        await app.sessions.destroy(publicId)
        return publicId
      },
      expired: ({ clock, publicId }) => {
        clock.advance(1_800_000)
        return publicId
      },
      'an id, not a public id': ({ id }) => id()
    }
    for (const [name, make] of Object.entries(absent)) {
      t.test(`a public id that is ${name} is absent, and nothing is stored under it`, async (t) => {
        const scene = await begin(t, wrap)
        const publicId = await make(scene)
        scene.store.taken()
        t.equal(await scene.app.sessions.get(publicId), undefined)
        t.equal(await scene.app.sessions.destroy(publicId), false)
        await t.rejects(
          scene.app.sessions.update(publicId, (draft) => {
            draft.n = 1
          }),
          { code: 'HOLDFAST_SESSION_GONE' }
        )
        t.notOk(scene.store.taken().some((verb) => verb === 'create' || verb === 'update'))
      })
    }

    t.test('a failing store rejects with a coded error', async (t) => {
      const { app, publicId, store } = await begin(t, wrap)
      store.intercept = () => {
        throw new Error('outage')
      }
      await t.rejects(app.sessions.get(publicId), { code: 'HOLDFAST_STORE_FAILED' })
      await t.rejects(
        app.sessions.update(publicId, () => {}),
        { code: 'HOLDFAST_STORE_FAILED' }
      )
      await t.rejects(app.sessions.destroy(publicId), { code: 'HOLDFAST_STORE_FAILED' })
    })
  })
}

t.test(
  "a session ended between update's reading and its writing is not brought back",
  async (t) => {
    const { app, publicId, store } = await begin(t, wraps['memory store'])
    store.intercept = (call, pass) => {
      if (call.verb === 'update') {
        store.intercept = (_call, next) => next()
        store.delete(publicId)
      }
      return pass()
    }
    await t.rejects(
      app.sessions.update(publicId, (draft) => {
        draft.n = 1
      }),
      { code: 'HOLDFAST_SESSION_GONE' }
    )
    t.equal(await app.sessions.get(publicId), undefined)
  }
)

overEach(
  [...backends, later],
  t,
  'destroy returns true if the first answer was lost and the session is dead',
  async (t, { serve, store }) => {
    const { app } = await serve()
    const { intercept } = store
    const gone = await beginIn(app)
    const moved = await beginIn(app)
    const login = await app.inject({ url: '/login', headers: { 'x-session-id': moved } })
    const successor = carriedBy(login).header as string
    for (const [id, dead] of [
      [gone, gone],
      [moved, successor]
    ] as const) {
      const key = app.sessions.publicIdOf(id)
      const deadKey = app.sessions.publicIdOf(dead)
      let isLost = false
      store.intercept = async (call, pass) => {
        const answer = await intercept(call, pass)
        if (isLost || call.verb !== 'delete' || call.key !== deadKey) return answer
        isLost = true
        throw new Error('the answer was lost')
      }
      t.equal(await app.sessions.destroy(key), true)
      t.equal(isLost, true)
      t.equal(await app.sessions.get(deadKey), undefined)
      store.intercept = intercept
      t.equal(await app.sessions.destroy(key), false, 'nothing was lost this time')
    }
  }
)

import diagnostics from 'node:diagnostics_channel'

import t, { type Test } from 'tap'

import './helpers/data.ts'
import type { Session } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { setCookies } from './helpers/serve.ts'
import { MovingStore, wraps, type Wrap } from './helpers/stores.ts'
import { world, type World } from './helpers/world.ts'

/** What may befall the calls of `move`, one after the other. The last one befalls the rest too. */
type Fate = 'passes' | 'fails' | 'is lost' | 'comes late'

interface Scene extends World {
  /** Decides on the calls of `move`. What comes late is a call that failed, and can be made later. */
  readonly befall: (fates: readonly Fate[], meanwhile?: () => unknown) => { late?: () => unknown }
}

/** A world over a store that has `move`, whose browser has a session with a: 'old', n: 0. */
async function begin(t: Test, wrap: Wrap, options: object = {}): Promise<Scene> {
  const clock = new TestClock()
  const store = wrap(new MovingStore({ clock }))
  const scene = await world(t, { clock, store, ...options })
  await scene.visit((session) => {
    Object.assign(session, { a: 'old', n: 0 })
  })
  store.taken()
  return {
    ...scene,
    befall(fates, meanwhile = () => {}) {
      const usual = store.intercept
      const left = [...fates]
      const befallen: { late?: () => unknown } = {}
      store.intercept = (call, pass) => {
        if (call.verb !== 'move') return usual(call, pass)
        const fate = left.length > 1 ? left.shift() : left[0]
        if (fate === 'passes') return usual(call, pass)
        if (fate === 'is lost') void pass()
        if (fate === 'comes late') befallen.late ??= pass
        meanwhile()
        throw new Error('connection reset')
      }
      return befallen
    }
  }
}

/** Logs in, keeping a. */
async function login(session: Session): Promise<void> {
  await session.regenerate(['a'])
  session.user = 'ada'
}

const ada = { a: 'old', user: 'ada' }

for (const [kind, wrap] of Object.entries(wraps)) {
  t.test(`a move in one step, on the ${kind}`, async (t) => {
    t.test('is one call, and tells of a creation and of a move', async (t) => {
      const { app, id, store, stored, visit } = await begin(t, wrap)
      const before = id()
      const seen: unknown[] = []
      const note = (event: unknown, name: string | symbol): void => {
        seen.push([name, (event as { session: string }).session])
      }
      for (const name of ['created', 'regenerated']) {
        diagnostics.subscribe(`fastify-holdfast:${name}`, note)
        t.teardown(() => diagnostics.unsubscribe(`fastify-holdfast:${name}`, note))
      }
      await visit(login)
      t.same(store.taken(), ['get', 'move'])
      t.same(await stored(), ada)
      t.equal(await stored(before), undefined)
      t.same(seen, [
        ['fastify-holdfast:created', app.sessions.publicIdOf(id())],
        ['fastify-holdfast:regenerated', app.sessions.publicIdOf(before)]
      ])
    })

    for (const { fates, calls } of [
      { fates: ['is lost'], calls: ['get', 'move', 'get', 'get'] },
      { fates: ['fails', 'passes'], calls: ['get', 'move', 'get', 'move'] }
    ] as const) {
      t.test(`P8: is made once, if the first call ${fates[0]}`, async (t) => {
        const { befall, id, store, stored, visit } = await begin(t, wrap)
        const before = id()
        befall(fates)
        t.equal((await visit(login)).statusCode, 200)
        t.same(store.taken(), calls)
        t.same(await stored(), ada)
        t.equal(await stored(before), undefined)
      })
    }

    t.test('P8: that fails twice is a 503, and the session is as it was', async (t) => {
      const { befall, id, store, stored, visit } = await begin(t, wrap)
      const before = id()
      befall(['fails'])
      const reply = await visit(login)
      t.same([reply.statusCode, reply.json().code], [503, 'HOLDFAST_STORE_FAILED'])
      t.same(store.taken(), ['get', 'move', 'get', 'move'])
      t.same(setCookies(reply), [])
      t.equal(id(), before)
      t.same(await stored(), { a: 'old', n: 0 })
    })

    t.test('P8: that fails, and then loses its answer: 503, and nothing is removed', async (t) => {
      const { befall, store, visit } = await begin(t, wrap)
      befall(['fails', 'is lost'])
      t.equal((await visit(login)).statusCode, 503)
      t.same(store.taken(), ['get', 'move', 'get', 'move'])
    })

    t.test('P1: whose lost call comes late changes nothing', async (t) => {
      for (const ending of [false, true]) {
        const { befall, browser, stored, visit } = await begin(t, wrap)
        const befallen = befall(['comes late', 'passes'])
        t.equal((await visit(login)).statusCode, 200)
        if (ending) await visit((session) => session.destroy())
        t.equal(await befallen.late?.(), false)
        t.same(await stored(), ending ? undefined : ada)
        t.equal(browser.cookies.has('session_id'), !ending)
      }
    })

    t.test('P1: that a logout has ended before its lost answer is found is a 409', async (t) => {
      const { app, befall, id, visit } = await begin(t, wrap)
      const publicId = app.sessions.publicIdOf(id())
      befall(['is lost'], () => app.sessions.destroy(publicId))
      const reply = await visit(login)
      t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'])
      t.same(setCookies(reply), [])
    })

    t.test('P3: takes along what another request has stored, and changes it once', async (t) => {
      const { app, id, store, stored, visit } = await begin(t, wrap)
      const publicId = app.sessions.publicIdOf(id())
      await visit(async (session) => {
        await session.regenerate(['a', 'n'])
        await app.sessions.update(publicId, (draft) => {
          Object.assign(draft, { a: 'theirs', n: 5 })
        })
        store.taken()
        t.equal(await session.update((draft) => (draft.n = (draft.n ?? 0) + 1)), 6)
      })
      t.same(store.taken().slice(0, 3), ['move', 'get', 'move'])
      t.same(await stored(), { a: 'theirs', n: 6 })
    })

    t.test('P1: of a session that has ended or moved with what is kept is a 409', async (t) => {
      for (const end of ['destroy', 'move'] as const) {
        const { app, id, store, visit, browser, clock } = await begin(t, wrap)
        const other = await world(t, { clock, store })
        other.browser.cookies.set('session_id', id())
        const reply = await visit(async (session) => {
          await session.regenerate(['a'])
          if (end === 'move') await other.visit(login)
          else await app.sessions.destroy(app.sessions.publicIdOf(id()))
          store.taken()
        })
        t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSION_GONE'], end)
        t.same(store.taken(), ['move', 'get'], end)
        t.same(setCookies(reply), [], end)
        browser.cookies.clear()
      }
    })

    t.test('of a session that has moved with nothing to keep begins another', async (t) => {
      const { id, store, stored, visit, clock } = await begin(t, wrap)
      const other = await world(t, { clock, store })
      other.browser.cookies.set('session_id', id())
      const reply = await visit(async (session) => {
        await session.regenerate()
        await other.visit(login)
        store.taken()
        session.user = 'ada'
      })
      t.equal(reply.statusCode, 200)
      t.same(store.taken(), ['move', 'get', 'get', 'create'])
      t.not(id(), other.id())
      t.same(await stored(), { user: 'ada' })
      t.same(await other.stored(), ada)
    })

    t.test('to an id that is taken goes to another, three times at most', async (t) => {
      const taken = 'taken-taken-taken-taken'
      const free = 'free-free-free-free-free'
      for (const { ids, isShown, statusCode } of [
        { ids: [taken, taken, free], isShown: false, statusCode: 200 },
        { ids: [taken, taken, taken, free], isShown: false, statusCode: 500 },
        { ids: [taken, free], isShown: true, statusCode: 500 }
      ]) {
        const queue = ['first-first-first-first', taken, ...ids]
        const options = { generateId: () => queue.shift() as string }
        const { app, id, stored, visit } = await begin(t, wrap, options)
        await app.inject('/write/others')
        const reply = await visit(async (session) => {
          await login(session)
          if (isShown) t.equal(session.id, taken)
        })
        t.equal(reply.statusCode, statusCode)
        if (statusCode === 200) t.equal(id(), free)
        else t.equal(reply.json().code, 'HOLDFAST_ID_TAKEN')
        t.same(await stored(), statusCode === 200 ? ada : { a: 'old', n: 0 })
        t.same(await stored(taken), { a: 'others' })
      }
    })

    t.test('S24: that would keep too much is refused, and removes nothing', async (t) => {
      const { app, id, store, stored, visit } = await begin(t, wrap, { maxBytes: 100 })
      const publicId = app.sessions.publicIdOf(id())
      const reply = await visit(async (session) => {
        session.a = 'x'.repeat(60)
        await session.regenerate(['a', 'b'])
        await app.sessions.update(publicId, (draft) => {
          draft.b = 'y'.repeat(50)
        })
        store.taken()
      })
      t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
      t.same(store.taken(), ['move', 'get'])
      t.match(await stored(), { a: 'old', n: 0 })
    })

    t.test(
      'that took effect unheard is not taken for the next one, which holds more',
      async (t) => {
        const { befall, id, visit } = await begin(t, wrap)
        const before = id()
        const reply = await visit(async (session) => {
          await session.regenerate(['a'])
          befall(['fails', 'is lost', 'passes'])
          await t.rejects(session.save(), { code: 'HOLDFAST_STORE_FAILED' })
          session.user = 'ada'
          await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
        })
        t.equal(reply.statusCode, 503)
        t.equal(id(), before)

        const second = await begin(t, wrap)
        const failed = await second.visit(async (session) => {
          await session.regenerate()
          second.befall(['fails', 'is lost', 'passes'])
          await t.rejects(session.save(), { code: 'HOLDFAST_STORE_FAILED' })
          session.user = 'ada'
          await session.save()
        })
        t.equal(failed.statusCode, 503)
        t.same(await second.stored(), { user: 'ada' }, 'the id that save() announced is good')
      }
    )
  })
}

import t from 'tap'

import { MemoryStore } from '../lib/index.ts'
import { TestClock } from '../lib/testing/index.ts'
import { begin, serve, stored } from './helpers/serve.ts'
import { slow } from './helpers/stores.ts'

for (const [name, spoil] of [
  ['cannot be serialised', 1n],
  ['is too large', 'x'.repeat(100_000)]
] as const) {
  t.test(
    `P1: nothing of a session comes back after destroy(), though what was put in meanwhile ${name}`,
    async (t) => {
      const clock = new TestClock()
      const { app } = await serve(t, { clock, store: slow(new MemoryStore({ clock })) })
      app.get('/end', async ({ session }) => {
        const ended = session.destroy()
        session.a = spoil
        session.b = spoil
        await ended
        delete session.b
      })
      const id = await begin(app)
      const reply = await app.inject({ url: '/end', headers: { cookie: `session_id=${id}` } })
      t.equal(reply.statusCode, 200)
      t.equal(await stored(app, id), undefined)
      t.same(
        reply.cookies.map(({ value }) => value),
        ['']
      )
    }
  )

  t.test(
    `P4: an update that took effect resolves, though what was put in meanwhile ${name}`,
    async (t) => {
      const clock = new TestClock()
      const { app } = await serve(t, { clock, store: slow(new MemoryStore({ clock })) })
      app.get('/count', async ({ session }) => {
        const counted = session.update((draft) => (draft.n = (draft.n ?? 0) + 1))
        session.a = spoil
        session.b = spoil
        const n = await counted
        session.a = 'old'
        delete session.b
        return { n }
      })
      const id = await begin(app)
      t.same(
        (await app.inject({ url: '/count', headers: { cookie: `session_id=${id}` } })).json(),
        { n: 1 }
      )
      t.same(await stored(app, id), { a: 'old', n: 1 })
    }
  )

  t.test(`a session that holds what ${name} can be destroyed`, async (t) => {
    const { app } = await serve(t)
    app.get('/spoil-and-end', async ({ session }) => {
      session.b = spoil
      await session.destroy()
    })
    const id = await begin(app)
    t.equal(
      (await app.inject({ url: '/spoil-and-end', headers: { cookie: `session_id=${id}` } }))
        .statusCode,
      200
    )
    t.equal(await stored(app, id), undefined)
  })
}

t.test(
  'a session that was stored under a higher maxBytes is read, made smaller and ended, and not made larger',
  async (t) => {
    const clock = new TestClock()
    const store = new MemoryStore({ clock })
    const before = await serve(t, { clock, store })
    const { app } = await serve(t, { clock, store, maxBytes: 50 })
    app.get('/shrink', async ({ session }) => {
      await session.update((draft) => {
        draft.a = 'small'
      })
    })
    app.get('/grow', async ({ session }) => {
      await session.update((draft) => {
        draft.b = 'more'
      })
    })
    const large = 'x'.repeat(100)
    for (const [url, statusCode, holds] of [
      ['/read', 200, { a: large }],
      ['/grow', 500, { a: large }],
      ['/shrink', 200, { a: 'small' }],
      ['/logout', 200, undefined]
    ] as const) {
      const id = await begin(before.app, large)
      const reply = await app.inject({ url, headers: { cookie: `session_id=${id}` } })
      t.equal(reply.statusCode, statusCode, url)
      t.same(await stored(app, id), holds, url)
    }
  }
)

t.test('a regenerate that would keep too much is refused, and the session goes on', async (t) => {
  const { app } = await serve(t, { maxBytes: 50 })
  app.get('/keep', async ({ session }) => {
    session.b = 'x'.repeat(100)
    await session.regenerate(['b'])
  })
  const id = await begin(app)
  const reply = await app.inject({ url: '/keep', headers: { cookie: `session_id=${id}` } })
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_DATA_TOO_LARGE'])
  t.same(await stored(app, id), { a: 'old' })
})

t.test('P4: the draft of an update is the same kind of object after a collision', async (t) => {
  const clock = new TestClock()
  const { app } = await serve(t, { clock, store: slow(new MemoryStore({ clock })) })
  const kinds = new Set<unknown>()
  app.get('/own', async ({ session }) =>
    session.update((draft) => {
      kinds.add(Object.getPrototypeOf(draft))
      draft.n = (draft.n ?? 0) + 1
    })
  )
  const headers = { cookie: `session_id=${await begin(app)}` }
  const replies = await Promise.all([1, 2, 3].map(async () => app.inject({ url: '/own', headers })))
  t.same(
    replies.map(({ statusCode }) => statusCode),
    [200, 200, 200]
  )
  t.equal(kinds.size, 1)
})

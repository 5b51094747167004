import { subscribe, unsubscribe } from 'node:diagnostics_channel'

import t from 'tap'

import {
  MemoryStore,
  type Session,
  type SessionOptions,
  type SessionStore
} from '../../lib/index.ts'
import { seedSession } from '../../lib/testing/index.ts'
import { overEach } from '../helpers/attack.ts'
import { backends, later } from '../helpers/backends.ts'
import { serve } from '../helpers/serve.ts'
import { over, scene, second } from '../helpers/subjects.ts'

over('the handle stays when the id moves, and ends the session', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  const before = { ...device }
  const read = (session: Session): unknown => ({
    handle: session.publicId,
    at: session.authenticatedAt
  })
  const first = (await visit(device, read)).json()
  await over.advance(5 * second)
  await visit(device, (session) => session.regenerate('all', { keepLifetime: true }))
  t.not(device.id, before.id)
  t.same((await visit(device, read)).json(), first, 'authenticatedAt stays, too')
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
  t.equal(await whoIs(before), undefined)
  await app.sessions.update(first.handle, (draft) => {
    draft.a = 'by its handle'
  })
  t.same((await app.sessions.get(first.handle))?.data, { a: 'by its handle' })
  t.equal(await app.sessions.destroy(first.handle), true)
  t.equal(await whoIs(device), undefined)
  t.equal(await app.sessions.destroy(first.handle), false)
  t.equal(await app.sessions.get(first.handle), undefined)
})

over('the subjects of two registrations are two', async (t, over) => {
  const { app, signIn, whoIs } = await scene(over)
  const other = await over.serve({ sessionName: 'admin' })
  const device = await signIn()
  other.app.get('/in', async ({ admin }) => admin.signIn('ada'))
  await other.app.inject('/in')
  await (other.app as unknown as { admins: typeof app.sessions }).admins.destroyAll('ada')
  t.equal(await whoIs(device), 'ada')
})

over('a test signs somebody in without a request', async (t, over) => {
  const { app, whoIs } = await scene(over)
  const { cookie } = await seedSession(app, { a: 1 }, { subject: 'ada' })
  t.equal(await whoIs({ id: cookie?.split('=')[1] }), 'ada')
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
})

t.test('a store that keeps no subjects says so', async (t) => {
  const inner = new MemoryStore()
  const store: SessionStore = {
    get: (key) => inner.get(key),
    create: (...given) => inner.create(...given),
    update: (...given) => inner.update(...given),
    touch: (...given) => inner.touch(...given),
    delete: (key) => inner.delete(key),
    retire: (...given) => inner.retire(...given)
  }
  const { app } = await serve(t, { store })
  app.get('/in', async ({ session }) => session.signIn('ada'))
  const reply = await app.inject('/in')
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_SUBJECTS_UNSUPPORTED'])
  await t.rejects(app.sessions.list('ada'), { code: 'HOLDFAST_SUBJECTS_UNSUPPORTED' })
  for (const options of [{ subject: () => 'ada' }, { subjectSessions: { max: 1 } }]) {
    await t.rejects(serve(t, { store, ...options }), { code: 'HOLDFAST_OPTION_INVALID' })
  }
  for (const subjectSessions of [{}, { max: 0 }, { max: 1, whenFull: 'never' }, { max: 1, a: 1 }]) {
    await t.rejects(serve(t, { subjectSessions } as SessionOptions), {
      code: 'HOLDFAST_OPTION_INVALID'
    })
  }
  await t.rejects(serve(t, { subject: 'user' } as unknown as SessionOptions), {
    code: 'HOLDFAST_OPTION_INVALID'
  })
})

overEach(
  [...backends.slice(1), later],
  t,
  'more sessions than a page has are listed, counted and ended',
  async (t, over) => {
    const { app, visit, signIn, whoIs } = await scene(over, { subjectSessions: { max: 601 } })
    const device = await signIn()
    const { publicId } = (await app.sessions.list('ada')).sessions[0] as { publicId: string }
    const tag = publicId.slice(0, 16)
    const { subjects } = over.store as unknown as Required<SessionStore>
    const stamp = await subjects.stamp(tag)
    const now = over.clock.now()
    await Promise.all(
      Array.from({ length: 600 }, async (_, index) =>
        subjects.create(
          `${tag}.${String(index).padStart(43, 'k')}`,
          { data: '', version: `l${index}`, createdAt: now, expiresAt: now + 60_000 },
          { stamp }
        )
      )
    )
    const seen = new Set<string>()
    let page = await app.sessions.list('ada')
    for (;;) {
      for (const each of page.sessions) {
        seen.add(each.publicId)
        t.type(each.lastUsedAt, 'number')
      }
      if (page.next === undefined) break
      page = await app.sessions.list('ada', { from: page.next })
    }
    t.equal(seen.size, 601)
    const full = await visit({ id: undefined }, (session) => session.signIn('ada'))
    t.equal(full.json().code, 'HOLDFAST_SESSIONS_FULL')
    await app.sessions.destroyAll('ada')
    t.equal(await whoIs(device), undefined)
    t.same((await app.sessions.list('ada')).sessions, [])
  }
)

over('events and logs name a session by its handle', async (t, over) => {
  const names: string[] = []
  const note = (message: unknown): void => {
    const { session, removed } = message as { session?: string; removed?: string }
    names.push(...[session, removed].filter((name) => name !== undefined))
  }
  const channels = ['created', 'committed', 'destroyed', 'regenerated'].map(
    (name) => `fastify-holdfast:${name}`
  )
  for (const channel of channels) subscribe(channel, note)
  t.teardown(() => {
    for (const channel of channels) unsubscribe(channel, note)
  })
  const { app, visit, signIn } = await scene(over)
  const device = await signIn()
  const publicId = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  await visit(device, (session) => session.regenerate('all'))
  await visit(device, (session) => session.destroy())
  t.ok(names.length > 2)
  t.same(new Set(names), new Set([publicId]))
  names.length = 0
  await signIn()
  const next = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  await app.sessions.destroy(next)
  t.same(new Set(names), new Set([next]))
  names.length = 0
  // What the store can't read has no handle.
  const { intercept } = over.store
  over.store.intercept = async (call, pass) => {
    const answer = await intercept(call, pass)
    return call.verb === 'delete' ? (true as typeof answer) : answer
  }
  const key = app.sessions.publicIdOf('x'.repeat(36))
  t.equal(await app.sessions.destroy(key), true)
  t.same(names, [key])
})

over('a session is found by its handle while it moves', async (t, over) => {
  const { app, visit, signIn } = await scene(over)
  const device = await signIn()
  const publicId = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  const { intercept } = over.store
  for (const verb of ['get', 'update'] as const) {
    let isMoved = false
    over.store.intercept = async (call, pass) => {
      if (call.verb !== verb || isMoved) return intercept(call, pass)
      isMoved = true
      await visit(device, (session) => session.regenerate('all'))
      return intercept(call, pass)
    }
    await app.sessions.update(publicId, (draft) => {
      draft[verb === 'get' ? 'a' : 'b'] = verb
    })
    t.ok(isMoved)
  }
  over.store.intercept = intercept
  t.same((await app.sessions.get(publicId))?.data, { a: 'get', b: 'update' })
  over.store.intercept = async (call, pass) => {
    if (call.verb !== 'update') return intercept(call, pass)
    await app.sessions.destroy(publicId)
    return intercept(call, pass)
  }
  await t.rejects(
    app.sessions.update(publicId, () => {}),
    { code: 'HOLDFAST_SESSION_GONE' }
  )
})

over('bad input to list() and destroyAll() ends nothing', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  const { sessions } = app as unknown as {
    sessions: Record<'list' | 'destroyAll', (subject: string, options: unknown) => Promise<unknown>>
  }
  const invalid = { code: 'HOLDFAST_VALUE_INVALID' }
  await visit(device, async (session) => {
    for (const bad of [null, 'x', 7, { excpet: session }, { except: null }, { except: {} }]) {
      await t.rejects(sessions.destroyAll('ada', bad), invalid)
    }
    await t.rejects(sessions.destroyAll('grace', { except: session }), invalid)
    for (const bad of [null, 'x', { page: 1 }, { from: 7 }, { from: "'" }, { current: 'x' }]) {
      await t.rejects(sessions.list('ada', bad), invalid)
    }
    await t.rejects(session.signIn('ada\ud800'), invalid, 'it would be another one too')
  })
  t.equal(await whoIs(device), 'ada')
  t.equal((await app.sessions.list('ada', { from: undefined })).sessions.length, 1)
})

over('info is read back as it was given', async (t, over) => {
  const { app, signIn } = await scene(over)
  for (const [index, info] of [null, undefined, false, '', { a: [1, 'é ~.&;'] }].entries()) {
    await signIn(`ada ${index}`, info)
    t.same((await app.sessions.list(`ada ${index}`)).sessions[0]?.info, info)
  }
})

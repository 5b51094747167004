import { over, scene, second, type Device } from '../helpers/subjects.ts'

over('reload() shows what is stored now, and keeps what is not stored yet', async (t, over) => {
  const { visit } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'first'
    session.b = 'first'
    session.maxAge = 60
  })
  await visit(device, async (session) => {
    session.b = 'mine'
    await visit({ ...device }, (other) => {
      other.a = 'theirs'
      other.user = 'ada'
      other.maxAge = 120
    })
    t.same(session.data(), { a: 'first', b: 'mine' })
    await session.reload()
    t.same(session.data(), { a: 'theirs', b: 'mine', user: 'ada' })
    t.equal(session.maxAge, 120)
    await session.reload()
    t.same(session.data(), { a: 'theirs', b: 'mine', user: 'ada' })
  })
  t.same((await visit(device, (session) => session.data())).json(), {
    a: 'theirs',
    b: 'mine',
    user: 'ada'
  })
})

over('reload() of a session that has ended, moved or expired rejects', async (t, over) => {
  const { visit } = await scene(over, { maxAge: 600 })
  const begin = async (): Promise<Device> => {
    const device: Device = { id: undefined }
    await visit(device, (session) => {
      session.a = 'mine'
    })
    return device
  }
  const ends: ReadonlyArray<(device: Device) => unknown> = [
    (device) => visit({ ...device }, (session) => session.destroy()),
    (device) => visit({ ...device }, (session) => session.regenerate('all')),
    () => over.advance(601 * second)
  ]
  for (const end of ends) {
    const device = await begin()
    const reply = await visit(device, async (session) => {
      await end(device)
      await t.rejects(session.reload(), { code: 'HOLDFAST_SESSION_GONE' })
      session.a = 'late'
    })
    t.equal(reply.statusCode, 200)
  }
})

over('reload() that fails is no failure of the request', async (t, over) => {
  const { visit } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  const reply = await visit(device, async (session) => {
    const { intercept } = over.store
    over.store.intercept = async () => {
      throw new Error('the store is down')
    }
    await t.rejects(session.reload(), { code: 'HOLDFAST_STORE_FAILED' })
    over.store.intercept = intercept
    session.a = 'later'
  })
  t.equal(reply.statusCode, 200)
  t.equal((await visit(device, ({ a }) => ({ a }))).json().a, 'later')
})

over('reload() by itself writes nothing', async (t, over) => {
  const { app, visit } = await scene(over)
  const device = { id: 'planted-planted-planted' }
  const now = over.clock.now()
  await over.store.create(app.sessions.publicIdOf(device.id), {
    // A key that has a member's name is kept apart from the others, and so loses its place.
    data: '{"b":1,"signal":2,"a":3}',
    version: 'planted',
    createdAt: now,
    expiresAt: now + 3_600_000
  })
  await visit(device, async (session) => {
    await visit({ ...device }, (other) => {
      other.a = 4
    })
    over.store.taken()
    await session.reload()
    t.equal(session.a, 4)
    t.equal(session.get('signal'), 2)
  })
  t.same(over.store.taken(), ['get'])
})

over('reload() of a new session changes nothing', async (t, over) => {
  const { visit } = await scene(over)
  await visit({ id: undefined }, async (session) => {
    session.a = 'mine'
    await session.reload()
    t.same(session.data(), { a: 'mine' })
  })
})

over('reload() of what cannot be read says so', async (t, over) => {
  const { visit } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  await visit(device, async (session) => {
    const { intercept } = over.store
    over.store.intercept = async (call, pass) => {
      const answer = await intercept(call, pass)
      if (call.verb !== 'get') return answer
      return { ...(answer as object), data: 'x' } as typeof answer
    }
    await t.rejects(session.reload(), { code: 'HOLDFAST_DATA_UNDECODABLE' })
    over.store.intercept = intercept
    t.same(session.data(), { a: 'mine' })
  })
})

import type { Session, SessionData } from '../../lib/index.ts'
import { seedSession } from '../../lib/testing/index.ts'
import { setCookies } from '../helpers/serve.ts'
import { byData, over, scene, second, type Device } from '../helpers/subjects.ts'

over('with the option subject, who is in the data is signed in', async (t, over) => {
  const { app, visit, whoIs } = await scene(over, byData)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'cart'
  })
  const anonymous = device.id
  const login = await visit(device, async (session) => {
    await session.regenerate(['a'])
    session.user = 'ada'
  })
  t.equal(login.statusCode, 200, login.body)
  t.not(device.id, anonymous)
  t.equal(await whoIs(device), 'ada')
  const first = device.id
  await visit(device, (session) => {
    session.b = 'more'
  })
  t.equal(device.id, first, 'the same user, the same id')
  t.same((await visit(device, (session) => session.data())).json(), {
    a: 'cart',
    user: 'ada',
    b: 'more'
  })
  await visit(device, (session) => {
    session.user = 'grace'
  })
  t.equal(await whoIs(device), 'grace', 'without regenerate() too')
  t.not(device.id, first)
  t.equal(await whoIs({ id: first }), undefined)
  t.same((await app.sessions.list('ada')).sessions, [])
  await visit(device, (session) => {
    delete session.user
  })
  t.equal(await whoIs(device), undefined)
  t.same((await app.sessions.list('grace')).sessions, [])
  t.same((await visit(device, (session) => session.data())).json(), { a: 'cart', b: 'more' })
})

over('with the option subject, destroyAll() ends what it names', async (t, over) => {
  const { app, visit, whoIs } = await scene(over, byData)
  const login = (session: Session): void => {
    session.user = 'ada'
  }
  const devices: Device[] = [{ id: undefined }, { id: undefined }]
  for (const device of devices) await visit(device, login)
  t.equal((await app.sessions.list('ada')).sessions.length, 2)
  await app.sessions.destroyAll('ada')
  for (const device of devices) t.equal(await whoIs(device), undefined)
  const saved = await visit({ id: undefined }, async (session) => {
    session.user = 'ada'
    await session.save()
    await app.sessions.destroyAll('ada')
    session.a = 'late'
  })
  t.same([saved.statusCode, setCookies(saved)], [200, []])
  const seen = await visit({ id: undefined }, (session) => {
    t.type(session.id, 'string')
    session.user = 'ada'
  })
  t.equal(seen.statusCode, 200, 'also where its id was looked at before')
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
  const wrong = await visit({ id: undefined }, (session) => {
    session.user = 7 as unknown as string
  })
  t.equal(wrong.json().code, 'HOLDFAST_VALUE_INVALID')
})

over(
  'a session from before the option subject is listed from its next login on',
  async (t, over) => {
    const before = await scene(over)
    const device: Device = { id: undefined }
    await before.visit(device, (session) => {
      session.user = 'ada'
    })
    const { app, visit, whoIs } = await scene(over, byData)
    const { id } = device
    await visit(device, (session) => {
      session.b = 'more'
    })
    t.equal(device.id, id)
    t.equal(await whoIs(device), undefined)
    await visit(device, async (session) => {
      await session.regenerate('all')
    })
    t.equal(await whoIs(device), 'ada')
    t.equal((await app.sessions.list('ada')).sessions.length, 1)
  }
)

over('with the option subject, update() signs in whom the session names', async (t, over) => {
  const { app, visit, whoIs } = await scene(over, { ...byData, subjectSessions: { max: 2 } })
  const [one, other, third]: Device[] = [{ id: undefined }, { id: undefined }, { id: undefined }]
  const login = async (session: Session): Promise<void> => {
    session.user = 'ada'
    await session.update((draft) => {
      draft.b = 'more'
    })
  }
  await visit(one as Device, login)
  await visit(other as Device, (session) => {
    session.a = 'cart'
  })
  await visit(other as Device, login)
  for (const device of [one, other]) t.equal(await whoIs(device as Device), 'ada')
  await visit(third as Device, (session) => {
    session.a = 'cart'
  })
  const full = await visit(third as Device, login)
  t.equal(full.json().code, 'HOLDFAST_SESSIONS_FULL')
  t.same((await visit(third as Device, (session) => session.data())).json(), { a: 'cart' })
  const { publicId } = (await app.sessions.list('ada')).sessions[0] as { publicId: string }
  const changes: ReadonlyArray<(draft: SessionData) => void> = [
    (draft) => {
      draft.user = 'grace'
    },
    (draft) => {
      delete draft.user
    }
  ]
  for (const change of changes) {
    const changed = { code: 'HOLDFAST_SUBJECT_CHANGED' }
    await t.rejects(app.sessions.update(publicId, change), changed, 'no reply brings its next id')
    await visit(one as Device, async (session) => {
      await t.rejects(session.update(change), changed, 'it would be stored before it is')
    })
  }
  await app.sessions.update(publicId, (draft) => {
    draft.a = 'from outside'
  })
  t.match(await app.sessions.get(publicId), { subject: 'ada', data: { a: 'from outside' } })
})

over('with the option subject, who was known before is not authenticated anew', async (t, over) => {
  const before = await scene(over)
  const device: Device = { id: undefined }
  await before.visit(device, (session) => {
    session.user = 'ada'
  })
  const loggedInAt = over.clock.now()
  const read = (session: Session): unknown => ({
    subject: session.subject,
    at: session.authenticatedAt
  })
  await over.advance(60 * second)
  const { visit } = await scene(over, byData)
  await visit(device, (session) => session.regenerate('all', { keepLifetime: true }))
  t.same((await visit(device, read)).json(), { subject: 'ada', at: loggedInAt })
  await over.advance(60 * second)
  const next = await scene(over, { subject: (data) => data.user && `id:${data.user}` })
  await next.visit(device, (session) => {
    session.b = 'more'
  })
  t.same((await next.visit(device, read)).json(), { subject: 'id:ada', at: loggedInAt })
})

over('with the option subject, the lifetimes begin anew with a login', async (t, over) => {
  const { visit } = await scene(over, byData)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'cart'
  })
  await over.advance(60 * second)
  await visit(device, (session) => {
    session.user = 'ada'
  })
  const seen = await visit(device, (session) => ({ createdAt: session.createdAt }))
  t.equal(seen.json().createdAt, over.clock.now())
})

over('with the option subject, a refused save() can be answered', async (t, over) => {
  const { visit, whoIs } = await scene(over, { ...byData, subjectSessions: { max: 1 } })
  const login = (session: Session): void => {
    session.user = 'ada'
  }
  await visit({ id: undefined }, login)
  const device: Device = { id: undefined }
  const reply = await visit(device, async (session) => {
    login(session)
    const code = await session.save().catch((error: { code: string }) => error.code)
    t.equal(session.subject, undefined, 'nobody is signed in')
    delete session.user
    session.a = 'goes on'
    return { code }
  })
  t.same(reply.json(), { code: 'HOLDFAST_SESSIONS_FULL' })
  t.equal(await whoIs(device), undefined)
  t.same((await visit(device, (session) => session.data())).json(), { a: 'goes on' })
})

over('with the option subject, signIn() of another subject is an error', async (t, over) => {
  const { app, visit, whoIs } = await scene(over, byData)
  const reply = await visit({ id: undefined }, (session) => session.signIn('ada'))
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_SUBJECT_MISMATCH'])
  const device: Device = { id: undefined }
  await visit(device, async (session) => {
    await session.signIn('ada', { info: 'a phone' })
    session.user = 'ada'
  })
  t.equal(await whoIs(device), 'ada')
  t.match((await app.sessions.list('ada')).sessions, [{ info: 'a phone' }])
  const { cookie } = await seedSession(app, { user: 'grace' })
  t.equal(await whoIs({ id: cookie?.split('=')[1] }), 'grace')
})

over(
  'with the option subject, nobody is signed in where no reply brings the id',
  async (t, over) => {
    const { visit, whoIs } = await scene(over, byData)
    const { app } = await over.serve(byData)
    const device: Device = { id: undefined }
    await visit(device, (session) => {
      session.a = 'mine'
    })
    app.get('/hijacked', async ({ session }, reply) => {
      reply.hijack()
      session.user = 'ada'
      const error = await session.save().catch(({ code }: { code: string }) => code)
      reply.raw.end(String(error))
    })
    const cookie = `session_id=${device.id}`
    const reply = await app.inject({ url: '/hijacked', headers: { cookie } })
    t.equal(reply.body, 'HOLDFAST_ID_UNDELIVERABLE')
    t.equal(await whoIs(device), undefined)
  }
)

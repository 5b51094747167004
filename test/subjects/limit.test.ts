import type { Session } from '../../lib/index.ts'
import {
  advanceUntil,
  byData,
  over,
  patient,
  scene,
  second,
  type Device
} from '../helpers/subjects.ts'

over('a subject has no more sessions than it may', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over, { subjectSessions: { max: 2 } })
  const [one] = [await signIn(), await signIn()]
  const reply = await visit({ id: undefined }, (session) => session.signIn('ada'))
  t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SESSIONS_FULL'])
  t.equal(await whoIs(await signIn('grace')), 'grace')
  await visit(one as Device, (session) => session.destroy())
  await signIn()
  t.equal((await app.sessions.list('ada')).sessions.length, 2)
  await over.advance(3601 * second)
  await signIn()
  t.equal((await app.sessions.list('ada')).sessions.length, 1, 'expired ones do not count')
})

over('where it may, the oldest session ends for a new one', async (t, over) => {
  const limit = { subjectSessions: { max: 2, whenFull: 'end-oldest' } } as const
  const { app, signIn, whoIs } = await scene(over, limit)
  const devices: Device[] = []
  for (let count = 0; count < 4; count += 1) {
    devices.push(await signIn())
    await over.advance(second)
  }
  const alive = []
  for (const device of devices) alive.push(await whoIs(device))
  t.same(alive, [undefined, undefined, 'ada', 'ada'])
  t.equal((await app.sessions.list('ada')).sessions.length, 2)
})

for (const whenFull of ['refuse', 'end-oldest'] as const) {
  over(`P11: a cap holds with fifty logins at once: ${whenFull}`, async (t, over) => {
    const limit = { subjectSessions: { max: 3, whenFull }, ...patient } as const
    const { app, visit, whoIs } = await scene(over, limit)
    let isOver = false
    const devices = Array.from({ length: 50 }, (): Device => ({ id: undefined }))
    const logins = Promise.all(
      devices.map((device) => visit(device, (session) => session.signIn('ada')))
    ).then((replies) => {
      isOver = true
      return replies.map(({ statusCode }) => statusCode)
    })
    let most = 0
    while (!isOver) {
      most = Math.max(most, (await app.sessions.list('ada')).sessions.length)
      await new Promise((resolve) => {
        setImmediate(resolve)
      })
      // They pause before they try again.
      over.clock.advance(1)
    }
    const statuses = await logins
    const expected = whenFull === 'refuse' ? 3 : 50
    t.equal(statuses.filter((status) => status === 200).length, expected)
    t.ok(most <= 3, `${most}`)
    const alive = await Promise.all(
      devices.filter(({ id }) => id !== undefined).map((device) => whoIs(device))
    )
    t.equal(alive.filter((who) => who === 'ada').length, 3)
  })
}

over('a browser that signs in again has one session, and not two', async (t, over) => {
  for (const whenFull of ['refuse', 'end-oldest'] as const) {
    const limit = { subjectSessions: { max: 1, whenFull }, ...patient }
    for (const options of [limit, { ...limit, ...byData }]) {
      const { app, visit, whoIs } = await scene(over, options)
      const subject = `ada ${whenFull} ${Object.keys(options).length}`
      const device: Device = { id: undefined }
      const login = async (session: Session): Promise<void> => {
        if ('subject' in options) {
          await session.regenerate()
          session.user = subject
        } else {
          await session.signIn(subject)
        }
      }
      t.equal((await visit(device, login)).statusCode, 200)
      const before = { ...device }
      const [one] = (await app.sessions.list(subject)).sessions
      const again = await visit(device, login)
      t.equal(again.statusCode, 200, again.body)
      t.equal(await whoIs(device), subject)
      t.equal(await whoIs(before), undefined)
      const { sessions } = await app.sessions.list(subject)
      t.same(
        sessions.map(({ publicId }) => publicId),
        [one?.publicId],
        'it keeps its handle'
      )
      const [first, second] = [{ ...device }, { ...device }]
      const replies = await advanceUntil(
        over.clock,
        Promise.all([visit(first, login), visit(second, login)])
      )
      t.ok(replies.some(({ statusCode }) => statusCode === 200))
      t.equal((await app.sessions.list(subject)).sessions.length, 1)
      const alive = [await whoIs(first), await whoIs(second)]
      t.ok(alive.includes(subject), 'somebody is signed in')
      t.equal(await app.sessions.destroy(sessions[0]?.publicId as string), whenFull === 'refuse')
    }
  }
})

over('what has expired is no more there to be ended, or to be counted', async (t, over) => {
  const limit = { subjectSessions: { max: 1 }, maxAge: 60 }
  const { app, signIn } = await scene(over, limit)
  await signIn()
  const publicId = (await app.sessions.list('ada')).sessions[0]?.publicId as string
  await over.advance(61 * second)
  t.equal(await app.sessions.destroy(publicId), false)
  await signIn()
  await over.advance(30 * second)
  // Another version of the app has sessions live for a shorter time.
  const strict = await scene(over, { ...limit, maxAge: 10, absoluteTimeout: 10 })
  t.same((await strict.app.sessions.list('ada')).sessions, [])
  await strict.signIn()
  t.equal((await strict.app.sessions.list('ada')).sessions.length, 1)
})

over('a sign-in from a session that has expired here ends it elsewhere', async (t, over) => {
  for (const options of [{}, byData]) {
    const limit = { subjectSessions: { max: 1 }, maxAge: 86_400, ...options }
    const before = await scene(over, limit)
    const strict = await scene(over, { ...limit, maxAge: 60, absoluteTimeout: 60 })
    const subject = `ada ${Object.keys(options).length}`
    const login = async (session: Session): Promise<void> => {
      if ('subject' in options) session.user = subject
      else await session.signIn(subject)
    }
    const [one, other]: [Device, Device] = [{ id: undefined }, { id: undefined }]
    await before.visit(one, login)
    await over.advance(61 * second)
    await strict.visit(other, login)
    t.equal(await before.whoIs(one), undefined, 'it has given way')
    t.equal(await before.whoIs(other), subject)
    await over.advance(61 * second)
    await strict.visit(other, login)
    t.equal(await strict.whoIs(other), subject)
    t.equal((await before.app.sessions.list(subject)).sessions.length, 1)
    const full = await strict.visit(one, login)
    t.equal(full.json().code, 'HOLDFAST_SESSIONS_FULL')
  }
})

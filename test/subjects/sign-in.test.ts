import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'

import { seedSession } from '../../lib/testing/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { serve, unhandled } from '../helpers/serve.ts'
import { nextTurn } from '../helpers/stores.ts'
import { over, scene, second, type Device } from '../helpers/subjects.ts'
import { settle, signal } from '../helpers/waiting.ts'

over('signIn() signs a subject in, under a new id, with what is to be kept', async (t, over) => {
  const { app, visit, whoIs } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'cart'
    session.b = 'other'
  })
  const { id } = device
  const reply = await visit(device, async (session) => {
    t.equal(session.subject, undefined)
    t.equal(session.authenticatedAt, undefined)
    const answer = await session.signIn('ada', {
      verify: async () => true,
      keep: ['a'],
      info: { device: 'a phone' }
    })
    t.equal(session.subject, 'ada')
    t.equal(session.authenticatedAt, over.clock.now())
    return { answer, data: session.data(), publicId: session.publicId }
  })
  t.match(reply.json(), { answer: true, data: { a: 'cart' } })
  t.not(device.id, id)
  t.equal(await whoIs(device), 'ada')
  t.equal(await whoIs({ id }), undefined, 'the old id is dead')
  const { sessions, next } = await app.sessions.list('ada')
  t.equal(next, undefined)
  t.match(sessions, [
    { publicId: reply.json().publicId, isCurrent: false, info: { device: 'a phone' } }
  ])
  t.match(await app.sessions.get(reply.json().publicId), { data: { a: 'cart' }, subject: 'ada' })
  t.same((await app.sessions.list('grace')).sessions, [])
})

over('signIn() begins a session that holds no data', async (t, over) => {
  const { visit, whoIs } = await scene(over, { saveUninitialized: false })
  const device: Device = { id: undefined }
  await visit(device, (session) => session.signIn('ada'))
  t.equal(await whoIs(device), 'ada')
  const before = { ...device }
  await visit(device, (session) => session.reauthenticate(() => true))
  t.not(device.id, before.id)
  t.equal(await whoIs(device), 'ada')
  // A client that has lost the reply with its new id signs in with the one before.
  await visit(before, (session) => session.signIn('ada'))
  t.equal(await whoIs(before), 'ada')
  t.equal(await whoIs(device), 'ada')
})

over('signIn() with wrong credentials changes nothing', async (t, over) => {
  const { app, visit } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  const { id } = device
  const reply = await visit(device, (session) => session.signIn('ada', { verify: () => false }))
  t.equal(reply.json(), false)
  await visit(device, async (session) => {
    await t.rejects(
      session.signIn('ada', {
        verify: () => {
          throw new Error('no database')
        }
      }),
      { message: 'no database' }
    )
    t.same(session.data(), { a: 'mine' })
    t.equal(session.subject, undefined)
  })
  t.equal(device.id, id)
  t.same((await app.sessions.list('ada')).sessions, [])
})

over('reauthenticate() makes a session fresh, under a new id', async (t, over) => {
  const { visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  const { id } = device
  await over.advance(60 * second)
  const wrong = await visit(device, (session) => session.reauthenticate(() => false))
  t.equal(wrong.json(), false)
  t.equal(device.id, id)
  const right = await visit(device, async (session) => {
    session.a = 'mine'
    const answer = await session.reauthenticate(async () => true)
    t.equal(session.authenticatedAt, over.clock.now())
    return answer
  })
  t.equal(right.json(), true, right.body)
  t.not(device.id, id)
  t.equal(await whoIs({ id }), undefined)
  const now = over.clock.now()
  const seen = await visit(device, (session) => ({
    ...session.data(),
    at: session.authenticatedAt,
    age: now - session.createdAt
  }))
  t.same(seen.json(), { a: 'mine', at: now, age: 60 * second })
  const nobody = await visit({ id: undefined }, (session) => session.reauthenticate(() => true))
  t.same([nobody.statusCode, nobody.json().code], [401, 'HOLDFAST_SESSION_NOT_FRESH'])
})

over('a route may ask for a fresh authentication', async (t, over) => {
  const { app } = await over.serve()
  app.get('/again', async ({ session }) => session.reauthenticate(() => true))
  app.get('/pay', { config: { session: { fresh: 300 } } }, async ({ session }) => session.subject)
  app.get('/not-asked', async ({ session }) => session.subject)
  const device: Device = { id: undefined }
  const send = async (url: string): Promise<LightMyRequestResponse> => {
    const cookie = device.id === undefined ? {} : { cookie: `session_id=${device.id}` }
    const reply = await app.inject({ url, headers: cookie })
    device.id = carriedBy(reply).cookie ?? device.id
    return reply
  }
  const refused = async (): Promise<void> => {
    const reply = await send('/pay')
    t.same([reply.statusCode, reply.json().code], [401, 'HOLDFAST_SESSION_NOT_FRESH'])
  }
  await refused()
  await send('/sign-in-ada')
  t.equal((await send('/pay')).body, 'ada')
  await over.advance(300 * second)
  t.equal((await send('/pay')).body, 'ada', 'to the second')
  await over.advance(second)
  await refused()
  t.equal((await send('/not-asked')).body, 'ada')
  await send('/again')
  t.equal((await send('/pay')).body, 'ada')
})

over('bad input to signIn() is refused, and changes nothing', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'mine'
  })
  const { id } = device
  const big = 'x'.repeat(1025)
  const bad: ReadonlyArray<readonly [subject: unknown, options?: unknown]> = [
    [''],
    ['x'.repeat(256)],
    [7],
    [undefined],
    ['ada', { info: big }],
    ['ada', { info: () => {} }],
    ['ada', { info: 7n }],
    ['ada', { verify: true }],
    ['ada', { keep: 'some' }],
    ['ada', { unknown: 1 }],
    ['ada', { verify: () => 'yes' }]
  ]
  await visit(device, async (session) => {
    for (const [subject, options] of bad) {
      await t.rejects(
        session.signIn(subject as string, options as object),
        { code: 'HOLDFAST_VALUE_INVALID' },
        JSON.stringify([subject, Object.keys(Object(options) as object)])
      )
    }
    for (const subject of ['', 7, undefined]) {
      await t.rejects(app.sessions.list(subject as string), { code: 'HOLDFAST_VALUE_INVALID' })
      await t.rejects(app.sessions.destroyAll(subject as string), {
        code: 'HOLDFAST_VALUE_INVALID'
      })
    }
  })
  t.equal(device.id, id)
  const after = await visit(device, async (session) => {
    await session.destroy()
    await t.rejects(session.signIn('ada'), { code: 'HOLDFAST_SESSION_GONE' })
  })
  t.equal(after.statusCode, 200)
  await visit({ id: undefined }, async (session) => {
    await session.signIn('ada')
    await t.rejects(session.signIn('grace'), { code: 'HOLDFAST_SIGN_IN_REPEATED' })
    await session.save()
    await session.signIn('grace')
  })
  t.same((await app.sessions.list('ada')).sessions, [], 'after save() it is another sign-in')
  t.equal((await app.sessions.list('grace')).sessions.length, 1)
  t.equal(await whoIs(await signIn()), 'ada')
  t.equal(await app.sessions.destroy('x'.repeat(16) + '.' + 'y'.repeat(8)), false)
})

over('a session that is signed in travels in the header, and with a secret', async (t, over) => {
  const secret = 's'.repeat(32)
  const { app } = await over.serve({ secret })
  app.get('/who', async ({ session }) => session.subject ?? 'nobody')
  const fresh = await app.inject({ url: '/sign-in-ada', headers: { 'x-session-id': 'new' } })
  const token = carriedBy(fresh).header as string
  t.match(token, /^[\w-]{36}~[\w-]{16}\.[\w-]{43}$/)
  const who = async (value: string): Promise<string> =>
    (await app.inject({ url: '/who', headers: { 'x-session-id': value } })).body
  t.equal(await who(token), 'ada')
  const [id, signature] = token.split('.') as [string, string]
  const [random, tag] = id.split('~') as [string, string]
  const forged = [
    id,
    `${random}.${signature}`,
    `${random}~${'x'.repeat(16)}.${signature}`,
    `${id}~${tag}.${signature}`,
    `${random}~${tag.slice(1)}.${signature}`
  ]
  for (const value of forged) t.equal(await who(value), 'nobody', value)
  t.match(await app.sessions.fromRequest({ 'x-session-id': token }), { subject: 'ada' })
})

over('an id with another subject, or none, names no session', async (t, over) => {
  const { app, signIn, whoIs } = await scene(over, { adoptUnknownIds: () => true })
  const device = await signIn()
  const [random, tag] = (device.id as string).split('~') as [string, string]
  for (const id of [random, `${random}~${'x'.repeat(16)}`, `${'y'.repeat(36)}~${tag}`]) {
    t.equal(await whoIs({ id }), undefined)
    const adopted = await app.inject({ url: '/visit', headers: { 'x-session-id': id } })
    t.equal(
      carriedBy(adopted).header === id,
      !id.includes('~'),
      'only an id without one is adopted'
    )
  }
  t.equal(await whoIs(device), 'ada')
})

t.test('signIn() where no reply can bring the id, and where there is no session', async (t) => {
  const { app } = await serve(t)
  app.get('/hijacked', async ({ session }, reply) => {
    reply.hijack()
    const error = await session.signIn('ada').catch(({ code }: { code: string }) => code)
    reply.raw.end(String(error))
  })
  app.get('/none', { config: { session: false } }, async ({ session }) => session.signIn('ada'))
  t.equal((await app.inject('/hijacked')).body, 'HOLDFAST_ID_UNDELIVERABLE')
  t.equal((await app.inject('/none')).json().code, 'HOLDFAST_SESSION_UNAVAILABLE')
  for (const config of [{}, { fresh: 0 }, { fresh: '5' }, { fresh: 5, other: 1 }]) {
    await t.rejects(
      async () => {
        const { app: other } = await serve(t)
        other.get('/bad', { config: { session: config as never } }, async () => '')
        await other.ready()
      },
      { code: 'HOLDFAST_OPTION_INVALID' },
      JSON.stringify(config)
    )
  }
})

over('what a check does to its own session wins over it', async (t, over) => {
  const { app, visit, signIn } = await scene(over)
  await visit({ id: undefined }, async (session) => {
    const nested = session.signIn('ada', { verify: () => session.signIn('grace') })
    await t.rejects(nested, { code: 'HOLDFAST_SIGN_IN_REPEATED' })
  })
  t.same((await app.sessions.list('ada')).sessions, [])
  const device = await signIn()
  await visit(device, async (session) => {
    const left = session.reauthenticate(async () => {
      await session.regenerate()
      return true
    })
    await t.rejects(left, { code: 'HOLDFAST_SESSION_GONE' })
  })
  const late = await visit({ id: undefined }, (session) =>
    session.signIn('ada', {
      verify: () => {
        over.clock.advance(30 * 60 * second + 1)
        return true
      }
    })
  )
  t.equal(late.json().code, 'HOLDFAST_SIGN_IN_ENDED', 'a stamp is kept for an hour')
})

over(
  'of a sign-in that nobody awaits only the errors of the app are its to handle',
  async (t, over) => {
    const errors = unhandled(t)
    const { visit } = await scene(over)
    const reply = await visit({ id: undefined }, (session) => {
      void session.signIn('')
      void session.signIn('ada', {
        verify: () => {
          throw new Error('no database')
        }
      })
      void session.reauthenticate(() => true)
      return 'sent'
    })
    t.equal(reply.statusCode, 200)
    await settle()
    t.match(errors, [{ message: 'no database' }])
  }
)

over('the commit waits for a sign-in that nobody awaits', async (t, over) => {
  const { visit, whoIs } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    const verify = async (): Promise<boolean> => {
      for (let turns = 0; turns < 5; turns += 1) await nextTurn()
      return true
    }
    void session.signIn('ada', { verify })
    return 'sent'
  })
  t.equal(await whoIs(device), 'ada')
})

over('a sign-in that is stored too late is refused', async (t, over) => {
  const { visit } = await scene(over)
  const reply = await visit({ id: undefined }, async (session) => {
    await session.signIn('ada')
    over.clock.advance(30 * 60 * second + 1)
  })
  t.equal(reply.json().code, 'HOLDFAST_SIGN_IN_ENDED', 'a stamp is kept for an hour')
})

over('nobody is fresh for longer because the clock has stepped back', async (t, over) => {
  const { app } = await over.serve()
  app.get('/pay', { config: { session: { fresh: 300 } } }, async ({ session }) => session.subject)
  const { cookie } = await seedSession(app, {}, { subject: 'ada' })
  over.clock.advance(-1800 * second)
  const reply = await app.inject({ url: '/pay', headers: { cookie: cookie as string } })
  t.equal(reply.json().code, 'HOLDFAST_SESSION_NOT_FRESH')
})

over('a check that nobody awaits, and that does not end, holds no reply', async (t, over) => {
  const { visit } = await scene(over, { storeTimeout: 2 })
  let isSent = false
  const [asked, ask] = signal()
  const visited = visit({ id: undefined }, (session) => {
    void session.signIn('ada', {
      verify: () => {
        ask()
        return new Promise(() => {})
      }
    })
    return 'sent'
  }).then((reply) => {
    isSent = true
    return reply
  })
  await asked
  await settle()
  t.notOk(isSent, 'it has the time that the store has')
  over.clock.advance(2 * second)
  const reply = await visited
  t.same([reply.statusCode, reply.body], [200, 'sent'])
})

over('what a check does to the subject wins over reauthenticate()', async (t, over) => {
  const { visit, signIn } = await scene(over)
  await visit(await signIn(), async (session) => {
    const checked = session.reauthenticate(() => session.signIn('grace'))
    await t.rejects(checked, { code: 'HOLDFAST_SESSION_GONE' })
  })
})

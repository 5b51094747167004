import { createHmac, hkdfSync } from 'node:crypto'
import { createRequire, syncBuiltinESMExports } from 'node:module'

import { fastifyCookie } from '@fastify/cookie'
import fc from 'fast-check'
import t, { type Test } from 'tap'

import sessionPlugin from '../../lib/index.ts'
import { seedSession } from '../../lib/testing/index.ts'
import { overEveryStore } from '../helpers/attack.ts'
import { carriedBy } from '../helpers/browser.ts'
import { begin, serve, setCookies, stored, type Served } from '../helpers/serve.ts'

const crypto = createRequire(import.meta.url)('node:crypto') as {
  -readonly [Key in keyof typeof import('node:crypto')]: (typeof import('node:crypto'))[Key]
}

const secret = 'a-secret-that-nobody-knows-but-us-two'
const old = Buffer.alloc(32, 'old')
const older = 'an-older-secret-that-is-to-be-forgotten'

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The request headers that carry a value, one transport after the other. */
function carrying(value: string): ReadonlyArray<Record<string, string>> {
  return [{ 'x-session-id': value }, { cookie: `session_id=${value}` }]
}

/**
 * That a value is answered as none: the store is not asked, and it is neither echoed nor logged.
 */
async function unresolved(
  t: Test,
  { app, store, log }: Served,
  value: string,
  name: string
): Promise<void> {
  for (const headers of carrying(value)) {
    store.taken()
    const reply = await app.inject({ url: '/read', headers })
    const where = `${name}, ${Object.keys(headers)[0]}`
    t.equal(reply.statusCode, 200, where)
    t.same(reply.json(), {}, where)
    t.notOk(store.taken().includes('get'), `${where}: the store is not asked`)
    t.equal(
      carriedBy(reply).cookie === undefined,
      'cookie' in headers,
      `${where}: a dead cookie gets nothing, a header is answered as no id is`
    )
    if (value !== '') t.notOk(JSON.stringify(reply.headers).includes(value), `${where}: not echoed`)
  }
  t.same(log, [])
}

t.test(
  'S1: with a secret the wire value is the id and a signature of 256 bits; without, the id alone',
  async (t) => {
    const plain = await serve(t)
    t.match(await begin(plain.app), uuid)
    const { app } = await serve(t, { secret })
    app.get('/ids', async ({ session }) => ({ id: session.id, publicId: session.publicId }))
    const reply = await app.inject('/ids')
    const { header, cookie } = carriedBy(reply)
    t.equal(header, cookie, 'both transports carry the same')
    const [id, signature, ...more] = (cookie as string).split('.')
    t.match(id, uuid)
    t.equal(Buffer.from(signature as string, 'base64url').length, 32)
    t.same(more, [])
    t.same(
      reply.json(),
      { id, publicId: app.sessions.publicIdOf(id as string) },
      'the handler sees the id without its signature'
    )
  }
)

t.test('S1: a failing system generator fails the request; nothing weaker steps in', async (t) => {
  const { app, store } = await serve(t)
  const { randomUUID: real } = crypto
  const restore = (): void => {
    crypto.randomUUID = real
    syncBuiltinESMExports()
  }
  t.teardown(restore)
  crypto.randomUUID = () => {
    throw new Error('no entropy')
  }
  syncBuiltinESMExports()
  const reply = await app.inject('/write/x')
  t.same([reply.statusCode, reply.json().code], [500, 'HOLDFAST_ID_INVALID'])
  t.same(carriedBy(reply), { header: undefined, cookie: undefined })
  t.same(store.taken(), [])
  restore()
  t.match(await begin(app), uuid)
})

overEveryStore(
  t,
  'S35: unsigned, truncated, extended, tampered: unresolved, and the store is not called',
  async (t, serveOver) => {
    const served = await serveOver({ secret })
    const { app } = served
    const wire = await begin(app)
    const other = await begin(app)
    const [id, signature] = wire.split('.') as [string, string]
    const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    // The last character of 43 carries four bits: three other texts decode to the same bytes.
    const twin = last[last.indexOf(signature.at(-1) as string) ^ 1] as string
    const forgeries: Record<string, string> = {
      'the id alone': id,
      'no signature': `${id}.`,
      'no id': `.${signature}`,
      'a truncated signature': wire.slice(0, -1),
      'a longer signature': `${wire}A`,
      'a signature and another': `${wire}.${signature}`,
      'the signature of another id': `${id}.${other.split('.')[1]}`,
      'another id with the signature': `${other.split('.')[0]}.${signature}`,
      'one bit off in the id': `${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}.${signature}`,
      'another letter case': `${id.toUpperCase()}.${signature}`,
      'another text for the same bytes': `${id}.${signature.slice(0, -1)}${twin}`,
      'base64 in place of base64url': `${id}.${Buffer.from(signature, 'base64url').toString('base64')}`,
      hex: `${id}.${Buffer.from(signature, 'base64url').toString('hex')}`,
      'as long in characters, not in bytes': `${id}.${'é'.repeat(43)}`,
      empty: '',
      dots: '.'.repeat(80),
      'all A': `${id}.${'A'.repeat(43)}`,
      'much too long': `${id}.${'A'.repeat(12_000)}`,
      "Express's form": `s:${wire}`,
      'a space within': `${id} .${signature}`
    }
    t.equal(
      Buffer.from(signature.slice(0, -1) + twin, 'base64url').equals(
        Buffer.from(signature, 'base64url')
      ),
      true,
      'the same bytes indeed'
    )
    for (const [name, value] of Object.entries(forgeries)) await unresolved(t, served, value, name)
    for (const headers of carrying(wire))
      t.same(
        (await app.inject({ url: '/read', headers })).json(),
        { a: 'old' },
        'the real one resolves'
      )
    t.same(await stored(app, wire), { a: 'old' })
  }
)

t.test('S35: no edit of a signed value resolves', async (t) => {
  const { app, store } = await serve(t, { secret })
  const wire = await begin(app)
  store.taken()
  const edit = fc.record({
    at: fc.nat(wire.length),
    drop: fc.nat(3),
    put: fc.string({ unit: fc.constantFrom(...Array.from('AZaz09-_.=+/ ')), maxLength: 3 })
  })
  await fc.assert(
    fc.asyncProperty(edit, fc.nat(1), async ({ at, drop, put }, transport) => {
      const value = wire.slice(0, at) + put + wire.slice(at + drop)
      const reply = await app.inject({
        url: '/read',
        headers: carrying(value)[transport] as Record<string, string>
      })
      // Space around a cookie's value is not part of it.
      const same = (transport === 0 ? value : value.trim()) === wire
      return (
        reply.statusCode === 200 &&
        store.taken().includes('get') === same &&
        reply.body === (same ? '{"a":"old"}' : '{}')
      )
    }),
    { numRuns: 500 }
  )
})

t.test('S35: the comparison takes constant time, and does not throw on lengths', async (t) => {
  const { app } = await serve(t, { secret: [secret, old] })
  const wire = await begin(app)
  const lengths: Array<[number, number]> = []
  const { timingSafeEqual: real } = crypto
  t.teardown(() => {
    crypto.timingSafeEqual = real
    syncBuiltinESMExports()
  })
  crypto.timingSafeEqual = (one, other) => {
    lengths.push([one.byteLength, other.byteLength])
    return real(one, other)
  }
  syncBuiltinESMExports()
  for (const at of [37, 50, 79]) {
    const value = `${wire.slice(0, at)}${wire[at] === 'x' ? 'y' : 'x'}${wire.slice(at + 1)}`
    t.same((await app.inject({ url: '/read', headers: { 'x-session-id': value } })).json(), {})
    t.same(
      lengths.splice(0),
      [
        [43, 43],
        [43, 43]
      ],
      'each secret was tried, wherever the difference'
    )
  }
  for (const value of [wire.slice(0, -1), `${wire}x`, wire.slice(0, 36)]) {
    t.equal(
      (await app.inject({ url: '/read', headers: { 'x-session-id': value } })).statusCode,
      200
    )
    t.same(lengths.splice(0), [], 'what has not the form is not compared')
  }
})

overEveryStore(
  t,
  'S36: a rotation logs nobody out, and an id under an old secret goes out again under the new one',
  async (t, serveOver) => {
    const before = await serveOver({ secret: older })
    const between = await serveOver({ secret: [old, older] })
    const after = await serveOver({ secret: [secret, old] })
    const ended = await serveOver({ secret: [secret] })
    after.app.get('/id', async ({ session }) => session.id)
    for (const transport of [0, 1]) {
      const first = await begin(before.app)
      const [id] = first.split('.')
      const headers = (value: string): Record<string, string> =>
        carrying(value)[transport] as Record<string, string>
      const seen = async (
        { app, store }: Served,
        value: string
      ): Promise<{
        body: string
        calls: string[]
        sent: string | undefined
        cookie: string | undefined
      }> => {
        store.taken()
        const reply = await app.inject({ url: '/read', headers: headers(value) })
        const { header, cookie } = carriedBy(reply)
        if (transport === 0 && cookie !== undefined) t.equal(header, cookie, 'the same on both')
        if (transport === 1) t.equal(header, undefined)
        return { body: reply.body, calls: store.taken(), sent: header ?? cookie, cookie }
      }
      const renewed = await seen(between, first)
      t.equal(renewed.body, '{"a":"old"}')
      t.match(
        renewed.calls.join(),
        /^get,(touch|update)$/,
        'the id is confirmed before it goes out'
      )
      t.equal(renewed.sent?.split('.')[0], id, 'the same id')
      t.not(renewed.sent, first, 'under another signature')
      t.equal(renewed.cookie, renewed.sent, 'in the cookie too')
      const second = renewed.sent as string

      const quiet = await seen(between, second)
      t.same(quiet.calls, ['get'], 'under the first secret there is nothing to renew')
      t.equal(quiet.cookie, undefined)
      t.equal(quiet.sent, transport === 0 ? second : undefined)

      const third = (await seen(after, second)).sent as string
      t.not(third, second)
      t.equal(
        (await after.app.inject({ url: '/id', headers: headers(third) })).body,
        id,
        'session.id is the same under any secret'
      )
      t.equal((await seen(ended, third)).body, '{"a":"old"}')

      // Removed secrets are refused.
      await unresolved(t, after, first, 'under a secret that was removed')
      await unresolved(t, ended, second, 'under a secret that was removed')
      await unresolved(t, before, third, 'under a secret that is not there yet')
    }
  }
)

t.test(
  'S36: no id under an old secret goes out again once the session is gone, nor if the store cannot say',
  async (t) => {
    const before = await serve(t, { secret: old })
    const { store } = before
    const served = await serve(t, { secret: [secret, old], store })
    const { app } = served
    const [failing, ended] = [await begin(before.app), await begin(before.app)]
    store.intercept = (call, pass) => {
      if (call.verb === 'touch') throw new Error('no answer')
      return pass()
    }
    for (const headers of carrying(failing)) {
      const reply = await app.inject({ url: '/read', headers })
      t.equal(reply.body, '{"a":"old"}')
      t.same(
        carriedBy(reply),
        { header: undefined, cookie: undefined },
        'a failed touch: the normal reply, without an id'
      )
    }
    store.intercept = (call, pass) => {
      if (call.verb === 'touch') void before.app.sessions.store.delete(call.key)
      return pass()
    }
    t.same(carriedBy(await app.inject({ url: '/read', headers: { 'x-session-id': ended } })), {
      header: undefined,
      cookie: undefined
    })
    store.intercept = (_call, pass) => pass()
    t.not(
      carriedBy(await app.inject({ url: '/read', headers: { 'x-session-id': failing } })).cookie,
      undefined,
      'the next request renews it'
    )
  }
)

t.test(
  'S36: header and cookie may be signed under different secrets, and name one session all the same',
  async (t) => {
    const { app: before, store } = await serve(t, { secret: old })
    const { app } = await serve(t, { secret: [secret, old], store })
    const inOld = await begin(before)
    const inNew = carriedBy(await app.inject({ url: '/read', headers: { 'x-session-id': inOld } }))
      .header as string
    for (const [header, cookie] of [
      [inNew, inOld],
      [inOld, inNew],
      [inOld, inOld]
    ] as const) {
      const headers = { 'x-session-id': header, cookie: `session_id=${cookie}` }
      t.same(
        carriedBy(await app.inject({ url: '/read', headers })),
        { header: inNew, cookie: inNew },
        'both go out under the new one'
      )
    }
    t.same(
      carriedBy(
        await app.inject({
          url: '/read',
          headers: { 'x-session-id': inNew, cookie: `session_id=${inNew}` }
        })
      ),
      { header: inNew, cookie: undefined }
    )
    const another = await begin(before)
    t.same(
      carriedBy(
        await app.inject({
          url: '/write/x',
          headers: { 'x-session-id': inOld, cookie: `session_id=${another}` }
        })
      ),
      { header: inNew, cookie: undefined },
      "S9: another session's cookie is left alone"
    )
    const [cleared] = setCookies(
      await app.inject({
        url: '/logout',
        headers: { 'x-session-id': inNew, cookie: `session_id=${inOld}` }
      })
    )
    t.match(
      cleared,
      /^session_id=; Max-Age=0/,
      'a cookie under an old secret is cleared with its session'
    )
  }
)

overEveryStore(
  t,
  'S37: a value signed with the same secret for another purpose is unresolved',
  async (t, serveOver) => {
    const served = await serveOver({ secret })
    const { app } = served
    const [id] = (await begin(app)).split('.') as [string]
    const hmac = (text: string, encoding: 'base64url' | 'hex' = 'base64url'): string =>
      createHmac('sha256', secret).update(text).digest(encoding)
    const elsewhere: Record<string, string> = {
      "@fastify/cookie's signer": fastifyCookie.sign(id, secret),
      'the plain HMAC of the id': `${id}.${hmac(id)}`,
      'the HMAC of the id with our names before it': `${id}.${hmac(`fastify-holdfast\0session\0${id}`)}`,
      'a key that a signer of any text would give away': `${id}.${createHmac('sha256', createHmac('sha256', secret).update('fastify-holdfast\0session').digest()).update(id).digest('base64url')}`,
      'the key of another registration': `${id}.${createHmac(
        'sha256',
        Buffer.from(hkdfSync('sha256', secret, '', 'fastify-holdfast\0admin', 32))
      )
        .update(id)
        .digest('base64url')}`
    }
    for (const [name, value] of Object.entries(elsewhere)) await unresolved(t, served, value, name)
    t.same(await stored(app, id), { a: 'old' })
  }
)

t.test(
  "S37, S21: two registrations with one secret and one store do not take each other's ids",
  async (t) => {
    const { app, clock, store } = await serve(t, { secret })
    await app.register(sessionPlugin, { clock, secret, store, sessionName: 'admin' })
    app.get('/admin', async (request) => {
      const { admin } = request as unknown as { admin: Record<string, unknown> }
      admin['root'] = true
      return { ...admin }
    })
    app.get('/admin/read', async (request) => ({
      ...(request as unknown as { admin: object }).admin
    }))
    const admin = (await app.inject('/admin')).cookies.find(({ name }) => name === 'admin_id')
      ?.value as string
    const user = await begin(app)
    t.same((await app.inject({ url: '/admin/read', cookies: { admin_id: admin } })).json(), {
      root: true
    })
    store.taken()
    t.same((await app.inject({ url: '/admin/read', cookies: { admin_id: user } })).json(), {})
    t.same((await app.inject({ url: '/read', cookies: { session_id: admin } })).json(), {})
    t.notOk(store.taken().includes('get'), 'nor do they ask the store about them')
  }
)

t.test('S2: with a secret too, an unknown id that is rightly signed is not adopted', async (t) => {
  const { app, store } = await serve(t, { secret })
  const wire = await begin(app)
  await app.sessions.destroy(app.sessions.publicIdOf(wire.split('.')[0] as string))
  for (const headers of carrying(wire)) {
    store.taken()
    const { cookie } = carriedBy(await app.inject({ url: '/write/x', headers }))
    t.same(store.taken(), ['get', 'create'])
    t.not(cookie?.split('.')[0], wire.split('.')[0])
    t.equal(await stored(app, wire), undefined)
  }
})

t.test('a seeded session is signed as any other', async (t) => {
  for (const transport of ['header', 'cookie'] as const) {
    const { app } = await serve(t, { secret: [secret, old] })
    t.same(
      (
        await app.inject({
          url: '/read',
          headers: await seedSession(app, { a: 'seeded' }, { transport })
        })
      ).json(),
      { a: 'seeded' }
    )
  }
})

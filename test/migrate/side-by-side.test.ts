import type { LightMyRequestResponse } from 'fastify'
import t from 'tap'

import { carryOver } from '../../lib/migrate/index.ts'
import type { SessionOptions } from '../../lib/index.ts'
import { overEach, type Over } from '../helpers/attack.ts'
import { backends, later } from '../helpers/backends.ts'
import { formerSecret, ofExpress, OldStore } from '../helpers/former.ts'
import { setCookies, type Served } from '../helpers/serve.ts'

const stores = [...backends, later]
let count = 0

interface Scene extends Served {
  /** The former session: another one for each scene. */
  readonly sid: string
  readonly old: OldStore
  /** Sends a request of a browser that keeps both cookies. */
  readonly visit: (url?: string) => Promise<LightMyRequestResponse>
  /** The same of one that the former plugin has told to forget its cookie. */
  readonly visitWithOurs: (url?: string) => Promise<LightMyRequestResponse>
}

async function begin(over: Over, options: SessionOptions = {}): Promise<Scene> {
  const sid = `Gk3hR0pYxJw-${(count += 1)}`
  const old = new OldStore()
  old.put(sid, { user: 'ada' })
  const former = { cookie: 'connect.sid', secret: formerSecret, store: old, sideBySide: true }
  const served = await over.serve({ carryOver: carryOver(former), ...options })
  const { app } = served
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  app.get('/public-id', async ({ session }) => session.publicId)
  let ours = ''
  const send = async (url: string, cookie: string): Promise<LightMyRequestResponse> => {
    const reply = await app.inject({ url, headers: { cookie } })
    const line = setCookies(reply).find((each) => each.startsWith('session_id='))
    if (line !== undefined) ours = line.split(';', 1)[0] as string
    return reply
  }
  return {
    ...served,
    sid,
    old,
    visit: (url = '/who') => send(url, `${ofExpress(sid).cookie}; ${ours}`),
    visitWithOurs: (url = '/who') => send(url, ours)
  }
}

overEach(stores, t, 'side by side, both cookies and both sessions stay', async (t, over) => {
  const { sid, old, visit } = await begin(over)
  const first = await visit()
  t.equal(first.payload, 'ada')
  t.notMatch(setCookies(first).join(), 'connect.sid')
  t.equal((await visit()).payload, 'ada')
  t.ok(old.sessions.has(sid))
})

for (const url of ['/who', '/login', '/step-up-all', '/sign-in-ada', '/write/x', '/touch']) {
  overEach(stores, t, `P1: after ${url}, a logout on either side ends both`, async (t, over) => {
    for (const side of ['here', 'there', 'there, which takes its cookie']) {
      const { sid, old, visit, visitWithOurs } = await begin(over)
      await visit()
      await visit(url)
      t.equal((await visit('/read')).json().user, url === '/sign-in-ada' ? undefined : 'ada')
      if (side === 'here') await visitWithOurs('/logout')
      else old.sessions.delete(sid)
      const reply = await (side.endsWith('cookie') ? visitWithOurs : visit)('/read')
      t.equal(reply.json().user, undefined, side)
      t.notOk(old.sessions.has(sid), side)
      old.put(sid, { user: 'ada' })
      t.same((await visit('/read')).json(), {}, 'it is not carried over once more')
      old.sessions.delete(sid)
    }
  })
}

overEach(
  stores,
  t,
  'P1: a logout is not undone by a request of the other side that is still running',
  async (t, over) => {
    const { sid, old, visit } = await begin(over)
    await visit()
    await visit('/logout')
    // It stores its session at its end.
    old.put(sid, { user: 'ada' })
    t.equal((await visit()).payload, 'nobody')
    t.notOk(old.sessions.has(sid), 'and it is gone there too')
  }
)

overEach(stores, t, 'ending it by its public id ends the former one', async (t, over) => {
  for (const url of ['/who', '/sign-in-ada']) {
    const { sid, app, old, visit } = await begin(over)
    await visit()
    await visit(url)
    t.equal(await app.sessions.destroy((await visit('/public-id')).payload), true)
    t.notOk(old.sessions.has(sid))
  }
})

overEach(stores, t, 'P8: a logout that fails there has ended nothing here', async (t, over) => {
  const { old, visit } = await begin(over)
  await visit()
  old.intercept = () => {
    throw new Error('the former store is down')
  }
  t.equal((await visit('/logout')).statusCode, 503)
  old.intercept = (_verb, pass) => pass()
  t.equal((await visit()).payload, 'ada')
  t.equal((await visit('/logout')).statusCode, 200)
  t.equal((await visit()).payload, 'nobody')
})

overEach(stores, t, 'a use here is a use there, once in touchAfter', async (t, over) => {
  const { sid, old, visit } = await begin(over)
  await visit()
  const expires = (): number =>
    new Date(JSON.parse(old.sessions.get(sid) as string).cookie.expires).getTime()
  old.calls.splice(0)
  await visit()
  t.same(old.calls, ['get'])
  await over.advance(60_000)
  await visit()
  t.same(old.calls, ['get', 'get', 'touch'])
  t.equal(expires(), over.clock.now() + 3_600_000)
  await visit()
  t.same(old.calls, ['get', 'get', 'touch', 'get'])
})

overEach(stores, t, 'a session that began here has nothing to do with there', async (t, over) => {
  const { old, visitWithOurs } = await begin(over)
  await visitWithOurs('/write/x')
  t.same((await visitWithOurs('/read')).json(), { a: 'x' })
  t.same(old.calls, [])
})

overEach(stores, t, 'once the other side is gone, a session goes on by itself', async (t, over) => {
  const { app, old, visit } = await begin(over)
  const [line] = setCookies(await visit())
  const { app: next } = await over.serve({})
  next.get('/who', async ({ session }) => session.user ?? 'nobody')
  old.sessions.clear()
  const headers = { cookie: line?.split(';', 1)[0] as string }
  t.equal((await next.inject({ url: '/who', headers })).payload, 'ada')
  await app.close()
})

import t from 'tap'

import './helpers/data.ts'
import { MemoryStore, type Session } from '../lib/index.ts'
import { PostgresStore } from '../lib/stores/postgres.ts'
import { RedisStore } from '../lib/stores/redis.ts'
import { serve } from './helpers/serve.ts'

// As JavaScript sees them: no compiler refuses a wrong value.
// oxlint-disable-next-line typescript/no-explicit-any
type Untyped = any

const wrong: Readonly<Record<string, [misuse: (session: Untyped) => unknown, cure: RegExp]>> = {
  'maxAge in milliseconds': [
    (session) => (session.maxAge = 30 * 86_400 * 1000),
    /maxAge is an integer of seconds, from 1 to 34560000/
  ],
  'maxAge as text': [(session) => (session.maxAge = '60'), /maxAge is an integer of seconds/],
  'update() without a function': [(session) => session.update({ user: 'ada' }), /takes a function/],
  'regenerate() with one key': [(session) => session.regenerate('cart'), /an array or 'all'/],
  'regenerate() with an option that there is not': [
    (session) => session.regenerate([], { keepLifetimes: true }),
    /keepLifetime: true/
  ],
  'signIn() that keeps one key': [
    (session) => session.signIn('ada', { keep: 'cart' }),
    /an array or 'all'/
  ],
  'options() with a wrong sameSite': [
    (session) => session.options({ sameSite: 'loose' }),
    /cookie\.sameSite must be 'strict', 'lax' or 'none'/
  ]
}

for (const [name, [misuse, cure]] of Object.entries(wrong)) {
  t.test(`${name} gets an error that names the member and what it takes`, async (t) => {
    const { app } = await serve(t)
    app.get('/misuse', async ({ session }: { session: Session }) => {
      await misuse(session)
    })
    const reply = await app.inject('/misuse')
    t.match(reply.json(), { statusCode: 500, code: 'HOLDFAST_VALUE_INVALID', message: cure })
  })
}

t.test('a request that is none is refused by name', async (t) => {
  const { app } = await serve(t)
  await t.rejects(app.sessions.fromRequest(undefined as Untyped), {
    code: 'HOLDFAST_VALUE_INVALID',
    message: /fromRequest\(\) takes a request or its headers/
  })
})

const stores: Readonly<Record<string, new (options: Untyped) => unknown>> = {
  MemoryStore,
  RedisStore,
  PostgresStore
}

for (const [name, Store] of Object.entries(stores)) {
  t.test(`${name} refuses what is no options, and an option that it does not have`, async (t) => {
    for (const options of [...(name === 'MemoryStore' ? [] : [undefined]), null, 5])
      t.throws(() => new Store(options), {
        code: 'HOLDFAST_OPTION_INVALID',
        message: /must be an object of its options: .*clock/
      })
    t.throws(() => new Store({ size: 1 }), {
      code: 'HOLDFAST_OPTION_INVALID',
      message: /there is no option size of the store; the options are .*clock/
    })
    t.throws(() => new Store({ ttl: 3600 }), {
      code: 'HOLDFAST_OPTION_INVALID',
      message:
        /ttl is not needed: each session is stored for as long as the options of the plugin say/
    })
  })
}

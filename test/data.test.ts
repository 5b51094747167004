import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import t from 'tap'

import './helpers/data.ts'
import type { Serializer, Session, SessionData } from '../lib/index.ts'
import { overEveryStore } from './helpers/attack.ts'
import { logInto } from './helpers/serve.ts'
import { world, type World } from './helpers/world.ts'

/** The text that the store keeps for the browser's session. */
async function storedText({ app, store, id }: World): Promise<string | undefined> {
  const record = await store.get(app.sessions.publicIdOf(id()))
  store.taken()
  return record?.data
}

/** What a handler finds in the session of the next request. */
async function next({ visit }: World): Promise<SessionData> {
  let found!: SessionData
  await visit((session) => {
    found = session.data()
  })
  return found
}

/** Puts a session with this text into the store, and its cookie into the browser. */
async function plant({ app, browser, clock, store }: World, data: string): Promise<void> {
  const id = 'planted-planted-planted'
  await store.create(app.sessions.publicIdOf(id), {
    data,
    version: 'planted',
    createdAt: clock.now(),
    expiresAt: clock.now() + 3_600_000
  })
  browser.cookies.set('session_id', id)
  store.taken()
}

t.test('what the app has put on Object.prototype is none of the data', async (t) => {
  const shared: Record<string, unknown> = { list: [] }
  shared['circle'] = shared
  Reflect.defineProperty(Object.prototype, 'shared', {
    value: shared,
    writable: true,
    enumerable: true,
    configurable: true
  })
  t.teardown(() => Reflect.deleteProperty(Object.prototype, 'shared'))
  const scene = await world(t)
  await scene.visit((session) => {
    session.cart = ['apple']
  })
  t.match(await next(scene), { cart: ['apple'] })
  t.equal(Object.getPrototypeOf(shared), Object.prototype)
  t.equal(Object.getPrototypeOf(shared['list']), Array.prototype)
})

t.test('the own enumerable properties are the data and nothing else', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => {
    session.a = 1
    session.cart = ['apple']
    session.b = 2
    t.ok(delete session.b)
    t.same(Object.keys(session), ['a', 'cart'])
    t.equal(JSON.stringify(session), '{"a":1,"cart":["apple"]}')
    t.same({ ...session }, { a: 1, cart: ['apple'] })
    t.ok('a' in session)
    t.notOk('b' in session)
    t.notOk(Object.hasOwn(session, 'id'))
    const seen = []
    for (const key in session) seen.push(key)
    t.same(seen, ['a', 'cart'], 'a for-in loop meets no member')
    t.same(Reflect.ownKeys(session), ['a', 'cart'])
    t.ok(Object.isFrozen(Object.getPrototypeOf(session)))
  })
  t.same(await next(scene), { a: 1, cart: ['apple'] })
})

t.test('a request that does not look at its session parses and serialises nothing', async (t) => {
  const counts = { stringify: 0, parse: 0 }
  const serializer: Serializer = {
    stringify: (data) => {
      counts.stringify += 1
      return JSON.stringify(data)
    },
    parse: (text) => {
      counts.parse += 1
      return JSON.parse(text) as Record<string, unknown>
    }
  }
  const { browser, clock, store, visit } = await world(t, { serializer })
  await visit((session) => {
    session.a = 1
  })
  Object.assign(counts, { stringify: 0, parse: 0 })
  store.taken()
  await browser.get('/look-away')
  clock.advance(120_000)
  await browser.get('/look-away')
  t.same(store.taken(), ['get', 'get', 'touch'])
  t.same(counts, { stringify: 0, parse: 0 })
  await visit((session) => session.a)
  t.same(counts, { stringify: 1, parse: 1 }, 'one that looks does each once')
})

t.test('a nested change is seen', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => {
    session.flash = { info: ['one'] }
  })
  await scene.visit((session) => {
    session.flash?.['info']?.push('two')
  })
  t.same(await next(scene), { flash: { info: ['one', 'two'] } })
})

const equalWrites: Readonly<Record<string, (session: Session) => void>> = {
  'the same value': (session) => {
    session.n = 1
  },
  'an equal object': (session) => {
    session.flash = { info: ['one'], error: [] }
  },
  'changed, and changed back': (session) => {
    session.n = 2
    session.n = 1
  },
  'set to undefined, which was not there': (session) => {
    session.b = undefined
  },
  'merely read in every way': (session) =>
    JSON.stringify([
      { ...session },
      Object.keys(session),
      session.data(),
      session.get('n'),
      'n' in session
    ])
}

for (const [name, write] of Object.entries(equalWrites)) {
  t.test(`an equal write is no change: ${name}`, async (t) => {
    const scene = await world(t)
    await scene.visit((session) =>
      Object.assign(session, { n: 1, flash: { info: ['one'], error: [] } })
    )
    const before = await storedText(scene)
    await scene.visit(write)
    t.same(scene.store.taken(), ['get'])
    t.equal(await storedText(scene), before)
  })
}

t.test('undefined removes a key', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => Object.assign(session, { a: 1, b: 2, c: 3, n: 4 }))
  await scene.visit(async (session) => {
    session.set('a', undefined)
    t.notOk('a' in session)
    session.b = undefined
    await session.update((draft) => {
      draft.c = undefined
    })
  })
  t.equal(await storedText(scene), '{"n":4}')
})

const members = [
  'id',
  'publicId',
  'isNew',
  'transport',
  'createdAt',
  'expiresAt',
  'get',
  'set',
  'data',
  'options',
  'touch',
  'update',
  'save',
  'regenerate',
  'destroy',
  'signal',
  'subject',
  'cookie',
  'reload',
  'constructor'
]

// The body of a new Function is not strict, as CommonJS is not.
// oxlint-disable-next-line no-new-func, typescript/no-implied-eval
const assignSloppily = new Function('object', 'name', 'object[name] = 1') as (
  object: object,
  name: string
) => void

t.test("S26: a member can't be overwritten", async (t) => {
  const scene = await world(t)
  const reply = await scene.visit(async (session) => {
    const open = session as unknown as {
      [key: string]: unknown
      set(key: string, value: unknown): void
    }
    session.a = 1
    for (const name of members) {
      t.throws(
        () => {
          open[name] = 'x'
        },
        { code: 'HOLDFAST_KEY_RESERVED' },
        `${name}, by assignment`
      )
      t.throws(
        () => {
          assignSloppily(open, name)
        },
        { code: 'HOLDFAST_KEY_RESERVED' },
        `${name}, by assignment in a script without strict mode`
      )
      t.throws(() => open.set(name, 'x'), { code: 'HOLDFAST_KEY_RESERVED' }, `${name}, by set`)
      await t.rejects(
        session.update((draft) => {
          ;(draft as Record<string, unknown>)[name] = 'x'
        }),
        { code: 'HOLDFAST_KEY_RESERVED' },
        `${name}, by update`
      )
    }
    t.throws(() => open.set('maxAge', 60), { code: 'HOLDFAST_KEY_RESERVED' }, 'maxAge, by set')
    t.throws(
      () => open.set('__proto__', {}),
      { code: 'HOLDFAST_KEY_RESERVED' },
      '__proto__, by set'
    )
    t.throws(
      () => {
        open['__proto__'] = { admin: true }
      },
      { code: 'HOLDFAST_KEY_RESERVED' },
      '__proto__, by assignment'
    )
    t.equal(open['admin'], undefined)
  })
  t.equal(reply.statusCode, 200)
  t.equal(await storedText(scene), '{"a":1}')
})

t.test(
  "S26: a stored key of a member's name hides no member, and is reached through get",
  async (t) => {
    const scene = await world(t)
    const text = '{"b":1,"id":"mine","save":2,"a":3}'
    await plant(scene, text)
    await scene.visit((session) => {
      t.equal(session.id, 'planted-planted-planted')
      t.equal(typeof session.save, 'function')
      t.equal(session.get('id'), 'mine')
      t.equal(session.get('save'), 2)
      t.same(Object.keys(session), ['b', 'a'])
      t.same(session.data(), { b: 1, id: 'mine', save: 2, a: 3 })
    })
    t.same(scene.store.taken(), ['get'], 'reading it writes nothing')
    await scene.visit((session) => {
      session.a = 4
    })
    t.same(
      JSON.parse((await storedText(scene)) ?? ''),
      { b: 1, id: 'mine', save: 2, a: 4 },
      'it is kept by a write beside it'
    )
    await scene.visit((session) =>
      session.update((draft) => {
        draft.n = 1
      })
    )
    t.same(
      JSON.parse((await storedText(scene)) ?? ''),
      { b: 1, id: 'mine', save: 2, a: 4, n: 1 },
      'and by an update'
    )
  }
)

t.test('S26: a stored __proto__ is a key like any other: nothing is inherited', async (t) => {
  const scene = await world(t)
  await plant(scene, '{"a":1,"__proto__":{"admin":true}}')
  await scene.visit((session) => {
    t.equal((session as unknown as Record<string, unknown>)['admin'], undefined)
    t.equal(session.get('admin'), undefined)
    t.same(session.get('__proto__'), { admin: true })
    t.equal(typeof session.save, 'function')
    t.equal((session.data() as Record<string, unknown>)['admin'], undefined)
  })
  t.same(scene.store.taken(), ['get'], 'reading it writes nothing')
  await scene.visit((session) =>
    session.update((draft) => {
      t.equal((draft as Record<string, unknown>)['admin'], undefined)
      draft.n = 1
    })
  )
  t.equal(({} as Record<string, unknown>)['admin'], undefined)
})

t.test('S26: keys that every object inherits are keys like any other', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => {
    for (const key of ['toString', 'hasOwnProperty', 'valueOf']) {
      t.equal(session.get(key), undefined, `${key} is not data`)
      session.set(key, `my ${key}`)
    }
  })
  t.same(JSON.parse((await storedText(scene)) ?? ''), {
    toString: 'my toString',
    hasOwnProperty: 'my hasOwnProperty',
    valueOf: 'my valueOf'
  })
  await scene.visit((session) => {
    t.equal(session.get('toString'), 'my toString')
    t.equal(session.get('constructor'), undefined)
    session.set('toString', undefined)
  })
  t.same(JSON.parse((await storedText(scene)) ?? ''), {
    hasOwnProperty: 'my hasOwnProperty',
    valueOf: 'my valueOf'
  })
})

const circular: { self?: unknown } = {}
circular.self = circular

/** Shows nothing of what it holds. */
class Secretive {
  readonly #fruit = 'apple'
  get fruit(): string {
    return this.#fruit
  }
}

const unserialisable: Readonly<Record<string, unknown>> = {
  'a function': () => 1,
  'a symbol': Symbol('s'),
  'a BigInt': 1n,
  'a circle': circular,
  'a Map': new Map([['apple', 1]]),
  'a Set': new Set(['apple']),
  'a WeakMap': new WeakMap(),
  'a promise': Promise.resolve(1),
  'an error': new Error('an error'),
  'a regular expression': /apple/,
  NaN: NaN,
  Infinity: Infinity,
  'an invalid Date': new Date(NaN),
  'undefined in an array': [1, undefined],
  'a hole in an array': Object.assign([1], { length: 2 }),
  'a Buffer': Buffer.from('apple'),
  'a typed array': new Uint8Array(2),
  'an ArrayBuffer': new ArrayBuffer(2),
  'a number in an object': Object(1),
  'a toJSON() that makes nothing': { toJSON: () => undefined },
  'a toJSON() that makes a Map': { toJSON: () => new Map([['apple', 1]]) },
  'a class whose objects show nothing': new Secretive()
}

for (const [name, value] of Object.entries(unserialisable)) {
  t.test(`${name} can't be stored: a coded error, and the record stays as it was`, async (t) => {
    const scene = await world(t)
    await scene.visit((session) => {
      session.a = 'old'
    })
    const ways: Readonly<Record<string, (session: Session) => unknown>> = {
      commit: (session) => Object.assign(session, { b: value }) && 'ok',
      save: (session) => Object.assign(session, { b: value }).save(),
      update: (session) =>
        session.update((draft) => {
          draft.b = value
        })
    }
    const deep: typeof ways = {
      'commit, in a list': (session) => Object.assign(session, { b: [value] }) && 'ok',
      'update, deep inside': (session) =>
        session.update((draft) => {
          draft.b = { list: [[{ value }]] }
        })
    }
    for (const [way, write] of Object.entries({ ...ways, ...deep })) {
      const reply = await scene.visit(write)
      t.equal(reply.statusCode, 500, way)
      t.equal(reply.json().code, 'HOLDFAST_DATA_UNSERIALIZABLE', way)
      t.equal(await storedText(scene), '{"a":"old"}', way)
    }
  })
}

class Point {
  readonly x: number
  constructor(x: number) {
    this.x = x
  }
  get double(): number {
    return this.x * 2
  }
}

const changed: Readonly<Record<string, readonly [value: unknown, readBack: unknown]>> = {
  'a Date is read back as a string': [new Date(0), '1970-01-01T00:00:00.000Z'],
  'a Date deep inside is read back as a string': [
    [{ at: new Date(0) }],
    [{ at: '1970-01-01T00:00:00.000Z' }]
  ],
  'a URL is read back as a string': [new URL('https://example.com/'), 'https://example.com/'],
  'undefined in an object is read back as undefined': [{ a: undefined, b: null }, { b: null }],
  'an object of a class is read back as its own properties': [new Point(2), { x: 2 }],
  'an empty object, beside a Date': [
    [{}, new Date(0)],
    [{}, '1970-01-01T00:00:00.000Z']
  ],
  'an object without a prototype, beside a Date': [
    [Object.create(null), new Date(0)],
    [{}, '1970-01-01T00:00:00.000Z']
  ],
  'an object of another realm': [runInNewContext('({ a: [1], b: {} })'), { a: [1], b: {} }],
  'what toJSON() makes of a plain object': [
    { toJSON: () => ({ n: 1, list: [true] }) },
    { n: 1, list: [true] }
  ]
}

for (const [name, [value, readBack]] of Object.entries(changed)) {
  t.test(`JSON keeps the data: ${name}`, async (t) => {
    const scene = await world(t)
    const reply = await scene.visit((session) => {
      session.a = value
    })
    t.equal(reply.statusCode, 200)
    t.same(await next(scene), { a: readBack })
  })
}

t.test('data that is nested a thousand deep is stored and read back', async (t) => {
  const scene = await world(t)
  const text = `${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`
  await scene.visit((session) => {
    session.a = JSON.parse(text) as unknown
  })
  t.equal(JSON.stringify((await next(scene)).a), text)
})

t.test('a serializer of the app may keep what JSON does not', async (t) => {
  const serializer: Serializer = {
    stringify: (data) =>
      JSON.stringify(data, (_key, value: unknown) =>
        value instanceof Map ? { $map: [...value] } : value
      ),
    parse: (text) =>
      JSON.parse(text, (_key, value: { $map?: [] } | null) =>
        value?.$map === undefined ? value : new Map(value.$map)
      ) as Record<string, unknown>
  }
  const scene = await world(t, { serializer })
  await scene.visit((session) => {
    session.a = new Map([['apple', 1]])
  })
  await scene.visit((session) => {
    t.ok(session.a instanceof Map)
    t.same([...(session.a as Map<string, number>)], [['apple', 1]])
  })
})

t.test(
  'S24: data over maxBytes is refused, never truncated, and the record stays as it was',
  async (t) => {
    const limit = 100
    const overhead = '{"a":""}'.length
    const texts = {
      'single bytes': (bytes: number) => 'x'.repeat(bytes),
      'two bytes each': (bytes: number) =>
        'é'.repeat(Math.floor(bytes / 2)) + 'x'.repeat(bytes % 2),
      'four bytes each': (bytes: number) =>
        '😀'.repeat(Math.floor(bytes / 4)) + 'x'.repeat(bytes % 4)
    }
    for (const [name, textOf] of Object.entries(texts)) {
      const scene = await world(t, { maxBytes: limit })
      const fits = textOf(limit - overhead)
      t.equal(
        (
          await scene.visit((session) => {
            session.a = fits
          })
        ).statusCode,
        200,
        name
      )
      t.equal(Buffer.byteLength((await storedText(scene)) ?? ''), limit, name)
      const reply = await scene.visit((session) => {
        session.a = textOf(limit - overhead + 1)
      })
      t.equal(reply.json().code, 'HOLDFAST_DATA_TOO_LARGE', name)
      t.equal(await storedText(scene), JSON.stringify({ a: fits }), name)
      const updated = await scene.visit((session) =>
        session.update((draft) => {
          draft.b = ''
        })
      )
      t.equal(updated.json().code, 'HOLDFAST_DATA_TOO_LARGE', name)
      t.equal(await storedText(scene), JSON.stringify({ a: fits }), name)
    }
  }
)

t.test("a serializer of the app's own: one that keeps dates", async (t) => {
  const serializer: Serializer = {
    stringify: (data) =>
      JSON.stringify(data, function (this: Record<string, unknown>, key, value: unknown) {
        return this[key] instanceof Date ? { $date: this[key].getTime() } : value
      }),
    parse: (text) =>
      JSON.parse(text, (_key, value: unknown) => {
        return typeof value === 'object' && value !== null && '$date' in value
          ? new Date(value.$date as number)
          : value
      }) as Record<string, unknown>
  }
  const scene = await world(t, { serializer })
  await scene.visit((session) => {
    session.a = new Date(1)
  })
  await scene.visit((session) => {
    t.ok(session.a instanceof Date)
    t.equal((session.a as Date).getTime(), 1)
  })
  t.equal(await storedText(scene), '{"a":{"$date":1}}')
  scene.store.taken()
  await scene.visit((session) => {
    session.a = new Date(1)
  })
  t.same(scene.store.taken(), ['get'], 'an equal date is no change')
  await scene.visit((session) => {
    ;(session.a as Date).setTime(2)
  })
  t.same(await next(scene), { a: new Date(2) })
})

for (const text of ['{"a":', 'null', '[1]', '"text"', "not the serializer's"]) {
  t.test(
    `S27: what is no data of the serializer is not taken for an empty session: ${text}`,
    async (t) => {
      const scene = await world(t)
      await plant(scene, text)
      const read = await scene.visit((session) => session.a)
      t.same([read.statusCode, read.json().code], [503, 'HOLDFAST_DATA_UNDECODABLE'])
      t.same(read.cookies, [])
      t.same(scene.store.taken(), ['get'])
      t.equal(await storedText(scene), text)
      t.equal((await scene.visit((session) => session.destroy())).statusCode, 200)
      t.equal(scene.browser.cookies.has('session_id'), false)
      await scene.visit((session) => {
        session.a = 1
      })
      t.same(await next(scene), { a: 1 })
    }
  )
}

t.test('S27: a session that cannot be read is told in the log, without its data', async (t) => {
  const lines: string[] = []
  const scene = await world(t, {}, { fastifyOptions: { logger: logInto(lines, 'warn') } })
  await plant(scene, '{"user":"a secret')
  const id = scene.id()
  t.equal((await scene.visit((session) => session.isNew)).body, 'false')
  t.equal(lines.length, 1)
  t.notOk(lines.some((line) => line.includes('a secret') || line.includes(id)))
})

overEveryStore(
  t,
  'S27: a session that cannot be read, and is first looked at after the commit, stays as it is',
  async (t, serveOver) => {
    const { app, store, clock } = await serveOver()
    const ends: string[] = []
    app.get('/late', async () => 'ok')
    app.addHook('onSend', async ({ session }) => {
      ends.push(
        await session.update(() => {}).then(String, (error: { code: string }) => error.code)
      )
    })
    const id = 'planted-planted-planted'
    const createdAt = clock.now()
    const record = { data: '{"a":', version: 'v', createdAt, expiresAt: createdAt + 3_600_000 }
    await store.create(app.sessions.publicIdOf(id), record)
    store.taken()
    const reply = await app.inject({ url: '/late', headers: { 'x-session-id': id } })
    t.equal(reply.statusCode, 200)
    t.same(ends, ['HOLDFAST_DATA_UNDECODABLE'])
    t.same(store.taken(), ['get'])
    t.equal(reply.headers['x-session-id'], id)
  }
)

t.test(
  'S25, P9: what a request changes is invisible to every other until it is committed',
  async (t) => {
    const scene = await world(t)
    await scene.visit((session) => {
      session.flash = { info: ['old'] }
    })
    await scene.visit(async (session) => {
      session.flash?.['info']?.push('mine')
      await scene.visit((other) => {
        t.same(other.flash, { info: ['old'] })
      })
      t.equal(await storedText(scene), '{"flash":{"info":["old"]}}')
    })
    t.ok(scene.id())
    await scene.visit((session) => {
      t.same(session.flash, { info: ['old', 'mine'] })
    })
  }
)

t.test('S25: requests share no object, nor does a request with what it stored', async (t) => {
  const { visit } = await world(t)
  const mine = { info: ['one'] }
  await visit((session) => {
    session.flash = mine
  })
  mine.info.push('afterwards')
  const held: unknown[] = []
  for (const _ of [1, 2]) {
    await visit((session) => {
      t.same(session.flash, { info: ['one'] })
      held.push(session.flash)
    })
  }
  t.not(held[0], held[1])
})

t.test('P10, S38: inspecting the session shows neither id nor data', async (t) => {
  const { visit } = await world(t)
  await visit(async (session) => {
    session.user = 'a secret user'
    session.a = 1n
    const { id, publicId } = session
    const error: unknown = await session.save().catch((error: unknown) => error)
    const shown = [
      inspect(session),
      inspect(session, { showHidden: true, depth: 9 }),
      inspect({ session }, { customInspect: true, depth: 9 }),
      inspect(error, { showHidden: true, depth: 9 })
    ].join('\n')
    const secrets = {
      'the id': id,
      'the public id': publicId,
      'the user': 'a secret user',
      user: 'user'
    }
    for (const [name, secret] of Object.entries(secrets))
      t.notOk(shown.includes(secret), `not ${name}`)
    delete session.a
  })
})

t.test("S38: what the serializer's errors quote of the data stays out of ours", async (t) => {
  const scene = await world(t)
  await plant(scene, '{"user":"a secret user')
  const error: unknown = await scene.app.sessions
    .get(scene.app.sessions.publicIdOf('planted-planted-planted'))
    .catch((error: unknown) => error)
  t.notOk(inspect(error, { depth: 9 }).includes('a secret'))
  const reply = await scene.visit((session) => session.user ?? 'nobody')
  t.equal(reply.json().code, 'HOLDFAST_DATA_UNDECODABLE')
  t.notOk(reply.body.includes('a secret'))
})

t.test('data() is a plain copy: adding to it adds nothing to the session', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => {
    session.a = { deep: 1 }
    const copy = session.data()
    t.equal(Object.getPrototypeOf(copy), null)
    copy.b = 2
    delete copy.a
    t.same({ ...session }, { a: { deep: 1 } })
    t.not(session.data(), session.data())
  })
  t.same(await next(scene), { a: { deep: 1 } })
})

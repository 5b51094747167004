import fc from 'fast-check'
import t from 'tap'

import type { Session, SessionData } from '../../lib/index.ts'
import { Session as SessionClass } from '../../lib/session/session.ts'
import { overEveryStore } from '../helpers/attack.ts'
import { Browser } from '../helpers/browser.ts'
import { world } from '../helpers/world.ts'

type Loose = Record<string, unknown>

/** Names that a client may send where an app expects those of its data. */
const hostile = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
  '__lookupSetter__',
  'update',
  'get',
  'data',
  'save',
  'reload',
  'cookie',
  'push',
  'map',
  'length',
  'name',
  'call',
  'apply',
  'bind',
  'isArray',
  'read',
  'polluted'
]

/** Everything that an app's objects share, and that names could lead to. */
const prototypes = [
  Object.prototype,
  Array.prototype,
  Function.prototype,
  Promise.prototype,
  SessionClass.prototype
]
const shared: readonly object[] = [
  ...prototypes,
  ...[Object, Array, Function, Promise, SessionClass],
  ...prototypes
    .flatMap((prototype) => Object.values(Object.getOwnPropertyDescriptors(prototype)))
    .flatMap((property) => Object.values(property) as unknown[])
    .filter((member) => typeof member === 'function')
]

/** All that shared objects are, part by part. */
function sharedParts(): unknown[] {
  return shared.flatMap((object) => [
    Object.getPrototypeOf(object) as unknown,
    ...Reflect.ownKeys(object).flatMap((key) => {
      const property = Object.getOwnPropertyDescriptor(object, key) ?? {}
      return [key, ...Object.entries(property).flat()] as unknown[]
    })
  ])
}

const before = sharedParts()

function isUntouched(): boolean {
  const now = sharedParts()
  return now.length === before.length && now.every((part, at) => Object.is(part, before[at]))
}

/** Does what an app does that files a value under two names that the client chose. */
function file(root: object, section: string, name: string): void {
  const sections = root as Record<string, Loose>
  ;(sections[section] ??= {})[name] = 'theirs'
}

const places = [
  'session',
  'update',
  'nested in the session',
  'nested in a draft',
  'list',
  'sessions.update',
  'sessions.get',
  'delete'
] as const

function doAt(
  place: (typeof places)[number],
  session: Session,
  section: string,
  name: string
): unknown {
  const { publicId } = session
  switch (place) {
    case 'session':
      return file(session, section, name)
    case 'update':
      return session.update((draft) => file(draft, section, name))
    case 'nested in the session':
      return file(session.flash as object, section, name)
    case 'nested in a draft':
      return session.update((draft) => file(draft.flash as object, section, name))
    case 'list':
      return file(session.cart as object, section, name)
    case 'sessions.update':
    case 'sessions.get':
      return publicId
    case 'delete':
      return delete (session as unknown as Record<string, Loose>)[section]?.[name]
  }
}

overEveryStore(
  t,
  'S44: a section and a name that a client chooses reach nothing that is shared',
  async (t, serveOver) => {
    const { app } = await serveOver()
    app.get('/begin', async ({ session }) => {
      session.cart = ['apple']
      session.flash = { info: ['welcome'] }
    })
    app.get<{ Params: { place: (typeof places)[number] }; Querystring: Record<string, string> }>(
      '/file/:place',
      async ({ session, params, query }) => {
        const { section = '', name = '' } = query
        await doAt(params.place, session, section, name)
        if (params.place === 'sessions.update') {
          await app.sessions.update(session.publicId, (draft) => file(draft, section, name))
        }
        if (params.place === 'sessions.get') {
          file((await app.sessions.get(session.publicId))?.data as object, section, name)
        }
      }
    )
    const other = new Browser(app)
    await other.get('/write/mine')
    for (const place of places) {
      for (const section of ['__proto__', 'constructor', 'toString', 'update', 'push']) {
        const browser = new Browser(app)
        await browser.get('/begin')
        for (const name of ['polluted', 'call', 'read', 'prototype']) {
          const reply = await browser.get(`/file/${place}`, { query: { section, name } })
          const told = reply.statusCode === 200 ? undefined : (reply.json() as Loose)['code']
          if (told !== undefined) t.equal(told, 'HOLDFAST_KEY_RESERVED', `${place} ${section}`)
          t.ok(isUntouched(), `${place}: ${section}, ${name}`)
        }
      }
    }
    t.same((await other.get('/read')).json(), { a: 'mine' }, 'another session is as it was')
    t.equal((await other.get('/update')).statusCode, 200)
  }
)

overEveryStore(
  t,
  'S44: one registration is out of reach of the names of another',
  async (t, serveOver) => {
    const { app } = await serveOver()
    const admins = await serveOver({ sessionName: 'admin' })
    app.get<{ Querystring: Record<string, string> }>('/file', async ({ session, query }) => {
      file(session, query['section'] ?? '', query['name'] ?? '')
    })
    admins.app.get('/who', async ({ admin }) => {
      admin.user = 'grace'
      await admin.save()
      return { ...admin.data(), found: typeof admin.update }
    })
    for (const section of hostile) {
      for (const name of ['__proto__', 'constructor', 'call', 'read']) {
        await app.inject({ url: '/file', query: { section, name } })
      }
      t.ok(isUntouched(), section)
    }
    t.same((await admins.app.inject('/who')).json(), { user: 'grace', found: 'function' })
    t.equal((await app.inject('/update')).json().n, 1)
  }
)

/** Follows a path to its end, and sets or deletes that. */
function follow(root: object, path: readonly string[], isDelete: boolean): void {
  const end = path.at(-1) as string
  let held: unknown = root
  try {
    for (const name of path.slice(0, -1)) {
      // An ordinary object of the app's would be the app's to watch.
      held = (held as Loose)[name] ??= Object.create(null)
      // A text leads to String.prototype, whatever holds it.
      if (typeof held === 'string' || typeof held === 'number') return
    }
    if (isDelete) delete (held as Loose)[end]
    else (held as Loose)[end] = 'theirs'
  } catch {
    // It is refused.
  }
}

const text = JSON.stringify({
  user: 'ada',
  cart: ['apple', { n: 1 }, ['pear']],
  flash: { info: ['welcome'], constructor: ['x'] }
}).replace('"constructor"', '"__proto__":{"polluted":[{}]},"constructor"')

t.test('S44: no path of hostile names leads out of the data of a session', async (t) => {
  const scene = await world(t)
  const { app, browser, clock, store } = scene
  const plant = async (id: string): Promise<void> => {
    const key = app.sessions.publicIdOf(id)
    await store.delete(key)
    const [createdAt, expiresAt] = [clock.now(), clock.now() + 3_600_000]
    await store.create(key, { data: text, version: 'planted', createdAt, expiresAt })
  }
  const bystander = 'bystander-bystander-bystander'
  await plant(bystander)
  const id = 'planted-planted-planted'
  const names = fc.constantFrom(...hostile, 'cart', 'flash', 'info', '0', '1', '2')
  const path = fc.array(names, { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(fc.array(path, { maxLength: 8 }), fc.boolean(), async (paths, isDelete) => {
      await plant(id)
      browser.cookies.set('session_id', id)
      await scene.visit(async (session) => {
        const { publicId } = session
        for (const each of paths) {
          follow(session, each, isDelete)
          follow(session.data(), each, isDelete)
          follow((await app.sessions.get(publicId))?.data as object, each, isDelete)
          const change = (draft: object): void => follow(draft, each, isDelete)
          await session.update(change).catch(() => {})
          await app.sessions.update(publicId, change).catch(() => {})
        }
      })
      return isUntouched()
    }),
    { numRuns: 300 }
  )
  const { data } = (await app.sessions.get(app.sessions.publicIdOf(bystander))) ?? {}
  t.equal(JSON.stringify(data), text, 'another session is as it was')
  browser.cookies.delete('session_id')
  t.equal((await scene.visit((session) => session.update(() => 'ok'))).body, 'ok')
})

const refused: Readonly<Record<string, (session: Session, name: string) => unknown>> = {
  'on the session': (session, name) => ((session as unknown as Loose)[name] ??= {}),
  'on a member': (session, name) => {
    ;(session.update as unknown as Loose)[name] = {}
  },
  'on the call of a member': (session, name) => {
    ;(session.update.call as unknown as Loose)[name] = {}
  },
  'on a draft': (session, name) =>
    session.update((draft) => {
      let code = 'none'
      try {
        ;(draft as Loose)[name] = {}
      } catch (error) {
        code = (error as { code: string }).code
      }
      // At the place of the write, not only once the function has run.
      throw Object.assign(new Error('it was set'), { code })
    })
}

for (const [where, write] of Object.entries(refused)) {
  t.test(`S44: a reserved name that is set ${where} is refused with a code`, async (t) => {
    const { visit } = await world(t)
    await visit((session) => {
      session.a = 1
    })
    await visit(async (session) => {
      for (const name of ['constructor', '__proto__', 'cookie']) {
        await t.rejects(
          async () => await write(session, name),
          { code: 'HOLDFAST_KEY_RESERVED' },
          name
        )
      }
      t.same({ ...session }, { a: 1 })
    })
    t.ok(isUntouched())
  })
}

t.test('S44: what a list inherits is refused to be set, with a code', async (t) => {
  const { visit } = await world(t)
  await visit((session) => {
    session.cart = ['apple']
  })
  await visit((session) => {
    const list = session.cart as unknown as Record<string, Loose | undefined>
    for (const name of ['push', 'constructor', '__proto__', 'hasOwnProperty']) {
      t.throws(() => (list[name] = {}), { code: 'HOLDFAST_KEY_RESERVED' }, name)
    }
    t.throws(() => ((list['push'] as Loose)['call'] = 1), 'nor can its methods be changed')
    t.throws(() => ((list['push'] as Loose)['x'] = 1), { code: 'HOLDFAST_KEY_RESERVED' })
    t.ok(Object.isFrozen(list['push']))
    t.equal(list['constructor'], undefined)
    t.equal(list['__proto__'], undefined)
  })
  t.ok(isUntouched())
})

t.test(
  'S44: a reserved key that is defined on a draft is refused, and nothing stored',
  async (t) => {
    const scene = await world(t)
    const reply = await scene.visit((session) =>
      session.update((draft) => {
        Object.defineProperty(draft, 'update', { value: 1, enumerable: true })
      })
    )
    t.equal(reply.json().code, 'HOLDFAST_KEY_RESERVED')
    t.equal(await scene.stored(), undefined)
  }
)

t.test('S44: the data of a serializer of the app is as safe at the top', async (t) => {
  const given: unknown[] = []
  const serializer = {
    stringify: (data: Loose) => {
      given.push(Object.getPrototypeOf(data))
      return JSON.stringify(data)
    },
    parse: (stored: string) => Object.freeze(JSON.parse(stored)) as Loose
  }
  const scene = await world(t, { serializer })
  await scene.visit((session) => {
    session.a = { b: 1 }
  })
  await scene.visit(async (session) => {
    t.equal(Object.getPrototypeOf(session.data()), null)
    await session.update((draft) => {
      for (const name of ['toString', 'constructor', 'hasOwnProperty']) {
        t.equal((draft as Loose)[name], undefined, name)
      }
      draft.b = 2
    })
  })
  t.same(await scene.stored(), { a: { b: 1 }, b: 2 })
  t.ok(given.length > 2)
  t.ok(
    given.every((prototype) => prototype === Object.prototype),
    'it is given ordinary objects'
  )
})

t.test('what is stored and read back works as data does', async (t) => {
  const scene = await world(t)
  await scene.visit((session) => {
    session.cart = ['apple', 'pear']
    session.flash = { info: ['one'] }
  })
  await scene.visit((session) => {
    const { cart = [], flash = {} } = session
    t.ok(Array.isArray(cart))
    t.ok(Array.prototype.isPrototypeOf(cart))
    t.equal(cart.push('fig'), 3)
    t.same([...cart], ['apple', 'pear', 'fig'])
    t.same(cart.concat(['kiwi']), ['apple', 'pear', 'fig', 'kiwi'])
    t.equal(Object.getPrototypeOf(cart.map((fruit) => fruit.length)), Array.prototype)
    t.equal(`${cart.toSorted().join()} ${cart}`, 'apple,fig,pear apple,pear,fig')
    t.ok(Object.hasOwn(flash, 'info'))
    t.equal(Object.getPrototypeOf(flash), null)
    t.same(Object.entries(flash), [['info', ['one']]])
    t.equal(JSON.stringify(flash), '{"info":["one"]}')
    const ordinary = structuredClone(session.data())
    t.equal(Object.getPrototypeOf(ordinary), Object.prototype)
    t.equal(Object.getPrototypeOf(ordinary.flash), Object.prototype)
    t.equal(Object.getPrototypeOf(ordinary.cart), Array.prototype)
    t.equal(`${session as unknown as string}`, '[object Session]')
  })
  t.same(await scene.stored(), { cart: ['apple', 'pear', 'fig'], flash: { info: ['one'] } })
})

t.test('a member can be called on its session in every way', async (t) => {
  const { visit } = await world(t)
  await visit((session: Session) => {
    session.a = 1
    // oxlint-disable-next-line typescript/unbound-method -- it is called on the session
    const { get } = session
    t.ok(Object.isFrozen(get))
    t.ok(Object.isFrozen(SessionClass))
    t.equal(Reflect.apply(get, session, ['a']), 1)
    t.equal(get.call(session, 'a'), 1)
    t.equal(get.apply(session, ['a']), 1)
    t.equal((get.bind(session) as (key: keyof SessionData) => unknown)('a'), 1)
    t.equal((session as unknown as Loose)['constructor'], undefined)
  })
})

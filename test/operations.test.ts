import t, { type Test } from 'tap'

import './helpers/data.ts'
import type { Session, SessionOptions } from '../lib/index.ts'
import { carriedBy } from './helpers/browser.ts'
import { serve } from './helpers/serve.ts'
import { wraps, type Verb, type WatchedStore, type Wrap } from './helpers/stores.ts'
import { world, type World } from './helpers/world.ts'

/** A world whose browser has a session that holds a: 'old', b: { deep: ['old'] }. */
async function loaded(t: Test, wrap: Wrap): Promise<World> {
  const scene = await world(t, {}, { wrap })
  await scene.visit((session) => {
    Object.assign(session, { a: 'old', b: { deep: ['old'] } })
  })
  scene.store.taken()
  return scene
}

const old = { a: 'old', b: { deep: ['old'] } }

function fails(store: WatchedStore, verb: Verb): void {
  const { intercept } = store
  store.intercept = (call, pass) => {
    if (call.verb === verb) throw new Error('outage')
    return intercept(call, pass)
  }
}

/** What a handler does, and what is left of the session that holds `old`. */
interface Sequence {
  readonly run: (session: Session) => unknown
  /** What is stored afterwards under the id that the browser then has. */
  readonly data: object | undefined
  readonly cookie: 'same' | 'new' | 'none'
}

for (const [kind, wrap] of Object.entries(wraps)) {
  t.test(`update, on the ${kind}`, async (t) => {
    t.test('answers what the function returned, and the session shows its work', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        t.equal(await session.update((draft) => (draft.n = 7)), 7)
        t.equal(session.n, 7)
        t.same(await stored(), { ...old, n: 7 }, 'it is stored when it resolves')
      })
    })

    t.test('begins a new session', async (t) => {
      const { stored, visit } = await world(t, { saveUninitialized: false }, { wrap })
      await visit((session) =>
        session.update((draft) => {
          draft.n = 1
        })
      )
      t.same(await stored(), { n: 1 })
    })

    t.test('folds the pending changes in', async (t) => {
      const { store, stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        session.a = 'pending'
        delete session.b
        await session.update((draft) => {
          t.same(draft, { a: 'pending' })
          draft.n = 1
        })
      })
      t.same(store.taken(), ['get', 'update', 'touch'])
      t.same(await stored(), { a: 'pending', n: 1 })
    })

    t.test(
      'works on a draft: what it changes shows when it took effect, all at once',
      async (t) => {
        const { visit } = await loaded(t, wrap)
        await visit(async (session) => {
          const held = session.b as { deep: string[] }
          await session.update((draft) => {
            const drafted = draft.b as { deep: string[] }
            t.not(drafted, held)
            drafted.deep.push('new')
            t.same(held, { deep: ['old'] })
          })
          t.same(session.b, { deep: ['old', 'new'] })
        })
      }
    )

    t.test('plain changes after it are committed too', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        await session.update((draft) => {
          draft.n = 1
        })
        session.a = 'afterwards'
        delete session.b
      })
      t.same(await stored(), { a: 'afterwards', n: 1 })
    })

    t.test(
      'a nested value that it left alone stays the very object that the handler holds',
      async (t) => {
        const { stored, visit } = await loaded(t, wrap)
        await visit(async (session) => {
          const held = session.b as { deep: string[] }
          await session.update((draft) => {
            draft.n = 1
          })
          t.equal(session.b, held)
          held.deep.push('through the old reference')
        })
        t.same(await stored(), {
          a: 'old',
          b: { deep: ['old', 'through the old reference'] },
          n: 1
        })
      }
    )

    t.test('plain changes while it is in flight survive', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        const updated = session.update((draft) => {
          draft.n = 1
        })
        session.a = 'meanwhile'
        ;(session.b as { deep: string[] }).deep.push('meanwhile')
        await updated
        t.same({ ...session }, { a: 'meanwhile', b: { deep: ['old', 'meanwhile'] }, n: 1 })
      })
      t.same(await stored(), { a: 'meanwhile', b: { deep: ['old', 'meanwhile'] }, n: 1 })
    })

    t.test('an asynchronous function is refused, and stores nothing', async (t) => {
      const { store, visit } = await loaded(t, wrap)
      for (const change of [
        async () => {},
        async () => {
          throw new Error('mine')
        }
      ]) {
        await visit((session) =>
          t.rejects(
            session.update((draft) => {
              draft.n = 1
              return change()
            }),
            { code: 'HOLDFAST_UPDATE_ASYNC' }
          )
        )
      }
      t.same(store.taken(), ['get', 'get'])
    })

    t.test('a function that throws stores nothing, and its error comes through', async (t) => {
      const { store, stored, visit } = await loaded(t, wrap)
      const error = new Error('mine')
      await visit(async (session) => {
        await t.rejects(
          session.update((draft) => {
            draft.n = 1
            throw error
          }),
          error
        )
        t.same({ ...session }, old)
      })
      t.same(store.taken(), ['get'])
      t.same(await stored(), old)
    })

    t.test(
      "one called from within another's function runs after it, and nothing hangs",
      async (t) => {
        const { stored, visit } = await loaded(t, wrap)
        const reply = await visit(async (session) => {
          let nested: Promise<unknown> | undefined
          await session.update((draft) => {
            nested ??= session.update((inner) => {
              inner.n = (inner.n ?? 0) * 10
            })
            draft.n = 1
          })
          await nested
        })
        t.equal(reply.statusCode, 200)
        t.same(await stored(), { ...old, n: 10 })
      }
    )

    t.test('sees what another request stored since', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        await visit((other) => {
          other.c = 'theirs'
        })
        session.a = 'mine'
        t.same(await session.update((draft) => ({ ...draft })), {
          a: 'mine',
          b: { deep: ['old'] },
          c: 'theirs'
        })
        t.equal(session.c, 'theirs')
      })
      t.same(await stored(), { a: 'mine', b: { deep: ['old'] }, c: 'theirs' })
    })
  })

  t.test(`save, on the ${kind}`, async (t) => {
    t.test('stores an empty new session too, and the commit then only touches', async (t) => {
      const { store, stored, visit } = await world(t, { saveUninitialized: false }, { wrap })
      const reply = await visit(async (session) => {
        await session.save()
        t.same(store.taken(), ['create'])
        t.same(await stored(session.id), {}, 'when it resolves')
        store.taken()
      })
      t.same(store.taken(), ['touch'])
      t.ok(carriedBy(reply).cookie)
    })

    t.test('stores the changes now, and later ones at the commit', async (t) => {
      const { store, stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        session.a = 'saved'
        await session.save()
        t.same(await stored(), { ...old, a: 'saved' })
        session.a = 'later'
        store.taken()
      })
      t.same(store.taken(), ['update'])
      t.same(await stored(), { ...old, a: 'later' })
    })

    t.test('with nothing changed writes nothing', async (t) => {
      const { store, visit } = await loaded(t, wrap)
      await visit((session) => session.save())
      t.same(store.taken(), ['get'])
    })
  })

  t.test(`regenerate, on the ${kind}`, async (t) => {
    t.test('S11: a new id, the old one dead with the reply, the data dropped', async (t) => {
      const { id, stored, visit } = await loaded(t, wrap)
      const before = id()
      await visit(async (session) => {
        await session.regenerate()
        t.not(await stored(before), undefined, 'until it is stored, nothing has happened')
        t.not(session.id, before)
        t.same({ ...session }, {})
      })
      t.not(id(), before)
      t.equal(await stored(before), undefined)
      t.same(await stored(), {})
    })

    t.test('keeps the keys that it is given, and overlooks those that are not there', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        const held = session.b
        await session.regenerate(['b', 'c', 'toString', '__proto__'] as 'c'[])
        t.same({ ...session }, { b: { deep: ['old'] } })
        t.equal(session.b, held, 'the very object')
      })
      t.same(await stored(), { b: { deep: ['old'] } })
    })

    t.test('keeps pending changes of the keys it keeps, and drops the others', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        session.b = 'pending'
        session.c = 'dropped'
        session.user = 'ada'
        await session.regenerate(['b', 'user'])
      })
      t.same(await stored(), { b: 'pending', user: 'ada' })
    })

    t.test('keeps what was really stored last', async (t) => {
      const { stored, visit } = await loaded(t, wrap)
      await visit(async (session) => {
        await visit((other) => {
          other.b = 'theirs'
        })
        await session.regenerate(['b'])
        await session.save()
        t.equal(session.b, 'theirs')
      })
      t.same(await stored(), { b: 'theirs' })
    })

    t.test(
      'of a session that was never stored: changes its id, keeps what it is told to, asks nothing of the store',
      async (t) => {
        const { id, store, stored, visit } = await world(t, {}, { wrap })
        await visit(async (session) => {
          const before = session.id
          Object.assign(session, { a: 'mine', b: 'dropped' })
          await session.regenerate(['a'])
          t.not(session.id, before)
          t.same(store.taken(), [])
        })
        t.same(store.taken(), ['create'])
        t.ok(id())
        t.same(await stored(), { a: 'mine' })
      }
    )

    t.test('S12: the store fails as the session moves: no id goes out', async (t) => {
      const { id, store, visit } = await loaded(t, wrap)
      const before = id()
      fails(store, 'retire')
      const reply = await visit((session) => session.regenerate(['a']))
      t.equal(reply.statusCode, 503)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
      t.equal(id(), before)
    })

    t.test('S12: the store fails to create under the new id: no id goes out', async (t) => {
      const { store, visit } = await loaded(t, wrap)
      fails(store, 'create')
      const reply = await visit((session) => session.regenerate(['a']))
      t.equal(reply.statusCode, 503)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
    })
  })

  t.test(`destroy, on the ${kind}`, async (t) => {
    t.test('S13: the record is gone when it resolves, and the data is emptied', async (t) => {
      const { browser, id, stored, visit } = await loaded(t, wrap)
      const before = id()
      await visit(async (session) => {
        session.c = 'pending'
        await session.destroy()
        t.equal(await stored(before), undefined)
        t.same({ ...session }, {})
        t.not(session.id, before)
      })
      t.same([...browser.cookies], [])
    })

    const attributes: readonly SessionOptions[] = [
      {},
      {
        cookie: {
          domain: 'app.example',
          path: '/app',
          httpOnly: false,
          sameSite: 'strict',
          priority: 'high'
        }
      },
      {
        sessionCookie: '__Host-session',
        sessionHeader: false,
        cookie: { secure: true, sameSite: 'none', partitioned: true }
      },
      { cookie: { persistent: false } }
    ]
    for (const options of attributes) {
      t.test(
        `S13: the clearing cookie repeats every attribute: ${JSON.stringify(options)}`,
        async (t) => {
          const { app } = await world(t, options, { wrap, fastifyOptions: { trustProxy: true } })
          const headers = { 'x-forwarded-proto': 'https' }
          const begun = (await app.inject({ url: '/write/value', headers })).cookies.at(-1)
          const ended = (
            await app.inject({
              url: '/logout',
              headers: { ...headers, cookie: `${begun?.name}=${begun?.value}` }
            })
          ).cookies.at(-1)
          t.equal(ended?.maxAge, 0)
          t.equal(ended?.value, '')
          const {
            value: _value,
            maxAge: _maxAge,
            ...others
          } = begun as { value: string; maxAge?: number }
          const {
            value: _empty,
            maxAge: _zero,
            expires,
            ...repeated
          } = ended as { value: string; maxAge?: number; expires?: Date }
          t.same(repeated, others)
          t.equal(expires === undefined || expires.getTime() === 0, true)
        }
      )
    }

    t.test('a session that came in the header is sent no clearing cookie', async (t) => {
      const { browser, id, stored, visit } = await loaded(t, wrap)
      const before = id()
      browser.cookies.clear()
      const reply = await visit((session) => session.destroy(), { 'x-session-id': before })
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
      t.equal(await stored(before), undefined)
    })

    t.test('one that came in both is', async (t) => {
      const { id, visit } = await loaded(t, wrap)
      const reply = await visit((session) => session.destroy(), { 'x-session-id': id() })
      t.same(carriedBy(reply), { header: undefined, cookie: '' })
    })

    t.test('a write afterwards begins a new session', async (t) => {
      const { id, stored, visit } = await loaded(t, wrap)
      const before = id()
      await visit(async (session) => {
        await session.destroy()
        session.n = 1
      })
      t.not(id(), before)
      t.same(await stored(), { n: 1 })
      t.equal(await stored(before), undefined)
    })

    t.test('S13: a store error surfaces, and the cookie stays', async (t) => {
      const { id, store, visit } = await loaded(t, wrap)
      const before = id()
      fails(store, 'delete')
      const reply = await visit((session) => session.destroy())
      t.equal(reply.statusCode, 503)
      t.equal(reply.json().code, 'HOLDFAST_STORE_FAILED')
      t.equal(id(), before)
    })
  })

  t.test(`one operation after the other, on the ${kind}`, async (t) => {
    const sequences: Readonly<Record<string, Sequence>> = {
      'regenerate, then destroy': {
        run: async (session) => {
          await session.regenerate(['a'])
          await session.destroy()
        },
        data: undefined,
        cookie: 'none'
      },
      'destroy, then regenerate': {
        run: async (session) => {
          await session.destroy()
          await session.regenerate(['a'])
        },
        data: {},
        cookie: 'new'
      },
      'regenerate, then save, then destroy': {
        run: async (session) => {
          await session.regenerate(['a'])
          await session.save()
          await session.destroy()
        },
        data: undefined,
        cookie: 'none'
      },
      'regenerate twice': {
        run: async (session) => {
          await session.regenerate(['a', 'b'])
          await session.regenerate(['a'])
        },
        data: { a: 'old' },
        cookie: 'new'
      },
      'destroy twice': {
        run: async (session) => {
          await session.destroy()
          await session.destroy()
        },
        data: undefined,
        cookie: 'none'
      },
      'update, then regenerate, then update': {
        run: async (session) => {
          await session.update((draft) => {
            draft.n = 1
          })
          await session.regenerate(['n'])
          await session.update((draft) => {
            draft.n = (draft.n ?? 0) + 1
          })
        },
        data: { n: 2 },
        cookie: 'new'
      },
      'destroy, then save': {
        run: async (session) => {
          await session.destroy()
          await session.save()
        },
        data: undefined,
        cookie: 'none'
      },
      'destroy, then update': {
        run: async (session) => {
          await session.destroy()
          await session.update((draft) => {
            draft.n = 1
          })
        },
        data: { n: 1 },
        cookie: 'new'
      },
      'unawaited, they run in order': {
        run: (session) => {
          void session.update((draft) => {
            draft.n = 1
          })
          void session.update((draft) => {
            draft.n = (draft.n ?? 0) * 10 + 2
          })
          void session.regenerate(['n'])
          void session.update((draft) => {
            draft.n = (draft.n ?? 0) * 10 + 3
          })
          void session.save()
        },
        data: { n: 123 },
        cookie: 'new'
      },
      'unawaited, a destroy comes last': {
        run: (session) => {
          void session.update((draft) => {
            draft.n = 1
          })
          void session.save()
          void session.destroy()
        },
        data: undefined,
        cookie: 'none'
      },
      'one that fails does not stop the next': {
        run: async (session) => {
          const failed = session
            .update(() => {
              throw new Error('mine')
            })
            .catch(() => {})
          const updated = session.update((draft) => {
            draft.n = 1
          })
          await Promise.all([failed, updated])
        },
        data: { ...old, n: 1 },
        cookie: 'same'
      }
    }
    for (const [name, { run, data, cookie }] of Object.entries(sequences)) {
      t.test(name, async (t) => {
        const { id, stored, visit } = await loaded(t, wrap)
        const before = id()
        const reply = await visit(run)
        t.equal(reply.statusCode, 200)
        const other = id() === '' ? 'none' : 'new'
        t.equal(id() === before ? 'same' : other, cookie)
        t.same(await stored(), data)
        if (cookie !== 'same') t.equal(await stored(before), undefined, 'the old id is dead')
      })
    }
  })
}

t.test('an update whose function throws has no id minted for it', async (t) => {
  let minted = 0
  const generateId = (): string => `minted-by-the-test-${String(minted++).padStart(6, '0')}`
  const { app } = await serve(t, { generateId, saveUninitialized: false })
  app.get('/', async ({ session }) => {
    const failing = session.update(() => {
      throw new Error('refused')
    })
    return await failing.then(String, (error: Error) => error.message)
  })
  t.equal((await app.inject('/')).body, 'refused')
  t.equal(minted, 0)
})

t.test('update() without a function is refused, and stores nothing', async (t) => {
  const { app, store } = await serve(t, { saveUninitialized: false })
  app.get('/', async ({ session }) => {
    const given = undefined as unknown as () => void
    return await session.update(given).then(String, (error: { code: string }) => error.code)
  })
  t.equal((await app.inject('/')).body, 'HOLDFAST_VALUE_INVALID')
  t.same(store.taken(), [])
})

t.test('a failure that is caught, though not awaited, fails no reply', async (t) => {
  const { app } = await serve(t, { maxBytes: 20 })
  app.get('/', async ({ session }) => {
    session.update((draft) => (draft.a = 'x'.repeat(99))).catch(() => {})
    return 'ok'
  })
  t.equal((await app.inject('/')).statusCode, 200)
})

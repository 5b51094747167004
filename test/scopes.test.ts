import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import './helpers/data.ts'
import sessionPlugin, { MemoryStore, type SessionOptions } from '../lib/index.ts'
import { Browser } from './helpers/browser.ts'

const store = new MemoryStore()
const secret = 'a secret of at least thirty-two bytes'
const otherSecret = 'another secret of thirty-two bytes at least'

function open(t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  return app
}

/** A scope that counts visits in a session of its own registration. */
async function scope(app: FastifyInstance, prefix: string, options: SessionOptions): Promise<void> {
  await app.register(
    async (child) => {
      await child.register(sessionPlugin, options)
      child.get('/', async ({ session }) => (session.visits = (session.visits ?? 0) + 1))
    },
    { prefix }
  )
}

const arrangements: Readonly<
  Record<
    string,
    (app: FastifyInstance, one: SessionOptions, other: SessionOptions) => Promise<void>
  >
> = {
  'a child, then its parent': async (app, one, other) => {
    await scope(app, '/child', one)
    await app.register(sessionPlugin, other)
    app.get('/', async ({ session }) => (session.visits = (session.visits ?? 0) + 1))
  },
  'a grandchild, then its grandparent': async (app, one, other) => {
    await app.register(
      async (child) => {
        await scope(child, '/grandchild', one)
      },
      { prefix: '/child' }
    )
    await app.register(sessionPlugin, other)
  },
  siblings: async (app, one, other) => {
    await scope(app, '/one', one)
    await scope(app, '/other', other)
  },
  cousins: async (app, one, other) => {
    await app.register(
      async (child) => {
        await scope(child, '/one', one)
      },
      { prefix: '/left' }
    )
    await app.register(
      async (child) => {
        await scope(child, '/other', other)
      },
      { prefix: '/right' }
    )
  }
}

/** Registrations that would set each other's cookie. */
const collisions: Readonly<Record<string, readonly [SessionOptions, SessionOptions]>> = {
  'with their own stores': [{}, {}],
  'on one store, under two names': [
    { store, sessionCookie: 'id' },
    { store, sessionName: 'admin', sessionCookie: 'id', sessionHeader: 'x-id' }
  ],
  'on one store, one of them signed': [{ store }, { store, secret }],
  'on one store, signed with different secrets': [
    { store, secret },
    { store, secret: otherSecret }
  ],
  'of which one does not know the newest secret': [
    { store, secret: [otherSecret, secret] },
    { store, secret }
  ],
  'with paths of which one is within the other': [{}, { cookie: { path: '/other' } }],
  'with a domain that the host of the other may be in': [{}, { cookie: { domain: 'example.com' } }],
  'with domains of which one is within the other': [
    { cookie: { domain: 'shop.example.com' } },
    { cookie: { domain: 'Example.com' } }
  ]
}

/** Those that live beside each other. */
const companions: Readonly<Record<string, readonly [SessionOptions, SessionOptions]>> = {
  'that share store, name and header': [{ store }, { store }],
  'that share store and secret': [
    { store, secret },
    { store, secret }
  ],
  'that share secrets in the midst of a rotation': [
    { store, secret: [otherSecret, secret] },
    { store, secret: [secret, otherSecret] }
  ],
  'with cookies of different names': [{ sessionCookie: 'one' }, { sessionCookie: 'other' }],
  'of which one has no cookie': [{ sessionCookie: false }, {}],
  'with paths beside each other': [{ cookie: { path: '/on' } }, { cookie: { path: '/one' } }],
  'with domains beside each other': [
    { cookie: { domain: 'a.example.com' } },
    { cookie: { domain: 'b.example.com' } }
  ]
}

for (const [where, arrange] of Object.entries(arrangements)) {
  t.test(
    `registrations that overwrite each other's cookie are refused, with the cure: ${where}`,
    async (t) => {
      for (const [name, [one, other]] of Object.entries(collisions)) {
        await t.rejects(
          arrange(open(t), one, other),
          {
            code: 'HOLDFAST_OPTION_INVALID',
            message:
              /sessionCookie must be another name, or go to another cookie\.path.*same store, sessionName and secret/
          },
          name
        )
      }
    }
  )

  t.test(`registrations that do not are not: ${where}`, async (t) => {
    for (const [name, [one, other]] of Object.entries(companions))
      await t.resolves(arrange(open(t), one, other), name)
  })
}

t.test('scopes that share their sessions are one to the browser', async (t) => {
  const app = open(t)
  await arrangements['siblings']?.(app, { store }, { store })
  const browser = new Browser(app)
  for (const [index, url] of ['/one', '/other', '/one'].entries())
    t.equal((await browser.get(url)).body, String(index + 1))
})

t.test('apps beside each other in one process have nothing to do with each other', async (t) => {
  for (let index = 0; index < 2; index += 1)
    await t.resolves(async () => {
      await open(t).register(sessionPlugin).ready()
    })
})

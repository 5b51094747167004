import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

import Fastify from 'fastify'
import sessionPlugin, { MemoryStore, SessionError, sessionPlugin as named } from 'fastify-holdfast'

const required = createRequire(import.meta.url)('fastify-holdfast')
assert.equal(named, sessionPlugin)
assert.equal(required, sessionPlugin)
assert.ok(new required.MemoryStore() instanceof MemoryStore)

for (const plugin of [sessionPlugin, named, import('fastify-holdfast'), required]) {
  const app = Fastify()
  await app.register(plugin, { store: new required.MemoryStore() })
  app.get('/', async ({ session }) => session.update((draft) => (draft.visits = 1)))
  assert.equal((await app.inject('/')).body, '1')
  await assert.rejects(async () => {
    await Fastify().register(plugin, { maxAge: -1 })
  }, SessionError)
  await app.close()
}
console.log('works')

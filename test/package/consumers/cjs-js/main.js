'use strict'

const assert = require('node:assert/strict')

const Fastify = require('fastify')
const sessionPlugin = require('fastify-holdfast')
const { MemoryStore, SessionError } = require('fastify-holdfast')

async function main() {
  const imported = await import('fastify-holdfast')
  assert.equal(imported.default, sessionPlugin.default)
  assert.ok(new imported.MemoryStore() instanceof MemoryStore)

  for (const plugin of [
    sessionPlugin,
    sessionPlugin.sessionPlugin,
    require('fastify-holdfast'),
    import('fastify-holdfast')
  ]) {
    const app = Fastify()
    await app.register(plugin, { store: new MemoryStore() })
    app.get('/', async ({ session }) => session.update((draft) => (draft.visits = 1)))
    assert.equal((await app.inject('/')).body, '1')
    await assert.rejects(async () => {
      await Fastify().register(plugin, { maxAge: -1 })
    }, SessionError)
    await app.close()
  }
  console.log('works')
}

main()

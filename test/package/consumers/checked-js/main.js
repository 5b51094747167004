// @ts-check
'use strict'

const assert = require('node:assert/strict')

const Fastify = require('fastify')
const sessionPlugin = require('fastify-holdfast')
const { MemoryStore } = require('fastify-holdfast')

/**
 * @param {import('fastify-holdfast').Session} session
 * @returns {number}
 */
function count(session) {
  return (session.visits = (session.visits ?? 0) + 1)
}

async function main() {
  const app = Fastify()
  app.register(require('fastify-holdfast'))
  app.register(require('fastify-holdfast'), { sessionName: 'other', store: new MemoryStore() })
  app.register(sessionPlugin, { sessionName: 'another', maxAge: 60 })
  // @ts-expect-error: no such option
  const wrong = () => Fastify().register(require('fastify-holdfast'), { max_age: 60 })
  app.get('/', async ({ session }) => {
    // @ts-expect-error: a key that was not declared
    assert.equal(session.visit, undefined)
    return count(session)
  })
  assert.equal((await app.inject('/')).body, '1')
  await assert.rejects(async () => {
    await wrong()
  })
  await app.close()
  console.log('works')
}

main()

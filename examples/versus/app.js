// The same shop twice, on @fastify/session and on fastify-holdfast, and a page that runs the same
// races in both.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

import cookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import Fastify from 'fastify'
import holdfast from 'fastify-holdfast'

import { demoPage } from './pages.js'
import { addShop } from './shop.js'
import { openSlow } from './slow.js'

/** What the shops do not share: how the plugin is registered. */
const plugins = {
  async peer(app, options) {
    await app.register(cookie)
    await app.register(fastifySession, {
      secret: 'at least 32 characters, as it asks',
      cookieName: 'peer',
      cookie: { secure: false, sameSite: 'lax' }, // it is served without TLS
      ...options
    })
  },
  async holdfast(app, options) {
    await app.register(holdfast, { sessionCookie: 'holdfast', sessionHeader: false, ...options })
  }
}

const known = { type: 'object', properties: { name: { enum: Object.keys(plugins) } } }

const require = createRequire(import.meta.url)
const names = {
  peer: `@fastify/session ${require('@fastify/session/package.json').version}`,
  holdfast: `fastify-holdfast ${require('fastify-holdfast/package.json').version}`
}

/** @param options for each shop, by its name, options of its plugin that go before those above */
export async function build(options = {}) {
  const app = Fastify()
  const slow = openSlow()

  // Forms without fields are all that the shops take.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    async () => ({})
  )

  app.addHook('onRequest', async (_request, reply) => {
    reply.header(
      'content-security-policy',
      "default-src 'self'; form-action 'self'; frame-ancestors 'self'"
    )
  })

  for (const [name, register] of Object.entries(plugins)) {
    app.register(
      async (app) => {
        await register(app, options[name])
        addShop(app, { name, slow })
      },
      { prefix: name }
    )
  }

  // A slow request has reached its handler.
  app.get('/slow/:id', async ({ params: { id } }, reply) => {
    await slow.reached(id)
    return reply.code(204).send()
  })

  // It may go on.
  app.post('/slow/:id', async ({ params: { id } }, reply) => {
    slow.release(id)
    return reply.code(204).send()
  })

  // Sends the cookies of the slow request once more, as anybody can who has a copy of them. The
  // page has none: they are HttpOnly.
  app.post('/again/:id/:name', { schema: { params: known } }, async (request, reply) => {
    const { id, name } = request.params
    const cookie = slow.cookie(id)
    if (cookie === undefined) return reply.code(404).send({ error: 'No such request' })
    return (await app.inject({ url: `/${name}/state`, headers: { cookie } })).json()
  })

  app.get('/', async (_request, reply) =>
    reply.type('text/html; charset=utf-8').send(demoPage(names))
  )
  for (const [path, type] of [
    ['public/style.css', 'text/css'],
    ['public/script.js', 'text/javascript'],
    ['../shop/public/fruit.svg', 'image/svg+xml']
  ]) {
    const content = readFileSync(new URL(path, import.meta.url))
    app.get(`/${path.split('/').at(-1)}`, async (_request, reply) => reply.type(type).send(content))
  }

  return app
}

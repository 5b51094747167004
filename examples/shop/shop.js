// A shop as a browser sees it: sign in, a cart, sign out. Every form works without the script.
import { readFileSync } from 'node:fs'

import Fastify from 'fastify'
import sessionPlugin from 'fastify-holdfast'

import { fruits, page } from './page.js'

/**
 * @param options `https`: `{ cert, key }` to serve over TLS; `session`: options of the plugin that
 * go before those below
 */
export async function build({ https, session } = {}) {
  const app = Fastify({ https: https ?? null })
  app.addHook('onRequest', refuseOtherSites)

  await app.register(sessionPlugin, {
    sessionHeader: false, // for browsers alone: no id is ever readable to a script
    // With __Host- a browser takes the cookie over HTTPS only, and from no other host of the
    // domain.
    ...(https
      ? { sessionCookie: '__Host-shop', cookie: { secure: true } }
      : { sessionCookie: 'shop' }),
    saveUninitialized: false, // who only looks around gets no session
    ...session
  })

  // Forms are all that the shop takes.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    async (_request, body) => Object.fromEntries(new URLSearchParams(body))
  )

  app.addHook('onRequest', async (_request, reply) => {
    reply.header(
      'content-security-policy',
      "default-src 'self'; form-action 'self'; frame-ancestors 'none'"
    )
  })

  app.get('/', async ({ session }, reply) => send(reply, page(session)))

  app.post(
    '/login',
    { schema: form({ user: { minLength: 1, maxLength: 40 }, password: {} }) },
    async ({ body, session }, reply) => {
      if (body.password !== 'orchard')
        return send(reply.code(401), page(session, 'That is not the password.')) // yours: a hash, per user
      await session.regenerate(['cart', 'note']) // a new id, so that nobody who knew the old one is signed in too
      session.user = body.user
      return reply.redirect('/', 303)
    }
  )

  app.post('/logout', async ({ session }, reply) => {
    await session.destroy()
    return reply.redirect('/', 303)
  })

  app.post(
    '/cart/:fruit/:step',
    { schema: { params: fruitAndStep } },
    async ({ params: { fruit, step }, session }, reply) => {
      // What is counted is counted atomically: two tabs at once lose nothing.
      await session.update((draft) => {
        draft.cart ??= {}
        draft.cart[fruit] = (draft.cart[fruit] ?? 0) + (step === 'add' ? 1 : -1)
        if (draft.cart[fruit] < 1) delete draft.cart[fruit]
      })
      return reply.redirect('/', 303)
    }
  )

  app.post(
    '/note',
    { schema: form({ note: { maxLength: 200 } }) },
    async ({ body, session }, reply) => {
      session.note = body.note // what is replaced as a whole is simply assigned
      return reply.redirect('/', 303)
    }
  )

  // Signed out in another tab, while this request ran.
  app.setErrorHandler(async (error, _request, reply) => {
    if (error.code === 'HOLDFAST_SESSION_GONE') return reply.redirect('/', 303)
    throw error
  })

  for (const [file, type] of [
    ['style.css', 'text/css'],
    ['script.js', 'text/javascript'],
    ['fruit.svg', 'image/svg+xml']
  ]) {
    const content = readFileSync(new URL(`public/${file}`, import.meta.url))
    // The same for everybody: no session, and every cache may keep it.
    app.get(`/${file}`, { config: { session: false } }, async (_request, reply) => {
      reply.type(type).header('cache-control', 'public, max-age=60')
      return content
    })
  }

  return app
}

/**
 * A second lock beside SameSite: browsers say which site a form was sent from, and no page can make
 * them lie (Fetch, 3.2). Behind a proxy it needs Fastify's trustProxy, as the cookie's Secure does.
 */
async function refuseOtherSites({ headers: { origin }, host, method, protocol }, reply) {
  if (
    method === 'GET' ||
    method === 'HEAD' ||
    origin === undefined ||
    origin === `${protocol}://${host}`
  )
    return
  return reply.code(403).send('This form was sent from another site.')
}

/**
 * One visitor's page: no cache keeps it, nor does it come back with the back button after signing
 * out.
 */
function send(reply, markup) {
  return reply.type('text/html; charset=utf-8').header('cache-control', 'no-store').send(markup)
}

function form(fields) {
  const properties = Object.fromEntries(
    Object.entries(fields).map(([name, rules]) => [name, { type: 'string', ...rules }])
  )
  return { body: { type: 'object', required: Object.keys(fields), properties } }
}

const fruitAndStep = {
  type: 'object',
  properties: { fruit: { enum: Object.keys(fruits) }, step: { enum: ['add', 'remove'] } }
}

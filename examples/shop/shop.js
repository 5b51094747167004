// A shop as a browser sees it: sign in, a cart, the devices on which one is signed in, sign out.
// Every form works without the script.
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'

import Fastify from 'fastify'
import sessionPlugin from 'fastify-holdfast'

import { deviceOf, devicesPage, fruits, page } from './page.js'
import { openUsers } from './users.js'

/**
 * @param options `https`: `{ cert, key }` to serve over TLS; `session`: options of the plugin that
 * go before those below
 */
export async function build({ https, session } = {}) {
  const app = Fastify({ https: https ?? null })
  const users = openUsers()
  app.addHook('onRequest', refuseOtherSites)

  await app.register(sessionPlugin, {
    sessionHeader: false, // for browsers alone: no id is ever readable to a script
    // With __Host- a browser takes the cookie over HTTPS only, and from no other host of the
    // domain.
    ...(https
      ? { sessionCookie: '__Host-shop', cookie: { secure: true } }
      : { sessionCookie: 'shop' }),
    saveUninitialized: false, // who only looks around gets no session
    subjectSessions: { max: 20, whenFull: 'end-oldest' }, // of one user
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

  app.get('/', async ({ query, session }, reply) =>
    send(reply, page(session, 'ended' in query && 'You were signed out.'))
  )

  // A page listens here while it is open, and hears when the session ends, wherever that is done.
  // That it is open is no use of the session.
  app.get('/events', { config: { session: { touch: false } } }, async ({ session }, reply) => {
    if (session.subject === undefined) return reply.code(204).send() // and the browser stops asking
    const { signal } = session
    const events = new Readable({ read() {} })
    events.push(': listening\n\n')
    signal.addEventListener('abort', () => {
      events.push(`event: end\ndata: ${signal.reason.code}\n\n`)
      events.push(null)
    })
    return reply.type('text/event-stream').header('cache-control', 'no-store').send(events)
  })

  app.post(
    '/login',
    { schema: form({ user: { minLength: 1, maxLength: 40 }, password: {} }) },
    async ({ body, headers, session }, reply) => {
      const { user, password } = body
      // Inside, so that a login with the old password loses against a change of it.
      const verify = () => users.isRightPassword(user, password)
      const isRight = await session.signIn(user, {
        verify,
        keep: ['cart', 'note'], // the id is a new one: who knew the old one is not signed in too
        info: { device: deviceOf(headers['user-agent']) }
      })
      return isRight
        ? reply.redirect('/', 303)
        : send(reply.code(401), page(session, 'That is not the password.'))
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

  app.get('/devices', async ({ query, session }, reply) =>
    sendDevices(session, reply, { done: 'changed' in query && 'Your password is changed.' })
  )

  // Who left a browser open an hour ago does not sign out the others with it.
  const recently = { config: { session: { fresh: 15 * 60 } } }

  app.post(
    '/devices/end',
    { ...recently, schema: form({ publicId: { maxLength: 43 } }) },
    async ({ body: { publicId }, session }, reply) => {
      const found = await app.sessions.get(publicId)
      if (found?.subject === session.subject) await app.sessions.destroy(publicId) // no one else's
      return reply.redirect('/devices', 303)
    }
  )

  app.post('/devices/end-others', recently, async ({ session }, reply) => {
    await app.sessions.destroyAll(session.subject, { except: session })
    return reply.redirect('/devices', 303)
  })

  app.post(
    '/devices/confirm',
    { schema: form({ password: {} }) },
    async ({ body, session }, reply) => {
      if (session.subject === undefined) return reply.redirect('/', 303)
      const verify = () => users.isRightPassword(session.subject, body.password)
      return (await session.reauthenticate(verify))
        ? reply.redirect('/devices', 303)
        : sendDevices(session, reply.code(401), { ask: 'That is not your password.' })
    }
  )

  app.post(
    '/password',
    { schema: form({ password: {}, next: { minLength: 8, maxLength: 200 } }) },
    async ({ body, session }, reply) => {
      const { subject } = session
      if (subject === undefined) return reply.redirect('/', 303)
      if (!(await session.reauthenticate(() => users.isRightPassword(subject, body.password))))
        return sendDevices(session, reply.code(401), { problem: 'That is not your password.' })
      await users.setPassword(subject, body.next) // first: from now on nobody signs in with the old
      await app.sessions.destroyAll(subject, { except: session })
      return reply.redirect('/devices?changed', 303)
    }
  )

  /** @param said what is to be said to the user, if anything */
  async function sendDevices(session, reply, said) {
    if (session.subject === undefined) return reply.redirect('/', 303)
    const { sessions } = await app.sessions.list(session.subject, { current: session })
    return send(reply, devicesPage(session, sessions, said))
  }

  app.setErrorHandler(async (error, request, reply) => {
    // Signed out in another tab or on another device, while this request ran.
    if (['HOLDFAST_SESSION_GONE', 'HOLDFAST_SIGN_IN_ENDED'].includes(error.code))
      return reply.redirect('/', 303)
    if (error.code === 'HOLDFAST_SESSION_NOT_FRESH')
      return sendDevices(request.session, reply.code(401), {
        ask: 'Your password, please, once more.'
      })
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

// The shop: the same code on either plugin. It keeps one key of the session for each fruit, so that
// two tabs that add different fruits change different keys.
import { fruits, shopPage } from './pages.js'

/** @param options.slow makes a request wait that has `?slow=` and a name for itself */
export function addShop(app, { name, slow }) {
  // The session has been read by now, and has not been saved.
  app.addHook('preHandler', async (request, reply) => {
    if (request.query.slow !== undefined) await slow.wait(request.query.slow, request, reply)
  })

  app.get('/', async (request, reply) => show(reply, request.session))

  app.get('/state', async (request) => stateOf(request.session))

  app.post('/login', async (request, reply) => {
    await request.session.regenerate(Object.keys(fruits))
    request.session.user = 'Ada'
    return show(reply, request.session)
  })

  app.post('/basket/:fruit', { schema: { params: known } }, async (request, reply) => {
    const { fruit } = request.params
    request.session[fruit] = (request.session[fruit] ?? 0) + 1
    return show(reply, request.session)
  })

  app.post('/logout', async (request, reply) => {
    await request.session.destroy()
    return show(reply, {})
  })

  function show(reply, session) {
    return reply
      .type('text/html; charset=utf-8')
      .header('cache-control', 'no-store')
      .send(shopPage(name, stateOf(session)))
  }
}

const known = { type: 'object', properties: { fruit: { enum: Object.keys(fruits) } } }

function stateOf(session) {
  const basket = Object.keys(fruits).map((fruit) => [fruit, session[fruit] ?? 0])
  return { user: session.user, basket: Object.fromEntries(basket) }
}

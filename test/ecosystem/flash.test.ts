import flash from '@fastify/flash'
import t from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, idIn } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { stored, type Served } from '../helpers/serve.ts'

async function shop(
  { serve, answer }: Beside,
  options?: SessionOptions
): Promise<Served & { browser: Browser }> {
  const served = await serve(options)
  const { app } = served
  await app.register(flash)
  app.get('/order', async (request, reply) => {
    request.flash('info', 'ordered')
    request.flash('info', '%s pears', '3')
    request.flash('warning', ['few left', 'hurry'])
    return answer(reply.redirect('/messages'))
  })
  app.get('/messages', async (_request, reply) => answer(reply, reply.flash()))
  app.get('/info', async (_request, reply) => answer(reply, reply.flash('info')))
  app.get('/both', async (request, reply) => {
    const count = request.flash('info', 'just now')
    return answer(reply, { count, read: reply.flash('info'), left: reply.flash('info') })
  })
  app.get('/fail', async (request) => {
    request.flash('info', 'it failed')
    throw new Error('failed')
  })
  // Whoever has ordered nothing is sent away, and told why.
  app.get(
    '/bill',
    {
      async preHandler(request, reply) {
        if (request.session.a !== undefined) return
        request.flash('info', 'order first')
        return answer(reply.redirect('/messages'))
      }
    },
    async (request, reply) => {
      request.flash('info', 'billed')
      return answer(reply, 'billed')
    }
  )
  return { ...served, browser: new Browser(app) }
}

const all = { info: ['ordered', '3 pears'], warning: ['few left', 'hurry'] }

overAnswers(t, 'messages are there after a redirect, once', async (t, over) => {
  for (const options of [{}, { saveUninitialized: false }]) {
    const { browser } = await shop(over, options)
    const reply = await browser.get('/order')
    t.same([reply.statusCode, reply.headers.location], [302, '/messages'])
    t.same((await browser.get('/messages')).json(), all)
    t.same((await browser.get('/messages')).json(), {})
  }
})

overAnswers(
  t,
  'a hook that redirects with a message keeps the handler from its own',
  async (t, over) => {
    const { browser } = await shop(over)
    const reply = await browser.get('/bill')
    t.same([reply.statusCode, reply.headers.location], [302, '/messages'])
    t.same((await browser.get('/messages')).json(), { info: ['order first'] })
    await browser.get('/write/x')
    t.equal((await browser.get('/bill')).body, 'billed')
    t.same((await browser.get('/messages')).json(), { info: ['billed'] })
  }
)

overAnswers(
  t,
  'a client that carries the id in the header has its messages too',
  async (t, over) => {
    const { app } = await shop(over)
    const id = (await app.inject('/order')).headers['x-session-id'] as string
    t.same((await app.inject({ url: '/messages', headers: { 'x-session-id': id } })).json(), all)
  }
)

overAnswers(t, 'messages of one type are read, and the others stay', async (t, over) => {
  const { app, browser } = await shop(over)
  await browser.get('/order')
  t.same((await browser.get('/info')).json(), all.info)
  t.same(await stored(app, idIn(browser)), {
    flash: { warning: all.warning }
  })
  t.same((await browser.get('/messages')).json(), { warning: all.warning })
})

overAnswers(t, 'a request reads the message that it wrote', async (t, over) => {
  const { app, browser } = await shop(over)
  t.same((await browser.get('/both')).json(), { count: 1, read: ['just now'], left: [] })
  t.same(await stored(app, idIn(browser)), { flash: {} })
})

overAnswers(t, 'a message of a request that failed is kept', async (t, over) => {
  const { browser } = await shop(over)
  t.equal((await browser.get('/fail')).statusCode, 500)
  t.same((await browser.get('/messages')).json(), { info: ['it failed'] })
})

overAnswers(
  t,
  'looking for messages where there are none writes once, and no more',
  async (t, over) => {
    const { browser, store } = await shop(over)
    await browser.get('/write/x')
    store.taken()
    await browser.get('/messages')
    t.same(store.taken(), ['get', 'update'], 'flash sets an empty object')
    for (let time = 0; time < 3; time += 1) await browser.get('/messages')
    t.same(store.taken(), ['get', 'get', 'get'])
  }
)

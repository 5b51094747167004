import flash from '@fastify/flash'
import t, { type Test } from 'tap'

import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { Browser } from '../helpers/browser.ts'
import { serve, stored, type Served } from '../helpers/serve.ts'
import { slow } from '../helpers/stores.ts'

async function shop(t: Test, options: SessionOptions = {}): Promise<Served & { browser: Browser }> {
  const served = await serve(t, options)
  const { app } = served
  await app.register(flash)
  app.get('/order', async (request, reply) => {
    request.flash('info', 'ordered')
    request.flash('info', '%s pears', '3')
    request.flash('warning', ['few left', 'hurry'])
    return reply.redirect('/messages')
  })
  app.get('/messages', async (_request, reply) => reply.flash() as object)
  app.get('/info', async (_request, reply) => reply.flash('info') as string[])
  app.get('/both', async (request, reply) => {
    const count = request.flash('info', 'just now')
    return { count, read: reply.flash('info'), left: reply.flash('info') }
  })
  app.get('/fail', async (request) => {
    request.flash('info', 'it failed')
    throw new Error('failed')
  })
  return { ...served, browser: new Browser(app) }
}

const all = { info: ['ordered', '3 pears'], warning: ['few left', 'hurry'] }

t.test('messages are there after a redirect, once', async (t) => {
  for (const options of [{}, { saveUninitialized: false }, { store: slow(new MemoryStore()) }]) {
    const { browser } = await shop(t, options)
    const reply = await browser.get('/order')
    t.same([reply.statusCode, reply.headers.location], [302, '/messages'])
    t.same((await browser.get('/messages')).json(), all)
    t.same((await browser.get('/messages')).json(), {})
  }
})

t.test('a client that carries the id in the header has its messages too', async (t) => {
  const { app } = await shop(t)
  const id = (await app.inject('/order')).headers['x-session-id'] as string
  t.same((await app.inject({ url: '/messages', headers: { 'x-session-id': id } })).json(), all)
})

t.test('messages of one type are read, and the others stay', async (t) => {
  const { app, browser } = await shop(t)
  await browser.get('/order')
  t.same((await browser.get('/info')).json(), all.info)
  t.same(await stored(app, browser.cookies.get('session_id') as string), { flash: { warning: all.warning } })
  t.same((await browser.get('/messages')).json(), { warning: all.warning })
})

t.test('a request reads the message that it wrote', async (t) => {
  const { app, browser } = await shop(t)
  t.same((await browser.get('/both')).json(), { count: 1, read: ['just now'], left: [] })
  t.same(await stored(app, browser.cookies.get('session_id') as string), { flash: {} })
})

t.test('a message of a request that failed is kept', async (t) => {
  const { browser } = await shop(t)
  t.equal((await browser.get('/fail')).statusCode, 500)
  t.same((await browser.get('/messages')).json(), { info: ['it failed'] })
})

t.test('looking for messages where there are none writes once, and no more', async (t) => {
  const { browser, store } = await shop(t)
  await browser.get('/write/x')
  store.taken()
  await browser.get('/messages')
  t.same(store.taken(), ['get', 'update'], 'flash sets an empty object')
  for (let time = 0; time < 3; time += 1) await browser.get('/messages')
  t.same(store.taken(), ['get', 'get', 'get'])
})

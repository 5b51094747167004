// Who waits for ends, in a process of its own: it holds requests open, and notes when their signals
// abort.
import Fastify from 'fastify'
import { createClient } from 'redis'

import { sessionPlugin } from '../dist/lib/index.js'
import { openStore } from './ends-store.js'

/** Milliseconds by a clock that all processes share. */
const now = () => Number(process.hrtime.bigint()) / 1e6

const [kind, address] = process.argv.slice(2)
const place = await openStore(kind, address)
const { store } = place
const app = Fastify()
await app.register(sessionPlugin, { ...(store && { store }) })

const heard = new Map()
let waiting = 'signal'
const bare = []
let opened = 0
app.get('/sign-in', async ({ session }) => session.signIn('ada'))
app.get('/wait', async ({ session }, reply) => {
  const { publicId } = session
  const hear = () => heard.set(publicId, now())
  if (waiting === 'signal') session.signal.addEventListener('abort', hear)
  if (waiting === 'bare') {
    const controller = new AbortController()
    controller.signal.addEventListener('abort', hear)
    bare.push(controller)
  }
  reply.hijack()
  opened += 1
})

const heap = async () => {
  await new Promise((resolve) => {
    setTimeout(resolve, 200)
  })
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

const acts = {
  /** Opens a request for each cookie. Returns the bytes that one of them takes. */
  async open({ cookies, by = 'signal' }) {
    waiting = by
    const wanted = opened + cookies.length
    const before = await heap()
    for (const [index, cookie] of cookies.entries()) {
      app.inject({ url: '/wait', headers: { cookie } }).catch(() => {})
      if (index % 100 === 99) await new Promise(setImmediate)
    }
    while (opened < wanted) await new Promise(setImmediate)
    return ((await heap()) - before) / cookies.length
  },
  async signIn({ count }) {
    const cookies = []
    for (let index = 0; index < count; index += 1) {
      const { headers } = await app.inject('/sign-in')
      cookies.push(String(headers['set-cookie']).split(';')[0])
    }
    return cookies
  },
  async subscribe({ channel }) {
    const client = await createClient({ url: address }).connect()
    await client.subscribe(channel, (message) => heard.set(message, now()))
  },
  heard: async ({ name }) => heard.get(name),
  /** Ends all sessions, and tells for how long the event loop stood still at most. */
  async endAll() {
    let longest = 0
    let isOver = false
    let last = now()
    const watch = () => {
      const present = now()
      longest = Math.max(longest, present - last)
      last = present
      if (!isOver) setImmediate(watch)
    }
    setImmediate(watch)
    await app.sessions.destroyAll('ada')
    isOver = true
    return { longest, told: heard.size }
  },
  async close() {
    await app.close()
    await place.close()
  }
}

process.on('message', async ({ id, ask, ...details }) => {
  try {
    process.send({ id, answer: await acts[ask](details) })
    if (ask === 'close') process.disconnect()
  } catch (error) {
    process.send({ id, error: error.message })
  }
})
process.send({})

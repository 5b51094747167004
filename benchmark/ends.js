// Question: how soon the end of a session is heard in another process, and what it costs to wait
// for it.
import Fastify from 'fastify'
import { createClient } from 'redis'

import { sessionPlugin } from '../dist/lib/index.js'
import { openStore } from './ends-store.js'
import { Child, startRedis } from './fleet.js'
import { digits } from './measure.js'

const now = () => Number(process.hrtime.bigint()) / 1e6
const next = () => new Promise(setImmediate)

export async function ends({ ends: count, sockets }) {
  const redis = await startRedis()
  const rows = []
  const figures = []
  if (redis !== undefined) {
    const url = `redis://127.0.0.1:${redis.port}`
    const floor = await bare(url, count)
    const heard = await between('redis', url, count)
    await redis.close()
    rows.push(rowOf('PUBLISH alone, on Redis', floor), rowOf('destroy(), on Redis', heard))
    figures.push(figureOf('an end is heard in another process, on Redis, p99', heard))
  }
  const { DATABASE_URL } = process.env
  if (DATABASE_URL !== undefined) {
    const heard = await between('postgres', DATABASE_URL, count)
    rows.push(rowOf('destroy(), on PostgreSQL', heard))
    figures.push(figureOf('an end is heard in another process, on PostgreSQL, p99', heard))
  }
  const { bytes, longest } = await open(sockets)
  figures.push(
    {
      what: 'a signal of an open request, over a bare AbortController with a listener',
      value: exactly(bytes),
      unit: 'bytes',
      atMost: 300
    },
    {
      what: `the longest step as ${sockets} sessions end at once`,
      value: exactly(longest),
      unit: 'ms',
      atMost: 10
    }
  )
  return {
    title: 'Until an end is heard',
    about: [
      `Milliseconds from the call of destroy() in one process until the signal aborts in another, over ${count} ends, one after another. Redis is measured where a redis-server is installed; DATABASE_URL names a PostgreSQL to measure on.`
    ],
    tables:
      rows.length === 0
        ? []
        : [{ caption: 'Until an end is heard', head: ['', 'p50', 'p99', 'most'], rows }],
    figures
  }
}

/** Ends sessions here that are waited for in another process. */
async function between(kind, address, count) {
  const opened = await openStore(kind, address)
  const { store } = opened
  const app = Fastify()
  await app.register(sessionPlugin, { store })
  const listener = new Child('ends-listener.js', [kind, address])
  await listener.ready
  const cookies = await listener.ask('signIn', { count: count + 1 })
  const times = []
  try {
    await listener.ask('open', { cookies })
    const { sessions } = await all(app)
    for (const [index, { publicId }] of sessions.entries()) {
      const from = now()
      await app.sessions.destroy(publicId)
      const at = await heard(listener, publicId)
      // The first one has the subscription made.
      if (index > 0) times.push(at - from)
    }
  } finally {
    await listener.ask('close')
    await app.close()
    await opened.close()
  }
  return times
}

async function all(app) {
  const sessions = []
  let from
  do {
    const page = await app.sessions.list('ada', { from })
    sessions.push(...page.sessions)
    from = page.next
  } while (from !== undefined)
  return { sessions: [...new Map(sessions.map((each) => [each.publicId, each])).values()] }
}

/** A message alone. */
async function bare(url, count) {
  const client = await createClient({ url }).connect()
  const listener = new Child('ends-listener.js', ['redis', url])
  await listener.ready
  await listener.ask('subscribe', { channel: 'bare' })
  const times = []
  for (let index = 0; index < count; index += 1) {
    const name = `m${index}`
    const from = now()
    await client.publish('bare', name)
    times.push((await heard(listener, name)) - from)
  }
  await listener.end()
  client.destroy()
  return times
}

async function heard(listener, name) {
  for (;;) {
    const at = await listener.ask('heard', { name })
    if (at !== undefined) return at
    await next()
  }
}

/** What it takes to wait for many, and to tell them all. */
async function open(count) {
  const listener = new Child('ends-listener.js', ['memory'], { execArgv: ['--expose-gc'] })
  await listener.ready
  const cookies = await listener.ask('signIn', { count })
  // Each holds its request, and the first ones warm it up.
  await listener.ask('open', { cookies: cookies.slice(0, count / 10), by: 'nothing' })
  const bare = await listener.ask('open', { cookies, by: 'bare' })
  const bytes = (await listener.ask('open', { cookies })) - bare
  const { longest, told } = await listener.ask('endAll')
  if (told !== count) throw new Error(`${told} of ${count} were told`)
  await listener.end()
  return { bytes, longest }
}

function rowOf(name, times) {
  const sorted = times.toSorted((one, other) => one - other)
  return [name, at(sorted, 0.5), at(sorted, 0.99), at(sorted, 1)].map((each) =>
    typeof each === 'number' ? digits(each) : each
  )
}

function at(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

function figureOf(what, times) {
  const sorted = times.toSorted((one, other) => one - other)
  return { what, value: exactly(at(sorted, 0.99)), unit: 'ms', atMost: 200 }
}

function exactly(value) {
  return { median: value, low: value, high: value }
}

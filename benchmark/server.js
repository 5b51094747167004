// A process of one contender's own. Does what its parent asks, by message: { id, ask, ...details }
// → { id, answer }.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'

import { createClient } from 'redis'

import { dataOf } from './common.js'
import { contenders, follow as followed } from './contenders.js'
import { StallWatch } from './stalls.js'

const [name, settings] = process.argv.slice(2)
const { redisUrl, options } = JSON.parse(settings)
const contender = contenders[name]

// An hour passes when the parent says so; what waits for longer than a second waits for a second.
let ahead = 0
const clock = {
  now: () => Date.now() + ahead,
  setTimeout: (callback, milliseconds) =>
    setTimeout(
      () => {
        watch.step(callback)
      },
      Math.min(milliseconds, 1000)
    )
}
const watch = new StallWatch()

let redis
if (redisUrl !== undefined) redis = await createClient({ url: redisUrl }).connect()
const app = await contender.make({
  ...(redis && { redis }),
  ...contender.options,
  ...options,
  ...(options?.clock === true && { clock })
})
let server

/**
 * Runs one request after the other on the app itself, with no socket. Visitors take turns; those of
 * a filled store come at random.
 */
async function inject({ path, visitors, count, follow = false }) {
  const from = visitors ?? filled
  for (let done = 0; done < count; done += 1) {
    const at = visitors === undefined ? Math.floor(Math.random() * from.length) : done % from.length
    const { headers } = await app.inject({ url: path, headers: from[at] })
    if (follow) from[at] = followed(from[at], headers)
    // The loop turns, as it does in a server; else garbage piles up that only a turn releases.
    if (done % 10 === 9)
      await new Promise((resolve) => {
        setImmediate(resolve)
      })
  }
}

async function cpuOf(work, count) {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}

/** How long the event loop is kept, by a timer of 1 ms. */
const delays = monitorEventLoopDelay({ resolution: 1 })

/** Visitors of sessions that were put into the store past the app. */
let filled = []

const asks = {
  async listen() {
    if (contender.express === true) server = createServer(app).listen(0, '127.0.0.1')
    else {
      await app.listen({ port: 0, host: '127.0.0.1' })
      ;({ server } = app)
    }
    if (!server.listening) await once(server, 'listening')
    return server.address().port
  },
  cpu: () => process.cpuUsage(),
  /** Microseconds of CPU per request, and the visitors as they are afterwards. */
  inject: async (details) => ({
    cpu: await cpuOf(() => inject(details), details.count),
    ...(details.follow && { visitors: details.visitors })
  }),
  /** Microseconds of CPU for one JSON.parse and one JSON.stringify of the data. */
  async json({ bytes, count }) {
    const text = JSON.stringify(dataOf(bytes))
    let length = 0
    const answer = await cpuOf(() => {
      for (let done = 0; done < count; done += 1) length += JSON.stringify(JSON.parse(text)).length
    }, count)
    return length > 0 ? answer : NaN
  },
  heap() {
    for (let time = 0; time < 4; time += 1) globalThis.gc()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  },
  /** Puts sessions into holdfast's store, each as a request would have left it. */
  async fill({ count }) {
    const { headers } = await app.inject({ url: '/write' })
    const { store } = app.sessions
    const record = await store.get(app.sessions.publicIdOf(headers['x-session-id']))
    filled = []
    for (let made = 0; made < count; made += 1) {
      const id = crypto.randomUUID()
      // A version of its own: equal strings would be one in memory.
      await store.create(app.sessions.publicIdOf(id), { ...record, version: id.slice(24) })
      filled.push({
        cookie: `session_id=${id}`,
        'sec-fetch-site': 'none',
        'sec-fetch-mode': 'navigate'
      })
    }
    return filled.length
  },
  /**
   * So many requests at once change one session; how long it took in all, and what of it is in
   * there.
   */
  async contend({ count, path, headers }) {
    const before = performance.now()
    await Promise.all(Array.from({ length: count }, () => app.inject({ url: path, headers })))
    const milliseconds = performance.now() - before
    const { body } = await app.inject({ url: '/read', headers })
    return { milliseconds, n: JSON.parse(body).n }
  },
  watch: () => watch.start(app.sessions?.store),
  watched: () => watch.stop(),
  watchDelay() {
    delays.reset()
    delays.enable()
  },
  /** By how many milliseconds a timer was late since then. */
  delay() {
    delays.disable()
    const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - 1)
    return {
      p50: late(delays.percentile(50)),
      p99: late(delays.percentile(99)),
      max: late(delays.max)
    }
  },
  spin: ({ milliseconds, each }) => watch.spin(milliseconds, each),
  advance({ milliseconds }) {
    ahead += milliseconds
  },
  size: () => app.sessions.store.size,
  async close() {
    if (contender.express === true) server?.close()
    else await app.close()
    redis?.destroy()
    setImmediate(() => {
      process.disconnect()
    })
  }
}

process.on('message', async ({ id, ask, ...details }) => {
  try {
    process.send({ id, answer: await asks[ask](details) })
  } catch (error) {
    process.send({ id, error: error.stack })
  }
})
process.send({ ready: true })

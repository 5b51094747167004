// Counts what happens to sessions, and serves the counts in Prometheus' text format. `node
// examples/metrics.js` listens on http://localhost:3000: curl -s http://localhost:3000/visit; curl
// -s http://localhost:3000/metrics
import { subscribe } from 'node:diagnostics_channel'

import Fastify from 'fastify'
import sessionPlugin from 'fastify-holdfast'

/** What each event is broken down by. No public id: each session would be a series of its own. */
const labels = {
  created: [],
  committed: ['status', 'outcome'],
  merged: [],
  gone: [],
  rejected: ['transport', 'reason'],
  regenerated: [],
  destroyed: [],
  expired: ['reason'],
  evicted: ['returned'],
  fault: ['verb', 'code']
}

const counts = new Map()

for (const [event, names] of Object.entries(labels)) {
  subscribe(`fastify-holdfast:${event}`, (message) => {
    const values = names.map((name) => `${name}="${message[name]}"`).join(',')
    const series = `holdfast_${event}_total${values === '' ? '' : `{${values}}`}`
    counts.set(series, (counts.get(series) ?? 0) + 1)
  })
}

function prometheus() {
  const lines = Object.keys(labels).flatMap((event) => [
    `# TYPE holdfast_${event}_total counter`,
    ...[...counts]
      .filter(([series]) => series.split('{')[0] === `holdfast_${event}_total`)
      .map(([series, count]) => `${series} ${count}`)
  ])
  return `${lines.join('\n')}\n`
}

const app = Fastify()
await app.register(sessionPlugin)

app.get('/visit', async ({ session }) => {
  session.visits = (session.visits ?? 0) + 1
  return { visits: session.visits }
})

app.get('/logout', async ({ session }) => {
  await session.destroy()
  return { goodbye: true }
})

app.get('/metrics', { config: { session: false } }, async (_request, reply) => {
  reply.type('text/plain; version=0.0.4; charset=utf-8')
  return prometheus()
})

await app.listen({ port: Number(process.env.PORT ?? 3000) })

// Question: how cost grows: with the sessions stored, and with the requests that change one
// session at once.
import { Contender, startRedis } from './fleet.js'
import { byName, interleave, pooled, progressOf, ratio, shown, summary } from './measure.js'

export async function growth(scale) {
  const stored = await pooled(scale.fleets, () => withStored(scale))
  const crowds = { memory: await withCrowds(scale) }
  const redis = await startRedis()
  if (redis !== undefined) {
    try {
      crowds.Redis = await withCrowds(scale, `redis://127.0.0.1:${redis.port}`)
    } finally {
      await redis.close()
    }
  }
  return report({ stored, crowds, scale })
}

/** The same requests, by visitors drawn from all that are stored. */
async function withStored({ stored, requests, rounds, warmups }) {
  const servers = stored.map((count) =>
    Object.assign(new Contender('holdfast'), { count, name: String(count) })
  )
  try {
    for (const server of servers) {
      await server.ready
      await server.ask('fill', { count: server.count })
    }
    const measured = []
    for (const { kind, path } of [
      { kind: 'read', path: '/read' },
      { kind: 'write', path: '/write' }
    ]) {
      const sample = async (server) => (await server.ask('inject', { path, count: requests })).cpu
      for (const server of servers)
        for (let time = 0; time < warmups; time += 1) await sample(server)
      const samples = await interleave(servers, rounds, sample, progressOf(`growth, ${kind}`))
      measured.push({ kind, samples: byName(samples) })
    }
    return measured
  } finally {
    await Promise.all(servers.map((server) => server.end()))
  }
}

/** So many requests at once, each adding one to a counter in one session. */
async function withCrowds({ crowds, rounds }, redisUrl) {
  const names = ['holdfast', '@fastify/session']
  const servers = names.map((name) => new Contender(name, { redisUrl }))
  try {
    const measured = []
    for (const server of servers) await server.open()
    for (const count of crowds) {
      const sample = async (server) => {
        const { headers } = await server.visit('/seed/100', server.newcomer)
        return server.ask('contend', { count, path: '/increment', headers })
      }
      for (const server of servers) await sample(server)
      const samples = await interleave(
        servers,
        rounds,
        sample,
        progressOf(`growth, ${count} at once`)
      )
      measured.push({ count, samples: byName(samples) })
    }
    return { names, measured }
  } finally {
    await Promise.all(servers.map((server) => server.end()))
  }
}

function report({ stored, crowds, scale }) {
  const least = scale.stored[0]
  const most = scale.stored.at(-1)
  const few = scale.crowds.at(-2)
  const all = scale.crowds.at(-1)
  const linear = ({ measured }) => {
    const each = (count) =>
      measured
        .find((cell) => cell.count === count)
        .samples.holdfast.map(({ milliseconds }) => milliseconds / count)
    return ratio(each(all), each(few))
  }
  return {
    title: 'How cost grows',
    about: [
      'With the sessions stored: holdfast over inject, memory store, each visitor drawn at random from all that are stored.',
      'With the requests at once: each adds one to a counter in one and the same session, with holdfast by `session.update`, with @fastify/session by reading and assigning, there being no other way.'
    ],
    tables: [
      {
        caption: 'Microseconds of CPU per request, by sessions stored',
        head: ['', ...scale.stored.map((count) => count.toLocaleString('en-US'))],
        rows: stored.map(({ kind, samples }) => [
          kind,
          ...scale.stored.map((count) => shown(summary(samples[count])))
        ])
      },
      ...Object.entries(crowds).map(([where, { names, measured }]) => ({
        caption: `Milliseconds until all were answered, on ${where}; in brackets what the counter came to`,
        head: ['requests at once', ...names],
        rows: measured.map(({ count, samples }) => [
          String(count),
          ...names.map((name) => {
            const each = samples[name]
            return `${shown(summary(each.map(({ milliseconds }) => milliseconds)))} (${summary(each.map(({ n }) => n)).median})`
          })
        ])
      }))
    ],
    figures: [
      ...stored.map(({ kind, samples }) => ({
        what: `CPU of a ${kind}, with ${most.toLocaleString('en-US')} sessions by that with ${least.toLocaleString('en-US')}`,
        value: ratio(samples[most], samples[least]),
        unit: '×',
        atMost: 1.1
      })),
      ...Object.entries(crowds).map(([where, crowd]) => ({
        what: `time per update on ${where}, ${all} at once by ${few} at once`,
        value: linear(crowd),
        unit: '×',
        atMost: 1.2
      }))
    ]
  }
}

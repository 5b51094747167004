// Question: what a request costs on Redis: commands, round trips, CPU, and throughput when Redis
// is further away.
import { createClient } from 'redis'

import { Load, Proxy, startRedis, withContenders } from './fleet.js'
import { byName, digits, interleave, pooled, progressOf, ratio, shown, summary } from './measure.js'
import { kinds, mapped } from './requests.js'

const before = process.env['HOLDFAST_BEFORE'] === undefined ? [] : ['holdfast, before']
const floors = ['floor', 'floor, GET', 'floor, GET and SET']
const names = [
  'holdfast',
  ...before,
  'holdfast, touching every time',
  '@fastify/session',
  '@fastify/session, not rolling',
  'express-session'
]
/** Redis sees no signature: signed ids are there for the CPU alone. */
const onCpu = [...floors, ...names.toSpliced(1, 0, 'holdfast, secret')]

/** Who does the same as whom: both touch on every request, or neither. */
const equals = [
  ['holdfast, touching every time', '@fastify/session'],
  ['holdfast', '@fastify/session, not rolling']
]

/** What a kind of request is to cost at most, by @fastify/session's with its default options. */
const cpuGoals = [
  ['not looked at', 0.5],
  ['read', 0.25],
  ['write', 0.4]
]

const distances = [0, 1, 5]
/**
 * No more than there are visitors: two requests of one session at once would have to merge what
 * they wrote.
 */
const most = 64

export async function onRedis(scale) {
  const redis = await startRedis()
  if (redis === undefined)
    return {
      title: 'On Redis',
      about: ['Not measured: no redis-server is installed here.'],
      tables: [],
      figures: []
    }
  const proxy = new Proxy(redis.port)
  const load = new Load()
  try {
    await Promise.all([proxy.ready, load.ready])
    const behind = `redis://127.0.0.1:${await proxy.ask('port')}`
    const trips = await withContenders(names, { redisUrl: behind }, (servers) =>
      roundTrips(servers, proxy, redis.client)
    )
    const near = { redisUrl: `redis://127.0.0.1:${redis.port}` }
    const cpu = await pooled(scale.fleets, () =>
      withContenders(onCpu, near, (servers) => cpuOf(servers, load, scale))
    )
    const far = await pooled(scale.fleets, () =>
      withContenders(names, { redisUrl: behind }, (servers) =>
        throughput({ servers, proxy, load, behind, scale })
      )
    )
    return report({ trips, cpu, far })
  } finally {
    await Promise.all([proxy.end(), load.end()])
    await redis.close()
  }
}

/** One request after the other, so that no round trip serves two. */
async function roundTrips(servers, proxy, client) {
  const answers = []
  for (const server of servers) {
    for (const { kind, path, fresh } of kinds) {
      // Connections and scripts are known to the server by now.
      const { headers } = await server.visit('/write', server.newcomer)
      await client.sendCommand(['CONFIG', 'RESETSTAT'])
      const before = await proxy.ask('roundTrips')
      await server.visit(path, fresh ? server.newcomer : headers)
      const after = await proxy.ask('roundTrips')
      const commands = [
        ...(await client.sendCommand(['INFO', 'commandstats'])).matchAll(
          /^cmdstat_([^:]+):calls=(\d+)/gm
        )
      ]
        .filter(([, name]) => !/^(?:info|config)/.test(name))
        .map(([, name, calls]) => `${calls === '1' ? '' : `${calls} `}${name.toUpperCase()}`)
      answers.push({ name: server.name, kind, trips: after - before, commands })
    }
  }
  return answers
}

async function cpuOf(servers, load, scale) {
  const measured = []
  const visitorsOf = new Map()
  for (const server of servers) visitorsOf.set(server, await server.visitors(scale.visitors, 100))
  for (const [index, { kind, path, fresh, follow }] of kinds.entries()) {
    const warmups = index === 0 ? scale.warmups : Math.ceil(scale.warmups / 2)
    const sample = async (server) => {
      const visitors = fresh ? [server.newcomer] : visitorsOf.get(server)
      const seen = await load.sample(server, {
        path,
        visitors,
        total: scale.requests,
        connections: 8,
        follow
      })
      if (follow) visitorsOf.set(server, seen.visitors)
      return seen
    }
    for (const server of servers) for (let time = 0; time < warmups; time += 1) await sample(server)
    const samples = await interleave(servers, scale.rounds, sample, progressOf(`Redis, ${kind}`))
    measured.push({ kind, samples: byName(samples) })
  }
  return measured
}

async function throughput({ servers, proxy, load, behind, scale }) {
  const measured = []
  const atOnce = Math.min(scale.visitors, most)
  const client = await createClient({ url: behind }).connect()
  for (const milliseconds of distances) {
    await proxy.ask('delay', { milliseconds: 0 })
    const visitorsOf = new Map()
    for (const server of servers) visitorsOf.set(server, await server.visitors(atOnce, 100))
    await proxy.ask('delay', { milliseconds })
    const ping = await pingOf(client)
    for (const { kind, path } of kinds.slice(1, 4)) {
      const total = Math.ceil(scale.requests / (milliseconds + 1))
      const sample = async (server) => {
        const visitors = visitorsOf.get(server)
        const one = await load.sample(server, {
          path,
          visitors,
          total: Math.min(total, 50),
          connections: 1,
          awake: false
        })
        return {
          alone: one.p50,
          ...(await load.sample(server, {
            path,
            visitors,
            total,
            connections: atOnce,
            awake: false
          }))
        }
      }
      const samples = await interleave(
        servers,
        Math.ceil(scale.rounds / 3),
        sample,
        progressOf(`Redis ${milliseconds} ms away, ${kind}`)
      )
      measured.push({ milliseconds, ping, kind, samples: byName(samples) })
    }
  }
  client.destroy()
  return measured
}

/** Milliseconds for the shortest of all commands, over the same distance. */
async function pingOf(client) {
  const samples = []
  for (let time = 0; time < 50; time += 1) {
    const began = performance.now()
    await client.ping()
    samples.push(performance.now() - began)
  }
  return summary(samples).median
}

function report({ trips, cpu, far }) {
  const cpuRatio = (kind, peer) => {
    const { samples } = cpu.find((cell) => cell.kind === kind)
    return ratio(
      samples.holdfast.map((sample) => sample.cpu),
      samples[peer].map((sample) => sample.cpu)
    )
  }
  const overhead = (kind) => {
    const { samples } = cpu.find((cell) => cell.kind === kind)
    return summary(
      samples.holdfast.map(
        (sample, round) =>
          (sample.cpu - samples.floor[round].cpu) /
          (samples['@fastify/session'][round].cpu - samples.floor[round].cpu)
      )
    )
  }
  const limit = (kind) => {
    const { samples } = cpu.find((cell) => cell.kind === kind)
    return ratio(
      samples[kind === 'write' ? 'floor, GET and SET' : 'floor, GET'].map((sample) => sample.cpu),
      samples['@fastify/session'].map((sample) => sample.cpu)
    )
  }
  const note = (kind) =>
    `the floor with as many bare calls of the client: ${digits(limit(kind).median)}; over the floor it is ${digits(overhead(kind).median)} of theirs`
  const tripsOf = (kind) =>
    exactly(trips.find((each) => each.name === 'holdfast' && each.kind === kind).trips)
  const ahead = far.flatMap(({ milliseconds, kind, samples }) =>
    equals.map(([ours, theirs]) => ({
      where: `${milliseconds} ms, ${kind}, ${ours} to ${theirs}`,
      ...ratio(
        samples[ours].map((each) => each.perSecond),
        samples[theirs].map((each) => each.perSecond)
      )
    }))
  )
  const least = ahead.reduce((one, each) => (each.median < one.median ? each : one))
  const inPings = (wanted) => {
    const { ping, samples } = far.find(
      ({ milliseconds, kind }) => milliseconds === 5 && kind === wanted
    )
    return summary(samples.holdfast.map(({ alone }) => alone / ping))
  }
  return {
    title: 'On Redis',
    about: [
      'holdfast by its RedisStore, the peers by connect-redis 10; one node-redis client each, one Redis for all.',
      '"Touching every time" and "not rolling" are there for a fair pair each: @fastify/session rolls, unless told not to, and then writes on every request; ' +
        'holdfast touches when that moves the expiry by a minute or more, unless told to touch every time. express-session has `resave: false` and touches every time.',
      '"floor, GET" is the floor with one bare call of the client in each request, "floor, GET and SET" with two: what the client alone costs. It arms a timer for each call unless told not to, as the RedisStore tells it: so holdfast may come out below.'
    ],
    tables: [
      {
        caption:
          'Round trips per request, and the commands that Redis counted, those inside of scripts too',
        head: ['', ...kinds.map(({ kind }) => kind)],
        rows: names.map((name) => [
          name,
          ...kinds.map(({ kind }) => {
            const { trips: count, commands } = trips.find(
              (each) => each.name === name && each.kind === kind
            )
            return `**${count}** <sub>${commands.join(', ')}</sub>`
          })
        ])
      },
      table(
        'Microseconds of CPU per request',
        onCpu,
        cpu.map(({ kind, samples }) => ({ head: kind, samples, pick: (sample) => sample.cpu }))
      ),
      table(
        `Requests per second, ${most} at once, by the milliseconds that Redis is away`,
        names,
        far.map(({ milliseconds, kind, samples }) => ({
          head: `${milliseconds} ms, ${kind}`,
          samples,
          pick: (sample) => sample.perSecond
        }))
      ),
      table(
        'Latency in ms of one request alone',
        names,
        far.map(({ milliseconds, kind, samples }) => ({
          head: `${milliseconds} ms, ${kind}`,
          samples,
          pick: (sample) => sample.alone
        }))
      )
    ],
    quoted: ['read', 'write', 'login'].map((wanted) => ({
      what: `Redis, ${wanted}`,
      cells: mapped(cpu.find(({ kind }) => kind === wanted).samples, (samples) =>
        digits(summary(samples.map((sample) => sample.cpu)).median)
      )
    })),
    figures: [
      { what: 'Redis, round trips of a read', value: tripsOf('read'), unit: '', atMost: 1 },
      { what: 'Redis, round trips of a write', value: tripsOf('write'), unit: '', atMost: 2 },
      {
        what: 'Redis, round trips of a login',
        value: tripsOf('login'),
        unit: '',
        atMost: 3,
        note: 'one reads the session, one creates the next, one puts a trace in place of the former. One script could do the last two if both keys were on one node; on a cluster, or behind a proxy that shards, those of a session that nobody is signed in to are not. @fastify/session takes four'
      },
      ...cpuGoals.map(([kind, atMost]) => ({
        what: `Redis, CPU of ${kind}, by @fastify/session's (rolling)`,
        value: cpuRatio(kind, '@fastify/session'),
        unit: '×',
        atMost,
        note: note(kind)
      })),
      {
        what: "Redis, throughput by @fastify/session's with equal options, the least of all cases",
        value: least,
        unit: '×',
        atLeast: 1,
        note: least.where
      },
      {
        what: 'Redis 5 ms away, latency of a read, in PINGs over the same distance',
        value: inPings('read'),
        unit: '×',
        atMost: 1.2,
        note: `a write, two round trips: ${digits(inPings('write').median)}`
      }
    ]
  }
}

function exactly(value) {
  return { median: value, low: value, high: value }
}

function table(caption, rows, columns) {
  return {
    caption,
    head: ['', ...columns.map(({ head }) => head)],
    rows: rows.map((name) => [
      name,
      ...columns.map(({ samples, pick }) => shown(summary(samples[name].map(pick))))
    ])
  }
}

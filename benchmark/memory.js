// Question 3: the memory of a session, what comes back of it, and how long the event loop stands
// still meanwhile.
import { setTimeout as sleep } from 'node:timers/promises'

import { Contender, Load } from './fleet.js'
import { digits } from './measure.js'

const day = 24 * 60 * 60 * 1000
const nodeOptions = ['--expose-gc']

export async function memory(scale) {
  const [few, many] = scale.sessions
  const load = new Load()
  await load.ready
  try {
    const peers = []
    for (const name of ['@fastify/session', 'express-session'])
      peers.push(await peer(name, few, load))
    const ours = await holdfast(few, load)
    const most = await holdfast(many, load, { watched: true })
    return report({ few, many, peers, ours, most })
  } finally {
    await load.end()
  }
}

/** So many visitors come for the first time and write one short key; nobody comes back. */
async function fill(server, count, load) {
  process.stderr.write(`memory, ${server.name}: ${count} sessions\n`)
  await load.send({
    port: server.port,
    path: '/write',
    visitors: [server.newcomer],
    connections: 8,
    total: count
  })
}

/** What a warm server holds before. */
async function emptyHeap(server, load) {
  await fill(server, 2000, load)
  await sleep(200)
  return { heap: await server.ask('heap'), sessions: 2000 }
}

async function peer(name, count, load) {
  // Sessions live for as long as filling takes, and a while.
  const life = 1000 + count / 2
  const cookie = { maxAge: life, secure: false }
  const server = new Contender(name, {
    options: { cookie },
    nodeOptions: [...nodeOptions, '--max-old-space-size=8192']
  })
  try {
    await server.open({ verified: false })
    const empty = await emptyHeap(server, load)
    await fill(server, count, load)
    await sleep(200)
    const full = await server.ask('heap')
    await sleep(life)
    // Whoever cleans up as he goes has the occasion.
    await load.send({
      port: server.port,
      path: '/ignore',
      visitors: [server.newcomer],
      connections: 1,
      total: 1
    })
    return {
      name,
      each: (full - empty.heap) / count,
      left: ((await server.ask('heap')) - empty.heap) / count
    }
  } finally {
    await server.end()
  }
}

async function holdfast(count, load, { watched = false } = {}) {
  const server = new Contender('holdfast', { options: { clock: true }, nodeOptions })
  try {
    await server.open({ verified: false })
    const { heap: empty } = await emptyHeap(server, load)
    await fill(server, count, load)
    await sleep(200)
    const full = await server.ask('heap')
    const stalls = watched ? await stallsOf(server, count, load) : undefined
    await expire(server)
    return {
      name: 'holdfast',
      each: (full - empty) / count,
      left: ((await server.ask('heap')) - empty) / count,
      stalls
    }
  } finally {
    await server.end()
  }
}

async function expire(server) {
  await server.ask('advance', { milliseconds: 40 * day })
  while ((await server.ask('size')) > 0) await sleep(100)
}

async function stallsOf(server, count, load) {
  const during = async (work) => {
    await server.ask('watch')
    const began = Date.now()
    await work()
    return { ...(await server.ask('watched')), seconds: (Date.now() - began) / 1000 }
  }
  const seconds = Math.max(1, count / 50_000)
  process.stderr.write('memory, stalls: idle, flooded, expiring\n')
  const flood = await during(() => fill(server, Math.ceil(count / 5), load))
  const expiry = await during(() => expire(server))
  const idle = await during(() => sleep(seconds * 1000))
  const spinning = await during(() =>
    server.ask('spin', { milliseconds: seconds * 1000, each: 0.3 })
  )
  return { idle, spinning, flood, expiry }
}

function report({ few, many, peers, ours, most }) {
  const bytes = (value) => `${Math.round(value).toLocaleString('en-US')} B`
  const { stalls } = most
  const row = (name, { stall, stallWithGc, gc, step, over, steps, seconds }) => [
    name,
    digits(seconds),
    digits(stall),
    digits(stallWithGc),
    digits(gc),
    steps === 0 ? '–' : digits(step),
    steps === 0 ? '–' : `${over} of ${steps.toLocaleString('en-US')}`
  ]
  return {
    title: 'Memory',
    about: [
      'New visitors come over sockets, the handler writes one short key, and nobody comes back. The heap of the whole process after a collection, less that before, by the number of sessions.',
      'Then they expire. Stalls: how much later than due a timer of 1 ms ran, in the process that holds the sessions; a step is one call of the store, or one turn of its sweep. ' +
        'The collector\'s pauses are taken off, and shown apart. "Spinning" is the same process running steps of 0.3 ms that touch no store: what the machine adds to a step.'
    ],
    tables: [
      {
        caption: 'Bytes of heap per session',
        head: ['', 'sessions', 'each', 'left of each after expiry'],
        rows: [
          ...peers.map((each) => ({ ...each, count: few })),
          { ...ours, count: few },
          { ...most, count: many }
        ].map(({ name, count, each, left }) => [
          name,
          count.toLocaleString('en-US'),
          bytes(each),
          bytes(left)
        ])
      },
      {
        caption: `Milliseconds that the event loop stood still, with ${many.toLocaleString('en-US')} sessions`,
        head: [
          '',
          'seconds watched',
          'longest stall',
          'with GC',
          'longest GC',
          'longest step',
          'steps over 1 ms'
        ],
        rows: [
          row('idle', stalls.idle),
          row('spinning', stalls.spinning),
          row('a flood of new sessions into the full store', stalls.flood),
          row('all expire', stalls.expiry)
        ]
      }
    ],
    quoted: [
      {
        what: `bytes of heap for each of ${few.toLocaleString('en-US')} sessions`,
        cells: Object.fromEntries([...peers, ours].map(({ name, each }) => [name, digits(each)]))
      },
      {
        what: 'of these left after expiry',
        cells: Object.fromEntries(
          [...peers, ours].map(({ name, left }) => [
            name,
            Math.max(0, Math.round(left)).toLocaleString('en-US')
          ])
        )
      }
    ],
    figures: [
      {
        what: `heap per session, ${many.toLocaleString('en-US')} with one short key`,
        value: exactly(most.each),
        unit: 'bytes',
        atMost: 220
      },
      {
        what: 'heap left of each after expiry',
        value: exactly(most.left),
        unit: 'bytes',
        atMost: 2
      },
      {
        what: "longest stall while all expire, over the idle process's",
        value: exactly(stalls.expiry.stall - stalls.idle.stall),
        unit: 'ms',
        atMost: 10
      },
      {
        what: "longest stall in the flood, over the idle process's",
        value: exactly(stalls.flood.stall - stalls.idle.stall),
        unit: 'ms',
        atMost: 10
      },
      {
        what: 'longest step of the store',
        value: exactly(Math.max(stalls.flood.step, stalls.expiry.step)),
        unit: 'ms',
        atMost: 1,
        note: `${stalls.flood.over + stalls.expiry.over} of ${(stalls.flood.steps + stalls.expiry.steps).toLocaleString('en-US')} took more than 1 ms; of those that only spin for 0.3 ms, ${stalls.spinning.over} of ${stalls.spinning.steps.toLocaleString('en-US')} did, up to ${digits(stalls.spinning.step)} ms`
      }
    ]
  }
}

function exactly(value) {
  return { median: value, low: value, high: value }
}

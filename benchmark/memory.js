// Question: the memory of a session, what comes back of it, and how long the event loop stands
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
    // A heap does not depend on what runs beside it; a stall does.
    const [ours, ...peers] = await Promise.all([
      holdfast(few, load),
      peer('@fastify/session', few, load),
      peer('express-session', few, load)
    ])
    const most = await holdfast(many, load, { watched: true })
    const signedIn = await holdfast(many, load, { path: '/sign-in' })
    return report({ few, many, peers, ours, most, signedIn })
  } finally {
    await load.end()
  }
}

/** So many visitors come for the first time and write one short key; nobody comes back. */
async function fill(server, count, load, path = '/write') {
  process.stderr.write(`memory, ${server.name}: ${count} sessions\n`)
  await load.send({
    port: server.port,
    path,
    visitors: [server.newcomer],
    connections: 8,
    total: count
  })
}

/** So many sessions have a server warm. */
const warm = 2000

/** What a warm server holds before. */
async function emptyHeap(server, load, path) {
  await fill(server, warm, load, path)
  await sleep(200)
  return server.ask('heap')
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
    return { name, ...perSession({ empty, full, after: await server.ask('heap') }, count) }
  } finally {
    await server.end()
  }
}

/** `path`: what each visitor asks for. */
async function holdfast(count, load, { watched = false, path } = {}) {
  const server = new Contender('holdfast', { options: { clock: true }, nodeOptions })
  try {
    await server.open({ verified: false })
    const empty = await emptyHeap(server, load, path)
    await fill(server, count, load, path)
    await sleep(200)
    const full = await server.ask('heap')
    const stalls = watched ? await stallsOf(server, count, load) : undefined
    await expire(server)
    const after = await server.ask('heap')
    return { name: 'holdfast', ...perSession({ empty, full, after }, count), stalls }
  } finally {
    await server.end()
  }
}

/** The warm ones are in each heap but the last, and what is left is of all. */
function perSession({ empty, full, after }, count) {
  const each = (full - empty) / count
  return { each, left: (after - (empty - warm * each)) / (count + warm) }
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

function report({ few, many, peers, ours, most, signedIn }) {
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
      'New visitors come over sockets, the handler writes one short key, and nobody comes back. The heap of the whole process after a collection, less that before, by the number of sessions. ' +
        '"Signed in": the handler also calls signIn(), each time with a subject of its own. That takes some 70 bytes more of text, who it is and since when, 16 for the longer key, and the rest for the place in the list of the subject. ' +
        'Both peers say that their memory store is for development alone.',
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
          { ...most, count: many },
          { ...signedIn, count: many, name: 'holdfast, signed in' }
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
        atMost: 170
      },
      {
        what: 'heap of a signed-in session, over one that is not',
        value: exactly(signedIn.each - most.each),
        unit: 'bytes',
        atMost: 100
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

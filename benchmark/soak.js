// Question: what ten minutes at full load leave behind, on Redis.
import { setTimeout as sleep } from 'node:timers/promises'

import { Child, Contender, startRedis } from './fleet.js'
import { digits } from './measure.js'

const title = 'Ten minutes at full load'
const name = 'holdfast, secret'
const connections = 64
const visitors = 16

export async function soak({ soak: { warmUp, seconds } }) {
  const redis = await startRedis()
  if (redis === undefined)
    return {
      title,
      about: ['Not measured: no redis-server is installed here.'],
      tables: [],
      figures: []
    }
  const server = new Contender(name, {
    redisUrl: `redis://127.0.0.1:${redis.port}`,
    nodeOptions: ['--expose-gc']
  })
  const load = new Child('soak-load.js')
  try {
    await load.ready
    await server.open()
    const { port, newcomer: headers } = server
    await load.ask('open', { port, headers, count: connections, visitors })
    // The machine code and the tables that a server at work has are there before anything counts.
    await load.ask('run', { seconds: warmUp })
    const before = await heapOf(server)
    process.stderr.write(`soak: ${seconds} seconds\n`)
    await server.ask('watchDelay')
    const seen = await load.ask('run', { seconds })
    const delay = await server.ask('delay')
    const after = await heapOf(server)
    return report({ seconds, seen, delay, before, after })
  } finally {
    await Promise.all([server.end(), load.end()])
    await redis.close()
  }
}

/** Megabytes, after a collection. */
async function heapOf(server) {
  await sleep(200)
  return (await server.ask('heap')) / 1e6
}

function report({ seconds, seen: { kinds, errors }, delay, before, after }) {
  const total = kinds.reduce((sum, { count }) => sum + count, 0)
  const counted = (count) => count.toLocaleString('en-US')
  return {
    title,
    about: [
      `One process with the option \`secret\`, on a Redis beside it, for ${seconds} seconds. ${connections} connections with ${visitors} visitors each send one request after the other, at random: ` +
        '70 % read, 15 % write, 5 % come newly, 5 % sign in, 5 % are not looked at; one half of the visitors is signed in. Each reply is held to what its visitor wrote last. ' +
        'Heap after a collection, before and after. The delay is how much later than due a timer of 1 ms ran.',
      `A turn of the event loop may have the replies of all ${connections} connections to make, each some 0.1 ms: that is 6 ms or so. The goal leaves twice as much again for the collector, and for the client and Redis, who want the same two cores.`
    ],
    tables: [
      {
        caption: 'Requests, and their latency in ms with all connections busy',
        head: ['', 'requests', 'per second', 'median', '99th percentile'],
        rows: kinds.map(({ kind, count, p50, p99 }) => [
          kind,
          counted(count),
          digits(count / seconds),
          digits(p50),
          digits(p99)
        ])
      },
      {
        caption: 'The process',
        head: [
          'requests',
          'wrong replies',
          'heap before, MB',
          'heap after, MB',
          'delay in ms, median',
          '99th percentile',
          'longest'
        ],
        rows: [
          [
            counted(total),
            counted(errors.count),
            digits(before),
            digits(after),
            digits(delay.p50),
            digits(delay.p99),
            digits(delay.max)
          ]
        ]
      }
    ],
    figures: [
      {
        what: `soak, growth of the heap over ${counted(total)} requests`,
        value: exactly(after - before),
        unit: 'MB',
        atMost: 5
      },
      {
        what: 'soak, delay of the event loop, p99',
        value: exactly(delay.p99),
        unit: 'ms',
        atMost: 20
      },
      {
        what: 'soak, wrong replies',
        value: exactly(errors.count),
        unit: '',
        atMost: 0,
        ...(errors.first !== undefined && { note: errors.first })
      }
    ]
  }
}

function exactly(value) {
  return { median: value, low: value, high: value }
}

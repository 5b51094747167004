// Question: what it costs to read a signed id.
import { createHmac, createSecretKey, hash, randomBytes, randomUUID } from 'node:crypto'

import { Load, withContenders } from './fleet.js'
import {
  byName,
  difference,
  digits,
  interleave,
  pooled,
  progressOf,
  shown,
  summary
} from './measure.js'
import { cpu, kinds } from './requests.js'

const names = ['holdfast', 'holdfast, secret']
const returning = 'not looked at'
const strangers = `${returning}, by thousands`
const wanted = [
  ...kinds.filter(({ kind }) => [returning, 'read', 'write'].includes(kind)),
  { ...kinds.find(({ kind }) => kind === returning), kind: strangers }
]

export async function signing(scale) {
  const cells = await pooled(scale.fleets, () =>
    withContenders(names, {}, (servers) => overSockets(servers, scale))
  )
  const over = ({ samples }) => difference(cpu(samples['holdfast, secret']), cpu(samples.holdfast))
  const primitives = [...(await primitivesOf(scale))]
  return {
    title: 'To read a signed id',
    about: [
      'What the option `secret` adds to a request, over sockets, on the memory store: the CPU of "holdfast, secret" less that of "holdfast", round by round, these two alone and with four times the rounds. ' +
        'A reply that renews the cookie signs too.',
      'A hundred visitors take turns, and so their signatures and the digests of their ids are among the last 1,024, which are kept. "By thousands": so many take turns that neither is kept until its visitor comes again. An app is in between: the requests of one page come close together.',
      "Beside it what Node's own crypto takes for it in a loop: the hash that every id needs, and the HMAC that a signed id needs as well if it is not kept."
    ],
    tables: [
      {
        caption: 'Microseconds of CPU per request, 0.1 KB of data',
        head: ['', ...cells.map(({ kind }) => kind)],
        rows: [
          ...names.map((name) => [
            name,
            ...cells.map(({ samples }) => shown(summary(cpu(samples[name]))))
          ]),
          ['the difference', ...cells.map((cell) => shown(over(cell)))]
        ]
      },
      {
        caption: "Microseconds of CPU for one call of Node's own crypto",
        head: primitives.map(([{ name }]) => name),
        rows: [primitives.map(([, samples]) => shown(summary(samples)))]
      }
    ],
    figures: [
      {
        what: 'to read a signed id, over an unsigned one',
        value: over(cells.find(({ kind }) => kind === returning)),
        unit: 'µs',
        atMost: 1.2,
        note: `by thousands of visitors in turn: ${digits(over(cells.find(({ kind }) => kind === strangers)).median)}`
      }
    ]
  }
}

async function overSockets(servers, scale) {
  const load = new Load()
  await load.ready
  try {
    const visitorsOf = new Map()
    for (const server of servers)
      visitorsOf.set(server, await server.visitors(scale.strangers, 100))
    const measured = []
    for (const [index, { kind, path }] of wanted.entries()) {
      const sample = (server) =>
        load.sample(server, {
          path,
          visitors: visitorsOf
            .get(server)
            .slice(0, kind === strangers ? undefined : scale.visitors),
          total: scale.requests,
          connections: 8
        })
      const warmups = index === 0 ? scale.warmups : Math.ceil(scale.warmups / 2)
      for (const server of servers)
        for (let time = 0; time < warmups; time += 1) await sample(server)
      const samples = await interleave(
        servers,
        scale.rounds * 4,
        sample,
        progressOf(`signing, ${kind}`)
      )
      measured.push({ kind, samples: byName(samples) })
    }
    return measured
  } finally {
    await load.end()
  }
}

/** Microseconds of CPU for a call, in this process, with another id each time. */
function primitivesOf({ rounds, requests }) {
  const key = createSecretKey(randomBytes(32))
  const ids = Array.from({ length: 1000 }, () => randomUUID())
  const primitives = [
    { name: "hash('sha256', id)", run: (id) => hash('sha256', id, 'base64url') },
    {
      name: "createHmac('sha256', key)",
      run: (id) => createHmac('sha256', key).update(id).digest('base64url')
    }
  ]
  const sample = ({ run }) => {
    let length = 0
    const before = process.cpuUsage()
    for (let done = 0; done < requests; done += 1) length += run(ids[done % ids.length]).length
    const { user, system } = process.cpuUsage(before)
    return length > 0 ? (user + system) / requests : NaN
  }
  for (const primitive of primitives) sample(primitive)
  return interleave(primitives, rounds * 4, sample)
}

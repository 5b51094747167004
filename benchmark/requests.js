// Question 1: what a request costs the server, over sockets and over inject.
import { onMemory, contenders } from './contenders.js'
import { Load, withContenders } from './fleet.js'
import {
  byName,
  difference,
  digits,
  interleave,
  pooled,
  progressOf,
  ratio,
  shown,
  summary
} from './measure.js'

export const kinds = [
  {
    kind: 'new visitor',
    path: '/write',
    fresh: true,
    about: 'comes without an id; the handler writes one key'
  },
  {
    kind: 'not looked at',
    path: '/ignore',
    about: 'comes back; the handler does not look at the session'
  },
  { kind: 'read', path: '/read', about: 'comes back; the handler reads one key' },
  { kind: 'write', path: '/write', about: 'comes back; the handler changes one key' },
  {
    kind: 'login',
    path: '/login',
    follow: true,
    about: 'comes back; the handler regenerates the session and writes one key'
  }
]
const small = 100
const sizes = [1000, 11_000, 60_000]

/**
 * Requests in a sample: less where each takes longer, and more over inject, where a sample must
 * hold several full collections to be like the next.
 */
function countOf(bytes, overSockets, { requests }) {
  let share = 1
  if (bytes > 20_000) share = 8
  else if (bytes > 5000) share = 4
  return Math.ceil((requests * (overSockets ? 1 : 3)) / share)
}

/** Every kind of request with small data, and the three that come back with more. */
const cells = [
  ...kinds.map((kind) => ({ ...kind, bytes: small })),
  ...sizes.flatMap((bytes) => kinds.slice(1, 4).map((kind) => ({ ...kind, bytes })))
]

/**
 * Microseconds of CPU per request, and over sockets what the client saw; last, over inject, those
 * of the data's JSON.
 */
async function measure({ overSockets, scale, fleet }) {
  const names = onMemory({ express: overSockets })
  const load = new Load()
  await load.ready
  try {
    return await withContenders(names, {}, async (servers) => {
      const visitorsOf = new Map()
      for (const server of servers) {
        for (const bytes of [small, ...sizes])
          if (bytes <= server.traits.most)
            visitorsOf.set(`${server.name} ${bytes}`, await server.visitors(scale.visitors, bytes))
      }
      const sampleOf =
        ({ path, bytes, fresh, follow }, total) =>
        async (server) => {
          const key = `${server.name} ${bytes}`
          const visitors = fresh ? [server.newcomer] : visitorsOf.get(key)
          const seen = overSockets
            ? await load.sample(server, { path, visitors, total, connections: 8, follow })
            : await server.ask('inject', { path, visitors, count: total, follow })
          if (follow) visitorsOf.set(key, seen.visitors)
          return seen
        }
      const measured = []
      for (const [index, cell] of cells.entries()) {
        const present = servers.filter((server) => cell.bytes <= server.traits.most)
        const sample = sampleOf(cell, countOf(cell.bytes, overSockets, scale))
        // The machine code is made before anything counts.
        for (const server of present)
          for (let time = 0; time < (index === 0 ? scale.warmups : 1); time += 1)
            await sample(server)
        const what = `fleet ${fleet + 1}, ${overSockets ? 'sockets' : 'inject'}, ${cell.kind}, ${cell.bytes} bytes`
        measured.push({
          ...cell,
          samples: byName(await interleave(present, scale.rounds, sample, progressOf(what)))
        })
      }
      const ours = servers.find(({ name }) => name === 'holdfast')
      for (const bytes of [small, ...sizes]) {
        const sample = async (server) => ({
          cpu: await server.ask('json', { bytes, count: Math.ceil(scale.requests / 2) })
        })
        measured.push({
          kind: 'json',
          bytes,
          samples: byName(await interleave([ours], scale.rounds, sample))
        })
      }
      return measured
    })
  } finally {
    await load.end()
  }
}

async function requests(overSockets, scale) {
  const all = await pooled(scale.fleets, (fleet) => measure({ overSockets, scale, fleet }))
  return {
    measured: all.filter(({ kind }) => kind !== 'json'),
    json: all.filter(({ kind }) => kind === 'json')
  }
}

/** An object with other values under the same names. */
export function mapped(object, change) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]))
}

const cpu = (samples) => samples.map((sample) => sample.cpu)

export async function overSockets(scale) {
  const { measured } = await requests(true, scale)
  const ofKind = (kind, bytes = small) =>
    measured.find((cell) => cell.kind === kind && cell.bytes === bytes).samples
  const toFloor = (kind, name = 'holdfast') =>
    ratio(cpu(ofKind(kind)[name]), cpu(ofKind(kind).floor))
  const note = (kind) =>
    `the least session there can be: ${digits(toFloor(kind, 'the least').median)}`
  return {
    title: 'A request, over sockets',
    about: [
      "Server and client are processes of their own, with 8 kept connections; the memory store; µs of CPU that the server's process spent per request, its garbage collector included. " +
        "The client never sleeps: what it costs to wake one is for the machine's load to say.",
      '',
      ...kinds.map(({ kind, about }) => `- **${kind}**: ${about}`)
    ],
    tables: [
      cpuTable(
        'Microseconds of CPU per request, 0.1 KB of data',
        measured.filter(({ bytes }) => bytes === small)
      ),
      ...sizes.map((bytes) =>
        cpuTable(
          `The same with ${bytes / 1000} KB`,
          measured.filter((cell) => cell.bytes === bytes)
        )
      ),
      seenTable('Requests per second, with 0.1 KB', measured, ({ perSecond }) => perSecond),
      seenTable('Latency in ms, median (8 at once, 0.1 KB)', measured, ({ p50 }) => p50),
      seenTable('Latency in ms, 99th percentile (8 at once, 0.1 KB)', measured, ({ p99 }) => p99)
    ],
    figures: [
      {
        what: "server CPU, not looked at, over the floor's",
        value: toFloor('not looked at'),
        unit: '×',
        atMost: 1.05,
        note: note('not looked at')
      },
      {
        what: "server CPU, read, over the floor's",
        value: toFloor('read'),
        unit: '×',
        atMost: 1.1,
        note: note('read')
      },
      {
        what: "server CPU, write, over the floor's",
        value: toFloor('write'),
        unit: '×',
        atMost: 1.2,
        note: note('write')
      }
    ],
    quoted: ['not looked at', 'read', 'write'].map((kind) => ({
      what: `µs of CPU, memory, ${kind}`,
      cells: mapped(ofKind(kind), (samples) => digits(summary(cpu(samples)).median))
    })),
    chart: {
      title: 'Server CPU per request, µs (sockets, memory store, 0.1 KB)',
      groups: ['not looked at', 'read', 'write'].map((kind) => ({
        name: kind,
        bars: Object.entries(ofKind(kind)).map(([name, samples]) => ({
          name,
          ...summary(cpu(samples))
        }))
      }))
    }
  }
}

export async function overInject(scale) {
  const { measured, json } = await requests(false, scale)
  const ofKind = (kind, bytes = small) =>
    measured.find((cell) => cell.kind === kind && cell.bytes === bytes).samples
  const overFloor = (name, kind, bytes) =>
    difference(cpu(ofKind(kind, bytes)[name]), cpu(ofKind(kind, bytes).floor))
  const note = (kind) =>
    `the least session there can be: ${digits(overFloor('the least', kind).median)} µs`
  const share = (kind) => {
    const { holdfast, floor, '@fastify/session': peer } = ofKind(kind)
    return summary(
      holdfast.map(
        (sample, round) => (sample.cpu - floor[round].cpu) / (peer[round].cpu - floor[round].cpu)
      )
    )
  }
  const inJson = (kind, bytes) => {
    const { holdfast, floor } = ofKind(kind, bytes)
    const { samples } = json.find((cell) => cell.bytes === bytes)
    return summary(
      holdfast.map((sample, round) => (sample.cpu - floor[round].cpu) / samples.holdfast[round].cpu)
    )
  }
  return {
    title: 'A request, over inject',
    about: [
      'The same without sockets: `app.inject`, one after the other, in a process of its own each; µs of CPU, those of `inject` included.'
    ],
    tables: [
      cpuTable(
        'Microseconds of CPU per request, 0.1 KB of data',
        measured.filter(({ bytes }) => bytes === small)
      ),
      ...sizes.map((bytes) =>
        cpuTable(
          `The same with ${bytes / 1000} KB`,
          measured.filter((cell) => cell.bytes === bytes)
        )
      ),
      {
        caption: 'Microseconds of CPU for one JSON.parse and one JSON.stringify of the data',
        head: json.map(({ bytes }) => `${bytes / 1000} KB`),
        rows: [json.map(({ samples }) => shown(summary(cpu(samples.holdfast))))]
      }
    ],
    figures: [
      {
        what: 'inject, not looked at, over the floor',
        value: overFloor('holdfast', 'not looked at'),
        unit: 'µs',
        atMost: 2,
        note: note('not looked at')
      },
      {
        what: 'inject, read, over the floor',
        value: overFloor('holdfast', 'read'),
        unit: 'µs',
        atMost: 3,
        note: note('read')
      },
      {
        what: 'inject, write, over the floor',
        value: overFloor('holdfast', 'write'),
        unit: 'µs',
        atMost: 5,
        note: note('write')
      },
      ...['not looked at', 'read', 'write'].map((kind) => ({
        what: `inject, ${kind}, share of @fastify/session's overhead`,
        value: share(kind),
        unit: '×',
        atMost: 0.2
      })),
      {
        what: 'inject, 11 KB not looked at, over the floor',
        value: overFloor('holdfast', 'not looked at', 11_000),
        unit: 'µs',
        atMost: 5
      },
      {
        what: 'inject, 11 KB read without a change, over the floor, by one JSON.parse and one JSON.stringify of it',
        value: inJson('read', 11_000),
        unit: '×',
        atMost: 1.2
      }
    ]
  }
}

function cpuTable(caption, measured) {
  return seenTable(
    caption,
    measured,
    (sample) => sample.cpu,
    measured.some(({ bytes }) => bytes !== small)
  )
}

function seenTable(caption, measured, pick, anySize = false) {
  const columns = measured.filter(({ bytes }) => anySize || bytes === small)
  const names = Object.keys(contenders).filter((name) =>
    columns.some(({ samples }) => samples[name] !== undefined)
  )
  return {
    caption,
    head: ['', ...columns.map(({ kind }) => kind)],
    rows: names.map((name) => [
      name,
      ...columns.map(({ samples }) =>
        samples[name] === undefined ? '–' : shown(summary(samples[name].map(pick)))
      )
    ])
  }
}

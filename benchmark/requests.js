// A request: which there are, how they are sampled, and the tables of what that showed.
import { contenders } from './contenders.js'
import { Load, withContenders } from './fleet.js'
import { byName, interleave, pooled, progressOf, shown, summary } from './measure.js'

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
export const small = 100
export const sizes = [1000, 11_000, 60_000]

/** Every kind of request with small data. */
export const smallCells = kinds.map((kind) => ({ ...kind, bytes: small }))

/** Those, and the three that come back with more. */
export const allCells = [
  ...smallCells,
  ...sizes.flatMap((bytes) => kinds.slice(1, 4).map((kind) => ({ ...kind, bytes })))
]

/** Requests in a sample: fewer where each takes longer. */
function countOf({ kind, bytes }, { requests }) {
  let share = 1
  if (bytes > 5000) share = 2
  // Where nobody looks at the data, most do not parse it.
  if (bytes > 20_000 && kind !== 'not looked at') share = 8
  return Math.ceil(requests / share)
}

/**
 * Samples each contender in each cell: microseconds of CPU per request, and what the client saw.
 * Last come those of the data's JSON. `node`: the executable that the contenders run on.
 *
 * @returns the measured cells, and those of JSON, each with samples by name
 */
export async function requests({ names, cells, scale, node }) {
  const way = { names, cells, scale, node }
  const all = await pooled(scale.fleets, (fleet) => measure(way, fleet))
  return {
    measured: all.filter(({ kind }) => kind !== 'json'),
    json: all.filter(({ kind }) => kind === 'json')
  }
}

/** Does so with one fleet. */
async function measure({ names, cells, scale, node }, fleet) {
  const load = new Load()
  await load.ready
  try {
    return await withContenders(names, { node }, async (servers) => {
      const visitorsOf = await allVisitors(servers, cells, scale)
      const sampleOf =
        ({ path, bytes, fresh, follow }, total) =>
        async (server) => {
          const key = `${server.name} ${bytes}`
          const visitors = fresh ? [server.newcomer] : visitorsOf.get(key)
          const seen = await load.sample(server, { path, visitors, total, connections: 8, follow })
          if (follow) visitorsOf.set(key, seen.visitors)
          return seen
        }
      const measured = []
      for (const cell of cells) {
        const present = servers.filter((server) => cell.bytes <= server.traits.most)
        const count = countOf(cell, scale)
        // Of who takes many times as long, a sample needs no more time than of the others.
        const sample = (server) =>
          sampleOf(cell, Math.ceil(count / (server.traits.slow ?? 1)))(server)
        // The machine code is made before anything counts. It is the same for more data.
        const warmups = cell.bytes === small ? scale.warmups : Math.min(scale.warmups, 2)
        for (const server of present)
          for (let time = 0; time < warmups; time += 1) await sample(server)
        const what = `fleet ${fleet + 1}, ${cell.kind}, ${cell.bytes} bytes`
        measured.push({
          ...cell,
          samples: byName(await interleave(present, scale.rounds, sample, progressOf(what)))
        })
      }
      return [...measured, ...(await jsonOf(servers, cells, scale))]
    })
  } finally {
    await load.end()
  }
}

/** Visitors of each contender, with data of each size. */
async function allVisitors(servers, cells, scale) {
  const visitorsOf = new Map()
  const seed = async (server) => {
    for (const bytes of bytesOf(cells))
      if (bytes <= server.traits.most)
        visitorsOf.set(`${server.name} ${bytes}`, await server.visitors(scale.visitors, bytes))
  }
  await Promise.all(servers.map(seed))
  return visitorsOf
}

const bytesOf = (cells) => [...new Set(cells.map(({ bytes }) => bytes))]

/** What the data's JSON takes, in the process of holdfast. */
async function jsonOf(servers, cells, { rounds, requests }) {
  const ours = servers.find(({ name }) => name === 'holdfast')
  const measured = []
  for (const bytes of bytesOf(cells)) {
    const sample = async (server) => ({
      cpu: await server.ask('json', { bytes, count: Math.ceil(requests / 2) })
    })
    measured.push({
      kind: 'json',
      bytes,
      samples: byName(await interleave([ours], rounds, sample))
    })
  }
  return measured
}

/** Samples by name, of one kind of request with so many bytes. */
export function finderOf(measured) {
  return (kind, bytes = small) =>
    measured.find((cell) => cell.kind === kind && cell.bytes === bytes).samples
}

/** An object with other values under the same names. */
export function mapped(object, change) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]))
}

export const cpu = (samples) => samples.map((sample) => sample.cpu)

/** A table of CPU with small data, and one for each other size that was measured. */
export function cpuTables(measured) {
  const pick = (sample) => sample.cpu
  return [
    seenTable(
      'Microseconds of CPU per request, 0.1 KB of data',
      measured.filter(({ bytes }) => bytes === small),
      pick
    ),
    ...sizes.map((bytes) =>
      seenTable(
        `The same with ${bytes / 1000} KB`,
        measured.filter((cell) => cell.bytes === bytes),
        pick
      )
    )
  ]
}

/** A table of cells: a row for each contender that is in one of them. */
export function seenTable(caption, cells, pick) {
  const names = Object.keys(contenders).filter((name) =>
    cells.some(({ samples }) => samples[name] !== undefined)
  )
  return {
    caption,
    head: ['', ...cells.map(({ kind }) => kind)],
    rows: names.map((name) => [
      name,
      ...cells.map(({ samples }) =>
        samples[name] === undefined ? '–' : shown(summary(samples[name].map(pick)))
      )
    ])
  }
}

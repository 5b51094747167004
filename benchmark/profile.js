// Why it costs what it costs: where the time of a request goes, by the modules of lib, from a CPU
// profile of the server.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Contender, Load } from './fleet.js'
import { digits } from './measure.js'
import { kinds } from './requests.js'

export async function profile({ requests }) {
  const load = new Load()
  await load.ready
  try {
    const columns = []
    for (const kind of kinds)
      columns.push({ ...kind, parts: await partsOf(kind, requests * 50, load) })
    const names = [...new Set(columns.flatMap(({ parts }) => [...parts.keys()]))]
    const most = (name) => Math.max(...columns.map(({ parts }) => parts.get(name) ?? 0))
    const rows = names
      .filter((name) => most(name) >= 0.1)
      .toSorted((one, other) => most(other) - most(one))
    return {
      title: 'Where the time goes',
      about: [
        'holdfast over sockets, on the memory store, with 0.1 KB of data: µs of each request that a sampling profiler (which adds a third or so) found in the modules of `lib`, ' +
          'and in the hash that Node.js makes for them. `session/json` is JSON.stringify and JSON.parse, and what we do before and after. ' +
          'What Fastify and Node.js do because of it, such as to send one more header, is not in here.'
      ],
      tables: [
        {
          caption: 'Microseconds under the profiler, by module',
          head: ['', ...columns.map(({ kind }) => kind)],
          rows: [
            ...rows.map((name) => [
              name,
              ...columns.map(({ parts }) => digits(parts.get(name) ?? 0))
            ]),
            [
              '**all of them**',
              ...columns.map(
                ({ parts }) =>
                  `**${digits([...parts.values()].reduce((sum, each) => sum + each, 0))}**`
              )
            ]
          ]
        }
      ],
      figures: []
    }
  } finally {
    await load.end()
  }
}

/** Microseconds per request, by module. */
async function partsOf({ path, fresh, follow }, total, load) {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-profile-'))
  const server = new Contender('holdfast', {
    nodeOptions: ['--cpu-prof', `--cpu-prof-dir=${folder}`, '--cpu-prof-interval=100']
  })
  try {
    await server.open()
    const visitors = fresh ? [server.newcomer] : await server.visitors(100, 100)
    await load.sample(server, { path, visitors, total, connections: 8, follow })
    await server.close()
    return attributed(JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]), 'utf8')), total)
  } finally {
    await server.end()
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * A sample counts for the function at its top; one in the engine itself, as for a regular
 * expression, for the function that called it.
 */
function attributed({ nodes, samples, timeDeltas }, total) {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parents = new Map(
    nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id]))
  )
  const parts = new Map()
  for (const [index, leaf] of samples.entries()) {
    let id = leaf
    while (byId.get(id).callFrame.url === '' && parents.has(id)) id = parents.get(id)
    const name = moduleOf(byId.get(id).callFrame)
    if (name !== undefined) parts.set(name, (parts.get(name) ?? 0) + timeDeltas[index] / total)
  }
  return parts
}

const lines = new Map()

/** In a bundle a comment says where a module begins. */
function moduleOf({ url, lineNumber }) {
  if (url.startsWith('node:internal/crypto')) return 'node:crypto'
  if (!url.includes('/dist/lib/') || url.includes('node_modules')) return undefined
  if (!lines.has(url)) lines.set(url, readFileSync(new URL(url), 'utf8').split('\n'))
  const begin = lines
    .get(url)
    .slice(0, lineNumber + 1)
    .findLast((line) => /^\/\/ lib\/.*\.ts$/.test(line))
  return begin?.slice('// lib/'.length, -'.ts'.length)
}

// Question: what it takes to install and to start.
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { digits, interleave, progressOf, shown, summary } from './measure.js'

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
const packages = {
  holdfast: { entry: join(root, 'dist/lib/index.js'), folder: root },
  ...Object.fromEntries(
    [
      '@fastify/cookie',
      '@fastify/session',
      '@fastify/secure-session',
      'iron-session',
      'express-session'
    ].map((name) => [name, { entry: name, folder: join(here, 'node_modules', name) }])
  )
}

export async function footprint({ starts }) {
  const names = Object.keys(packages)
  const samples = await interleave(
    names,
    starts,
    (name) => importTime(packages[name].entry),
    progressOf('start-up')
  )
  const sizes = Object.fromEntries(
    names.map((name) => [
      name,
      name === 'holdfast' ? packedSize('') : folderSize(packages[name].folder)
    ])
  )
  const dependencies = Object.fromEntries(
    names.map((name) => [name, dependenciesOf(packages[name].folder)])
  )
  const start = summary(samples.get('holdfast'))
  const parts = partsOfPackage()
  return {
    title: 'To install and to start',
    about: [
      'Milliseconds that `import()` takes once Fastify is loaded, a new process each time; KB of the package itself without source maps; run-time dependencies, direct and with theirs.'
    ],
    tables: [
      {
        caption: 'Start-up and size',
        head: ['', 'import, ms', 'unpacked, KB', 'dependencies', 'with theirs'],
        rows: names.map((name) => [
          name,
          shown(summary(samples.get(name))),
          digits(sizes[name] / 1000),
          String(dependencies[name].direct),
          String(dependencies[name].all)
        ])
      },
      {
        caption: 'What the package is made of',
        head: ['', 'KB', 'what it is for'],
        rows: parts.map(({ name, bytes, use }) => [name, digits(bytes / 1000), use])
      }
    ],
    figures: [
      { what: "import over Fastify's own", value: start, unit: 'ms', atMost: 8 },
      {
        what: 'package, unpacked, without source maps',
        value: exactly(sizes.holdfast / 1000),
        unit: 'KB',
        atMost: 160,
        note: Object.entries({ JavaScript: '.js', declarations: '.d.ts', pages: '.md' })
          .map(([what, end]) => `${what} ${digits(packedSize(end) / 1000)}`)
          .join(', ')
      },
      {
        what: 'run-time dependencies',
        value: exactly(dependencies.holdfast.direct),
        unit: '',
        atMost: 2
      }
    ]
  }
}

async function importTime(entry) {
  const program = `await import('fastify'); const before = performance.now(); await import(${JSON.stringify(entry)}); console.log(performance.now() - before)`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { cwd: here }
  )
  return Number(stdout)
}

/** The parts of the package: where in lib they come from, and what they are for. */
const uses = [
  ['lib/session', 'sessions: merge, moves, sign-in, the sessions of a user, deadlines'],
  ['lib/http', 'cookies, headers, caches, replies that wait, warnings of what is lost'],
  ['lib/signal', 'who waits for the end of a session'],
  ['lib/stores: MemoryStore', 'bounds, eviction, the sessions of users in memory'],
  ['lib/stores: RedisStore', '`fastify-holdfast/redis`'],
  ['lib/stores: PostgresStore', '`fastify-holdfast/postgres`'],
  ['lib/migrate', '`fastify-holdfast/migrate`: sessions of other plugins are taken over'],
  ['lib/testing', '`fastify-holdfast/testing`: a browser, a clock, the tests of a store'],
  ['lib', 'the plugin, its options, and messages that name the cure']
]

function partsOfPackage() {
  const sizes = new Map()
  const add = (name, bytes) => sizes.set(name, (sizes.get(name) ?? 0) + bytes)
  const modules = readdirSync(join(root, 'dist'), { recursive: true })
    .filter((file) => file.endsWith('.js'))
    .flatMap((file) => readFileSync(join(root, 'dist', file), 'utf8').split(/^(?=\/\/ lib\/)/m))
  for (const text of modules) {
    const path = /^\/\/ (lib\/\S+)/.exec(text)?.[1] ?? 'lib/'
    add(partOf(path), Buffer.byteLength(text))
  }
  return [
    ...uses.map(([name, use]) => ({ name, bytes: sizes.get(name) ?? 0, use })),
    { name: 'declarations', bytes: packedSize('.d.ts'), use: 'types, with what each does' },
    { name: 'pages', bytes: packedSize('.md'), use: 'README, changelog, security' }
  ]
}

function partOf(path) {
  const [, folder] = /^(lib\/\w+)\//.exec(path) ?? ['', 'lib']
  if (folder !== 'lib/stores') return folder
  if (path.includes('/redis')) return `${folder}: RedisStore`
  return `${folder}: ${path.includes('/postgres') ? 'PostgresStore' : 'MemoryStore'}`
}

/** Of what `npm pack` would pack, the files that end so. */
function packedSize(end) {
  const [{ files }] = Object.values(
    JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'ignore']
      })
    )
  )
  return files
    .filter(({ path }) => path.endsWith(end) && !path.endsWith('.map'))
    .reduce((sum, { size }) => sum + size, 0)
}

function folderSize(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(
      (entry) =>
        entry.isFile() &&
        !entry.name.endsWith('.map') &&
        !entry.parentPath.includes(join(folder, 'node_modules'))
    )
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0)
}

function dependenciesOf(folder) {
  const seen = new Set()
  const collect = (from) => {
    const { dependencies = {} } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'))
    for (const name of Object.keys(dependencies)) {
      if (seen.has(name)) continue
      seen.add(name)
      collect(folderOf(name, from))
    }
    return Object.keys(dependencies).length
  }
  return { direct: collect(folder), all: seen.size }
}

function folderOf(name, from) {
  const folder = createRequire(join(from, 'package.json'))
    .resolve.paths(name)
    .map((path) => join(path, name))
    .find((path) => statSync(path, { throwIfNoEntry: false }) !== undefined)
  if (folder === undefined) throw new Error(`${name} is not installed`)
  return folder
}

function exactly(value) {
  return { median: value, low: value, high: value }
}

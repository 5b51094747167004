import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import t, { type Test } from 'tap'

import { chromiumPath, skipChromium } from './helpers/chromium.ts'
import {
  isTest,
  readPage,
  readPages,
  resolveLink,
  rowsWithTests,
  type Page
} from './helpers/pages.ts'
import { freePort } from './helpers/ports.ts'
import { postgresUrl, skipPostgres } from './helpers/postgres.ts'
import { runProgram } from './helpers/program.ts'
import { redisUrl, skipRedis } from './helpers/redis.ts'
import { testNames } from './helpers/test-names.ts'

const pages = readPages()

/** What a page's programs may find in their environment, and why it can't be had. */
const servers: Record<
  string,
  { readonly url: () => Promise<string>; readonly skip: string | false }
> = {
  REDIS_URL: { url: redisUrl, skip: skipRedis },
  DATABASE_URL: { url: postgresUrl, skip: skipPostgres },
  CHROMIUM_PATH: { url: async () => chromiumPath as string, skip: skipChromium }
}

/** The servers that a page's programs ask for. */
function askedFor({ text }: Page): string[] {
  return Object.keys(servers).filter((name) => text.includes(`process.env.${name}`))
}

async function environment(page: Page): Promise<NodeJS.ProcessEnv> {
  const env = { ...process.env }
  for (const name of askedFor(page)) env[name] = await servers[name].url()
  return env
}

/** What a command prints, and its exit code. */
async function run(
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv
): Promise<{ output: string; code: unknown }> {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  const [code] = (await once(child, 'close')) as unknown[]
  return { output, code }
}

/**
 * The free port that stands for each that a page speaks of: 3000, and 3001 for a second process of
 * the same program.
 */
type Ports = ReadonlyMap<string, number>

async function portsFor(text: string): Promise<Ports> {
  const ports = new Map<string, number>()
  for (const [, port] of text.matchAll(/localhost:(30\d\d)/g)) {
    if (port !== undefined && !ports.has(port)) ports.set(port, await freePort())
  }
  return ports
}

function translate(text: string, ports: Ports): string {
  return text.replaceAll(
    /localhost:(30\d\d)/g,
    (_, port: string) => `localhost:${ports.get(port) ?? port}`
  )
}

/**
 * A folder of its own for one run of a page's programs. They listen where PORT says, and ask there.
 */
function stage(t: Test, folder: string, ports: Ports): string {
  const staged = existsSync(folder)
    ? mkdtempSync(join(folder, 'run-'))
    : mkdtempSync(join(tmpdir(), 'holdfast-'))
  const programs = existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
        (file) => file.endsWith('.js') && !file.startsWith('run-')
      )
    : []
  for (const file of programs) {
    const code = readFileSync(join(folder, file), 'utf8').replaceAll(
      'port: 3000',
      'port: Number(process.env.PORT)'
    )
    mkdirSync(dirname(join(staged, file)), { recursive: true })
    writeFileSync(join(staged, file), translate(code, ports))
  }
  t.teardown(() => {
    rmSync(staged, { recursive: true })
  })
  return staged
}

/**
 * Types the commands of a transcript into one shell, and gives back the transcript that results.
 */
async function replay(transcript: string, cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
  const commands = transcript
    .split('\n')
    .filter((line) => line.startsWith('$ '))
    .map((line) => line.slice(2))
  const script = commands.map((command) => {
    // An assignment must take place in this shell; what a command prints may lack its last line
    // end.
    const isAssignment = /^[A-Z_]+=/.test(command)
    const typed = command
      .replace(/^node (\S+)\.ts\b/, 'node $1.js')
      .replace(/^node (examples\/\S+)/, (_, path: string) => `node ${resolve(path)}`)
    return `printf '$ %s\\n' ${quote(command)}\n${isAssignment ? typed : `${typed} | sed '$a\\'`}`
  })
  return (await run('bash', ['-c', script.join('\n')], cwd, env)).output
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/**
 * Ids and public ids differ from run to run; within a run, the same must stand where the page has
 * the same.
 */
function withNumberedIds(text: string): string {
  const ids: string[] = []
  return text.replaceAll(
    /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![\w-])(?:[\w-]{43}|[\w-]{16}\.[\w-]{8})(?![\w-])/g,
    (id) => {
      if (!ids.includes(id)) ids.push(id)
      return `<id ${ids.indexOf(id) + 1}>`
    }
  )
}

const served = /\.listen\((?!0\))/

/**
 * What serves the transcript at a place of a page: the last program above it that listens, or the
 * app of `npm start`.
 */
function serverAbove(page: Page, index: number): string | undefined {
  const server = page.blocks
    .slice(0, index)
    .findLast(
      ({ language, text }) =>
        (language === 'ts' && served.test(text)) ||
        (language === 'sh' && text.includes('npm start'))
    )
  return server?.language === 'ts'
    ? server.file.replace(/\.ts$/, '.js')
    : server && resolve('examples/app.js')
}

for (const page of pages) {
  const { path, blocks, folder } = page
  const options = {
    skip:
      askedFor(page)
        .map((name) => servers[name].skip)
        .find((reason) => reason !== false) ?? false
  }
  const transcripts = blocks.filter(({ language }) => language === 'console')
  for (const [index, { language, text, file, line }] of blocks.entries()) {
    if (language === 'console') {
      t.test(
        `${path}, line ${line}: typed in, the commands give what the page shows`,
        options,
        async (t) => {
          const env = await environment(page)
          const ports = await portsFor(page.text)
          const staged = stage(t, folder, ports)
          const server = serverAbove(page, index)
          if (server !== undefined)
            await Promise.all(
              [...ports.values()].map((port) => runProgram(t, resolve(staged, server), env, port))
            )
          const actual = await replay(translate(text, ports), staged, env)
          const shown = [...ports].reduce(
            (output, [port, free]) => output.replaceAll(`localhost:${free}`, `localhost:${port}`),
            actual
          )
          t.equal(withNumberedIds(shown), withNumberedIds(text))
        }
      )
    } else if (language === 'ts' && isTest(file)) {
      t.test(`${path}, ${file}: the tests pass`, options, async (t) => {
        const { output, code } = await run(
          process.execPath,
          ['--test', '--test-reporter=tap', file.replace(/\.ts$/, '.js')],
          stage(t, folder, new Map()),
          await environment(page)
        )
        t.match(output, /^# pass [1-9]/m)
        t.equal(code, 0, output)
      })
    } else if (language === 'ts' && served.test(text)) {
      t.test(`${path}, ${file}: a transcript below shows the program at work`, async (t) => {
        t.ok(
          transcripts.some(
            (transcript) =>
              serverAbove(page, blocks.indexOf(transcript)) === file.replace(/\.ts$/, '.js')
          )
        )
      })
    } else if (
      language === 'ts' &&
      !file.endsWith('.d.ts') &&
      !transcripts.some(({ text }) => text.includes(`node ${file}`)) &&
      !blocks.some(({ text }) => text.includes(` from './${file}'`)) // the other program runs it
    ) {
      t.test(`${path}, ${file}: runs to its end`, options, async (t) => {
        t.equal(
          (
            await run(
              process.execPath,
              [file.replace(/\.ts$/, '.js')],
              stage(t, folder, new Map()),
              await environment(page)
            )
          ).code,
          0
        )
      })
    }
  }
}

t.test('npm start serves the app that the pages show under it', async (t) => {
  t.match(JSON.parse(readFileSync('package.json', 'utf8')), {
    scripts: { start: 'node examples/app.js' }
  })
})

t.test('no page has a block of code that nobody runs', async (t) => {
  for (const { path, blocks } of pages) {
    for (const { language, text, line } of blocks) {
      t.ok(
        ['ts', 'console'].includes(language) ||
          (language === 'sh' && text.split('\n').every((line) => /^(npm .*)?$/.test(line))),
        `${path}, line ${line}`
      )
    }
  }
})

t.test('every link of a page to a file or to a heading leads somewhere', async (t) => {
  for (const page of pages) {
    for (const target of page.links) {
      if (target.startsWith('https:')) continue
      const { path, anchor } = resolveLink(page, target)
      t.ok(existsSync(path), `${page.path}: ${target}`)
      if (anchor !== undefined)
        t.ok(path.endsWith('.md') && readPage(path).anchors.has(anchor), `${page.path}: ${target}`)
    }
  }
})

t.test('every reference of a page is defined, and no definition is idle', async (t) => {
  for (const { path, references, definitions } of pages) t.same(references, definitions, path)
})

t.test('every page is reached from the README', async (t) => {
  const reached = new Set(['README.md'])
  for (const path of reached) {
    if (!path.endsWith('.md')) continue
    const page = readPage(path)
    for (const target of page.links) {
      if (!target.startsWith('https:')) reached.add(resolveLink(page, target).path)
    }
  }
  for (const { path } of pages) {
    if (path.startsWith('docs/')) t.ok(reached.has(path), path)
  }
})

/** The names in the first column of a table. */
function rows(heading: string, path = 'docs/reference.md'): string[] {
  const { text } = readPage(path)
  const table = text.slice(text.indexOf(heading)).split('\n\n')[0] ?? ''
  return table
    .split('\n')
    .slice(2)
    .flatMap((row) =>
      [...(row.split('|')[1] ?? '').matchAll(/`(\w+)/g)].map(([, name = '']) => name)
    )
}

/** The names of the properties of an interface. */
function names(source: string, from: string): string[] {
  const text = readFileSync(source, 'utf8')
  const body = text.slice(text.indexOf(from)).split('\n}')[0] ?? ''
  return [
    ...new Set(
      [...body.matchAll(/^ {2}(?:readonly |get |set )?(\w+)[?:(<]/gm)].map(([, name = '']) => name)
    )
  ]
}

/** The values that a module exports from others. */
function exported(source: string): string[] {
  const lists = [...readFileSync(source, 'utf8').matchAll(/^export \{ (.*) \} from/gm)].map(
    ([, list = '']) => list.split(', ')
  )
  return lists.flat().filter((name) => !name.startsWith('type '))
}

t.test(
  'the tables of options, members, codes and helpers have every one, and no other',
  async (t) => {
    t.same(rows('| option | default'), names('types/options.ts', 'export interface SessionOptions'))
    t.same(
      rows('| member of `request.session`'),
      names('types/session.ts', 'export interface SessionMembers')
    )
    t.same(
      rows('| member of `fastify.sessions`'),
      names('types/sessions.ts', 'export interface Sessions')
    )
    t.same(
      rows('| option of `MemoryStore`'),
      names('lib/stores/memory.ts', 'export interface MemoryStoreOptions')
    )
    t.same(
      rows('| option of `RedisStore`', 'docs/several-machines.md'),
      names('lib/stores/redis.ts', 'export interface RedisStoreOptions')
    )
    t.same(rows('| option of `PostgresStore`', 'docs/several-machines.md'), [
      ...names('lib/stores/postgres.ts', 'export interface PostgresStoreOptions'),
      ...names('lib/stores/postgres.ts', 'export interface PostgresTableOptions')
    ])
    t.same(
      rows('| option of `storeConformance`', 'docs/write-a-store.md'),
      names('lib/testing/conformance.ts', 'export interface ConformanceOptions')
    )
    t.same(rows('| export of `fastify-holdfast/testing`'), exported('lib/testing/index.ts'))
    const codes = [
      ...readFileSync('lib/errors.ts', 'utf8').matchAll(/^ {2}(HOLDFAST_\w+): \[/gm)
    ].map(([, code]) => code)
    t.same(rows('| code | status').toSorted(), codes.toSorted())
  }
)

t.test('each promise is in the name of a test in each file that the page points to', async (t) => {
  const promises = rowsWithTests(readPage('docs/promises.md'), 'P')
  t.same(
    promises.map(({ name }) => name),
    Array.from({ length: 13 }, (_, index) => `P${index + 1}`)
  )
  for (const { name, files } of promises) {
    t.not(files.length, 0, `${name} has a test`)
    for (const file of files)
      t.match(testNames(file), new RegExp(`\\b${name}\\b`), `${name} in ${file}`)
  }
})

t.test('what the README says of cost stands in the report', async (t) => {
  const [, quoted] = /<!-- npm run bench -->\n([^]*)<!-- end -->/.exec(
    readFileSync('README.md', 'utf8')
  ) as unknown as [string, string]
  const report = readFileSync('docs/benchmark.md', 'utf8')
  t.ok(report.includes(/Measured on [\d-]+/.exec(quoted)?.[0] as string))
  const figures = [...quoted.matchAll(/(?<=\| )[\d.,]+(?= \|)/g)].map(([figure]) => figure)
  t.ok(figures.length > 20)
  for (const figure of figures)
    t.ok(report.includes(`| ${figure} <sub>`) || report.includes(`| ${figure} B `), figure)
})

t.test('CONTRIBUTING names every file of the rooms of lib, and no other', async (t) => {
  const { text } = readPage('CONTRIBUTING.md')
  const section = text.slice(text.indexOf('## Where things are'), text.indexOf('## Words'))
  const named = [...section.matchAll(/`((?:http|session|signal)\/[\w-]+)`/g)].map(
    ([, name]) => name
  )
  const files = ['http', 'session', 'signal'].flatMap((room) =>
    readdirSync(`lib/${room}`).map((file) => `${room}/${file.replace('.ts', '')}`)
  )
  t.same([...new Set(named)].toSorted(), files.toSorted())
})

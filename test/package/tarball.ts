// What users install, in projects of every kind. Needs the registry. On Node's own test runner: tap
// would put itself before every program that is started here.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'

import { majors, nodeOf } from '../helpers/nodes.ts'
import { exported, folder, run } from './installed.ts'
import { packed, tarball } from './packed.ts'

const execute = promisify(execFile)

interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, unknown>>
}

const together = { concurrency: availableParallelism() }

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}

const { exports, name } = readJson('package.json') as Manifest
/** What users import: `fastify-holdfast`, `fastify-holdfast/testing` … */
const entries = Object.keys(exports)
  .filter((subpath) => !subpath.endsWith('.json'))
  .map((subpath) => `${name}${subpath.slice(1)}`)

/** A program that one of the installed packages brings. */
function bin(path: string): string {
  return join(folder, 'node_modules', path)
}

/**
 * Compiles a project. Answers the file and the code of each error, files by the package that they
 * belong to.
 */
async function compile(project: string, compiler: string, ...args: string[]): Promise<string[]> {
  const output = await run(
    project,
    process.execPath,
    bin(`typescript-${compiler}/bin/tsc`),
    ...args
  ).catch((error: unknown) => String(error))
  const errors = output.split('\n').filter((line) => /error TS\d+/.test(line))
  if (errors.length === 0 && output.trim() !== '') throw new Error(output)
  return errors
    .map((line) =>
      line.replace(/^.*?node_modules\//, '').replace(/\(\d+,\d+\): error (TS\d+): .*/, ' $1')
    )
    .toSorted()
}

/**
 * A program that names everything that the entries export, nothing less and nothing more, for the
 * compilers to agree or not.
 */
function naming(exported: Readonly<Record<string, readonly string[]>>): string {
  return Object.entries(exported)
    .map(([entry, names], index) =>
      [
        `import * as entry${index} from '${entry}'`,
        `import { ${names.join(', ')} } from '${entry}'`,
        `export const all${index}: Record<Exclude<keyof typeof entry${index}, 'default' | 'module.exports'>, unknown> = { ${names.join(', ')} }`
      ].join('\n')
    )
    .join('\n')
}

const { files, unpackedSize } = packed

for (const project of ['esm-ts', 'cjs-ts', 'bundler'])
  cpSync(join(folder, 'app.ts'), join(folder, project, 'app.ts'))

for (const project of ['esm-ts', 'cjs-ts', 'bundler'])
  writeFileSync(join(folder, project, 'names.ts'), naming(exported))

test('the tarball holds what users need, and no more', (t) => {
  const others = files
    .map(({ path }) => path)
    .filter((path) => !/^dist\/(?:lib|types)\/.*\.(?:js|d\.ts)$/.test(path))
  assert.deepEqual(others.filter((path) => path !== 'SECURITY.md').toSorted(), [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'package.json'
  ])
  t.diagnostic(
    `${files.length} files, ${unpackedSize} bytes: JavaScript ${sizeOf('.js')}, declarations ${sizeOf('.d.ts')}, documents ${sizeOf('.md')}`
  )
})

function sizeOf(end: string): number {
  return files.filter(({ path }) => path.endsWith(end)).reduce((sum, { size }) => sum + size, 0)
}

test('import and require() of every entry give the same, one copy of each', () => {
  assert.deepEqual(Object.keys(exported), entries)
  for (const [entry, names] of Object.entries(exported)) assert.ok(names.length > 0, entry)
})

describe('linters of packages', together, () => {
  for (const linter of ['lint:package', 'lint:types']) {
    test(`npm run ${linter}`, async () => {
      await execute('npm', ['run', linter, '--', tarball])
    })
  }
})

describe('JavaScript', together, () => {
  for (const major of majors) {
    for (const project of ['esm-js', 'cjs-js', 'checked-js']) {
      test(`${project}, on Node.js ${major}`, async () => {
        assert.equal(await run(project, nodeOf(major), 'main.js'), 'works\n')
      })
    }
  }

  for (const file of ['cjs-js/main.js', 'bundler/app.ts']) {
    test(`${file}, bundled into one file`, async () => {
      const output = `bundled/${file}.cjs`
      await run(
        '.',
        bin('.bin/esbuild'),
        file,
        '--bundle',
        '--platform=node',
        '--external:fastify',
        `--outfile=${output}`,
        '--log-level=warning'
      )
      assert.equal(await run('.', process.execPath, output), 'works\n')
    })
  }
})

const flash = '@fastify/flash/lib/flash.d.ts TS2307'
const passport = '@fastify/passport/dist/strategies/index.d.ts TS2307'
const peer = '@fastify/session/types/index.d.ts'
const ours = `${name}/dist/types/fastify.d.ts`

type Check = [project: string, checks: 'its own files' | 'all', finds: readonly string[]]

const alone: readonly Check[] = [
  ['esm-ts', 'all', []],
  ['cjs-ts', 'all', []],
  ['bundler', 'all', []],
  ['checked-js', 'all', []]
]

/**
 * Beside the declarations of others: a project, whether it checks those of its packages too, and
 * what it then finds.
 */
const inCompany: readonly Check[] = [
  ['company', 'its own files', []],
  // Types that flash and passport name, and do not bring.
  ['company', 'all', [flash, passport]],
  ['holdfast-first', 'its own files', []],
  ['holdfast-first', 'all', [`${peer} TS2687`, `${peer} TS2717`, `${ours} TS2687`]],
  ['peer-first', 'its own files', []],
  ['peer-first', 'all', [`${peer} TS2687`, `${ours} TS2687`, `${ours} TS2717`]],
  // As docs/recipes/packages.md says.
  ['augment-only', 'all', ['main.ts TS2664']]
]

/**
 * The oldest and the newest compiler show what others' declarations come to. The newest takes a
 * fifth of the time: what a check of everything implies is checked by itself there alone.
 */
const checks: Readonly<Record<string, readonly Check[]>> = {
  '5.9': [...alone, ...inCompany.filter(([, what]) => what === 'all')],
  '6': alone.filter(([project]) => project.endsWith('-ts')),
  '7': [...alone, ...inCompany]
}

for (const [compiler, all] of Object.entries(checks)) {
  describe(`TypeScript ${compiler}`, together, () => {
    for (const [project, what, finds] of all) {
      test(`${project}, checking ${what}: ${finds.length === 0 ? 'compiles' : 'finds what is known, and no more'}`, async () => {
        const emits = project.endsWith('-ts')
        const args = [
          '--skipLibCheck',
          String(what !== 'all'),
          ...(emits ? ['--outDir', `out/${compiler}`] : [])
        ]
        assert.deepEqual(await compile(project, compiler, ...args), finds)
        if (emits)
          assert.equal(await run(project, process.execPath, `out/${compiler}/app.js`), 'works\n')
      })
    }
  })
}

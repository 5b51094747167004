// An app of Nest that is installed together with the package: the recipe's program, as Nest's own
// command sets a project up, with its Jest. Needs the registry.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'

import { nodeOf } from '../helpers/nodes.ts'
import { readPage } from '../helpers/pages.ts'

const execute = promisify(execFile)

/** The first version of Node.js on which Jest takes an ES module by `require()`. */
const major = 24

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>
}

interface Listed {
  readonly version: string
  readonly dependencies?: Readonly<Record<string, Listed>>
}

const folder = mkdtempSync(join(tmpdir(), 'holdfast-nest-'))
after(() => {
  rmSync(folder, { recursive: true, force: true })
})

cpSync('test/package/consumers/nest', folder, { recursive: true })
const program = readPage('docs/recipes/nest.md').blocks.find(({ file }) => file === 'app.ts')
writeFileSync(join(folder, 'src/app.ts'), program?.text ?? '')

const [{ filename }] = JSON.parse(
  (await execute('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]))
    .stdout
) as [{ filename: string }]
const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
writeFileSync(
  join(folder, 'package.json'),
  JSON.stringify({
    ...manifest,
    dependencies: { ...manifest.dependencies, 'fastify-holdfast': `file:${basename(filename)}` }
  })
)
const quietly = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock']
await execute('npm', ['install', ...quietly], { cwd: folder })

/** The versions of a package, wherever in the tree it is. */
function versionsOf(name: string, { dependencies = {} }: Partial<Listed>): string[] {
  return Object.entries(dependencies).flatMap(([key, listed]) => [
    ...(key === name ? [listed.version] : []),
    ...versionsOf(name, listed)
  ])
}

test("beside Nest there is one Fastify, which is Nest's", async () => {
  const { stdout } = await execute('npm', ['ls', 'fastify', '--json'], { cwd: folder })
  const tree = JSON.parse(stdout) as Listed
  const nest = JSON.parse(
    readFileSync(join(folder, 'node_modules/@nestjs/platform-fastify/package.json'), 'utf8')
  ) as Manifest
  assert.deepEqual([...new Set(versionsOf('fastify', tree))], [nest.dependencies['fastify']])
})

test('the recipe compiles as Nest compiles', async () => {
  await execute(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit'], { cwd: folder })
})

test(`the Jest of Nest runs its test, on Node.js ${major}`, async () => {
  const args = ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js', '--ci']
  const { stderr } = await execute(nodeOf(major), args, { cwd: folder })
  assert.match(stderr, /^Tests: +1 passed, 1 total$/m)
})

// What a release publishes: who finds it on npm finds the rest from there.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { readPage } from '../helpers/pages.ts'
import { folder, packed, repository, staged, tarball } from './packed.ts'

const home = `https://github.com/${repository}`
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }

const unpacked = join(folder, 'unpacked')
mkdirSync(unpacked)
execFileSync('tar', ['-xzf', tarball, '-C', unpacked, '--strip-components=1'])

/** Where links of the package lead: to pages, folders and images of the repository at its tag. */
const atTag = new RegExp(`^${home}/(blob|tree|raw)/v${version}/([^#]+)(?:#(.+))?$`)

test('every link of every page in the tarball leads somewhere, from wherever it is read', () => {
  const pages = packed.files.map(({ path }) => path).filter((path) => path.endsWith('.md'))
  assert.ok(pages.includes('README.md') && pages.includes('SECURITY.md'))
  const wrong: string[] = []
  let count = 0
  for (const name of pages) {
    const page = readPage(join(unpacked, name))
    for (const target of page.links) {
      const [, kind, path, anchor] = atTag.exec(target) ?? []
      if (path !== undefined) count += 1
      if (!leads(page.anchors, target, { kind, path, anchor })) wrong.push(`${name}: ${target}`)
    }
  }
  assert.deepEqual(wrong, [])
  assert.ok(count > 20, `${count} links to the repository`)
})

interface Place {
  readonly kind: string | undefined
  readonly path: string | undefined
  readonly anchor: string | undefined
}

function leads(
  anchors: ReadonlySet<string>,
  target: string,
  { kind, path, anchor }: Place
): boolean {
  if (target.startsWith('#')) return anchors.has(target.slice(1))
  // What is elsewhere is not asked for.
  if (path === undefined) return target.startsWith('https://') && !target.startsWith(home)
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined || found.isDirectory() !== (kind === 'tree')) return false
  if ((kind === 'raw') !== /\.(?:png|svg)$/.test(path)) return false
  return anchor === undefined || (path.endsWith('.md') && readPage(path).anchors.has(anchor))
}

test('package.json names the repository, its page and where to report bugs', () => {
  const {
    repository: place,
    homepage,
    bugs
  } = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8')) as Record<string, unknown>
  assert.deepEqual(
    { place, homepage, bugs },
    {
      place: { type: 'git', url: `git+${home}.git` },
      homepage: `${home}#readme`,
      bugs: { url: `${home}/issues` }
    }
  )
})

/** Publishes a folder, but for sending it, as the workflow calls it. */
function publish(place: string): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(
    'npm',
    ['publish', place, '--dry-run', '--access', 'public', '--tag', 'dry-run'],
    { encoding: 'utf8' }
  )
  return { status, output: stdout + stderr }
}

test('npm publish takes the folder of a release, in a dry run', () => {
  const { status, output } = publish(staged)
  assert.equal(status, 0, output)
  assert.match(output, new RegExp(`\\+ fastify-holdfast@${version.replaceAll('.', '\\.')}`))
  assert.doesNotMatch(output, /npm warn publish (?!This command requires you to be logged in)/)
})

test('npm publish of the clone itself, whose links would lead nowhere, is refused', () => {
  const { status, output } = publish('.')
  assert.notEqual(status, 0)
  assert.match(output, /This folder is not what is published: "node scripts\/stage\.js \.release"/)
})

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'

const script = resolve('scripts/release.js')
const stage = resolve('scripts/stage.js')

const releases: ReadonlyArray<
  [name: string, tag: string, headings: string[], refusal: RegExp | undefined]
> = [
  [
    'its tag and its section',
    'v1.2.3',
    ['## 1.2.3 – 2026-01-31', '## 1.2.2 – 2026-01-30'],
    undefined
  ],
  ['the tag of another version', 'v1.2.4', ['## 1.2.4 – 2026-01-31'], /the tag is v1\.2\.4/],
  ['a tag without its v', '1.2.3', ['## 1.2.3 – 2026-01-31'], /the tag is 1\.2\.3/],
  ['no section', 'v1.2.3', ['## 1.2.2 – 2026-01-30'], /no section of 1\.2\.3/],
  [
    'no section but those of versions that look alike',
    'v1.2.3',
    ['## 1.2.3-rc.1 – 2026-01-31', '## 1.2.31 – 2026-01-31', '## 1x2.3 – 2026-01-31'],
    /no section of 1\.2\.3/
  ],
  ['a section below another', 'v1.2.3', ['### 1.2.3 – 2026-01-31'], /no section of 1\.2\.3/],
  ['a section without its day', 'v1.2.3', ['## 1.2.3 – unreleased'], /"## 1\.2\.3 – unreleased"/]
]
for (const [name, tag, headings, refusal] of releases) {
  t.test(`a release with ${name} is ${refusal ? 'refused' : 'let through'}`, async (t) => {
    const cwd = t.testdir({
      'package.json': '{ "version": "1.2.3" }',
      'CHANGELOG.md': ['# Changelog', ...headings, ''].join('\n\n')
    })
    const { status, stderr } = spawnSync(process.execPath, [script, tag], { cwd, encoding: 'utf8' })
    t.equal(status, refusal ? 1 : 0)
    t.match(stderr, refusal ?? /^$/)
  })
}

for (const repository of [
  undefined,
  '',
  'holdfast',
  'https://github.com/example/holdfast',
  'a/b/c'
]) {
  t.test(`nothing is staged to be published from the repository ${repository}`, async (t) => {
    const cwd = t.testdir({ 'package.json': '{ "name": "a", "version": "1.2.3" }' })
    const { GITHUB_REPOSITORY: _, ...env } = process.env
    const { status, stderr } = spawnSync(process.execPath, [stage, 'staged'], {
      cwd,
      encoding: 'utf8',
      env: { ...env, ...(repository !== undefined && { GITHUB_REPOSITORY: repository }) }
    })
    t.equal(status, 1)
    t.match(
      stderr,
      /^GITHUB_REPOSITORY is ".*": set it to the public repository, as in owner\/name/
    )
    t.notOk(existsSync(`${cwd}/staged`))
  })
}

t.test('a folder that is not staged is not published', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [stage], { encoding: 'utf8' })
  t.equal(status, 1)
  t.match(stderr, /"node scripts\/stage\.js \.release" makes that/)
})

t.test('a page whose link leads nowhere is not staged', async (t) => {
  const cwd = t.testdir({
    'package.json': '{ "name": "a", "version": "1.2.3" }',
    'README.md': '[a](docs/a.md)'
  })
  const env = { ...process.env, GITHUB_REPOSITORY: 'example/a.b' }
  const { status, stderr } = spawnSync(process.execPath, [stage, 'staged'], {
    cwd,
    encoding: 'utf8',
    env
  })
  t.equal(status, 1)
  t.match(stderr, /A page links to docs\/a\.md, which is not there/)
})

t.test('what is staged: links lead to the tag, and code, anchors and addresses stay', async (t) => {
  const cwd = t.testdir({
    'package.json': '{ "name": "a", "version": "1.2.3", "scripts": { "prepare": "false" } }',
    docs: { 'a.md': '', 'b.png': '' },
    'README.md': [
      '[`a`, and more](docs/a.md) [b](docs/a.md#b) ![c](docs/b.png) [d](docs) [e](#e)',
      '[f](https://f.example) `[g](docs/a.md)`',
      '```ts\nconst h = [i](docs)\n```',
      ''
    ].join('\n')
  })
  const env = { ...process.env, GITHUB_REPOSITORY: 'example/a.b' }
  spawnSync(process.execPath, [stage, 'staged'], { cwd, env })
  const home = 'https://github.com/example/a.b'
  t.equal(
    readFileSync(`${cwd}/staged/README.md`, 'utf8'),
    [
      `[\`a\`, and more](${home}/blob/v1.2.3/docs/a.md) [b](${home}/blob/v1.2.3/docs/a.md#b)` +
        ` ![c](${home}/raw/v1.2.3/docs/b.png) [d](${home}/tree/v1.2.3/docs) [e](#e)`,
      '[f](https://f.example) `[g](docs/a.md)`',
      '```ts\nconst h = [i](docs)\n```',
      ''
    ].join('\n')
  )
  const manifest = JSON.parse(readFileSync(`${cwd}/staged/package.json`, 'utf8')) as object
  t.notOk('scripts' in manifest, 'nothing runs where it is published')
})

t.test('the workflow checks the tag, and publishes the folder that is staged', async (t) => {
  const workflow = readFileSync('.github/workflows/release.yml', 'utf8')
  const commands = [...workflow.matchAll(/\brun: (.*)$/gm)].map(([, command]) => command)
  t.same(commands, [
    'node scripts/release.js "$GITHUB_REF_NAME"',
    'npm ci',
    'node scripts/stage.js .release',
    'npm publish ./.release --provenance --access public'
  ])
})

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'

const script = resolve('scripts/release.js')

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

t.test('the workflow checks the tag before it publishes', async (t) => {
  const workflow = readFileSync('.github/workflows/release.yml', 'utf8')
  t.match(workflow, /run: node scripts\/release\.js "\$GITHUB_REF_NAME"\n[^]*run: npm publish /)
})

import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'

import { majors } from './helpers/nodes.ts'

const { engines, scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  engines: { node: string }
  scripts: Record<string, string>
}
const folder = '.github/workflows'
const workflows = readdirSync(folder).map((file) => `${folder}/${file}`)

t.test(
  'what the workflows, .ci/run, the scripts and the documents call by npm run is there',
  async (t) => {
    for (const file of [...workflows, '.ci/run', 'package.json', 'README.md', 'CONTRIBUTING.md']) {
      const text = readFileSync(file, 'utf8')
      for (const [command, name] of text.matchAll(/\bnpm run ([\w:]+)/g))
        t.ok(scripts[name as string] !== undefined, `${file}: ${command}`)
    }
  }
)

t.test('every script that a script runs with node is there', async (t) => {
  for (const [name, command] of Object.entries(scripts)) {
    for (const [, file] of command.matchAll(/\bnode (\S+\.js)/g)) {
      const source = (file as string).replace(/^\.build\/(.*)\.js$/, '$1.ts')
      t.doesNotThrow(() => readFileSync(source), `${name}: ${source}`)
    }
  }
})

t.test(
  'the tests run on the same versions of Node.js everywhere, the oldest that the package allows first',
  async (t) => {
    const [, matrix] = /^ +node: \[(.*)\]$/m.exec(readFileSync(`${folder}/ci.yml`, 'utf8')) ?? []
    t.same(matrix?.split(', ').map(Number), majors)
    t.match(engines.node, new RegExp(`^>=${majors[0]}\\.`))
  }
)

t.test(
  'GitHub checks by .ci/run, which fails where a test is skipped, and by nothing beside it',
  async (t) => {
    accessSync('.ci/run', constants.X_OK)
    const commands = [...readFileSync(`${folder}/ci.yml`, 'utf8').matchAll(/\brun: (.*)$/gm)]
    t.same(
      commands.map(([, command]) => command),
      ['.ci/run test', '.ci/run package'],
      'the matrix of versions stands for the part nodes'
    )
  }
)

t.test('nothing is published that these checks have not passed', async (t) => {
  const text = readFileSync(`${folder}/release.yml`, 'utf8')
  t.match(text, /^ {2}test:\n(?: {4}.*\n)* {4}uses: \.\/\.github\/workflows\/ci\.yml$/m)
  t.match(text, /^ {2}publish:\n {4}needs: test$/m)
})

t.test(
  'a workflow has no more rights than it needs: none but reading, and for provenance an id',
  async (t) => {
    for (const file of workflows) {
      const text = readFileSync(file, 'utf8')
      t.match(text, /^permissions:/m, file)
      const rights = [...text.matchAll(/^ +([a-z-]+): (?:read|write)$/gm)].map(([right]) =>
        right.trim()
      )
      t.strictSame(
        rights.filter((right) => right !== 'contents: read'),
        file.endsWith('/release.yml') ? ['id-token: write'] : [],
        file
      )
    }
  }
)

t.test(
  'an action is one of GitHub, pinned by its commit, with the tag of the commit beside it',
  async (t) => {
    const pins = new Set<string>()
    for (const file of workflows) {
      for (const [, used = ''] of readFileSync(file, 'utf8').matchAll(/\buses: (.*)$/gm)) {
        if (used.startsWith('./')) continue
        t.match(
          used,
          /^actions\/(?:checkout|setup-node)@[\da-f]{40} # v\d+\.\d+\.\d+$/,
          `${file}: ${used}`
        )
        pins.add(used)
      }
    }
    t.equal(pins.size, 2, 'the workflows use the same ones')
  }
)

t.test('every lock file is kept up to date, and so are the actions', async (t) => {
  const text = readFileSync('.github/dependabot.yml', 'utf8')
  const [, listed = ''] = /^ {4}directories: \[(.*)\]$/m.exec(text) ?? []
  const locked = readdirSync('.', { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(`${entry.name}/package-lock.json`))
    .map(({ name }) => `'/${name}'`)
  t.same(listed.split(', '), ["'/'", ...locked])
  t.match(text, /package-ecosystem: github-actions/)
})

import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'

import { majors } from './helpers/nodes.ts'

const { engines, scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { engines: { node: string }, scripts: Record<string, string> }
const folder = '.github/workflows'
const workflows = readdirSync(folder).map((file) => `${folder}/${file}`)

t.test('what the workflows, .ci/run, the scripts and the documents call by npm run is there', async (t) => {
  for (const file of [...workflows, '.ci/run', 'package.json', 'README.md', 'CONTRIBUTING.md']) {
    const text = readFileSync(file, 'utf8')
    for (const [command, name] of text.matchAll(/\bnpm run ([\w:]+)/g)) t.ok(scripts[name as string] !== undefined, `${file}: ${command}`)
  }
})

t.test('every script that a script runs with node is there', async (t) => {
  for (const [name, command] of Object.entries(scripts)) {
    for (const [, file] of command.matchAll(/\bnode (\S+\.js)/g)) {
      const source = (file as string).replace(/^\.build\/(.*)\.js$/, '$1.ts')
      t.doesNotThrow(() => readFileSync(source), `${name}: ${source}`)
    }
  }
})

t.test('the tests run on the same versions of Node.js everywhere, the oldest that the package allows first', async (t) => {
  const [, matrix] = /^ +node: \[(.*)\]$/m.exec(readFileSync(`${folder}/ci.yml`, 'utf8')) ?? []
  t.same(matrix?.split(', ').map(Number), majors)
  t.match(engines.node, new RegExp(`^>=${majors[0]}\\.`))
})

t.test('a workflow has no more rights than it needs: none but reading, and for provenance an id', async (t) => {
  for (const file of workflows) {
    const text = readFileSync(file, 'utf8')
    t.match(text, /^permissions:/m, file)
    const rights = [...text.matchAll(/^ +([a-z-]+): (?:read|write)$/gm)].map(([right]) => right.trim())
    t.strictSame(rights.filter((right) => right !== 'contents: read'), file.endsWith('/release.yml') ? ['id-token: write'] : [], file)
    for (const [, used] of text.matchAll(/uses: (\S+)/g)) t.match(used, /^\.\/|^actions\/(?:checkout|setup-node)@v\d+$/, `${file}: ${used}`)
  }
})

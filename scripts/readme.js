// Takes the TypeScript examples out of the README, one file each, so that they are compiled, run and kept true by the tests.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'

const folder = '.readme'
const readme = readFileSync('README.md', 'utf8')
const examples = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code)

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
for (const [index, code] of examples.entries()) writeFileSync(`${folder}/example-${index + 1}.ts`, `${code}\nexport {}\n`)

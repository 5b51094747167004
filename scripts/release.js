// Checks that a tag may be published: `node scripts/release.js v1.2.3`. It must name the version of
// package.json, and CHANGELOG.md must have a section of that version with the day of its release.
import { readFileSync } from 'node:fs'

const [tag] = process.argv.slice(2)
const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
const headings = readFileSync('CHANGELOG.md', 'utf8').match(/^## .*$/gm) ?? []
const heading = headings.find((line) => line.split(' ')[1] === version)

if (tag !== `v${version}`)
  fail(`the tag is ${tag} and the version in package.json ${version}: make them the same`)
else if (heading === undefined)
  fail(`CHANGELOG.md has no section of ${version}: add "## ${version} – " and the day`)
else if (!/ – \d{4}-\d\d-\d\d$/.test(heading))
  fail(`CHANGELOG.md says "${heading}": end that line with the day, as in "– 2026-01-31"`)

function fail(message) {
  console.error(message)
  process.exitCode = 1
}

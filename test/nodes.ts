// Runs the suite, as it was compiled, on the other versions of Node.js; `node .build/test/nodes.js 24` on one alone.
import { spawnSync } from 'node:child_process'

import { majors, nodeOf, ownMajor, versionOf } from './helpers/nodes.ts'

// Once is enough for what explores the interleavings and for what several processes do, which take minutes and show the same of our algorithms on
// every version (the races that are forced run on all), for a flood, and for what happens in a browser.
const once = ['.build/test/races/{explore*,mutants,property}.test.js', '.build/test/stress/{mutants,stress}.test.js', '.build/test/attacks/flood.test.js', '.build/test/browser/**']

const asked = process.argv.slice(2).map(Number)
let failed = false
for (const major of asked.length > 0 ? asked : majors.filter((each) => each !== ownMajor)) {
  const node = nodeOf(major)
  console.log(`\n# The suite on Node.js ${versionOf(node)}`)
  const { status } = spawnSync(node, ['node_modules/.bin/tap', '--disable-coverage', ...once.map((glob) => `--exclude=${glob}`)], { stdio: 'inherit' })
  if (status !== 0) {
    console.error(`The suite failed on Node.js ${major}`)
    failed = true
  }
}
process.exitCode = failed ? 1 : 0

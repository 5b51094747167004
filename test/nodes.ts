// Runs the suite, as it was compiled, on the other versions of Node.js; `node .build/test/nodes.js
// 24` on one alone.
import { spawnSync } from 'node:child_process'

import { majors, nodeOf, ownMajor, versionOf } from './helpers/nodes.ts'

// Once is enough for what shows the same of our own algorithms on every version and takes long:
// interleavings, several processes, what a store keeps (the drivers of the servers run on all),
// servers that fail, attacks in thousands of variants, the cookie's notes, lifetimes, moves and what
// is carried over; for the pages and the repository; and for what a browser or a proxy does.
const once = [
  '.build/test/attacks/{flood,intake,logs,names,odd-paths}.test.js',
  '.build/test/races/*.test.js',
  '.build/test/stores/{conformance,memory,postgres,redis,*-faults}.test.js',
  '.build/test/stress/{mutants,stress,subjects}.test.js',
  '.build/test/{caches-nginx,cookie-attributes,cookie-renewal,several-cookies,withheld}.test.js',
  '.build/test/{lifetime-changes,moves,old-ids,pages,polls,silence,unreadable}.test.js',
  '.build/test/{ci,comparison,messages,release,security,workflows}.test.js',
  '.build/test/migrate/{attacks,forced,interleavings,logout,peers,side-by-side}.test.js',
  '.build/test/signals/{bus,edges,late,races,reload}.test.js',
  '.build/test/subjects/*.test.js',
  '.build/test/browser/**'
]

const asked = process.argv.slice(2).map(Number)
let failed = false
for (const major of asked.length > 0 ? asked : majors.filter((each) => each !== ownMajor)) {
  const node = nodeOf(major)
  console.log(`\n# The suite on Node.js ${versionOf(node)}`)
  const { status } = spawnSync(
    node,
    ['node_modules/.bin/tap', '--disable-coverage', ...once.map((glob) => `--exclude=${glob}`)],
    { stdio: 'inherit' }
  )
  if (status !== 0) {
    console.error(`The suite failed on Node.js ${major}`)
    failed = true
  }
}
process.exitCode = failed ? 1 : 0

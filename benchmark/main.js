// npm run bench: answers every question, writes docs/benchmark.md, and quotes it in the README. `--
// --quick` answers all of them badly, in a minute, and writes nothing; `-- --only sockets,redis`
// answers some. Runs on the Node.js that is measured.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { current, nodeOf } from './nodes.js'

const here = fileURLToPath(new URL('.', import.meta.url))
const changedAt = (file) => statSync(`${here}${file}`, { throwIfNoEntry: false })?.mtimeMs ?? 0
// npm writes the one in node_modules as it has installed everything.
if (changedAt('node_modules/.package-lock.json') < changedAt('package-lock.json'))
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' })

const node = nodeOf(current)
if (node !== process.execPath) {
  const { status } = spawnSync(node, process.argv.slice(1), { stdio: 'inherit' })
  process.exit(status ?? 1)
}

// Only now is there anything to import them with.
const { overSockets } = await import('./sockets.js')
const { onRedis } = await import('./redis.js')
const { memory } = await import('./memory.js')
const { growth } = await import('./growth.js')
const { ends } = await import('./ends.js')
const { footprint } = await import('./footprint.js')
const { profile } = await import('./profile.js')
const { signing } = await import('./signing.js')
const { soak } = await import('./soak.js')
const { chart, markdown, plain, quotation } = await import('./report.js')

const questions = {
  sockets: overSockets,
  signing,
  profile,
  redis: onRedis,
  memory,
  growth,
  footprint,
  ends,
  soak
}

const {
  values: { quick, only }
} = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
const scale = quick
  ? {
      fleets: 1,
      rounds: 2,
      warmups: 0,
      requests: 20,
      visitors: 8,
      strangers: 20,
      sessions: [500, 2000],
      stored: [10, 1000],
      crowds: [1, 5, 10],
      starts: 2,
      ends: 20,
      sockets: 500,
      soak: { warmUp: 0.5, seconds: 2 }
    }
  : {
      fleets: 4,
      rounds: 4,
      // The machine code of what runs most is made within the first 20,000 requests.
      warmups: 10,
      requests: 2000,
      visitors: 100,
      strangers: 4000,
      sessions: [100_000, 1_000_000],
      stored: [1000, 10_000, 100_000, 1_000_000],
      crowds: [1, 10, 50, 100],
      starts: 21,
      ends: 1000,
      sockets: 10_000,
      soak: { warmUp: 20, seconds: 600 }
    }

const asked = only === undefined ? Object.keys(questions) : only.split(',')
const unknown = asked.filter((name) => questions[name] === undefined)
if (unknown.length > 0)
  throw new Error(`no such question: ${unknown}; there are ${Object.keys(questions).join(', ')}`)

const secondsSince = (began) => (Date.now() - began) / 1000
const began = Date.now()
const answers = []
for (const name of asked) {
  const begun = Date.now()
  const answer = await questions[name](scale)
  answers.push(answer)
  console.log(plain(answer))
  console.log(`\n${name}: ${Math.round(secondsSince(begun))} s`)
}
const seconds = secondsSince(began)
console.log(`\n${Math.round(seconds)} s`)

if (!quick && only === undefined) {
  const docs = fileURLToPath(new URL('../docs/', import.meta.url))
  writeFileSync(`${docs}benchmark.md`, markdown(answers, { commit: commitHere(), seconds }))
  writeFileSync(
    `${docs}benchmark.svg`,
    chart(answers.find((answer) => answer.chart !== undefined).chart)
  )
  const readme = fileURLToPath(new URL('../README.md', import.meta.url))
  writeFileSync(
    readme,
    readFileSync(readme, 'utf8').replace(
      /(<!-- npm run bench -->\n)[^]*(<!-- end -->)/,
      (_, begin, end) => `${begin}${quotation(answers)}\n${end}`
    )
  )
  console.log('docs/benchmark.md')
}

function commitHere() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: here,
      encoding: 'utf8'
    }).trim()
  } catch {
    return ''
  }
}

// npm run bench: answers every question, writes docs/benchmark.md, and quotes it in the README. `--
// --quick` answers all of them badly, in a minute, and writes nothing; `-- --only sockets,redis`
// answers some.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const here = fileURLToPath(new URL('.', import.meta.url))
if (!existsSync(`${here}node_modules/express-session`))
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' })

// Only now is there anything to import them with.
const { overInject, overSockets } = await import('./requests.js')
const { onRedis } = await import('./redis.js')
const { memory } = await import('./memory.js')
const { growth } = await import('./growth.js')
const { footprint } = await import('./footprint.js')
const { profile } = await import('./profile.js')
const { chart, markdown, plain, quotation } = await import('./report.js')

const questions = {
  sockets: overSockets,
  inject: overInject,
  profile,
  redis: onRedis,
  memory,
  growth,
  footprint
}

const {
  values: { quick, only }
} = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
const scale = quick
  ? {
      fleets: 1,
      rounds: 2,
      warmups: 1,
      requests: 40,
      visitors: 8,
      sessions: [500, 2000],
      stored: [10, 1000],
      crowds: [1, 5, 10],
      starts: 2
    }
  : {
      fleets: 3,
      rounds: 5,
      warmups: 5,
      requests: 2000,
      visitors: 100,
      sessions: [100_000, 1_000_000],
      stored: [1000, 10_000, 100_000, 1_000_000],
      crowds: [1, 10, 50, 100],
      starts: 21
    }

const asked = only === undefined ? Object.keys(questions) : only.split(',')
const began = Date.now()
const answers = []
for (const name of asked) {
  const answer = await questions[name](scale)
  answers.push(answer)
  console.log(plain(answer))
}
const seconds = (Date.now() - began) / 1000
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

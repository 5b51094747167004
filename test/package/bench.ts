// The benchmark still runs: `npm run bench -- --quick` answers every question, and writes nothing.
// Needs the registry, for the peers and for the Node.js that they run on, and a redis-server.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { promisify } from 'node:util'

const titles = [
  'A request, over sockets',
  'To read a signed id',
  'Where the time goes',
  'On Redis',
  'Memory',
  'How cost grows',
  'To install and to start',
  'Until an end is heard',
  'Ten minutes at full load'
]
const written = ['docs/benchmark.md', 'docs/benchmark.svg', 'README.md']

test('npm run bench -- --quick answers every question, and writes nothing', async (t) => {
  const read = (): string[] => written.map((path) => readFileSync(path, 'utf8'))
  const before = read()
  const began = performance.now()
  const { stdout } = await promisify(execFile)(process.execPath, ['benchmark/main.js', '--quick'], {
    timeout: 5 * 60_000
  })
  t.diagnostic(`${Math.round((performance.now() - began) / 1000)} seconds`)
  assert.deepEqual(
    [...stdout.matchAll(/^== (.*)$/gm)].map(([, title]) => title),
    titles
  )
  assert.doesNotMatch(stdout, /Not measured|NaN|undefined/)
  assert.deepEqual(read(), before)
})

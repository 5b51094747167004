import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { delimiter } from 'node:path'
import t, { type Test } from 'tap'

const tap = '# { total: 12, pass: 12 }'
const nodes = [tap, tap, tap].join('\n')
const node = ['ℹ tests 4', 'ℹ suites 1', 'ℹ pass 4', 'ℹ fail 0', 'ℹ cancelled 0', 'ℹ skipped 0', 'ℹ todo 0'].join('\n')
const fine = { cit: tap, package: node, nodes }

/** Runs .ci/run with programs that only say what they are told to, in place of npm and apt-get. */
function ci(t: Test, says: Readonly<Record<'cit' | 'package' | 'nodes', string>>, status = 0): { lines: string[], stderr: string, status: number | null } {
  const programs = t.testdir({})
  const fakes = {
    'npm': `case "$*" in cit) cat <<'END'\n${says.cit}\nEND\nexit ${status};; *package) cat <<'END'\n${says.package}\nEND\n;; *nodes) cat <<'END'\n${says.nodes}\nEND\nesac`,
    'apt-get': 'exit 0',
    'sudo': 'exit 0'
  }
  for (const [name, body] of Object.entries(fakes)) {
    writeFileSync(`${programs}/${name}`, `#!/usr/bin/env bash\n${body}\n`)
    chmodSync(`${programs}/${name}`, 0o755)
  }
  const result = spawnSync('bash', ['.ci/run'], { encoding: 'utf8', env: { ...process.env, PATH: `${programs}${delimiter}${process.env['PATH']}` } })
  return { lines: result.stdout.trim().split('\n'), stderr: result.stderr, status: result.status }
}

t.test('.ci/run sums up all runs in its last line', async (t) => {
  const { lines, status } = ci(t, fine)
  t.equal(lines.at(-1), '52 passed, 0 failed, 0 skipped')
  t.equal(lines.filter((line) => /^\d+ passed/.test(line)).length, 1)
  t.equal(status, 0)
})

const faults: ReadonlyArray<[name: string, says: typeof fine, status: number, last: string]> = [
  ['a test of tap failed', { ...fine, cit: '# { total: 12, pass: 11, fail: 1 }' }, 1, '51 passed, 1 failed, 0 skipped'],
  ['a failure that no exit code tells', { ...fine, nodes: nodes.replace('pass: 12', 'pass: 11, fail: 1') }, 0, '51 passed, 1 failed, 0 skipped'],
  ['a test of Node\'s runner failed', { ...fine, package: node.replace('fail 0', 'fail 2') }, 0, '52 passed, 2 failed, 0 skipped'],
  ['a test was cancelled', { ...fine, package: node.replace('cancelled 0', 'cancelled 1') }, 0, '52 passed, 1 failed, 0 skipped'],
  ['a test was skipped', { ...fine, cit: '# { total: 12, pass: 9, skip: 2, todo: 1 }' }, 0, '49 passed, 0 failed, 3 skipped'],
  ['nothing failed but the exit code, as for want of coverage', fine, 1, '52 passed, 0 failed, 0 skipped'],
  ['the tests did not run', { ...fine, cit: 'error TS2322' }, 0, '40 passed, 0 failed, 0 skipped'],
  ['one version of Node.js did not come to its end', { ...fine, nodes: [tap, tap].join('\n') }, 0, '40 passed, 0 failed, 0 skipped'],
  ['no test is no success', { ...fine, package: node.replace('pass 4', 'pass 0') }, 0, '48 passed, 0 failed, 0 skipped']
]
for (const [name, says, exit, last] of faults) {
  t.test(`.ci/run fails: ${name}`, async (t) => {
    const { lines, stderr, status } = ci(t, says, exit)
    t.equal(status, 1)
    t.equal(lines.at(-1), last)
    t.match(stderr, /npm/)
  })
}

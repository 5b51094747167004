import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter } from 'node:path'
import t, { type Test } from 'tap'

const tap = '# { total: 12, pass: 12 }'
const nodes = [tap, tap, tap].join('\n')
const node = [
  'ℹ tests 4',
  'ℹ suites 1',
  'ℹ pass 4',
  'ℹ fail 0',
  'ℹ cancelled 0',
  'ℹ skipped 0',
  'ℹ todo 0'
].join('\n')
const fine = { cit: tap, package: node, nodes }

interface Setting {
  /** The parts that .ci/run is to run. */
  readonly parts?: readonly string[]
  /** What the runs of tests say. */
  readonly says?: typeof fine
  /** A command of npm that fails. */
  readonly failing?: string
  /** Whether the machine has nothing but what .ci/run itself calls. */
  readonly bare?: boolean
}

interface Outcome {
  readonly lines: readonly string[]
  readonly stderr: string
  readonly status: number | null
  /** The commands that were given to npm and to apt-get. */
  readonly commands: readonly string[]
}

/**
 * Runs .ci/run with programs that only note how they are called, and say what they are told to, in
 * place of npm and apt-get.
 */
function ci(t: Test, { parts = [], says = fine, failing = '', bare = false }: Setting): Outcome {
  const programs = t.testdir({})
  const log = `${programs}/commands`
  const fakes = {
    npm: `
echo "npm $*" >>${log}
case "$*" in
  cit) cat <<'END'\n${says.cit}\nEND\n;;
  *package) cat <<'END'\n${says.package}\nEND\n;;
  *nodes) cat <<'END'\n${says.nodes}\nEND\n;;
esac
[ "$*" != '${failing}' ]`,
    'apt-get': `echo "apt-get $*" >>${log}`,
    sudo: '"$@"'
  }
  for (const [name, body] of Object.entries(fakes)) {
    writeFileSync(`${programs}/${name}`, `#!/usr/bin/env bash\n${body}\n`)
    chmodSync(`${programs}/${name}`, 0o755)
  }
  const path = (process.env['PATH'] as string).split(delimiter)
  if (bare) {
    for (const name of ['awk', 'bash', 'cat', 'dirname', 'env', 'id', 'mktemp', 'rm', 'tee']) {
      const folder = path.find((each) => existsSync(`${each}/${name}`))
      symlinkSync(`${folder}/${name}`, `${programs}/${name}`)
    }
  }
  const { stdout, stderr, status } = spawnSync('bash', ['.ci/run', ...parts], {
    encoding: 'utf8',
    env: { ...process.env, PATH: (bare ? [programs] : [programs, ...path]).join(delimiter) }
  })
  const commands = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []
  return { lines: stdout.trim().split('\n'), stderr, status, commands }
}

/** The commands of npm alone: what is to be installed depends on the machine. */
function npm({ commands }: Outcome): string[] {
  return commands.filter((command) => command.startsWith('npm '))
}

t.test('.ci/run runs every part, and sums up all in its last line', async (t) => {
  const outcome = ci(t, {})
  t.equal(outcome.lines.at(-1), '52 passed, 0 failed, 0 skipped')
  t.equal(outcome.lines.filter((line) => /^\d+ passed/.test(line)).length, 1)
  t.equal(outcome.status, 0)
  t.same(npm(outcome), ['npm cit', 'npm run test:package', 'npm run test:nodes'])
})

const prepared = ['npm ci', 'npm run pretest']
const choices: ReadonlyArray<[parts: string[], commands: string[], passed: number]> = [
  [['test'], ['npm cit'], 12],
  [['package'], [...prepared, 'npm run test:package'], 4],
  [['nodes'], [...prepared, 'npm run test:nodes'], 36],
  [['package', 'test'], ['npm cit', 'npm run test:package'], 16]
]
for (const [parts, commands, passed] of choices) {
  t.test(`.ci/run ${parts.join(' ')} runs that alone, on a clean clone`, async (t) => {
    const outcome = ci(t, { parts })
    t.same(npm(outcome), commands)
    t.equal(outcome.lines.at(-1), `${passed} passed, 0 failed, 0 skipped`)
    t.equal(outcome.status, 0)
  })
}

for (const parts of [['tests'], ['test', 'packages'], ['test package'], ['']]) {
  t.test(`.ci/run refuses a part that is unknown: ${JSON.stringify(parts)}`, async (t) => {
    const { status, stderr, commands } = ci(t, { parts })
    t.equal(status, 2)
    t.match(stderr, /there is no part '.*': name some of test, package and nodes/)
    t.same(commands, [], 'nothing was run')
  })
}

t.test('.ci/run installs what the tests need, before they run', async (t) => {
  const { commands } = ci(t, { bare: true, parts: ['test'] })
  t.equal(commands[0], 'apt-get update')
  t.match(commands[1], /^apt-get install .*redis-server.* chromium firefox-esr\b/)
  t.same(commands.slice(2), ['npm cit'])
})

t.test('.ci/run package installs Redis alone of that: the benchmark runs on it', async (t) => {
  const outcome = ci(t, { bare: true, parts: ['package'] })
  const others = outcome.commands.filter((command) => !command.startsWith('npm '))
  t.equal(others[0], 'apt-get update')
  t.match(others[1], /^apt-get install .*redis-server$/)
  t.equal(others.length, 2)
})

const faults: ReadonlyArray<[name: string, setting: Setting, last: string]> = [
  [
    'a test of tap failed',
    { says: { ...fine, cit: '# { total: 12, pass: 11, fail: 1 }' }, failing: 'cit' },
    '51 passed, 1 failed, 0 skipped'
  ],
  [
    'a failure that no exit code tells',
    { says: { ...fine, nodes: nodes.replace('pass: 12', 'pass: 11, fail: 1') } },
    '51 passed, 1 failed, 0 skipped'
  ],
  [
    "a test of Node's runner failed",
    { says: { ...fine, package: node.replace('fail 0', 'fail 2') } },
    '52 passed, 2 failed, 0 skipped'
  ],
  [
    'a test was cancelled',
    { says: { ...fine, package: node.replace('cancelled 0', 'cancelled 1') } },
    '52 passed, 1 failed, 0 skipped'
  ],
  [
    'a test was skipped',
    { says: { ...fine, cit: '# { total: 12, pass: 9, skip: 2, todo: 1 }' } },
    '49 passed, 0 failed, 3 skipped'
  ],
  [
    'a test was skipped in the one part that ran',
    { says: { ...fine, cit: '# { total: 12, pass: 11, skip: 1 }' }, parts: ['test'] },
    '11 passed, 0 failed, 1 skipped'
  ],
  [
    'a test of the package was skipped',
    { says: { ...fine, package: node.replace('skipped 0', 'skipped 1') }, parts: ['package'] },
    '4 passed, 0 failed, 1 skipped'
  ],
  [
    'nothing failed but the exit code, as for want of coverage',
    { failing: 'cit' },
    '52 passed, 0 failed, 0 skipped'
  ],
  [
    'what comes before the tests of the package failed, such as the linter',
    { failing: 'run pretest', parts: ['package'] },
    '4 passed, 0 failed, 0 skipped'
  ],
  [
    'the tests did not run',
    { says: { ...fine, cit: 'error TS2322' } },
    '40 passed, 0 failed, 0 skipped'
  ],
  [
    'one version of Node.js did not come to its end',
    { says: { ...fine, nodes: [tap, tap].join('\n') } },
    '40 passed, 0 failed, 0 skipped'
  ],
  [
    'no test is no success',
    { says: { ...fine, package: node.replace('pass 4', 'pass 0') } },
    '48 passed, 0 failed, 0 skipped'
  ]
]
t.test('.ci/run ends with what failed, and with what is not covered', async (t) => {
  const cit = [
    '  plugin.ts     |     100 |      100 |     100 |     100 |                   ',
    'not ok 3 - one thing is another',
    ...Array.from({ length: 400 }, () => '    ok - much else'),
    '  hooks.ts      |     100 |    96.87 |     100 |     100 | 32                ',
    '  stage.js      |     100 |    88.88 |     100 |     100 | 16,64             ',
    tap
  ].join('\n')
  const { lines } = ci(t, { says: { ...fine, cit, package: `  ✖ types (3ms)\n${node}` } })
  const end = lines.slice(-90).join('\n')
  for (const line of ['not ok 3 - one thing', 'hooks.ts', 'stage.js', '✖ types'])
    t.ok(end.includes(line), line)
  t.notOk(end.includes('plugin.ts'))
})

for (const [name, setting, last] of faults) {
  t.test(`.ci/run fails: ${name}`, async (t) => {
    const { lines, stderr, status } = ci(t, setting)
    t.equal(status, 1)
    t.equal(lines.at(-1), last)
    t.match(stderr, /npm/)
  })
}

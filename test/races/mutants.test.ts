import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'

import { explorePhase, type Phase } from './explore.ts'
import { checkPrograms } from './property.ts'
import { loadLib } from './world.ts'

/** What lib is held together by, and how it is taken out: one place in one compiled file. */
const mutants: Record<string, { readonly file: string, readonly take: RegExp, readonly put: string }> = {
  'the version check': {
    file: 'stores/memory.js', take: /if \(stored\.version !== expectedVersion\)\s+return false;/, put: ''
  },
  'the existence check': {
    file: 'stores/memory.js',
    take: /(update\(key, record, expectedVersion\) \{\s+const found = this\.#find\(key\);\s+if \(found === undefined\)\s+)return false;/,
    put: '$1return this.create(key, record);'
  },
  'the claim in regenerate': {
    file: 'manager.js',
    take: /const removed = work\.mayBeStored \? yield\* this\.#remove\(operation, work\) : undefined;/,
    put: 'const removed = (yield* this.#remove(operation, work)) ?? record;'
  },
  'the liveness check before a cookie is refreshed': {
    file: 'manager.js', take: /if \(liveUntil === undefined\)/, put: 'if (false)'
  },
  'the merge': {
    file: 'merge.js', take: /\.\.\.theirs \}/, put: '...mine }'
  },
  'the recognition of one\'s own write': {
    file: 'writer.js', take: /includesWrite\(found\.version, attempt\.record\.version\)/, put: 'false'
  }
}

/** Enough to find each of the faults, and no more. */
const phases: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 2, processes: 'one each', faults: 0 }
]

const built = fileURLToPath(new URL('../../', import.meta.url))

/** A copy of what was compiled, beside it, where it finds the packages that it imports. */
function copy(t: Test): string {
  const folder = mkdtempSync(`${built}mutant-`)
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  for (const part of ['lib', 'types', 'test/helpers', 'test/races']) cpSync(`${built}${part}`, `${folder}/${part}`, { recursive: true })
  return folder
}

/** What the three kinds of test find wrong with a copy. */
async function findings(folder: string, programs: number): Promise<{ exploration: boolean, property: boolean, forced: boolean }> {
  const lib = await loadLib(pathToFileURL(`${folder}/lib/`))
  const explored = []
  for (const phase of phases) explored.push((await explorePhase(lib, phase)).counterexample)
  const forced = ['forced', 'faults'].map((test) => spawnSync(process.execPath, [`${folder}/test/races/${test}.test.js`], { stdio: 'ignore', timeout: 60_000, env: { ...process.env, BACKENDS: 'memory' } }).status)
  return {
    exploration: explored.some((counterexample) => counterexample !== undefined),
    property: await checkPrograms(lib, programs) !== undefined,
    forced: forced.some((status) => status !== 0)
  }
}

t.test('with nothing taken out, none of the tests fails', async (t) => {
  t.same(await findings(copy(t), 200), { exploration: false, property: false, forced: false })
})

for (const [name, { file, take, put }] of Object.entries(mutants)) {
  t.test(`without ${name}, the exploration, the property test and the forced interleavings all fail`, async (t) => {
    const folder = copy(t)
    const path = `${folder}/lib/${file}`
    const code = readFileSync(path, 'utf8')
    t.equal(code.match(new RegExp(take, 'g'))?.length, 1, 'it is there to be taken out')
    writeFileSync(path, code.replace(take, put))
    t.same(await findings(folder, 5000), { exploration: true, property: true, forced: true })
  })
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'

import { explorePhase, type Phase } from './explore.ts'
import { copyBuilt, mutantsOver, plant } from './mutants.ts'
import { checkPrograms } from './property.ts'
import { accidents, loadLib } from './world.ts'

/** Enough to find each of the faults, and no more. */
const phases: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 1, processes: 'one each', faults: 1, fates: accidents },
  { requests: 2, processes: 'one each', faults: 0, limit: 25 },
  { requests: 2, processes: 'one each', faults: 1, fates: accidents, onlyMoves: true, limit: 25 }
]

/** A copy of what these tests run. */
const copy = (t: Test): string =>
  copyBuilt(t, ['lib', 'types', 'test/helpers', 'test/races', 'test/moves.test.js'])

/** What random programs find soon. The others take them minutes. */
const soon: ReadonlySet<string> = new Set([
  'the version check',
  'the existence check',
  'the liveness check before a cookie is refreshed',
  'the merge',
  'the check that the session has not ended'
])

/** Whether the exploration finds something wrong with a copy. @param limit a lower one */
async function isExplored(folder: string, limit?: number): Promise<boolean> {
  const lib = await loadLib(pathToFileURL(`${folder}/lib/`))
  for (const phase of phases) {
    const bounded = limit === undefined ? phase : { ...phase, limit }
    if ((await explorePhase(lib, bounded)).counterexample !== undefined) return true
  }
  return false
}

/** Whether random programs do. */
async function isRandom(folder: string, programs: number): Promise<boolean> {
  const lib = await loadLib(pathToFileURL(`${folder}/lib/`))
  return (await checkPrograms(lib, programs, undefined, { isShown: false })) !== undefined
}

/** Whether forced interleavings do, in processes of their own. */
async function isForced(folder: string): Promise<boolean> {
  for (const test of ['races/forced', 'races/faults', 'moves']) {
    const child = spawn(process.execPath, [`${folder}/test/${test}.test.js`], {
      stdio: 'ignore',
      timeout: 60_000,
      env: { ...process.env, BACKENDS: 'memory', TAP_TIMEOUT: '30', TAP_BAIL: '1' }
    })
    const [status] = (await once(child, 'close')) as unknown[]
    if (status !== 0) return true
  }
  return false
}

t.test('with nothing taken out, none of the tests fails', async (t) => {
  const folder = copy(t)
  // What is not taken from a copy is explored further by the tests of the exploration.
  t.equal(await isExplored(folder, 4), false)
  t.equal(await isRandom(folder, 50), false)
  t.equal(await isForced(folder), false)
})

for (const [name, mutant] of mutantsOver('memory')) {
  t.test(`without ${name}, the exploration and the forced interleavings fail`, async (t) => {
    const folder = copy(t)
    plant(t, folder, mutant)
    const forced = isForced(folder)
    t.equal(await isExplored(folder), true, 'explored')
    t.equal(await forced, true, 'forced')
    if (soon.has(name)) t.equal(await isRandom(folder, 5000), true, 'in random programs')
  })
}

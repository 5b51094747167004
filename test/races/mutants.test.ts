import { spawnSync } from 'node:child_process'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'

import { explorePhase, type Phase } from './explore.ts'
import { copyBuilt, mutantsOver, plant } from './mutants.ts'
import { checkPrograms } from './property.ts'
import { loadLib } from './world.ts'

/** Enough to find each of the faults, and no more. */
const phases: readonly Phase[] = [
  { requests: 1, processes: 'one', faults: 1 },
  { requests: 2, processes: 'one each', faults: 0 }
]

/** A copy of what these tests run. */
const copy = (t: Test): string => copyBuilt(t, ['lib', 'types', 'test/helpers', 'test/races'])

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

for (const [name, mutant] of mutantsOver('memory')) {
  t.test(`without ${name}, the exploration, the property test and the forced interleavings all fail`, async (t) => {
    const folder = copy(t)
    plant(t, folder, mutant)
    t.same(await findings(folder, 5000), { exploration: true, property: true, forced: true })
  })
}

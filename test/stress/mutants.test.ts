import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'

import { copyBuilt, mutantsOver, plant } from '../races/mutants.ts'
import { storeServers } from './servers.ts'
import { Stress, type Settings, type Tally } from './stress.ts'

const { skip } = storeServers.Redis

// Each has a server and processes of its own, and waits more than it works.
t.jobs = 3

type Mix = NonNullable<Settings['mix']>

/** What requests do that contend: updates and touches, and many ends. */
const contending: Mix = {
  read: 1, 'write a': 2, 'write b': 2, 'delete a': 1, update: 4, touch: 4, save: 1, destroy: 2, regenerate: 0.5, 'regenerate, keeping a': 2
}

/** Where it takes more of one thing. */
const aimed: Readonly<Record<string, Mix>> = {
  'the claim in regenerate': { 'write a': 4, update: 1, destroy: 1, 'regenerate, keeping a': 2 },
  'the liveness check before a cookie is refreshed': { 'write a': 1, touch: 4, destroy: 1 }
}

/** What is found wrong with a copy of lib, in so many seconds at most. */
async function findings(t: Test, folder: string, mix: Mix, seconds: number): Promise<Tally> {
  const stress = new Stress({
    store: 'Redis', seed: 1, processes: 2, users: 4, killEvery: Infinity, harmEvery: 40, harms: ['lose an answer'], mix, lib: pathToFileURL(`${folder}/lib/`).href
  })
  t.teardown(() => stress.close())
  await stress.start()
  await stress.load(seconds)
  return stress.tally
}

t.test('with nothing taken out, the processes of a fleet do what the promises allow', { skip, buffered: true }, async (t) => {
  const { violations, requests } = await findings(t, copyBuilt(t, ['lib', 'types']), contending, 3)
  t.same(violations, [])
  t.comment(`${requests} requests`)
})

for (const [name, mutant] of mutantsOver('redis')) {
  t.test(`without ${name}, what the processes of a fleet do is more than the promises allow`, { skip, buffered: true }, async (t) => {
    const folder = copyBuilt(t, ['lib', 'types'])
    plant(t, folder, mutant)
    const { violations, requests, seconds } = await findings(t, folder, aimed[name] ?? contending, 60)
    t.match(violations, [/^No order of these explains/], 'found')
    t.comment(`after ${requests} requests, ${seconds.toFixed(1)} s\n${violations[0]}`)
  })
}

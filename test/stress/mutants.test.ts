import { pathToFileURL } from 'node:url'
import t from 'tap'

import { copyBuilt, mutantsOver, plant } from '../races/mutants.ts'
import { storeServers } from './servers.ts'
import { Stress } from './stress.ts'

/** Those who contend: few keys, many ends. */
const mix = {
  read: 1, 'write a': 2, 'write b': 2, 'delete a': 1, update: 4, touch: 4, save: 1, destroy: 2, regenerate: 0.5, 'regenerate, keeping a': 1.5
}

for (const [name, mutant] of mutantsOver('redis')) {
  t.test(`without ${name} in the processes of a fleet, what they do is not what the promises allow`, { skip: storeServers.Redis.skip }, async (t) => {
    const folder = copyBuilt(t, ['lib', 'types'])
    plant(t, folder, mutant)
    const stress = new Stress({
      store: 'Redis', seed: 1, processes: 2, users: 4, killEvery: Infinity, harmEvery: 40, harms: ['lose an answer'], mix, lib: pathToFileURL(`${folder}/lib/`).href
    })
    t.teardown(() => stress.close())
    await stress.start()
    await stress.load(30)
    const { violations, requests, seconds } = stress.tally
    t.equal(violations.length, 1, 'found')
    t.comment(`after ${requests} requests, ${seconds.toFixed(1)} s\n${violations[0]}`)
  })
}

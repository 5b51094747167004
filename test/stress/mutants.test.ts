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
  read: 1,
  'write a': 2,
  'write b': 2,
  'delete a': 1,
  update: 4,
  touch: 4,
  save: 1,
  destroy: 2,
  regenerate: 0.5,
  'regenerate, keeping a': 2
}

/** What requests do where sessions move. */
const moving: Mix = {
  read: 2,
  'write a': 3,
  'write b': 2,
  update: 2,
  touch: 1,
  save: 1,
  destroy: 1.5,
  regenerate: 0.5,
  'regenerate, keeping a': 3
}

/**
 * What clients do not see: nothing comes late there, and of a successor that is left behind or
 * removed too early nobody has the id. And what makes histories too wrong to search: each request
 * with an old id goes on with another's session.
 */
const unseen: ReadonlySet<string> = new Set([
  'the new id after a creation that may come late',
  'the removal of a successor to which nothing moves',
  'the successor of a move of unknown outcome',
  'the distance between an old id and what became of its session'
])

/** Where it takes more of one thing. */
const aimed: Readonly<Record<string, Mix>> = {
  'the liveness check before a cookie is refreshed': { 'write a': 1, touch: 4, destroy: 1 }
}

/** What is found wrong with a copy of lib, in so many seconds at most. */
async function findings(t: Test, folder: string, mix: Mix, seconds: number): Promise<Tally> {
  const stress = new Stress({
    store: 'Redis',
    seed: 1,
    processes: 2,
    users: 4,
    killEvery: Infinity,
    harmEvery: 40,
    harms: ['lose an answer'],
    mix,
    lib: pathToFileURL(`${folder}/lib/`).href
  })
  t.teardown(() => stress.close())
  await stress.start()
  await stress.load(seconds)
  return stress.tally
}

t.test(
  'with nothing taken out, the processes of a fleet do what the promises allow',
  { skip, buffered: true },
  async (t) => {
    const { violations, requests } = await findings(
      t,
      copyBuilt(t, ['lib', 'types']),
      contending,
      3
    )
    t.same(violations, [])
    t.comment(`${requests} requests`)
  }
)

for (const [name, mutant] of mutantsOver('redis').filter(([name]) => !unseen.has(name))) {
  t.test(
    `without ${name}, what the processes of a fleet do is more than the promises allow`,
    { skip, buffered: true },
    async (t) => {
      const folder = copyBuilt(t, ['lib', 'types'])
      plant(t, folder, mutant)
      const { violations, requests, seconds } = await findings(
        t,
        folder,
        aimed[name] ?? (/trace|move|old id/.test(name) ? moving : contending),
        60
      )
      t.match(
        violations[0],
        /^No order of these explains|was answered 500$|did not come back$/,
        'found'
      )
      t.comment(`after ${requests} requests, ${seconds.toFixed(1)} s\n${violations[0]}`)
    }
  )
}

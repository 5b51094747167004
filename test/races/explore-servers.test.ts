import t from 'tap'

import type { SessionStore } from '../../lib/index.ts'
import { backends } from '../helpers/backends.ts'
import { redis } from '../helpers/redis.ts'
import { explorePhase, title, type Phase } from './explore.ts'
import {
  explorePhase as exploreSubjects,
  title as subjectTitle,
  type Phase as SubjectPhase
} from './subjects/explore.ts'
import { accidents, loadLib } from './world.ts'

/** What is explored on a real server: on Redis, where a fresh store costs nothing. */
const phases: readonly (Phase & { readonly all?: number })[] = [
  { requests: 1, processes: 'one', faults: 1, noChains: true, all: 421 },
  { requests: 2, processes: 'one each', faults: 0, noChains: true, limit: 12 }
]

const lib = await loadLib()
for (const { name, skip, open } of backends.filter(({ name }) => name === 'RedisStore')) {
  for (const phase of phases) {
    t.test(
      `P1, P2, P3, P4 and P5 hold in every interleaving, on ${name}: ${title(phase)}`,
      { skip },
      async (t) => {
        const { interleavings, counterexample, seconds } = await explorePhase(lib, {
          ...phase,
          open
        })
        t.equal(counterexample, undefined)
        t.equal(interleavings, phase.all ?? interleavings)
        t.ok(interleavings > 400)
        t.comment(`${interleavings} in ${seconds.toFixed(0)} s`)
      }
    )
  }
}

/** A Redis that loses the list of a subject: so it may by a key evicted. */
async function loseOnRedis(_store: SessionStore, tag: string): Promise<void> {
  const client = await redis()
  const lists = await client.keys(`test:*{${tag}}`)
  if (lists.length > 0) await client.del(lists)
}

const ofSubjects: readonly SubjectPhase[] = [
  { requests: 1, start: 'signed in', faults: 1, events: [undefined, 'lose'] },
  { requests: 1, start: 'anonymous', faults: 1, fates: accidents, limits: ['end-oldest'] },
  { requests: 2, start: 'anonymous', faults: 0, limit: 8 },
  { requests: 2, start: 'signed in', faults: 0, limit: 4 },
  { requests: 2, start: 'anonymous', faults: 0, limits: ['refuse'], limit: 8 }
]

for (const { name, skip, open } of backends.filter(({ name }) => name === 'RedisStore')) {
  for (const phase of ofSubjects) {
    t.test(
      `P11 holds in every interleaving explored, on ${name}: ${subjectTitle(phase)}`,
      { skip },
      async (t) => {
        const { interleavings, counterexample, seconds } = await exploreSubjects(lib, {
          ...phase,
          open,
          lose: loseOnRedis
        })
        t.equal(counterexample, undefined)
        t.comment(`${interleavings} in ${seconds.toFixed(0)} s`)
      }
    )
  }
}

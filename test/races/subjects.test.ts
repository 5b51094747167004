import { pathToFileURL } from 'node:url'
import t from 'tap'

import { moving } from '../helpers/backends.ts'
import { copyBuilt, plant, subjectMutantsOver } from './mutants.ts'
import { explorePhase, title, type Phase } from './subjects/explore.ts'
import { accidents, loadLib } from './world.ts'

const events = [undefined, 'lose', 'expire'] as const
const limits = ['refuse', 'end-oldest'] as const

/** What `npm run races` explores to the end is bounded here where it takes long. */
const all: readonly Phase[] = [
  { requests: 1, start: 'anonymous', faults: 0, events },
  { requests: 1, start: 'signed in', faults: 0, events },
  { requests: 1, start: 'moved', faults: 0, events },
  { requests: 1, start: 'anonymous', faults: 1, fates: accidents },
  { requests: 1, start: 'signed in', faults: 1, fates: accidents },
  { requests: 1, start: 'anonymous', faults: 1, fates: accidents, limits },
  { requests: 2, start: 'anonymous', faults: 0 },
  { requests: 2, start: 'signed in', faults: 0, limit: 15 },
  { requests: 2, start: 'moved', faults: 0 },
  { requests: 2, start: 'anonymous', faults: 0, limits, limit: 12 },
  { requests: 2, start: 'signed in', faults: 0, limits, limit: 5 },
  { requests: 2, start: 'signed in', faults: 0, events, limit: 4 },
  { requests: 2, start: 'signed in', faults: 1, limit: 3 },
  { requests: 2, start: 'signed in', faults: 1, fates: accidents, limit: 3 },
  { requests: 3, start: 'signed in', faults: 0, limit: 2 }
]

const lib = await loadLib()
const stores = [
  { name: 'MemoryStore', open: undefined, phases: all },
  { ...moving, phases: all.slice(0, 6) }
]

for (const { name, open, phases } of stores) {
  for (const phase of phases) {
    t.test(`P11 holds in every interleaving explored: ${title(phase)} (${name})`, async (t) => {
      const { programs, interleavings, seconds, counterexample } = await explorePhase(lib, {
        ...phase,
        ...(open && { open })
      })
      t.equal(counterexample, undefined)
      t.ok(interleavings >= programs)
      t.comment(`${programs} programs, ${interleavings} interleavings, ${seconds.toFixed(1)} s`)
    })
  }
}

/** Where each of the faults is found soon. */
const aimed: Readonly<Record<string, Phase>> = {
  'the look at the list': { requests: 1, start: 'signed in', faults: 0, events },
  'the check of the stamp': {
    requests: 2,
    start: 'anonymous',
    faults: 0,
    only: ['sign in', 'end all']
  },
  'the check that none was added': {
    requests: 2,
    start: 'anonymous',
    faults: 0,
    limits,
    only: ['sign in']
  },
  'the trace of a step-up': {
    requests: 2,
    start: 'signed in',
    faults: 0,
    only: ['destroy', 'regenerate, keeping all']
  },
  'the lineage by which an end of the others spares a session': {
    requests: 2,
    start: 'signed in',
    faults: 0,
    only: ['end others', 'regenerate, keeping all']
  },
  'the stamp under which a session of the same subject signs in': {
    requests: 2,
    start: 'signed in',
    faults: 0,
    only: ['sign in', 'end others']
  },
  'the new lineage after a creation that may come late': {
    requests: 1,
    start: 'anonymous',
    faults: 1,
    fates: accidents
  }
}
const same: Readonly<Record<string, string>> = {
  'the new stamp of an end of all': 'the check of the stamp',
  'the order of a sign-in: the stamp before the check': 'the check of the stamp',
  'the count in the step that adds one': 'the check that none was added'
}

for (const [name, mutant] of subjectMutantsOver('memory')) {
  t.test(`without ${name}, P11 is found broken`, async (t) => {
    const folder = copyBuilt(t, ['lib'])
    plant(t, folder, mutant)
    const copy = await loadLib(pathToFileURL(`${folder}/lib/`))
    const phase = aimed[same[name] ?? name] as Phase
    const { counterexample, seconds } = await explorePhase(copy, phase)
    t.type(counterexample, 'string')
    t.comment(`after ${seconds.toFixed(1)} s\n${counterexample}`)
  })
}

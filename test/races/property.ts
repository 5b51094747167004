import fc from 'fast-check'

import { isSharedFault, unexplained } from './explore.ts'
import { allowedResults } from './model.ts'
import { canonical, type Program, type Request, type Step } from './program.ts'
import {
  accidents,
  resets,
  runOnce,
  type Fate,
  type Lib,
  type Move,
  type Schedule,
  type Setting
} from './world.ts'
import { nextTurn } from '../helpers/stores.ts'

/** The schedule of fast-check, which it shrinks; and what befalls one of the store calls. */
class Shrinkable implements Schedule {
  readonly #scheduler: fc.Scheduler
  readonly #fault: Fault
  #calls = 0
  #happening: Promise<void> | undefined
  #fates: (move: Move) => readonly Fate[] = () => ['answered']

  constructor(scheduler: fc.Scheduler, fault: Fault) {
    this.#scheduler = scheduler
    this.#fault = fault
  }

  add(move: Move): void {
    void this.#scheduler.schedule(Promise.resolve(), move.name).then(() => {
      const [place, fate] = [this.#calls++, this.#fault.fate]
      this.#happening = move.make(
        place === this.#fault.at && this.#fates(move).includes(fate) ? fate : 'answered'
      )
    })
  }

  async take(fates: (move: Move) => readonly Fate[]): Promise<boolean> {
    if (this.#scheduler.count() === 0) return false
    this.#fates = fates
    await this.#scheduler.waitNext(1)
    await nextTurn()
    await this.#happening
    return true
  }
}

interface Fault {
  readonly at: number
  readonly fate: Fate
}

const step = fc.constantFrom<Step>(
  'read',
  'write a',
  'write b',
  'delete a',
  'touch',
  'update',
  'save',
  'destroy',
  'regenerate',
  'regenerate, keeping a'
)
// Some have the id from before a move, if there was one.
const isOld = fc.boolean()
const request = (most: number): fc.Arbitrary<Request> =>
  fc.oneof(
    {
      weight: 7,
      arbitrary: fc.record({
        steps: fc.array(step, { minLength: 1, maxLength: most }),
        transport: fc.constantFrom('cookie', 'header'),
        isOld
      })
    },
    {
      weight: 1,
      arbitrary: fc.record({
        steps: fc.constant<Step[]>(['end']),
        transport: fc.constant('none'),
        isOld
      })
    }
  )
const requests = fc.oneof(
  ...(
    [
      [2, 3],
      [3, 2],
      [4, 1]
    ] as const
  ).map(([count, steps]) => fc.array(request(steps), { minLength: count, maxLength: count }))
)
const program: fc.Arbitrary<Program> = fc
  .record({ requests, expire: fc.boolean(), hasMoved: fc.boolean() })
  .map((made) =>
    made.hasMoved
      ? made
      : { ...made, requests: made.requests.map((one) => ({ ...one, isOld: false })) }
  )
const fault: fc.Arbitrary<Fault> = fc.record({
  at: fc.nat(9),
  fate: fc.constantFrom<Fate>('answered', ...resets, ...accidents)
})
/** A process of several requests does not die: which of them would? */
const inOne = [...resets, ...accidents].filter((fate) => !fate.startsWith('crashed'))

/**
 * Programs of two to four concurrent requests, in cookie and header, of up to three steps, hold to
 * the model in any interleaving, with at most one fault. Gives the smallest counterexample as a
 * person reads it, or undefined.
 *
 * @param isShown whether to look for the smallest, which takes long
 */
export async function checkPrograms(
  lib: Lib,
  numRuns: number,
  open?: Setting['open'],
  { isShown = true }: { readonly isShown?: boolean } = {}
): Promise<string | undefined> {
  const property = fc.asyncProperty(
    program,
    fc.constantFrom<Setting['processes']>('one', 'one each'),
    fault,
    fc.scheduler(),
    async (tried, processes, befalling, scheduler) => {
      const faults = befalling.fate === 'answered' ? 0 : 1
      const fates = processes === 'one' ? inOne : [...resets, ...accidents]
      const setting: Setting = { processes, faults, fates, ...(open && { open }) }
      const run = await runOnce(lib, tried, setting, new Shrinkable(scheduler, befalling))
      const isAllowed =
        allowedResults(tried, faults, run.result.told).has(canonical(run.result)) ||
        isSharedFault(tried, setting, run.result)
      const why = run.violation ?? (isAllowed ? undefined : unexplained)
      if (why !== undefined)
        throw new Error(`${why}: ${run.trace.join(', ')} → ${JSON.stringify(run.result)}`)
    }
  )
  const details = await fc.check(property, { numRuns, endOnFailure: !isShown })
  return details.failed ? fc.defaultReportMessage(details) : undefined
}

import fc from 'fast-check'

import { unexplained } from './explore.ts'
import { allowedResults } from './model.ts'
import { canonical, type Program, type Request, type Step } from './program.ts'
import { runOnce, type Fate, type Lib, type Move, type Schedule, type Setting } from './world.ts'
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
      this.#happening = move.make(place === this.#fault.at && this.#fates(move).includes(fate) ? fate : 'answered')
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
  'read', 'write a', 'write b', 'delete a', 'touch', 'update', 'save', 'destroy', 'regenerate', 'regenerate, keeping a'
)
const request = (most: number): fc.Arbitrary<Request> => fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: most }),
  transport: fc.constantFrom('cookie', 'header')
})
const requests = fc.oneof(...([[2, 3], [3, 2], [4, 1]] as const).map(([count, steps]) => (
  fc.array(request(steps), { minLength: count, maxLength: count })
)))
const program: fc.Arbitrary<Program> = fc.record({ requests, expire: fc.boolean() })
const fault: fc.Arbitrary<Fault> = fc.record({ at: fc.nat(9), fate: fc.constantFrom('answered', 'lost', 'failed') })

/**
 * Programs of two to four concurrent requests, in cookie and header, of up to three steps, hold to the model in any interleaving,
 * with at most one fault. Gives the smallest counterexample as a person reads it, or undefined.
 */
export async function checkPrograms(lib: Lib, numRuns: number, open?: Setting['open']): Promise<string | undefined> {
  const property = fc.asyncProperty(program, fc.constantFrom('one', 'one each'), fault, fc.scheduler(), async (tried, processes, befalling, scheduler) => {
    const faults = befalling.fate === 'answered' ? 0 : 1
    const run = await runOnce(lib, tried, { processes, faults, ...open === undefined ? {} : { open } }, new Shrinkable(scheduler, befalling))
    const why = run.violation ?? (allowedResults(tried, faults, run.result.told).has(canonical(run.result)) ? undefined : unexplained)
    if (why !== undefined) throw new Error(`${why}: ${run.trace.join(', ')} → ${JSON.stringify(run.result)}`)
  })
  const details = await fc.check(property, { numRuns })
  return details.failed ? fc.defaultReportMessage(details) : undefined
}

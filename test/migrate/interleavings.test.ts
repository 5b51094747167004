import { AsyncLocalStorage } from 'node:async_hooks'

import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import { MemoryStore } from '../../lib/index.ts'
import { carryOver } from '../../lib/migrate/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { formerSecret, ofExpress, OldStore } from '../helpers/former.ts'
import { serve } from '../helpers/serve.ts'
import { nextTurn, WatchedStore } from '../helpers/stores.ts'

/** Which request a call of a store belongs to. */
const requests = new AsyncLocalStorage<number>()

/**
 * Holds every call of both stores, before it takes effect and before its answer, until it is let
 * go on. One that is never let go on belongs to a process that has died; one that goes on after the
 * deadline takes effect late.
 */
class Holder {
  #held: { readonly request: number; readonly goOn: () => void }[] = []
  /** First goes on who comes first here. */
  #order: number[] = []
  #isOpen = true

  async stop(): Promise<void> {
    if (this.#isOpen) return
    const request = requests.getStore() ?? 0
    await new Promise<void>((resolve) => this.#held.push({ request, goOn: resolve }))
  }

  hold(order: readonly number[]): void {
    this.#isOpen = false
    this.#order = [...order]
  }

  /** Lets a call of the first request that has one go on. Returns whether there is one. */
  step(): boolean {
    const next = this.#next
    if (next === undefined) return false
    this.#take(next)?.goOn()
    return true
  }

  /** The first request that has a call is the last from now on. */
  demote(): void {
    const next = this.#next
    if (next !== undefined) this.#order = [...this.#order.filter((each) => each !== next), next]
  }

  /** Its process dies. */
  drop(): void {
    const next = this.#next
    if (next !== undefined) this.#take(next)
  }

  open(): void {
    this.#isOpen = true
    for (const { goOn } of this.#held.splice(0)) goOn()
  }

  get #next(): number | undefined {
    return this.#order.find((each) => this.#held.some(({ request }) => request === each))
  }

  #take(next: number): { readonly goOn: () => void } | undefined {
    const index = this.#held.findIndex(({ request }) => request === next)
    return this.#held.splice(index, 1)[0]
  }
}

let runs = 0

/** What a request came to. */
type Seen = 'ada' | 'nobody' | 'refused'

interface Schedule {
  readonly order: readonly number[]
  readonly choices: readonly number[]
  /** Whether processes may die. */
  readonly hasFaults: boolean
}

interface World {
  readonly app: FastifyInstance
  readonly clock: TestClock
  readonly old: OldStore
  readonly holder: Holder
}

async function begin(t: Test, sideBySide: boolean): Promise<World> {
  const clock = new TestClock()
  const holder = new Holder()
  const store = new WatchedStore(new MemoryStore({ clock }))
  store.intercept = async (_call, pass) => {
    await holder.stop()
    const answer = await pass()
    await holder.stop()
    return answer
  }
  const old = new OldStore()
  old.intercept = async (_verb, pass) => {
    await holder.stop()
    const answer = pass()
    await holder.stop()
    return answer
  }
  const former = carryOver({ cookie: 'connect.sid', secret: formerSecret, store: old, sideBySide })
  const { app } = await serve(t, { clock, store, carryOver: former })
  app.get('/who', async ({ session }) => session.user ?? 'nobody')
  return { app, clock, old, holder }
}

/** Runs first requests, a logout and late first requests in the order that the choices make. */
async function run(
  { app, clock, old, holder }: World,
  { order, choices, hasFaults }: Schedule
): Promise<string[]> {
  const sid = `Gk3hR0pYxJw-${(runs += 1)}`
  old.put(sid, { user: 'ada' })
  holder.hold(order)
  const wrong: string[] = []
  let isEnded = false
  let mayBeEnded = false
  const cookies: Record<string, string>[] = []

  const visit = async (headers: Record<string, string>): Promise<Seen> => {
    const [wasEnded, couldEnd] = [isEnded, mayBeEnded]
    const reply = await app.inject({ url: '/who', headers })
    const sent = reply.cookies.find(({ name }) => name === 'session_id')?.value
    if (reply.statusCode !== 200) {
      if (![409, 503].includes(reply.statusCode)) wrong.push(`a ${reply.statusCode}`)
      if (reply.headers['set-cookie'] !== undefined) wrong.push('a refusal with a cookie')
      return 'refused'
    }
    if (wasEnded && reply.payload !== 'nobody') wrong.push('back after its logout')
    if (!couldEnd && !mayBeEnded && reply.payload !== 'ada') wrong.push('logged out by nobody')
    if (sent !== undefined && reply.payload === 'ada')
      cookies.push({ cookie: `session_id=${sent}` })
    return reply.payload as Seen
  }
  const logout = async (): Promise<void> => {
    await visit(ofExpress(sid))
    const headers = cookies[0] ?? ofExpress(sid)
    mayBeEnded = true
    const reply = await app.inject({ url: '/logout', headers })
    if (reply.statusCode === 200) isEnded = true
  }
  let pending = 0
  let started = 0
  const finish = (): void => {
    pending -= 1
  }
  const start = (work: () => Promise<unknown>): void => {
    pending += 1
    void requests.run((started += 1), work).then(finish, finish)
  }
  const programs = [() => visit(ofExpress(sid)), () => visit(ofExpress(sid)), logout]
  const later = [() => visit(ofExpress(sid)), () => visit(cookies.at(-1) ?? ofExpress(sid))]
  for (const program of programs) start(program)
  for (const choice of choices) {
    for (let turn = 0; turn < 3; turn += 1) await nextTurn()
    if (pending === 0 && later.length === 0) break
    if (choice === 0) holder.demote()
    else if (choice === 1) clock.advance(700)
    else if (choice === 2 && later[0] !== undefined) start(later.shift() as () => Promise<unknown>)
    else if (choice === 3 && hasFaults) holder.drop()
    else if (!holder.step()) clock.advance(8)
  }
  holder.open()
  while (pending > 0) {
    await nextTurn()
    clock.advance(50)
  }
  // Whoever had a claim, and died, has lost it by now.
  clock.advance(2001)
  const last = visit(ofExpress(sid))
  let isDone = false
  void last.finally(() => (isDone = true))
  while (!isDone) {
    await nextTurn()
    clock.advance(50)
  }
  if (isEnded && (await last) !== 'nobody') wrong.push('back in the end')
  if (!mayBeEnded && (await last) !== 'ada') wrong.push('lost in the end')
  return wrong
}

for (const sideBySide of [false, true]) {
  const mode = sideBySide ? 'side by side' : 'once and for all'
  t.test(
    `P1, P8: no order of calls brings a former session back or loses it, ${mode}`,
    async (t) => {
      const world = await begin(t, sideBySide)
      await fc.assert(
        fc.asyncProperty(
          fc.record({
            order: fc.shuffledSubarray([1, 2, 3, 4, 5], { minLength: 5 }),
            choices: fc.array(fc.nat(24), { minLength: 60, maxLength: 160 }),
            hasFaults: fc.boolean()
          }),
          async (schedule) => {
            const wrong = await run(world, schedule)
            if (wrong.length > 0) throw new Error(wrong.join('; '))
          }
        ),
        { numRuns: Number(process.env['RUNS'] ?? 150), endOnFailure: true }
      )
    }
  )
}

import type { FastifyReply } from 'fastify'

import type { MaybePromise, Session, SessionOptions, SessionRecord, SessionStore } from '../../lib/index.ts'
import type { SessionManager } from '../../lib/manager.ts'
import type { Config } from '../../lib/options.ts'
import type { TestClock } from '../../lib/testing/index.ts'
import { nextTurn, type Aging } from '../helpers/stores.ts'
import { initialData, mark, type Data, type Program, type Request, type Result, type Step } from './program.ts'

/** The modules under test. Handed in, so that a copy of lib with a planted fault can stand in their place. */
export interface Lib {
  readonly configure: (options: SessionOptions) => Config
  readonly SessionManager: new (config: Config, announce: () => void) => SessionManager
  readonly MemoryStore: new (options: { clock: TestClock, max: number }) => SessionStore
  readonly TestClock: new () => TestClock
  readonly publicIdOf: (registration: string, id: string) => string
}

/** Loads lib from the folder that it was compiled to. */
export async function loadLib(folder: URL = new URL('../../lib/', import.meta.url)): Promise<Lib> {
  const modules = ['options.js', 'manager.js', 'stores/memory.js', 'testing/clock.js', 'identifier.js']
  return Object.assign({}, ...await Promise.all(modules.map((name) => import(new URL(name, folder).href)))) as Lib
}

/** How a program is run. */
export interface Setting {
  /** Whether all requests share a manager, or each has its own, as if it ran in another process. */
  readonly processes: 'one' | 'one each'
  /** How many store calls may fail, before they take effect or, their answer lost, after. */
  readonly faults: number
  /** What the sessions are stored in, and how time passes there. Default: the MemoryStore of the lib under test. */
  readonly open?: (clock: TestClock) => Promise<Aging>
}

/** What may befall a store call: it is answered; it takes effect, and the answer is lost; it fails without effect. */
export type Fate = 'answered' | 'lost' | 'failed'

/** Something that waits until the schedule lets it happen. */
export interface Move {
  readonly name: string
  /** Settles when it has happened; in the meantime nothing else does. */
  make(fate: Fate): Promise<void>
}

/** Decides in which order things happen. */
export interface Schedule {
  add(move: Move): void
  /** Lets one thing happen that waits, with one of the fates that it may have. False: nothing waits. */
  take(fates: (move: Move) => readonly Fate[]): Promise<boolean>
}

/** What a run was. */
export interface Run {
  /** What happened, in order. */
  readonly trace: readonly string[]
  readonly result: Result
  /** The promise that was broken on the way, if any. */
  readonly violation: string | undefined
}

const cookie = 'the-session-of-the-browser'
const maxAge = 3600

/** The store that a run sees: every call waits until the schedule lets it take effect, and is watched when it does. */
class ScheduledStore implements SessionStore {
  readonly trace: string[] = []
  /** The keys that were ever created, and until when each lives. */
  readonly expiry = new Map<string, number>()
  violation: string | undefined
  readonly #inner: SessionStore
  readonly #clock: TestClock
  readonly #schedule: Schedule
  readonly #dead = new Set<string>()

  constructor(inner: SessionStore, clock: TestClock, schedule: Schedule) {
    this.#inner = inner
    this.#clock = clock
    this.#schedule = schedule
  }

  get(key: string): Promise<SessionRecord | undefined> {
    return this.#wait('get', key, () => this.#inner.get(key))
  }

  create(key: string, record: SessionRecord): Promise<boolean> {
    return this.#wait('create', key, () => this.#inner.create(key, record), record.expiresAt)
  }

  update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    return this.#wait('update', key, () => this.#inner.update(key, record, expectedVersion), record.expiresAt)
  }

  touch(key: string, expiresAt: number): Promise<number | undefined> {
    return this.#wait('touch', key, () => this.#inner.touch(key, expiresAt), expiresAt)
  }

  delete(key: string): Promise<SessionRecord | undefined> {
    return this.#wait('delete', key, () => this.#inner.delete(key))
  }

  /** Whether a session has been ended by a request. */
  ended(key: string): boolean {
    return this.#dead.has(key)
  }

  #wait<T>(verb: string, key: string, call: () => MaybePromise<T>, expiresAt?: number): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#schedule.add({
        name: verb,
        make: async (fate) => {
          this.trace.push(fate === 'answered' ? verb : `${verb} (${fate})`)
          if (fate === 'failed') return reject(new Error('failed'))
          const answer = await call()
          if (answer !== undefined && answer !== false) this.#watch(verb, key, expiresAt)
          if (verb === 'delete') this.#dead.add(key)
          if (fate === 'lost') reject(new Error('lost'))
          else resolve(answer)
        }
      })
    })
  }

  /** P1 and P5 at every call that the store accepts. */
  #watch(verb: string, key: string, expiresAt: number | undefined): void {
    const until = this.expiry.get(key) ?? 0
    if (this.#dead.has(key)) this.violation ??= `P1: ${verb} after the end of a session`
    if (verb !== 'create' && this.#clock.now() >= until) this.violation ??= `P1: ${verb} after a session had expired`
    if (expiresAt === undefined) return
    if (expiresAt < until) this.violation ??= `P5: ${verb} shortened a life`
    this.expiry.set(key, expiresAt)
  }
}

function inMemory(lib: Lib): (clock: TestClock) => Promise<Aging> {
  return async (clock) => ({ store: new lib.MemoryStore({ clock, max: 100 }), advance: (milliseconds) => { clock.advance(milliseconds) } })
}

/** Runs a program once, in the order that the schedule gives. */
export async function runOnce(lib: Lib, program: Program, setting: Setting, schedule: Schedule): Promise<Run> {
  const clock = new lib.TestClock()
  const { store: inner, advance } = await (setting.open ?? inMemory(lib))(clock)
  const store = new ScheduledStore(inner, clock, schedule)
  let minted = 0
  const generateId = (): string => `minted-by-the-test-${String(minted++).padStart(6, '0')}`
  // The time-out is out of reach: an hour passes in one step when the sessions expire.
  const newManager = (): SessionManager => new lib.SessionManager(lib.configure({ clock, maxAge, generateId, store, storeTimeout: 1e6 }), () => {})

  const key = lib.publicIdOf('session', cookie)
  const expiresAt = clock.now() + maxAge * 1000
  await inner.create(key, { data: JSON.stringify(initialData), version: 'first', createdAt: clock.now(), expiresAt })
  store.expiry.set(key, expiresAt)

  const shared = newManager()
  const told: string[] = program.requests.map(() => '')
  let unfinished = program.requests.length
  for (const [index, request] of program.requests.entries()) {
    void serve(setting.processes === 'one' ? shared : newManager(), store, request, index).then((telling) => {
      told[index] = telling
      unfinished -= 1
    })
  }

  let expired = !program.expire
  if (program.expire) {
    schedule.add({
      name: 'expire',
      async make() {
        expired = true
        store.trace.push('expire')
        await advance(maxAge * 1000)
      }
    })
  }
  let faults = setting.faults
  const fates = ({ name }: Move): readonly Fate[] => faults > 0 && name !== 'expire' ? ['answered', 'lost', 'failed'] : ['answered']
  for (let pauses = 0; unfinished > 0 || !expired;) {
    await nextTurn()
    const before = store.trace.length
    if (!await schedule.take(fates) && unfinished > 0) {
      // Whoever still runs is pausing between two collisions.
      clock.advance(64)
      if (++pauses > 100) throw new Error(`stuck after ${store.trace.join(', ')}`)
    }
    if (/\((?:lost|failed)\)$/.test(store.trace[before] ?? '')) faults -= 1
  }

  const stored = async (publicId: string): Promise<Data | null> => {
    const record = await inner.get(publicId)
    return record === undefined ? null : JSON.parse(record.data === '' ? '{}' : record.data) as Data
  }
  const begun = (await Promise.all([...store.expiry.keys()].filter((publicId) => publicId !== key).map(stored))).filter((data) => data !== null)
  const result = { told, session: await stored(key), begun }
  await inner.close?.()
  return { trace: store.trace, result, violation: store.violation }
}

/** One request, as the plugin serves it: resolve, the handler, commit. Gives what it told its client. */
async function serve(manager: SessionManager, store: ScheduledStore, { steps, transport }: Request, index: number): Promise<string> {
  let failure: string | undefined
  try {
    const work = await manager.resolve({ id: cookie, wire: cookie, renew: false, transport, cookie: transport === 'cookie' ? cookie : undefined, browser: transport === 'cookie' })
    work.reply = reply()
    try {
      for (const step of steps) await perform(work.session as Session, step, index)
    } catch (error) {
      failure = (error as { code?: unknown }).code === 'HOLDFAST_SESSION_GONE' ? 'gone' : 'failed'
    }
    const outcome = await manager.commit(work, true, { info() {}, warn() {} })
    if (failure !== undefined && outcome.tell !== 'nothing') store.violation ??= 'a request that failed told of a session'
    if (outcome.tell !== 'id' || !outcome.confirmed) return failure ?? (outcome.tell === 'clear' ? 'clear' : 'nothing')
    // The reply leaves at once after the last store call: no other request has stepped in between.
    if (store.ended(work.key)) store.violation ??= 'P2: a dead id went out'
    return outcome.id === cookie ? 'the session' : 'its own'
  } catch {
    return failure ?? 'failed'
  }
}

/** A reply that may still carry an id, as far as the manager asks. */
function reply(): FastifyReply {
  const raw = { headersSent: false, once() {} }
  return { sent: false, raw, request: { headers: {} }, log: { info() {}, warn() {} } } as unknown as FastifyReply
}

/** Does a step, as a handler does. */
export async function perform(session: Session, step: Step, index: number): Promise<void> {
  switch (step) {
    case 'read': session.get('a'); break
    case 'write a': session.set('a', mark(index)); break
    case 'write b': session.set('b', mark(index)); break
    case 'delete a': session.set('a', undefined); break
    case 'touch': session.touch(); break
    case 'update': await session.update((draft) => { (draft as { n?: number }).n = ((draft as { n?: number }).n ?? 0) + 1 }); break
    case 'save': await session.save(); break
    case 'destroy': await session.destroy(); break
    case 'regenerate': await session.regenerate(); break
    case 'regenerate, keeping a': await session.regenerate(['a']); break
  }
}

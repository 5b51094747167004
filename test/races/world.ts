import type {
  MaybePromise,
  Session,
  SessionOptions,
  SessionRecord,
  SessionStore,
  SessionTrace
} from '../../lib/index.ts'
import type { SessionError } from '../../lib/errors.ts'
import type { Config } from '../../lib/options.ts'
import type { SessionClient } from '../../lib/session/client.ts'
import type { loadSession } from '../../lib/session/load.ts'
import type { SessionContext } from '../../lib/session/operations.ts'
import type { Writer } from '../../lib/session/write.ts'
import type { StoredSessions } from '../../lib/sessions.ts'
import type { TestClock } from '../../lib/testing/index.ts'
import type { CookieAttributes } from '../../types/session.ts'
import { nextTurn, type Aging } from '../helpers/stores.ts'
import {
  initialData,
  mark,
  type Data,
  type Program,
  type Request,
  type Result,
  type Step
} from './program.ts'

/**
 * The modules under test. Handed in, so that a copy of lib with a planted fault can stand in their
 * place.
 */
export interface Lib {
  readonly configure: (options: SessionOptions, serializeCookie: () => string) => Config
  readonly loadSession: typeof loadSession
  readonly Writer: new (config: Config) => Writer
  readonly StoredSessions: typeof StoredSessions
  readonly SessionError: typeof SessionError
  readonly MemoryStore: new (options: { clock: TestClock; max: number }) => SessionStore
  readonly TestClock: new () => TestClock
  readonly publicIdOf: (registration: string, id: string) => string
}

/** Loads lib from the folder that it was compiled to. */
export async function loadLib(folder: URL = new URL('../../lib/', import.meta.url)): Promise<Lib> {
  const modules = [
    'errors.js',
    'options.js',
    'sessions.js',
    'session/load.js',
    'session/write.js',
    'session/id.js',
    'stores/memory.js',
    'testing/clock.js'
  ]
  return Object.assign(
    {},
    ...(await Promise.all(modules.map((name) => import(new URL(name, folder).href))))
  ) as Lib
}

/** How a program is run. */
export interface Setting {
  /** Whether all requests share a process, or each has one of its own. */
  readonly processes: 'one' | 'one each'
  /** How many store calls may fail. */
  readonly faults: number
  /** What befalls those. Default: the connection is reset. */
  readonly fates?: readonly Fate[]
  /**
   * What the sessions are stored in, and how time passes there. Default: the MemoryStore of the lib
   * under test.
   */
  readonly open?: (clock: TestClock) => Promise<Aging>
}

/**
 * What may befall a store call: it is answered; the connection is reset, so that it has taken
 * effect and the answer is lost, or it fails without effect; it runs out of time; its process dies.
 * `late`: it takes effect at some later instant.
 */
export type Fate = 'answered' | 'lost' | LateFate
type LateFate = `${'failed' | 'timed out' | 'crashed'}${'' | ', late'}`

export const resets: readonly Fate[] = ['lost', 'failed']
/** What else may befall a call: of all of it, a reset is the mildest. */
export const accidents: readonly Fate[] = [
  'failed, late',
  'timed out',
  'timed out, late',
  'crashed',
  'crashed, late'
]

/** Something that waits until the schedule lets it happen. */
export interface Move {
  readonly name: string
  /** Whether it is a call, which may fail. */
  readonly isCall: boolean
  /** Settles when it has happened; in the meantime nothing else does. */
  make(fate: Fate): Promise<void>
}

/** Decides in which order things happen. */
export interface Schedule {
  add(move: Move): void
  /**
   * Lets one thing happen that waits, with one of the fates that it may have. False: nothing waits.
   */
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
const oldCookie = 'the-session-before-its-move'
const maxAge = 3600

/** What is seen of the calls of all processes, as they take effect. */
class Watch {
  readonly trace: string[] = []
  /** The keys that were ever created, and until when each lives. */
  readonly expiry = new Map<string, number>()
  violation: string | undefined
  /** How many calls have failed that are yet to take effect. */
  late = 0
  readonly #clock: TestClock
  readonly #dead = new Set<string>()

  constructor(clock: TestClock) {
    this.#clock = clock
  }

  /** Whether a session has been ended by a request. */
  ended(key: string): boolean {
    return this.#dead.has(key)
  }

  /** A call has taken effect. @param isLate long after its caller has given it up */
  seen({ verb, key, expiresAt, created }: Call, answer: unknown, isLate: boolean): void {
    const isTrace = typeof answer === 'object' && 'successor' in (answer as object)
    if (answer !== undefined && answer !== false && !isTrace) {
      this.#accepted(verb, key, expiresAt, isLate)
    }
    const hasLeft = (verb === 'retire' || verb === 'move') && answer === true
    if ((verb === 'delete' && !isTrace) || hasLeft) this.#dead.add(key)
    if (hasLeft && created !== undefined) {
      this.#accepted('create', created.key, created.expiresAt, isLate)
    }
  }

  /** P1 and P5 at every call that the store accepts. */
  #accepted(verb: string, key: string, expiresAt: number | undefined, isLate: boolean): void {
    const until = this.expiry.get(key) ?? 0
    if (this.#dead.has(key)) this.violation ??= `P1: ${verb} after the end of a session`
    if (verb !== 'create' && this.#clock.now() >= until)
      this.violation ??= `P1: ${verb} after a session had expired`
    if (expiresAt === undefined) return
    if (expiresAt < until && !isLate) this.violation ??= `P5: ${verb} shortened a life`
    this.expiry.set(key, Math.max(expiresAt, until))
  }
}

interface Call {
  readonly verb: string
  readonly key: string
  readonly expiresAt?: number | undefined
  /** What a move creates. */
  readonly created?: { readonly key: string; readonly expiresAt: number }
}

/**
 * The store that a process sees: every call waits until the schedule lets it take effect, and is
 * watched when it does.
 */
class ScheduledStore implements SessionStore {
  /** There if the store has it. */
  readonly move?: Required<SessionStore>['move']
  readonly #inner: SessionStore
  readonly #watch: Watch
  readonly #line: Line

  constructor(inner: SessionStore, line: Line & { readonly watch: Watch }) {
    this.#inner = inner
    this.#watch = line.watch
    this.#line = line
    if (inner.move === undefined) return
    const able = inner as Required<SessionStore>
    this.move = (key, record, trace) => {
      const created = { key: trace.successor, expiresAt: record.expiresAt }
      return this.#wait({ verb: 'move', key, created }, () => able.move(key, record, trace))
    }
  }

  get(key: string): Promise<SessionRecord | SessionTrace | undefined> {
    return this.#wait({ verb: 'get', key }, () => this.#inner.get(key))
  }

  create(key: string, record: SessionRecord): Promise<boolean> {
    const { expiresAt } = record
    return this.#wait({ verb: 'create', key, expiresAt }, () => this.#inner.create(key, record))
  }

  update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    const { expiresAt } = record
    return this.#wait({ verb: 'update', key, expiresAt }, () =>
      this.#inner.update(key, record, expectedVersion)
    )
  }

  touch(key: string, expiresAt: number): Promise<number | undefined> {
    return this.#wait({ verb: 'touch', key, expiresAt }, () => this.#inner.touch(key, expiresAt))
  }

  delete(key: string): Promise<SessionRecord | SessionTrace | true | undefined> {
    return this.#wait({ verb: 'delete', key }, () => this.#inner.delete(key))
  }

  retire(key: string, trace: SessionTrace): Promise<boolean> {
    return this.#wait({ verb: 'retire', key }, () => this.#inner.retire(key, trace))
  }

  #wait<T>(call: Call, take: () => MaybePromise<T>): Promise<T> {
    return scheduleCall(this.#line, call.verb, take, (answer, isLate) => {
      this.#watch.seen(call, answer, isLate)
    })
  }
}

/** Where the calls of a process wait. */
export interface Line {
  readonly schedule: Schedule
  readonly watch: {
    readonly trace: string[]
    /** How many calls have failed that are yet to take effect. */
    late: number
  }
  /** How a call ends that runs out of time. */
  readonly timeout: () => Error
  /** How the process ends in the midst of one. */
  readonly die: () => void
}

/** Has a call wait until the schedule lets it take effect. @param seen told of what it came to */
export function scheduleCall<T>(
  { schedule, watch, timeout, die }: Line,
  verb: string,
  take: () => MaybePromise<T>,
  seen: (answer: T, isLate: boolean) => void
): Promise<T> {
  const happen = async (isLate = false): Promise<T> => {
    const answer = await take()
    seen(answer, isLate)
    return answer
  }
  /** What has failed takes effect at an instant that is yet to come. */
  const happenLater = (): void => {
    watch.late += 1
    schedule.add({
      name: `the late ${verb}`,
      isCall: false,
      make: async () => {
        watch.late -= 1
        watch.trace.push(`the late ${verb}`)
        await happen(true)
      }
    })
  }
  return new Promise((resolve, reject) => {
    schedule.add({
      name: verb,
      isCall: true,
      make: async (fate) => {
        watch.trace.push(fate === 'answered' ? verb : `${verb} (${fate})`)
        if (fate === 'answered') return resolve(await happen())
        if (fate === 'lost') await happen()
        if (fate.endsWith(', late')) happenLater()
        if (fate.startsWith('crashed')) return die()
        reject(fate.startsWith('timed out') ? timeout() : new Error(fate))
      }
    })
  })
}

export function inMemory(lib: Lib): (clock: TestClock) => Promise<Aging> {
  return async (clock) => ({
    store: new lib.MemoryStore({ clock, max: 100 }),
    advance: (milliseconds) => {
      clock.advance(milliseconds)
    }
  })
}

/** Runs a program once, in the order that the schedule gives. */
export async function runOnce(
  lib: Lib,
  program: Program,
  setting: Setting,
  schedule: Schedule
): Promise<Run> {
  const clock = new lib.TestClock()
  const { store: inner, advance } = await (setting.open ?? inMemory(lib))(clock)
  const watch = new Watch(clock)
  const told: string[] = program.requests.map(() => '')
  let unfinished = program.requests.length
  const tell = (index: number, telling: string): void => {
    told[index] = telling
    unfinished -= 1
  }
  let minted = 0
  const generateId = (): string => `minted-by-the-test-${String(minted++).padStart(6, '0')}`
  const timeout = (): Error => new lib.SessionError('HOLDFAST_STORE_TIMEOUT')
  const newProcess = (die = (): void => {}): Process => {
    const store = new ScheduledStore(inner, { schedule, watch, timeout, die })
    // The time-out is out of reach: an hour passes in one step when the sessions expire.
    const config = lib.configure({ clock, maxAge, generateId, store, storeTimeout: 1e6 }, () => '')
    return { lib, context: { config, writer: new lib.Writer(config) } }
  }

  const key = lib.publicIdOf('session', cookie)
  const oldKey = lib.publicIdOf('session', oldCookie)
  const expiresAt = clock.now() + maxAge * 1000
  const first = {
    data: JSON.stringify(initialData),
    version: 'first',
    createdAt: clock.now(),
    expiresAt
  }
  if (program.hasMoved === true) {
    await inner.create(oldKey, first)
    const trace = { successor: key, version: 'first', expiresAt: clock.now() + 10 * 60 * 1000 }
    await inner.retire(oldKey, trace)
  }
  await inner.create(key, first)
  watch.expiry.set(key, expiresAt)

  const shared = newProcess()
  for (const [index, request] of program.requests.entries()) {
    const own =
      setting.processes === 'one'
        ? shared
        : newProcess(() => {
            tell(index, 'failed')
          })
    void serve(own, watch, request, index).then((telling) => {
      tell(index, telling)
    })
  }

  let expired = !program.expire
  if (program.expire) {
    schedule.add({
      name: 'expire',
      isCall: false,
      async make() {
        expired = true
        watch.trace.push('expire')
        await advance(maxAge * 1000)
      }
    })
  }
  await play(schedule, setting, {
    clock,
    watch,
    isOver: () => unfinished === 0 && expired,
    isWaiting: () => unfinished > 0
  })

  const stored = async (publicId: string): Promise<Data | null> => {
    const record = await inner.get(publicId)
    return record?.data === undefined
      ? null
      : (JSON.parse(record.data === '' ? '{}' : record.data) as Data)
  }
  const begun = (
    await Promise.all([...watch.expiry.keys()].filter((publicId) => publicId !== key).map(stored))
  ).filter((data) => data !== null)
  const result = { told, session: await stored(key), begun }
  await inner.close?.()
  return { trace: watch.trace, result, violation: watch.violation }
}

/** What a schedule is played on. */
export interface Play {
  readonly clock: TestClock
  readonly watch: Line['watch']
  /** Whether all has happened that is to happen, but for late calls. */
  readonly isOver: () => boolean
  /** Whether a request is under way. */
  readonly isWaiting: () => boolean
  /** Called after everything that happens. */
  readonly afterEach?: () => Promise<void>
}

/** Lets one thing after the other happen, as the schedule has it, with faults where it may. */
export async function play(
  schedule: Schedule,
  { faults, fates = resets }: Pick<Setting, 'faults' | 'fates'>,
  { clock, watch, isOver, isWaiting, afterEach }: Play
): Promise<void> {
  let left = faults
  const possible: readonly Fate[] = ['answered', ...fates]
  const fatesOf = ({ isCall }: Move): readonly Fate[] =>
    left > 0 && isCall ? possible : ['answered']
  for (let pauses = 0; !isOver() || watch.late > 0;) {
    await nextTurn()
    const before = watch.trace.length
    const hasHappened = await schedule.take(fatesOf)
    if (!hasHappened && isWaiting()) {
      // Whoever still runs is pausing between two collisions.
      clock.advance(64)
      if (++pauses > 100) throw new Error(`stuck after ${watch.trace.join(', ')}`)
    }
    if (watch.trace[before]?.endsWith(')') === true) left -= 1
    if (hasHappened) await afterEach?.()
  }
}

/** What the requests of one process share. */
interface Process {
  readonly lib: Lib
  readonly context: SessionContext & { readonly config: Config }
}

/** One request, as the plugin serves it: load, the handler, commit. Gives what it told its client. */
async function serve(
  { lib, context }: Process,
  watch: Watch,
  { steps, transport, isOld = false }: Request,
  index: number
): Promise<string> {
  let failure: string | undefined
  try {
    const id = isOld ? oldCookie : cookie
    const client = new Client()
    if (transport === 'none') {
      const sessions = new lib.StoredSessions(context.config, context, client.log as never)
      return (await sessions.destroy(sessions.publicIdOf(id))) ? 'ended' : 'nothing'
    }
    const cookieId = transport === 'cookie' ? id : undefined
    const rest = { mustRenew: false, isUse: true, found: undefined, former: undefined }
    const presented = { id, transport, cookieId, ...rest }
    const session = await lib.loadSession(context, presented, client)
    try {
      for (const step of steps) await perform(session.session as Session, step, index)
    } catch (error) {
      failure = failureOf(error)
    }
    client.isCommitStarted = true
    const result = await session.commit(true)
    if (failure !== undefined && result.reply !== 'none') {
      watch.violation ??= 'a request that failed told of a session'
    }
    if (result.reply !== 'id' || !result.isConfirmed) {
      return failure ?? (result.reply === 'clear-cookie' ? 'clear' : 'nothing')
    }
    // The reply leaves at once after the last store call: no other request has stepped in between.
    if (watch.ended(session.state.identity.publicId)) watch.violation ??= 'P2: a dead id went out'
    return result.id === id ? 'the session' : 'its own'
  } catch (error) {
    return failure ?? failureOf(error)
  }
}

function failureOf(error: unknown): string {
  return (error as { code?: unknown }).code === 'HOLDFAST_SESSION_GONE' ? 'gone' : 'failed'
}

/** A client whose reply may still carry an id, as far as the session asks. */
export class Client implements SessionClient {
  readonly log = { info() {}, warn() {} }
  readonly isCommitted = false
  readonly isCookieWithheld = false
  readonly beginsWith = 'request'
  isCommitStarted = false

  canReceiveId(): boolean {
    return true
  }

  announce(): void {}
  withdraw(): void {}
  addCookieAttributes(_present: string, attributes: CookieAttributes): CookieAttributes {
    return attributes
  }
  whenClosed(): void {}
  sessionOpened(): void {}
  sessionChanged(): void {}
}

/** Does a step, as a handler does. */
export async function perform(session: Session, step: Step, index: number): Promise<void> {
  switch (step) {
    case 'read':
      session.get('a')
      break
    case 'write a':
      session.set('a', mark(index))
      break
    case 'write b':
      session.set('b', mark(index))
      break
    case 'delete a':
      session.set('a', undefined)
      break
    case 'touch':
      session.touch()
      break
    case 'update':
      await session.update((draft) => {
        ;(draft as { n?: number }).n = ((draft as { n?: number }).n ?? 0) + 1
      })
      break
    case 'save':
      await session.save()
      break
    case 'destroy':
      await session.destroy()
      break
    case 'regenerate':
      await session.regenerate()
      break
    case 'regenerate, keeping a':
      await session.regenerate(['a'])
      break
    case 'end':
      throw new Error('done without a session')
  }
}

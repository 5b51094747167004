import type { Session, SessionStore } from '../../../lib/index.ts'
import type { SessionContext } from '../../../lib/session/operations.ts'
import type { Config } from '../../../lib/options.ts'
import { subjectOf } from '../../../lib/subject-key.ts'
import { nextTurn, WatchedStore } from '../../helpers/stores.ts'
import {
  Client,
  inMemory,
  play,
  scheduleCall,
  type Lib,
  type Line,
  type Schedule,
  type Setting as AnySetting
} from '../world.ts'
import { most, type Program, type Request, type Step } from './program.ts'

export const subject = 'ada'

/** How a program is run: each request in a process of its own. */
export interface Setting extends Omit<AnySetting, 'processes'> {
  /**
   * Has a store lose what it lists of a subject. Default: its sessions end, and with them the
   * stamp, as in a store that has lost its list.
   */
  readonly lose?: (store: SessionStore, tag: string) => Promise<void>
}

/** Which session it is, whatever its id: one of those at the start, or that of a sign-in. */
export type Origin = 'first' | 'beside' | `by ${number}`

/** What a request was told, or why it failed. */
type Telling = 'nothing' | 'an id' | 'gone' | 'ended' | 'full' | 'failed'

/** What became of a request. */
export interface Outcome {
  telling: Telling
  /** The id that its client has been told. */
  id?: string
  /** The session that its id has led to, or what is left of it. Undefined: there was nothing. */
  found?: Origin
  /** Whether its write went along. */
  hasWritten?: boolean
  /** Whether it has moved the session that it found. */
  hasLeft?: boolean
  /** Whether it has signed somebody in. */
  isSignedIn?: boolean
  /** How many of its updates have resolved. */
  updates: number
  /** When its sign-in was called, and when the check of the credentials began. */
  signInAt?: number
  checkAt?: number
}

/** An end of sessions: by whom, when, and what came of it. */
export interface End {
  readonly by: number
  readonly kind: 'all' | 'others' | 'one' | 'destroy'
  /** Those that it ends, or spares. Undefined: none. */
  readonly of: Origin | undefined
  readonly calledAt: number
  /** When it was answered. Undefined: it failed, or was not. */
  settledAt?: number
  /** Of one: whether there was one. Of the others: whether its own lives. */
  answer?: boolean
  /** What it has spared, which may have been signed in once more by then. */
  spared?: Origin | undefined
}

/** What an id leads to, in the end. */
interface Found {
  readonly id: string
  readonly subject: string | undefined
  readonly origin: Origin | undefined
  /** Whose handle it has: a sign-in by a session of the same subject goes on in that. */
  readonly bears: Origin | undefined
  readonly data: Readonly<Record<string, unknown>>
}

/** What a run was. */
export interface Run {
  /** What happened, in order. */
  readonly trace: readonly string[]
  readonly outcomes: readonly Outcome[]
  readonly ends: readonly End[]
  /** What answers in the end, of all ids that there ever were. */
  readonly found: readonly Found[]
  /** The handles of what the store lists, and of what answers. */
  readonly listed: readonly string[]
  readonly answering: readonly string[]
  /** The ids that the clients had at the start. */
  readonly ids: Readonly<Record<'first' | 'beside', string>>
  /** The promise that was broken on the way, if any. */
  readonly violation: string | undefined
}

const maxAge = 3600
const codes: Readonly<Record<string, Telling>> = {
  HOLDFAST_SESSION_GONE: 'gone',
  HOLDFAST_SIGN_IN_ENDED: 'ended',
  HOLDFAST_SESSIONS_FULL: 'full',
  HOLDFAST_SESSION_NOT_FRESH: 'nothing'
}

/** Whether an end is wrong about a session that is there after it: it should have ended it. */
export function hasEnded(
  end: End,
  { origin, bears }: { readonly origin: Origin; readonly bears: Origin | undefined },
  { outcomes }: Pick<Run, 'outcomes'>
): boolean {
  if (end.settledAt === undefined) return false
  const isOf = end.of !== undefined && (end.of === origin || end.of === bears)
  if (end.kind === 'one' || end.kind === 'destroy') return isOf
  // What it goes on as by a later login is spared only if that has begun since.
  if (end.of === origin || end.spared === origin) return false
  return beganAt(origin, outcomes) < end.calledAt
}

/** When a session began: at the start, or with the check of the credentials. */
function beganAt(origin: Origin, outcomes: readonly Outcome[]): number {
  if (origin === 'first' || origin === 'beside') return 0
  return outcomes[Number(origin.slice(3))]?.checkAt ?? Infinity
}

/** Runs a program once, in the order that the schedule gives. */
export async function runOnce(
  lib: Lib,
  program: Program,
  setting: Setting,
  schedule: Schedule
): Promise<Run> {
  return new World({ lib, program, setting, schedule, opened: await open(lib, setting) }).run()
}

type Opened = Awaited<ReturnType<Required<Setting>['open']>> & {
  readonly clock: InstanceType<Lib['TestClock']>
}

/** What a run is made of. */
interface Parts {
  readonly lib: Lib
  readonly program: Program
  readonly setting: Setting
  readonly schedule: Schedule
  readonly opened: Opened
}

async function open(lib: Lib, setting: Setting): Promise<Opened> {
  const clock = new lib.TestClock()
  return { clock, ...(await (setting.open ?? inMemory(lib))(clock)) }
}

/** One run: what is stored, what happens to it, and what is noted of that. */
class World {
  readonly #lib: Lib
  readonly #program: Program
  readonly #setting: Setting
  readonly #schedule: Schedule
  readonly #opened: Opened
  readonly #watch = { trace: [] as string[], late: 0 }
  readonly #outcomes: Outcome[]
  readonly #ends: End[] = []
  readonly #ids: string[] = []
  /** What everybody sees, without a schedule. */
  readonly #aside: Process
  readonly #handles = new Map<string, Origin>()
  #instant = 0
  #unfinished: number
  #violation: string | undefined

  constructor({ lib, program, setting, schedule, opened }: Parts) {
    this.#lib = lib
    this.#program = program
    this.#setting = setting
    this.#schedule = schedule
    this.#opened = opened
    this.#aside = this.#process(opened.store)
    this.#outcomes = program.requests.map(() => ({ telling: 'nothing', updates: 0 }))
    this.#unfinished = program.requests.length
  }

  async run(): Promise<Run> {
    const { requests, event, start } = this.#program
    const { clock } = this.#opened
    const first = await this.#begin('first', start !== 'anonymous')
    const beside = await this.#begin('beside', true)
    const ids = { first, beside, old: first, nobody: undefined }
    if (start === 'moved') {
      const move = (session: Session): Promise<void> =>
        session.regenerate('all', { keepLifetime: true })
      ids.first = (await visit(this.#aside, first, move)).id as string
    }
    for (const [index, request] of requests.entries()) {
      void this.#serve(request, index, ids[request.who])
    }
    let isOver = event === undefined
    if (event !== undefined) {
      this.#schedule.add({
        name: event,
        isCall: false,
        make: async () => {
          isOver = true
          this.#watch.trace.push(event)
          if (event === 'expire') await this.#opened.advance(maxAge * 1000)
          else await this.#lose()
        }
      })
    }
    await play(this.#schedule, this.#setting, {
      clock,
      watch: this.#watch,
      isOver: () => this.#unfinished === 0 && isOver,
      isWaiting: () => this.#unfinished > 0,
      afterEach: () => this.#look()
    })
    return this.#end(ids)
  }

  /** Begins a session before the program does. */
  async #begin(origin: Origin, isSignedIn: boolean): Promise<string> {
    const { id, handle } = await visit(this.#aside, undefined, async (session) => {
      if (isSignedIn) await session.signIn(subject, { info: origin })
      session.set('a', 0)
      session.set('n', 0)
    })
    this.#handles.set(handle, origin)
    // The one is older than the other.
    this.#opened.clock.advance(1000)
    return id as string
  }

  #process(store: SessionStore): Process {
    const { clock } = this.#opened
    const { whenFull } = this.#program
    const generateId = (): string => {
      const id = `minted-by-the-test-${String(this.#ids.length).padStart(6, '0')}`
      this.#ids.push(id)
      return id
    }
    // The time-out is out of reach: an hour passes in one step when the sessions expire.
    const rest = { storeTimeout: 1e6, saveUninitialized: false }
    const options = { clock, maxAge, generateId, store, ...rest }
    const limit = whenFull && { subjectSessions: { max: most, whenFull } }
    const config = this.#lib.configure({ ...options, ...limit }, () => '')
    const context = { config, writer: new this.#lib.Writer(config) }
    const sessions = new this.#lib.StoredSessions(config, context, new Client().log as never)
    return { lib: this.#lib, context, sessions }
  }

  /** The store that a process of its own sees. */
  #scheduled(die: () => void): SessionStore {
    const store = new WatchedStore(this.#opened.store)
    const timeout = (): Error => new this.#lib.SessionError('HOLDFAST_STORE_TIMEOUT')
    const line: Line = { schedule: this.#schedule, watch: this.#watch, timeout, die }
    store.intercept = ({ verb }, pass) => scheduleCall(line, verb, pass, () => {})
    return store
  }

  /** One request, as the plugin serves it: load, the handler, commit. */
  async #serve(request: Request, index: number, id: string | undefined): Promise<void> {
    const outcome = this.#outcomes[index] as Outcome
    let isOver = false
    let moving: Loaded['state']['moving'] | undefined
    const finish = (telling: Telling): void => {
      if (isOver) return
      isOver = true
      outcome.telling = telling
      outcome.hasLeft = moving?.hasMoved === true
      this.#unfinished -= 1
    }
    const process = this.#process(
      this.#scheduled(() => {
        finish('failed')
      })
    )
    let failure: Telling | undefined
    // One that has no id to look up begins at some instant, too.
    if (id === undefined) await this.#wait('a request begins')
    try {
      const { session, client } = await load(process, id)
      ;({ moving } = session.state)
      // It may have moved by then.
      if (moving.led !== undefined) {
        outcome.found = request.who === 'beside' ? 'beside' : 'first'
      }
      try {
        for (const step of request.steps) {
          await this.#perform(process, session, step, index)
        }
      } catch (error) {
        failure = tellingOf(error)
      }
      client.isCommitStarted = true
      const result = await session.commit(failure === undefined)
      if (isOver) return
      if (result.reply === 'id' && result.isConfirmed) outcome.id = result.id
      if (failure !== undefined) return finish(failure)
      if (result.action === 'gone') return finish('gone')
      outcome.hasWritten = result.action === 'updated' || result.action === 'created'
      finish(outcome.id === undefined ? 'nothing' : 'an id')
    } catch (error) {
      finish(failure ?? tellingOf(error))
    }
  }

  /** Does a step, as a handler does. */
  async #perform(process: Process, loaded: Loaded, step: Step, index: number): Promise<void> {
    const outcome = this.#outcomes[index] as Outcome
    const session = loaded.session as Session
    const { sessions } = process
    switch (step) {
      case 'read':
        session.get('a')
        break
      case 'write':
        session.set(mark(index), true)
        break
      case 'touch':
        session.touch()
        break
      case 'update':
        await session.update((draft) => {
          ;(draft as { n?: number }).n = ((draft as { n?: number }).n ?? 0) + 1
        })
        outcome.updates += 1
        break
      case 'save':
        await session.save()
        break
      case 'destroy':
        await this.#note(index, 'destroy', outcome.found, () => session.destroy())
        break
      case 'sign in':
      case 'sign in, keeping all': {
        outcome.signInAt = this.#now()
        const isRight = await session.signIn(subject, {
          verify: () => this.#check(outcome),
          keep: step === 'sign in' ? [] : 'all',
          info: `by ${index}`
        })
        if (!isRight) throw new Error('the check was right')
        outcome.isSignedIn = true
        break
      }
      case 'reauthenticate':
        await session.reauthenticate(() => this.#check({}))
        break
      case 'regenerate, keeping all':
        await session.regenerate('all', { keepLifetime: true })
        break
      case 'regenerate, keeping a':
        await session.regenerate(['a'])
        break
      case 'end all':
        await this.#note(index, 'all', undefined, () => sessions.destroyAll(subject))
        break
      case 'end others': {
        if (session.subject === undefined) break
        const of = outcome.isSignedIn === true ? (`by ${index}` as const) : outcome.found
        await this.#note(index, 'others', of, () =>
          sessions.destroyAll(subject, { except: session })
        )
        break
      }
      case 'end one': {
        const of = this.#program.start === 'anonymous' ? 'beside' : 'first'
        const [handle] = [...this.#handles].find(([, origin]) => origin === of) as [string, Origin]
        await this.#note(index, 'one', of, () => sessions.destroy(handle))
        break
      }
    }
  }

  /** The check of the credentials begins, and ends at an instant that the schedule gives. */
  #check(outcome: { checkAt?: number }): Promise<boolean> {
    outcome.checkAt = this.#now()
    return this.#wait('the end of a check').then(() => true)
  }

  /** Waits for an instant that the schedule gives. */
  #wait(name: string): Promise<void> {
    return new Promise((resolve) => {
      this.#schedule.add({
        name,
        isCall: false,
        make: async () => {
          this.#watch.trace.push(name)
          resolve()
        }
      })
    })
  }

  async #note(
    by: number,
    kind: End['kind'],
    of: Origin | undefined,
    work: () => Promise<unknown>
  ): Promise<void> {
    const end: End = { by, kind, of, calledAt: this.#now() }
    this.#ends.push(end)
    try {
      const answer = await work()
      end.settledAt = this.#now()
      end.answer = answer !== false
      if (kind === 'others') {
        const listed = [...(await this.#listed())]
        end.spared = listed.find(([handle]) => this.#handles.get(handle) === of)?.[1]
      }
    } catch (error) {
      // All others have ended.
      if (kind === 'others' && tellingOf(error) === 'gone') {
        end.settledAt = this.#now()
        end.answer = false
      }
      throw error
    }
  }

  #now(): number {
    return (this.#instant += 1)
  }

  /** The store loses what it lists of the subject. */
  async #lose(): Promise<void> {
    const { store } = this.#opened
    const { lose } = this.#setting
    await (lose === undefined ? store.subjects?.endAll(this.#tag()) : lose(store, this.#tag()))
  }

  #tag(): string {
    const handle = [...this.#handles.keys()].find((each) => subjectOf(each) !== undefined)
    return subjectOf(handle as string) as string
  }

  /** P11 and the limit at every instant, for what is listed. */
  async #look(): Promise<void> {
    if (this.#violation !== undefined) return
    // What has an answer by now is noted before the next thing happens.
    await nextTurn()
    const listed = await this.#listed()
    if (this.#program.whenFull !== undefined && listed.size > most) {
      this.#violation = `P11: ${listed.size} sessions, of ${most}`
    }
    for (const [handle, origin] of listed) {
      const bears = this.#handles.get(handle)
      const outcomes = this.#outcomes
      const end = this.#ends.find((each) => hasEnded(each, { origin, bears }, { outcomes }))
      if (end !== undefined) {
        this.#violation ??= `P11: session "${origin}" is there after ${nameOf(end)}`
      }
    }
  }

  async #listed(): Promise<Map<string, Origin>> {
    const { sessions } = await this.#aside.sessions.list(subject)
    return new Map(sessions.map(({ publicId, info }) => [publicId, info as Origin]))
  }

  /** Looks at all that is there in the end. */
  async #end(ids: Run['ids']): Promise<Run> {
    const listed = await this.#listed()
    const found: Found[] = []
    const answering: string[] = []
    for (const id of [...this.#ids].flatMap((each) => [each, `${each}~${this.#tag()}`])) {
      const { session } = await load(this.#aside, id)
      if (session.state.status !== 'loaded') continue
      const { subject: who } = session.session
      const { handle } = session.state.identity
      const bears = this.#handles.get(handle)
      const origin = who === undefined ? bears : listed.get(handle)
      if (who !== undefined) answering.push(handle)
      found.push({ id, subject: who, origin, bears, data: { ...session.session.data() } })
    }
    await this.#opened.store.close?.()
    return {
      trace: this.#watch.trace,
      outcomes: this.#outcomes,
      ends: this.#ends,
      found,
      listed: [...listed.keys()],
      answering,
      ids,
      violation: this.#violation
    }
  }
}

/** What the request of this index writes. */
export function mark(index: number): string {
  return `w${index}`
}

export function nameOf({ by, kind, of }: End): string {
  const ended = { all: 'end all', others: 'end others', one: 'end one', destroy: 'destroy' }[kind]
  return `${ended}${of === undefined ? '' : ` (${of})`} by request ${by}`
}

type Loaded = Awaited<ReturnType<Lib['loadSession']>>

interface Process {
  readonly lib: Lib
  readonly context: SessionContext & { readonly config: Config }
  readonly sessions: InstanceType<Lib['StoredSessions']>
}

async function load(
  { lib, context }: Process,
  id: string | undefined
): Promise<{
  readonly session: Loaded
  readonly client: Client
}> {
  const client = new Client()
  const rest = { mustRenew: false, isUse: true, found: undefined, former: undefined }
  const transport = id === undefined ? undefined : ('cookie' as const)
  const presented = { id, transport, cookieId: id, ...rest }
  return { session: await lib.loadSession(context, presented, client), client }
}

/** One request that nothing disturbs. Returns the id that it was told. */
async function visit(
  process: Process,
  id: string | undefined,
  work: (session: Session) => unknown
): Promise<{ readonly id: string | undefined; readonly handle: string }> {
  const { session, client } = await load(process, id)
  await work(session.session as Session)
  client.isCommitStarted = true
  const result = await session.commit(true)
  const { handle } = session.state.identity
  return { id: result.reply === 'id' ? result.id : undefined, handle }
}

function tellingOf(error: unknown): Telling {
  return codes[(error as { code?: string }).code ?? ''] ?? 'failed'
}

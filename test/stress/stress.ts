import { Agent, request as send, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { setTimeout as pass } from 'node:timers/promises'

import { Proxy } from '../helpers/proxy.ts'
import type { Data, Step } from '../races/program.ts'
import type { Order } from './app.ts'
import { check, explain } from './checker.ts'
import { Fleet, type Member } from './fleet.ts'
import type { History, Recorded, Told } from './history.ts'
import type { StoreName } from './open-store.ts'
import { Chance } from './random.ts'
import { storeServers, type StoreServer } from './servers.ts'

/** What is done to the store's server, and to the way there. */
type Harm = 'lose an answer' | 'cut' | 'freeze' | 'restart'

/** How to load a fleet, and what to put in its way. */
export interface Settings {
  readonly store: StoreName
  readonly seed: number
  readonly processes: number
  /** Those who log in, each with several requests under way at once. */
  readonly users: number
  /** Milliseconds from one killed process to the next, on average; Infinity for none. */
  readonly killEvery: number
  /** Milliseconds from one harm to the store to the next, on average, and which. */
  readonly harmEvery: number
  readonly harms: readonly Harm[]
  /** Which steps requests take, and how often. Default: all. */
  readonly mix?: Readonly<Partial<Record<Step, number>>>
  /** The folder of the compiled lib to run. Default: the one under test. */
  readonly lib?: string
}

/** What came of it. */
export interface Tally {
  /** Each all that was done under an id, and under those that it led to. */
  histories: number
  requests: number
  /** What took effect at an instant: a resolution, a step that reached the store, a commit. */
  operations: number
  /** Operations of which nobody knows whether they took effect. */
  unknown: number
  /** Requests that failed before their handler ran. */
  turnedAway: number
  kills: number
  harms: number
  seconds: number
  /** States that the checker went through. */
  states: number
  /** Histories that it gave up on. */
  undecided: number
  violations: string[]
}

const atOnce = 3
const requestsEach = 8
/** Seconds. */
const storeTimeout = 2

const everything: Readonly<Partial<Record<Step, number>>> = {
  read: 2,
  'write a': 3,
  'write b': 3,
  'delete a': 2,
  update: 4,
  touch: 2,
  save: 1.5,
  destroy: 0.7,
  regenerate: 0.5,
  'regenerate, keeping a': 0.7
}

/**
 * Several processes on one store, users who work with their sessions, and everything recorded and
 * checked.
 */
export class Stress {
  readonly tally: Tally = {
    histories: 0,
    requests: 0,
    operations: 0,
    unknown: 0,
    turnedAway: 0,
    kills: 0,
    harms: 0,
    seconds: 0,
    states: 0,
    undecided: 0,
    violations: []
  }
  readonly #settings: Settings
  readonly #chance: Chance
  readonly #agent = new Agent({ keepAlive: true })
  readonly #open = new Map<number, { readonly recorded: Recorded; readonly member: Member }>()
  #server!: StoreServer
  #proxy!: Proxy
  #fleet!: Fleet
  #number = 0
  #over = true

  constructor(settings: Settings) {
    this.#settings = settings
    this.#chance = new Chance(settings.seed)
  }

  async start(): Promise<this> {
    const { store, lib = new URL('../../lib/', import.meta.url).href } = this.#settings
    this.#server = await storeServers[store].open()
    this.#proxy = await new Proxy(this.#server.port).listen()
    this.#fleet = new Fleet(
      { store, url: this.#server.url(this.#proxy.port), lib, storeTimeout },
      (number, saw) => {
        this.#paused(number, saw)
      }
    )
    await this.#fleet.start(this.#settings.processes)
    return this
  }

  /** Which server it is. */
  get on(): string {
    return `${this.#server.name} ${this.#server.version}`
  }

  /**
   * Loads the fleet for so many seconds, or until something is wrong. Every user ends what he has
   * begun.
   */
  async load(seconds: number): Promise<void> {
    const { users, killEvery, harmEvery } = this.#settings
    const started = performance.now()
    this.#over = false
    const stop = setTimeout(() => {
      this.#over = true
    }, seconds * 1000)
    const harm = harmEvery === Infinity ? undefined : this.#harm()
    const kill = killEvery === Infinity ? undefined : this.#kill()
    await Promise.all(Array.from({ length: users }, () => this.#use()))
    clearTimeout(stop)
    await Promise.all([harm, kill])
    this.tally.seconds += (performance.now() - started) / 1000
    this.tally.kills = this.#fleet.kills
    this.#blame(...this.#fleet.mishaps.splice(0))
  }

  heaps(): Promise<number[]> {
    return this.#fleet.heaps()
  }

  async close(): Promise<void> {
    this.#over = true
    this.#agent.destroy()
    await this.#fleet?.close()
    await this.#proxy?.close()
    await this.#server?.close()
  }

  #blame(...violations: readonly string[]): void {
    this.tally.violations.push(...violations)
    if (this.tally.violations.length > 0) this.#over = true
  }

  // What goes wrong.

  async #kill(): Promise<void> {
    for (;;) {
      await this.#wait(this.#settings.killEvery)
      if (this.#over) return
      const { serving } = this.#fleet
      if (serving.length > 1) this.#fleet.kill(this.#chance.one(serving))
      this.tally.kills = this.#fleet.kills
    }
  }

  async #harm(): Promise<void> {
    for (;;) {
      await this.#wait(this.#settings.harmEvery)
      if (this.#over) return
      this.tally.harms += 1
      switch (this.#chance.one(this.#settings.harms)) {
        case 'lose an answer':
          void this.#proxy.loseNextAnswer()
          break
        case 'cut':
          this.#proxy.cut()
          break
        case 'freeze':
          await this.#server.freeze()
          await this.#wait(storeTimeout * 1000)
          this.#server.thaw()
          break
        case 'restart':
          await this.#server.kill()
          await this.#wait(200)
          await this.#server.start()
          break
      }
    }
  }

  /** So many milliseconds on average, by half more or less. */
  #wait(milliseconds: number): Promise<void> {
    return pass(milliseconds * this.#chance.between(0.5, 1.5))
  }

  // What users do.

  /**
   * One user after the other at one place: each works with his sessions for a while, several
   * requests at once, and then is checked.
   */
  async #use(): Promise<void> {
    while (!this.#over) {
      const user = new User(this.#chance.one(['cookie', 'header']))
      await Promise.all(
        Array.from({ length: atOnce }, async () => {
          for (let count = 0; count < requestsEach && !this.#over; count += 1)
            await this.#request(user, this.#program())
        })
      )
      // What was acknowledged is there to be found.
      for (const id of user.places.keys()) await this.#find(user, id)
      for (const history of user.histories) this.#check(history)
      await pass(0)
    }
  }

  /** Reads until there is an answer. */
  async #find(user: User, id: string): Promise<void> {
    const patience = performance.now() + 30_000
    while (!(await this.#request(user, ['read'], id))) {
      if (performance.now() > patience) return this.#blame('the store did not come back')
    }
  }

  #program(): Step[] {
    return Array.from({ length: 1 + this.#chance.below(3) }, () =>
      this.#chance.weighed(this.#settings.mix ?? everything)
    )
  }

  /**
   * Sends a request. Whether it was answered.
   *
   * @param former an id other than the one that the user holds
   */
  async #request(user: User, steps: readonly Step[], former?: string): Promise<boolean> {
    const member = await this.#anyServing()
    const ids = [...user.places.keys()]
    // Now and then a late one, with an id that has been replaced or ended.
    const carried =
      former ?? (ids.length > 0 && this.#chance.next() < 0.12 ? this.#chance.one(ids) : user.id)
    // And now and then on the other transport: one session serves both.
    const transport =
      carried !== undefined && this.#chance.next() < 0.2
        ? this.#chance.one(['cookie', 'header'] as const)
        : user.transport
    const number = (this.#number += 1)
    const recorded: Recorded = {
      number,
      transport,
      carriesId: carried !== undefined,
      under: carried === undefined ? undefined : user.places.get(carried)?.under,
      steps,
      server: member.index,
      phases: [{ invoked: performance.now(), returned: Infinity, saw: undefined }],
      told: undefined,
      faulty: false,
      unknown: undefined
    }
    this.#open.set(number, { recorded, member })
    member.underWay += 1
    let reply: Reply | undefined
    try {
      reply = await this.#post(member.port, transport, carried, { number, steps })
    } catch (error) {
      recorded.unknown = `connection lost: ${(error as { code?: unknown }).code}`
    }
    this.#open.delete(number)
    member.underWay -= 1
    this.#record(user, recorded, carried, reply)
    const answered = recorded.told !== undefined
    if (!answered) await pass(20)
    return answered
  }

  async #anyServing(): Promise<Member & { readonly port: number }> {
    for (;;) {
      const { serving } = this.#fleet
      if (serving.length > 0) return this.#chance.one(serving)
      // Who ended by itself is not started again.
      if (this.#fleet.mishaps.length >= this.#settings.processes)
        throw new Error(this.#fleet.mishaps.join('\n'))
      await pass(10)
    }
  }

  async #post(
    port: number,
    transport: 'cookie' | 'header',
    carried: string | undefined,
    order: Order
  ): Promise<Reply> {
    const body = JSON.stringify(order)
    const session =
      transport === 'header'
        ? { 'x-session-id': carried ?? 'new' }
        : {
            'sec-fetch-site': 'same-origin',
            'sec-fetch-mode': 'navigate',
            ...(carried === undefined ? {} : { cookie: `session_id=${carried}` })
          }
    const request = send({
      port,
      host: '127.0.0.1',
      method: 'POST',
      agent: this.#agent,
      headers: { 'content-type': 'application/json', 'content-length': body.length, ...session }
    })
    request.end(body)
    const [reply] = (await once(request, 'response')) as [IncomingMessage]
    reply.resume()
    await once(reply, 'end')
    const header = reply.headers['x-session-id'] as string | undefined
    const [, cookie, maxAge] =
      /^session_id=([^;]*); Max-Age=(\d+)/.exec(reply.headers['set-cookie']?.[0] ?? '') ?? []
    return {
      status: reply.statusCode as number,
      header,
      cookie,
      cleared: maxAge === '0',
      faulty: reply.headers['x-faulty'] !== undefined
    }
  }

  /** A handler waits, and shows what its session holds. */
  #paused(number: number, saw: Data): void {
    const open = this.#open.get(number)
    if (open === undefined) return
    const {
      recorded: { phases },
      member
    } = open
    Object.assign(phases.at(-1) as object, { returned: performance.now(), saw })
    const goOn = (): void => {
      if (!this.#open.has(number)) return
      phases.push({ invoked: performance.now(), returned: Infinity, saw: undefined })
      this.#fleet.goOn(member, number)
    }
    if (this.#chance.next() < 0.3) goOn()
    else setTimeout(goOn, this.#chance.between(0, 12))
  }

  // What is made of it.

  #record(
    user: User,
    recorded: Recorded,
    carried: string | undefined,
    reply: Reply | undefined
  ): void {
    const { phases, number } = recorded
    const last = phases.at(-1) as Recorded['phases'][number]
    this.tally.requests += 1
    this.tally.operations += phases.length
    if (reply?.status === 200 || reply?.status === 409) {
      last.returned = performance.now()
      recorded.told = toldBy(reply, carried)
      recorded.faulty = reply.faulty
      if (misleads(recorded, reply, carried))
        this.#blame(
          `request #${number} was answered in the header what it must not be: ${JSON.stringify(reply)}`
        )
    } else if (phases.length === 1) {
      // It was not resolved: nothing can have come of it.
      this.tally.turnedAway += 1
      if (reply === undefined || reply.status === 503) return
    } else {
      recorded.unknown ??= '503'
      if (last.returned === Infinity) this.tally.unknown += 1
    }
    if (reply !== undefined && ![200, 409, 503].includes(reply.status))
      this.#blame(`request #${number} was answered ${reply.status}`)
    const told = reply?.cookie ?? reply?.header
    // What was stored under a new id goes out, whatever the commit comes to.
    const isSaved = recorded.steps.some(stores) && told !== carried
    if (reply?.status === 503 && told !== undefined && !isSaved)
      this.#blame(`request #${number} was answered 503 with an id`)

    if (carried === undefined) this.#check({ id: '(no id)', initial: null, requests: [recorded] })
    else user.places.get(carried)?.history.requests.push(recorded)
    if (recorded.told === 'its own') {
      const id = (reply as Reply).cookie as string
      // What it holds is what the handler left in it.
      if (carried === undefined) user.begin(id, phases.at(-2)?.saw as Data)
      else user.goOn(id, carried, number)
      user.id = id
    } else if (recorded.told === 'clear') user.id = undefined
  }

  #check(history: History): void {
    const { outcome, states } = check(history)
    this.tally.histories += 1
    this.tally.states += states
    if (outcome === 'undecided') this.tally.undecided += 1
    if (outcome === 'violated' && this.tally.violations.length === 0) this.#blame(explain(history))
  }
}

interface Reply {
  readonly status: number
  readonly header: string | undefined
  readonly cookie: string | undefined
  readonly cleared: boolean
  readonly faulty: boolean
}

/**
 * The cookie goes out only with what the store has confirmed; the header also repeats what the
 * client sent.
 */
/** Tells whether a reply names an id that it must not name, or has a header it must not have. */
function misleads(
  { told, transport }: Recorded,
  { header, cookie }: Reply,
  carried: string | undefined
): boolean {
  if (told === 'gone' && (header ?? cookie) !== undefined) return true
  if (header === undefined) return false
  return transport === 'cookie' || header !== (cookie ?? carried)
}

function toldBy({ status, cookie, cleared }: Reply, carried: string | undefined): Told {
  if (status === 409) return 'gone'
  if (cleared) return 'clear'
  if (cookie === undefined) return 'nothing'
  return cookie === carried ? 'the session' : 'its own'
}

/** Who holds what the replies gave him, in the order in which they came. */
class User {
  readonly transport: 'cookie' | 'header'
  id: string | undefined
  readonly histories: (History & { readonly requests: Recorded[] })[] = []
  /** Of which history each id is, and which request was told it there. */
  readonly places = new Map<
    string,
    { readonly history: User['histories'][number]; readonly under: number | undefined }
  >()

  constructor(transport: 'cookie' | 'header') {
    this.transport = transport
  }

  /** A request without an id has begun a session. */
  begin(id: string, initial: Data): void {
    const history = { id, initial, requests: [] }
    this.histories.push(history)
    this.places.set(id, { history, under: undefined })
  }

  /** A request that carried an id was told another. */
  goOn(id: string, carried: string, under: number): void {
    const place = this.places.get(carried)
    if (place !== undefined) this.places.set(id, { history: place.history, under })
  }
}

function stores(step: Step): boolean {
  return step === 'save' || step === 'update'
}

import { once } from 'node:events'
import { Agent, request as send, type IncomingMessage } from 'node:http'
import { setTimeout as pass } from 'node:timers/promises'

import { Proxy } from '../helpers/proxy.ts'
import { Fleet, type Member } from './fleet.ts'
import type { StoreName } from './open-store.ts'
import { Chance } from './random.ts'
import { storeServers, type StoreServer } from './servers.ts'
import { check, lost, now, type Action, type Answer, type Recorded } from './subject-history.ts'

/** How to load a fleet, and what to put in its way. */
export interface SubjectSettings {
  readonly store: StoreName
  readonly seed: number
  /** Milliseconds from one killed process to the next, on average. */
  readonly killEvery: number
  /** The ports of a cluster of Redis, to which no way leads that is harmed. Default: one server. */
  readonly nodes?: readonly number[]
  /** Milliseconds from one harm to the way to the store to the next, on average. */
  readonly harmEvery: number
  /** The folder of the compiled lib to run. Default: the one under test. */
  readonly lib?: string
}

/** What came of it. */
export interface SubjectTally {
  /** Each all that was done with the sessions of one subject. */
  histories: number
  requests: number
  /** Requests of which nobody knows what came of them. */
  unknown: number
  /** Ends of all sessions, or of all others, that were answered. */
  ends: number
  kills: number
  harms: number
  violations: string[]
}

const processes = 3
const subjectsAtOnce = 3
const devicesEach = 5
const requestsEach = 12
/** Seconds. */
const storeTimeout = 2

const weights: Readonly<Record<Exclude<Action, 'sign in'>, number>> = {
  who: 4,
  write: 1,
  'step up': 1,
  list: 1,
  'sign out': 0.4,
  'end one': 0.4,
  'end others': 0.6,
  'end all': 0.4
}

/** Somebody's cookie, and the handle under which the session is listed. */
interface Device {
  cookie: string | undefined
  handle: string | undefined
}

/** Somebody with several devices, and all that they do. */
interface Person {
  readonly subject: string
  readonly history: Recorded[]
  /** What one of them has seen listed last. */
  handles: readonly string[]
}

/** Several processes on one store, and people who sign in on several devices. */
export class SubjectStress {
  readonly tally: SubjectTally = {
    histories: 0,
    requests: 0,
    unknown: 0,
    ends: 0,
    kills: 0,
    harms: 0,
    violations: []
  }
  readonly #settings: SubjectSettings
  readonly #chance: Chance
  readonly #agent = new Agent({ keepAlive: true })
  #server: StoreServer | undefined
  #proxy: Proxy | undefined
  #fleet!: Fleet
  #isOver = true
  #subjects = 0

  constructor(settings: SubjectSettings) {
    this.#settings = settings
    this.#chance = new Chance(settings.seed)
  }

  /** Which server it is. */
  get on(): string {
    return this.#server === undefined ? 'a cluster' : `${this.#server.name} ${this.#server.version}`
  }

  async start(): Promise<void> {
    const { store, nodes, lib = new URL('../../lib/', import.meta.url).href } = this.#settings
    const url = nodes === undefined ? await this.#openServer() : ''
    const settings = { store, url, nodes, lib, storeTimeout }
    const program = new URL('subject-app.js', import.meta.url)
    this.#fleet = new Fleet(settings, () => {}, program)
    await this.#fleet.start(processes)
  }

  /** Returns the address at which the store's server is reached. */
  async #openServer(): Promise<string> {
    const server = await storeServers[this.#settings.store].open()
    const proxy = await new Proxy(server.port).listen()
    this.#server = server
    this.#proxy = proxy
    return server.url(proxy.port)
  }

  /** Loads the fleet for so many seconds, or until something is wrong. */
  async load(seconds: number): Promise<void> {
    this.#isOver = false
    const stop = setTimeout(() => {
      this.#isOver = true
    }, seconds * 1000)
    const troubles = [this.#kill(), this.#harm()]
    await Promise.all(Array.from({ length: subjectsAtOnce }, () => this.#use()))
    clearTimeout(stop)
    await Promise.all(troubles)
    this.#blame(...this.#fleet.mishaps.splice(0))
  }

  async close(): Promise<void> {
    this.#isOver = true
    this.#agent.destroy()
    await this.#fleet?.close()
    await this.#proxy?.close()
    await this.#server?.close()
  }

  #blame(...violations: readonly string[]): void {
    this.tally.violations.push(...violations)
    if (this.tally.violations.length > 0) this.#isOver = true
  }

  async #kill(): Promise<void> {
    for (;;) {
      await pass(this.#settings.killEvery * this.#chance.between(0.5, 1.5))
      if (this.#isOver) return
      const { serving } = this.#fleet
      if (serving.length > 1) this.#fleet.kill(this.#chance.one(serving))
      this.tally.kills = this.#fleet.kills
    }
  }

  async #harm(): Promise<void> {
    for (;;) {
      await pass(this.#settings.harmEvery * this.#chance.between(0.5, 1.5))
      if (this.#isOver || this.#proxy === undefined) return
      this.tally.harms += 1
      if (this.#chance.next() < 0.7) void this.#proxy.loseNextAnswer()
      else this.#proxy.cut()
    }
  }

  /** One subject after the other: all its devices work at once, and then it is checked. */
  async #use(): Promise<void> {
    while (!this.#isOver) {
      const subject = `subject-${(this.#subjects += 1)}`
      const history: Recorded[] = []
      const person: Person = { subject, history, handles: [] }
      const devices = Array.from({ length: devicesEach }, (): Device => ({
        cookie: undefined,
        handle: undefined
      }))
      await Promise.all(
        devices.map(async (device) => {
          for (let count = 0; count < requestsEach && !this.#isOver; count += 1) {
            const action = this.#choose(device)
            const { answer } = await this.#request(person, device, action)
            if (answer?.listed !== undefined) person.handles = answer.listed
          }
        })
      )
      const early = check(history)
      if (early !== undefined) return this.#blame(early)
      const before = [...history]
      for (const device of devices) await this.#last(person, before, device)
      this.tally.histories += 1
      const wrong = check(history)
      if (wrong !== undefined) this.#blame(wrong)
    }
  }

  /** Asks a device once more, until there is an answer. */
  async #last(person: Person, before: readonly Recorded[], device: Device): Promise<void> {
    const { handle } = device
    const patience = performance.now() + 30_000
    for (;;) {
      const { answer } = await this.#request(person, device, 'who')
      if (performance.now() > patience) return this.#blame('the store did not come back')
      if (answer === undefined) continue
      if (answer.handle === undefined && handle !== undefined) {
        const wrong = lost(before, handle)
        if (wrong !== undefined) this.#blame(wrong)
      }
      return
    }
  }

  #choose({ cookie }: Device): Action {
    // Who signs in again does so as somebody who is signed in already.
    if (cookie === undefined || this.#chance.next() < 0.05) return 'sign in'
    return this.#chance.weighed(weights)
  }

  async #request(
    { subject, history, handles }: Person,
    device: Device,
    action: Action
  ): Promise<Recorded> {
    const handle =
      handles.length > 0 ? this.#chance.one(handles) : (device.handle ?? 'x'.repeat(43))
    const pause = this.#chance.below(8)
    const order = { action, subject, handle, pause }
    const sentAt = now()
    let answer: Answer | undefined
    let answeredAt = Infinity
    try {
      const reply = await this.#post(order, device)
      if (reply.status === 200) answer = reply.answer
      // What is refused has not taken effect; what has failed may have.
      if (reply.status < 500) answeredAt = now()
      else if (reply.status !== 503) this.#blame(`${action} was answered ${reply.status}`)
    } catch {
      await pass(10)
    }
    const recorded = { order, sentAt, answeredAt, answer }
    history.push(recorded)
    this.tally.requests += 1
    if (answeredAt === Infinity) this.tally.unknown += 1
    if (answer?.calledAt !== undefined && action !== 'end one') this.tally.ends += 1
    if (action === 'who' && answer !== undefined) device.handle = answer.handle
    return recorded
  }

  async #post(
    order: Recorded['order'],
    device: Device
  ): Promise<{ readonly status: number; readonly answer: Answer }> {
    const member = await this.#anyServing()
    member.underWay += 1
    try {
      return await this.#send(member.port, order, device)
    } finally {
      member.underWay -= 1
    }
  }

  async #send(
    port: number,
    order: Recorded['order'],
    device: Device
  ): Promise<{ readonly status: number; readonly answer: Answer }> {
    const body = JSON.stringify(order)
    const { cookie } = device
    const request = send({
      port,
      host: '127.0.0.1',
      method: 'POST',
      agent: this.#agent,
      headers: {
        'content-type': 'application/json',
        'content-length': body.length,
        'sec-fetch-site': 'same-origin',
        'sec-fetch-mode': 'navigate',
        ...(cookie === undefined ? {} : { cookie: `session_id=${cookie}` })
      }
    })
    request.end(body)
    const [reply] = (await once(request, 'response')) as [IncomingMessage]
    let text = ''
    for await (const part of reply) text += String(part)
    const [, sent, maxAge] =
      /^session_id=([^;]*); Max-Age=(\d+)/.exec(reply.headers['set-cookie']?.[0] ?? '') ?? []
    if (maxAge === '0') device.cookie = undefined
    else if (sent !== undefined) device.cookie = sent
    return { status: reply.statusCode as number, answer: JSON.parse(text || '{}') as Answer }
  }

  async #anyServing(): Promise<Member & { readonly port: number }> {
    for (;;) {
      const { serving, mishaps } = this.#fleet
      if (serving.length > 0) return this.#chance.one(serving)
      if (mishaps.length >= processes) throw new Error(mishaps.join('\n'))
      await pass(10)
    }
  }
}

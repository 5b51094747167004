import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

import type { Asked, Said } from './app.ts'
import type { AppSettings } from './open-store.ts'
import type { Data } from '../races/program.ts'

/** One place in the fleet, and the process that is there now. */
export interface Member {
  readonly index: number
  process: ChildProcess
  /** Undefined: it is not serving yet. */
  port: number | undefined
  /** Requests that were sent to it and not answered. */
  underWay: number
}

/** Several server processes. One that ends is started anew. */
export class Fleet {
  readonly members: Member[] = []
  /** Processes that were killed while they had a request to answer. */
  kills = 0
  /**
   * What must not happen in a process: rejections that nobody handles, and ends that nobody brought
   * about.
   */
  readonly mishaps: string[] = []
  readonly #settings: AppSettings
  readonly #onPause: (number: number, saw: Data) => void
  readonly #program: URL
  #closing = false

  /** @param program what each process runs */
  constructor(
    settings: AppSettings,
    onPause: (number: number, saw: Data) => void,
    program: URL = new URL('app.js', import.meta.url)
  ) {
    this.#settings = settings
    this.#onPause = onPause
    this.#program = program
  }

  async start(count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) {
      const member: Member = {
        index,
        process: this.#fork(() => member),
        port: undefined,
        underWay: 0
      }
      this.members.push(member)
    }
    while (this.serving.length < count) {
      if (this.mishaps.length > 0) throw new Error(this.mishaps.join('\n'))
      await Promise.race(this.members.map(({ process }) => once(process, 'message')))
    }
  }

  get serving(): readonly (Member & { readonly port: number })[] {
    return this.members.filter(
      (member): member is Member & { port: number } => member.port !== undefined
    )
  }

  /** As a crash does. The process that takes its place will listen on another port. */
  kill(member: Member): void {
    if (member.underWay > 0) this.kills += 1
    member.port = undefined
    member.process.kill('SIGKILL')
  }

  goOn(member: Member, number: number): void {
    this.#ask(member.process, { ask: 'go on', number })
  }

  /** Bytes in use on each heap after all garbage is gone. */
  async heaps(): Promise<number[]> {
    return await Promise.all(
      this.members.map(async ({ process }) => {
        this.#ask(process, { ask: 'heap' })
        for (;;) {
          const [said] = (await once(process, 'message')) as [Said]
          if (said.say === 'heap') return said.bytes
        }
      })
    )
  }

  async close(): Promise<void> {
    this.#closing = true
    await Promise.all(
      this.members.map(async ({ process }) => {
        if (process.exitCode !== null || process.signalCode !== null) return
        process.kill('SIGKILL')
        await once(process, 'exit')
      })
    )
  }

  #ask(process: ChildProcess, asked: Asked): void {
    // To a process that has been killed, nothing gets through.
    if (process.connected) process.send(asked, () => {})
  }

  #fork(place: () => Member): ChildProcess {
    // Without what a test runner puts into every process that is started: it weighs, and who is
    // killed can't hand in its coverage.
    const app = fork(fileURLToPath(this.#program), [JSON.stringify(this.#settings)], {
      execPath: '/usr/bin/env',
      execArgv: ['-u', 'NODE_OPTIONS', process.execPath, '--expose-gc']
    })
    app.on('message', (said: Said) => {
      if (said.say === 'paused') this.#onPause(said.number, said.saw)
      else if (said.say === 'listening') place().port = said.port
      else if (said.say === 'unhandled') this.mishaps.push(`unhandled rejection: ${said.what}`)
    })
    app.on('exit', (code, signal) => {
      if (this.#closing) return
      place().port = undefined
      // Not to be started over and over.
      if (signal !== 'SIGKILL')
        this.mishaps.push(`a server process ended by itself: ${signal ?? code}`)
      else place().process = this.#fork(place)
    })
    return app
  }
}

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import type { Test } from 'tap'
import { WebSocket } from 'ws'

/** What starts Firefox; undefined if there is none. */
export const firefoxPath: string | undefined = [
  process.env['FIREFOX_PATH'],
  'firefox-esr',
  'firefox'
].find((name) => name !== undefined && spawnSync(name, ['--version']).status === 0)

/** What Firefox asks of its maker's servers finds no way out: only localhost needs no proxy. */
const preferences = [
  ['network.proxy.type', 1],
  ['network.proxy.http', '127.0.0.1'],
  ['network.proxy.http_port', 9],
  ['network.proxy.ssl', '127.0.0.1'],
  ['network.proxy.ssl_port', 9]
]
  .map((preference) => `user_pref(${JSON.stringify(preference).slice(1, -1)});\n`)
  .join('')

/** What WebDriver BiDi says of a cookie. */
export interface Cookie {
  readonly name: string
  readonly value: { readonly value: string }
  readonly httpOnly: boolean
  readonly sameSite: string
}

/** Sends a command of WebDriver BiDi, and returns its result. */
type Send = (method: string, params: object) => Promise<Record<string, unknown>>

/** A tab of Firefox. */
export class Tab {
  readonly #send: Send
  readonly #context: string

  constructor(send: Send, context: string) {
    this.#send = send
    this.#context = context
  }

  async goto(url: string): Promise<void> {
    await this.#send('browsingContext.navigate', { context: this.#context, url, wait: 'complete' })
  }

  /** Returns the value of an expression in the page, or of the promise that it is. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#send('script.evaluate', {
      expression: `(async () => JSON.stringify({ value: await (${expression}) }))()`,
      target: { context: this.#context },
      awaitPromise: true
    })
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails))
    return (JSON.parse((result as { value: string }).value) as { value: T }).value
  }

  /** Waits until an expression is true, on whatever page it is by then. */
  async until(expression: string): Promise<void> {
    const look = `new Promise((resolve) => setTimeout(() => resolve(Boolean(${expression})), 20))`
    // A page that is left takes the question with it.
    while (!(await this.evaluate(look).catch(() => false)));
  }

  async cookies(): Promise<readonly Cookie[]> {
    const { cookies } = await this.#send('storage.getCookies', {
      partition: { type: 'context', context: this.#context }
    })
    return cookies as Cookie[]
  }
}

/** Starts Firefox, which ends with the test, and returns what opens a tab in it. */
export async function startFirefox(t: Test): Promise<() => Promise<Tab>> {
  const profile = mkdtempSync(join(tmpdir(), 'holdfast-firefox-'))
  writeFileSync(join(profile, 'user.js'), preferences)
  const firefox = spawn(
    firefoxPath as string,
    ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'],
    { stdio: ['ignore', 'ignore', 'pipe'] }
  )
  t.teardown(async () => {
    if (firefox.exitCode === null && firefox.signalCode === null) {
      firefox.kill('SIGKILL')
      await once(firefox, 'exit')
    }
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  })
  let address: string | undefined
  for await (const line of createInterface(firefox.stderr)) {
    address = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1]
    if (address !== undefined) break
  }
  firefox.stderr.resume()
  if (address === undefined) throw new Error('Firefox did not start')
  const send = await connect(t, `${address}/session`)
  await send('session.new', { capabilities: {} })
  return async () => {
    const { context } = await send('browsingContext.create', { type: 'tab' })
    return new Tab(send, context as string)
  }
}

async function connect(t: Test, address: string): Promise<Send> {
  const socket = new WebSocket(address)
  t.teardown(() => {
    socket.terminate()
  })
  await once(socket, 'open')
  const waiting = new Map<
    number,
    { resolve: (result: Record<string, unknown>) => void; reject: (error: Error) => void }
  >()
  socket.on('message', (data: Buffer) => {
    const { id, result, message } = JSON.parse(data.toString()) as {
      id?: number
      result?: Record<string, unknown>
      message?: string
    }
    const command = waiting.get(id ?? -1)
    if (result === undefined) command?.reject(new Error(message))
    else command?.resolve(result)
  })
  let last = 0
  return (method, params) => {
    const id = (last += 1)
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject })
      socket.send(JSON.stringify({ id, method, params }))
    })
  }
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'

import type { Test } from 'tap'

import { freePort } from './ports.ts'

/** A program that runs in a process of its own, and listens. */
export interface Program {
  readonly url: string
  /** What it has printed so far. */
  readonly output: () => string
  /** Ends it as an operator does. Returns its exit code. */
  readonly stop: () => Promise<number | null>
}

/** Runs a program that listens on PORT, until the test is over. Returns once it listens. */
export async function runProgram(
  t: Test,
  path: string,
  env: NodeJS.ProcessEnv = {},
  port?: number
): Promise<Program> {
  const PORT = String(port ?? (await freePort()))
  const url = `http://localhost:${PORT}`
  const child = spawn(process.execPath, [path], {
    env: { ...process.env, ...env, PORT },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  const closed = once(child, 'close') as Promise<[number | null]>
  const stop = async (): Promise<number | null> => {
    child.kill()
    return (await closed)[0]
  }
  t.teardown(async () => {
    await stop()
  })
  while (!(await listens(url))) {
    if (child.exitCode !== null) throw new Error(`${path} ended: ${output}`)
    await setTimeout(20)
  }
  return { url, output: () => output, stop }
}

async function listens(url: string): Promise<boolean> {
  try {
    await (await fetch(url)).body?.cancel()
    return true
  } catch {
    return false
  }
}

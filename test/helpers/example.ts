import { spawn } from 'node:child_process'
import { once } from 'node:events'

import type { Test } from 'tap'

import { freePort } from './ports.ts'

/** Runs a program that listens on PORT, until the test is over. */
export async function runExample(t: Test, program: string, env: Record<string, string> = {}): Promise<{ readonly url: string }> {
  const port = await freePort()
  const child = spawn(process.execPath, [program], { env: { ...process.env, ...env, PORT: String(port) }, stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(async () => {
    if (child.exitCode !== null) return
    child.kill()
    await once(child, 'close')
  })
  for (;;) {
    try {
      await fetch(`http://localhost:${port}/`)
      return { url: `http://localhost:${port}` }
    } catch {
      if (child.exitCode !== null) throw new Error(`${program} ended`)
    }
  }
}

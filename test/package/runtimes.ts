// The main path, on memory and on Redis, on other runtimes than Node.js, and on the oldest Fastify of
// the peer range, the newest, and the next major version.
import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { after, describe, test } from 'node:test'

import { nodeOf, runtimeOf } from '../helpers/nodes.ts'
import { freePort } from '../helpers/ports.ts'
import { folder, run } from './installed.ts'

const binary = [process.env['REDIS_SERVER'], 'redis-server', 'valkey-server'].find(
  (name) => name !== undefined && spawnSync(name, ['--version']).status === 0
)

/** Starts a server, which ends with the tests, and returns its address. */
async function startRedis(): Promise<string> {
  const port = String(await freePort())
  const server: ChildProcessByStdio<null, Readable, null> = spawn(
    binary as string,
    ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', tmpdir()],
    { stdio: ['ignore', 'pipe', 'ignore'] }
  )
  after(() => {
    server.kill()
  })
  for await (const line of createInterface(server.stdout)) {
    if (/ready to accept connections/i.test(line)) break
  }
  server.stdout.resume()
  return `redis://127.0.0.1:${port}`
}

const { version } = JSON.parse(
  readFileSync(join(folder, 'node_modules/fastify/package.json'), 'utf8')
) as { version: string }

interface Runtime {
  readonly name: string
  readonly program: () => string
  readonly args?: readonly string[]
  /** The name that Fastify is installed under. */
  readonly fastify: string
}

/** The version of Node.js for the next Fastify, which needs 22. */
const node = 24

const runtimes: readonly Runtime[] = [
  { name: 'Bun 1.4.5', program: () => runtimeOf('bun', '1.4.5'), fastify: 'fastify' },
  {
    name: 'Deno 2.9.6',
    program: () => runtimeOf('deno', '2.9.6'),
    args: ['run', '--allow-all'],
    fastify: 'fastify'
  },
  { name: 'Fastify 5.0.0', program: () => process.execPath, fastify: 'fastify-5.0' },
  { name: `Fastify ${version}`, program: () => process.execPath, fastify: 'fastify' },
  { name: 'Fastify 6.0.0-alpha.4', program: () => nodeOf(node), fastify: 'fastify-6' }
]

const skip = binary === undefined && 'neither redis-server nor valkey-server is installed'

describe(
  'the main path, on memory and on Redis',
  { skip, concurrency: availableParallelism() },
  async () => {
    const url = skip === false ? await startRedis() : ''
    for (const { name, program, args = [], fastify } of runtimes) {
      test(name, async () => {
        assert.equal(await run('runtimes', program(), ...args, 'main.js', fastify, url), 'works\n')
      })
    }
  }
)

// A server process under stress: its own Fastify, with the plugin over a store on a server that it
// shares with others. Whoever forked it decides when a handler goes on, and so knows between which
// instants each thing took effect.
import Fastify, { type FastifyRequest } from 'fastify'
import type { AddressInfo } from 'node:net'

import { perform } from '../races/world.ts'
import { isPlain, type Data, type Step } from '../races/program.ts'
import { WatchedStore } from '../helpers/stores.ts'
import { openStore, type AppSettings } from './open-store.ts'

/** What a process says. */
export type Said =
  | { readonly say: 'listening'; readonly port: number }
  | { readonly say: 'paused'; readonly number: number; readonly saw: Data }
  | { readonly say: 'unhandled'; readonly what: string }
  | { readonly say: 'heap'; readonly bytes: number }

/** What a process is asked: to let a handler go on, or how much memory is in use. */
export type Asked = { readonly ask: 'go on'; readonly number: number } | { readonly ask: 'heap' }

/** What a request is to do. */
export interface Order {
  readonly number: number
  readonly steps: readonly Step[]
}

const settings = JSON.parse(process.argv[2]) as AppSettings
const { lib, storeTimeout } = settings

const waiting = new Map<number, () => void>()

function say(message: Said): void {
  process.send?.(message)
}

function pause(number: number, saw: Data): Promise<void> {
  return new Promise((resolve) => {
    waiting.set(number, resolve)
    say({ say: 'paused', number, saw })
  })
}

process.on('message', (asked: Asked) => {
  if (asked.ask === 'go on') {
    waiting.get(asked.number)?.()
    waiting.delete(asked.number)
  } else {
    globalThis.gc?.()
    say({ say: 'heap', bytes: process.memoryUsage().heapUsed })
  }
})
process.on('disconnect', () => {
  process.exit()
})
process.on('unhandledRejection', (reason) => {
  say({ say: 'unhandled', what: String(reason) })
})

const { default: sessionPlugin } = (await import(
  new URL('index.js', lib).href
)) as typeof import('../../lib/index.ts')

/**
 * How many calls to the store have failed so far; and since when each waits that has not been
 * answered.
 */
let faults = 0
const unanswered = new Set<{ readonly at: number }>()

const store = new WatchedStore(await openStore(settings))
store.intercept = async (_call, pass) => {
  store.taken()
  const called = { at: performance.now() }
  unanswered.add(called)
  try {
    return await pass()
  } catch (fault) {
    faults += 1
    throw fault
  } finally {
    unanswered.delete(called)
  }
}

/** Whether a call has been given up that may still be answered. */
function isGivenUp(): boolean {
  const before = performance.now() - storeTimeout * 900
  return [...unanswered].some(({ at }) => at < before)
}

const app = Fastify()
const faultsBefore = new WeakMap<FastifyRequest, number>()
app.addHook('onRequest', async (request) => {
  faultsBefore.set(request, faults)
})
await app.register(sessionPlugin, { store, storeTimeout })
// After the commit: this hook runs behind that of the plugin.
app.addHook('onSend', async (request, reply) => {
  if (faultsBefore.get(request) !== faults || isGivenUp()) reply.header('x-faulty', 'yes')
})

app.post<{ Body: Order }>('/', async ({ session, body: { number, steps } }, reply) => {
  const seen = (): Data => session.data() as Data
  try {
    for (const step of steps) {
      if (!isPlain(step)) await pause(number, seen())
      await perform(session, step, number)
    }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'HOLDFAST_SESSION_GONE') throw error
    return await reply.code(409).send()
  }
  await pause(number, seen())
  return 'done'
})

await app.listen({ port: 0, host: '127.0.0.1' })
say({ say: 'listening', port: (app.server.address() as AddressInfo).port })

import type { FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'

import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, type Backend } from './backends.ts'
import { serve, type Served } from './serve.ts'
import { slow, WatchedStore, type Aging } from './stores.ts'

export type Serve = (options?: SessionOptions, fastifyOptions?: FastifyServerOptions) => Promise<Served>

const later: Backend = {
  name: 'MemoryStore, answering later',
  skip: false,
  open: async (clock) => ({ store: slow(new MemoryStore({ clock })), advance: (milliseconds) => { clock.advance(milliseconds) } })
}

/** Tries an attack over every store. All that one test serves share a store, and a clock that `advance` moves on. */
export function overEveryStore(t: Test, name: string, test: (t: Test, serveOver: Serve, advance: Aging['advance']) => Promise<void>): void {
  for (const backend of [...backends, later]) {
    t.test(`${name}, over ${backend.name}`, { skip: backend.skip }, async (t) => {
      const clock = new TestClock()
      const { store, advance } = await backend.open(clock)
      const watched = new WatchedStore(store)
      await test(t, (options, fastifyOptions) => serve(t, { clock, store: watched, ...options }, fastifyOptions), advance)
    })
  }
}

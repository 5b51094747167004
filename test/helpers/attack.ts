import type { FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { backends, later, memory, moving, type Backend } from './backends.ts'
import { serve, type Served } from './serve.ts'
import { nextTurn, WatchedStore, type Aging } from './stores.ts'

export type Serve = (
  options?: SessionOptions,
  fastifyOptions?: FastifyServerOptions
) => Promise<Served>

/**
 * What a test is given: all that it serves shares the store, and a clock that `advance` moves on.
 */
export interface Over {
  readonly store: WatchedStore
  readonly clock: TestClock
  readonly advance: Aging['advance']
  readonly serve: Serve
  /** From now on each call of the store fails: at once or later, as it answers. */
  readonly breakDown: () => void
}

/** Runs a test once over each of these stores. */
export function overEach(
  stores: readonly Backend[],
  t: Test,
  name: string,
  test: (t: Test, over: Over) => Promise<void>
): void {
  for (const backend of stores) {
    t.test(`${name}, over ${backend.name}`, { skip: backend.skip }, async (t) => {
      const clock = new TestClock()
      const { store: inner, advance } = await backend.open(clock)
      const store = new WatchedStore(inner)
      await test(t, {
        store,
        clock,
        advance,
        serve: (options, fastifyOptions) => serve(t, { clock, store, ...options }, fastifyOptions),
        breakDown() {
          const fail = (): never => {
            throw new Error('the store is down')
          }
          store.intercept = backend === memory ? fail : () => nextTurn().then(fail)
        }
      })
    })
  }
}

/** Tries an attack over every store. */
export function overEveryStore(
  t: Test,
  name: string,
  test: (t: Test, serveOver: Serve, advance: Aging['advance']) => Promise<void>
): void {
  overEach([...backends, later, moving], t, name, (t, { serve, advance }) =>
    test(t, serve, advance)
  )
}

import { MemoryStore } from '../../lib/index.ts'
import type { TestClock } from '../../lib/testing/index.ts'
import { postgresStore, skipPostgres } from './postgres.ts'
import { redisStore, skipRedis } from './redis.ts'
import { MovingStore, slow, type Aging } from './stores.ts'

/** A kind of store that the promises are tested on. */
export interface Backend {
  readonly name: string
  /** Why it can't be tested here; false where it can. */
  readonly skip: string | false
  /** An empty store, whose records age by the clock. */
  readonly open: (clock: TestClock) => Promise<Aging>
}

export const memory: Backend = {
  name: 'MemoryStore',
  skip: false,
  open: async (clock) => ({
    store: new MemoryStore({ clock, max: 100 }),
    advance: (milliseconds) => {
      clock.advance(milliseconds)
    }
  })
}

/** Moves a session in one step, as PostgresStore does, and needs no server. */
export const moving: Backend = {
  name: 'MemoryStore with move',
  skip: false,
  open: async (clock) => ({
    store: new MovingStore({ clock, max: 100 }),
    advance: (milliseconds) => {
      clock.advance(milliseconds)
    }
  })
}

/** Answers with promises, as a store on a server does, and needs none. */
export const later: Backend = {
  name: 'MemoryStore, answering later',
  skip: false,
  open: async (clock) => ({
    store: slow(new MemoryStore({ clock })),
    advance: (milliseconds) => {
      clock.advance(milliseconds)
    }
  })
}

export const postgres: Backend = {
  name: 'PostgresStore',
  skip: skipPostgres,
  open: (clock) => postgresStore(clock)
}

/** MemoryStore, and the stores on servers; BACKENDS=memory leaves these out. */
export const backends: readonly Backend[] =
  process.env['BACKENDS'] === 'memory'
    ? [memory]
    : [
        memory,
        { name: 'RedisStore', skip: skipRedis, open: (clock) => redisStore(clock) },
        postgres
      ]

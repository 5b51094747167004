import type { Codec } from './codec.ts'
import type { Lifetimes } from './lifetime.ts'
import type { StoreConfig } from './store-client.ts'

/** What a session needs of the configuration. Durations are in milliseconds. */
export interface SessionConfig extends StoreConfig {
  readonly lifetimes: Lifetimes
  /** By how much a touch must move the expiry to be worth a write. */
  readonly touchAfter: number
  readonly generateId: () => string
  readonly saveUninitialized: boolean
  readonly adoptUnknownIds: (id: string) => boolean
  readonly codec: Codec
}

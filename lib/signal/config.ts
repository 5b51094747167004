import type { Lifetimes } from '../session/lifetime.ts'
import type { StoreConfig } from '../session/store-client.ts'

/** What a registration watches its sessions with. */
export interface WatchConfig extends StoreConfig {
  readonly lifetimes: Lifetimes
}

import type { Codec } from './codec.ts'
import type { Data } from './merge.ts'
import type { Recent } from '../recent.ts'
import type { Lifetimes } from './lifetime.ts'
import type { StoreClient, StoreConfig } from './store-client.ts'
import type { MaybePromise } from '../../types/store.ts'

/** How many sessions a subject may have at once. */
export interface SubjectLimit {
  readonly max: number
  readonly whenFull: 'refuse' | 'end-oldest'
}

/** The sessions of the plugin that the app had before, as far as they live on beside ours. */
interface FormerEnds {
  /** Before the session under a key ends: ends the former one with it. */
  endWith(store: StoreClient, key: string): MaybePromise<void>
}

/** What a session needs of the configuration. Durations are in milliseconds. */
export interface SessionConfig extends StoreConfig {
  readonly lifetimes: Lifetimes
  /** By how much a touch must move the expiry to be worth a write. */
  readonly touchAfter: number
  readonly generateId: () => string
  /** Caches the public ids of the ids that were presented or made last. */
  readonly publicIds: Recent<string>
  readonly saveUninitialized: boolean
  readonly adoptUnknownIds: (id: string) => boolean
  readonly codec: Codec
  /** Reads from the data who is signed in. Undefined: `signIn()` says it. */
  readonly subjectOf: ((data: Data) => unknown) | undefined
  /** How many sessions a subject may have. Undefined: any number. */
  readonly subjectLimit: SubjectLimit | undefined
  /** Those of the plugin that the app had before. Undefined: it does not carry them over. */
  readonly former: FormerEnds | undefined
}

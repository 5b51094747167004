import { SessionError } from '../errors.ts'
import type { StoreClient } from './store-client.ts'
import { isTrace } from './trace.ts'
import { isPromise } from './waiting.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from '../../types/store.ts'

/** What may be under a key: a record, a trace, or what this process cannot read. */
export type Entry = SessionRecord | SessionTrace | 'unreadable'

/** Returns what the store has under a key. It may have what it cannot read. */
export function find(store: StoreClient, key: string): MaybePromise<Entry | undefined> {
  try {
    const found = store.get(key)
    return isPromise(found) ? found.catch(unreadable) : found
  } catch (error) {
    return unreadable(error)
  }
}

/** @throws any other error */
function unreadable(error: unknown): 'unreadable' {
  if (error instanceof SessionError && error.code === 'HOLDFAST_DATA_UNDECODABLE') {
    return 'unreadable'
  }
  throw error
}

/** Returns what is stored under a key, or where a trace there leads. */
export async function follow(
  store: StoreClient,
  key: string
): Promise<SessionRecord | 'unreadable' | undefined> {
  let entry = await find(store, key)
  while (isTrace(entry)) entry = await find(store, entry.successor)
  return entry
}

import { isTimeout } from '../errors.ts'
import { find, type Entry } from '../session/find.ts'
import { withStore, type StoreClient, type StoreConfig } from '../session/store-client.ts'
import { isPromise } from '../session/waiting.ts'
import type { SessionFeed, SessionLook } from '../../types/feed.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What a key leads to. Failed: the store has not said. */
export type Look = SessionLook | undefined | 'failed'

type Looks = ReadonlyMap<string, Look>

/** After how many that fail one after the other the rest is not tried, until the next time. */
const mostFailures = 3

/** By how much of the keys the next look begins further on, so that each is tried in its turn. */
const step = 0.618
let begin = 0

/**
 * Looks at several keys. One that fails does not keep the others from being seen. If several fail
 * one after the other, the store seems to be away: the others are seen in one of the next looks.
 */
export function lookAt(config: StoreConfig, keys: readonly string[]): MaybePromise<Looks> {
  const { feed } = config.store
  if (feed === undefined) return lookWithGet(config, keys)
  const retry = (error: unknown): MaybePromise<Looks> =>
    keys.length === 1 || isTimeout(error) ? failed(keys) : lookOneByOne(config, feed, keys)
  try {
    const looks = ask(config, feed, keys)
    return isPromise(looks) ? looks.catch(retry) : looks
  } catch (error) {
    return retry(error)
  }
}

/** @throws the failure of the store */
function ask(config: StoreConfig, feed: SessionFeed, keys: readonly string[]): MaybePromise<Looks> {
  const looks = withStore(config, (store) => store.look(feed, keys))
  return isPromise(looks) ? looks.then((all) => mapOf(keys, all)) : mapOf(keys, looks)
}

async function lookOneByOne(
  config: StoreConfig,
  feed: SessionFeed,
  keys: readonly string[]
): Promise<Looks> {
  const seen = new Map<string, Look>(failed(keys))
  begin = (begin + step) % 1
  const first = Math.floor(begin * keys.length)
  let failures = 0
  for (const key of [...keys.slice(first), ...keys.slice(0, first)]) {
    try {
      for (const [, look] of await ask(config, feed, [key])) seen.set(key, look)
      failures = 0
    } catch {
      failures += 1
      if (failures === mostFailures) break
    }
  }
  return seen
}

/** Looks at them all at once, by `get`. */
function lookWithGet(config: StoreConfig, keys: readonly string[]): MaybePromise<Looks> {
  const looks = keys.map((key) => getOne(config, key))
  if (looks.some(isPromise)) {
    return Promise.all(looks.map(async (look) => look)).then((all) => mapOf(keys, all))
  }
  return mapOf(keys, looks as readonly Look[])
}

function getOne(config: StoreConfig, key: string): MaybePromise<Look> {
  try {
    const found = withStore(config, (store: StoreClient) => find(store, key))
    return isPromise(found) ? found.then(lookOf, () => 'failed' as const) : lookOf(found)
  } catch {
    return 'failed'
  }
}

/** Returns what of an entry tells whether it lives. */
function lookOf(entry: Entry | undefined): SessionLook | undefined {
  return entry === 'unreadable' ? { version: '', createdAt: Infinity, expiresAt: Infinity } : entry
}

function failed(keys: readonly string[]): Looks {
  return new Map(keys.map((key) => [key, 'failed']))
}

function mapOf(keys: readonly string[], looks: readonly Look[]): Looks {
  return new Map(keys.map((key, index) => [key, looks[index]]))
}

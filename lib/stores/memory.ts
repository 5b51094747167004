import { systemClock } from '../clock.ts'
import { evicted } from '../diagnostics.ts'
import { optionError } from '../errors.ts'
import { expiryOf, hasExpired, isOfVersion, pack, unpack, withExpiry } from './packed-record.ts'
import type { Clock, Timer } from '../../types/clock.ts'
import type { SessionRecord, SessionStore } from '../../types/store.ts'

/** The options of a MemoryStore. Wrong ones throw HOLDFAST_OPTION_INVALID, which names the option and the cure. */
export interface MemoryStoreOptions {
  /**
   * The most records that are kept, expired ones that wait for the sweep among them. A new one beyond it takes the place of another:
   * first to go is one that never came back and is empty, then one that never came back, then the least recently used.
   * A small session takes some 200 bytes: a million fit into Node's default heap. Lower it where data is large. Default: 1,000,000.
   */
  max?: number
  /** Seconds between sweeps for the memory of expired records; no more than 2,147,483. Expired records are never served, swept or not. Default: 60. */
  sweepInterval?: number
  /** Where time comes from; for tests. Default: the system's. */
  clock?: Clock
}

/** The longest that a timer of Node's can be set to, in milliseconds. */
const longestTimer = 2 ** 31 - 1

/** How many records a sweep looks at in one step: some 0.3 ms if all have expired. */
const recordsPerStep = 500

/**
 * Keeps records in this process: for one process, for development and for tests. What it keeps is gone with the process.
 * Answers at once. Keeps serialised values, as a remote store does: nobody shares an object with it.
 */
export class MemoryStore implements SessionStore {
  readonly #max: number
  readonly #sweepInterval: number
  readonly #clock: Clock
  /** Those that never came back, without and with data, and those that did. Only `get` tells: the request that creates a session may touch it too. */
  readonly #empty: Tier
  readonly #unreturned: Tier
  readonly #returned: Tier
  /** In the order in which they give way. */
  readonly #tiers: readonly Tier[]
  #timer: Timer | undefined

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: MemoryStoreOptions = {}) {
    const { max = 1_000_000, sweepInterval = 60, clock = systemClock } = options
    if (!Number.isSafeInteger(max) || max < 1) throw optionError('max', 'a positive integer')
    if (typeof sweepInterval !== 'number' || !(sweepInterval > 0 && sweepInterval * 1000 <= longestTimer)) {
      throw optionError('sweepInterval', 'a positive number of seconds, no more than 2147483')
    }
    this.#max = max
    this.#sweepInterval = sweepInterval * 1000
    this.#clock = clock
    this.#empty = new Tier(max)
    this.#unreturned = new Tier(max)
    this.#returned = new Tier(max)
    this.#tiers = [this.#empty, this.#unreturned, this.#returned]
  }

  /** How many records are held; expired ones that wait for the sweep count. */
  get size(): number {
    return this.#empty.size + this.#unreturned.size + this.#returned.size
  }

  get(key: string): SessionRecord | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    this.#put(found, this.#returned, found.packed)
    return unpack(found.packed)
  }

  create(key: string, record: SessionRecord): boolean {
    if (this.#find(key) !== undefined) return false
    if (this.size >= this.#max) this.#evict()
    this.#tierOf(record).put(key, pack(record, record.expiresAt))
    if (this.#timer === undefined) this.#arm(this.#sweepInterval)
    return true
  }

  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const found = this.#find(key)
    if (found === undefined) return false
    if (!isOfVersion(found.packed, expectedVersion)) return false
    const tier = found.tier === this.#returned ? found.tier : this.#tierOf(record)
    this.#put(found, tier, pack(record, Math.max(record.expiresAt, expiryOf(found.packed))))
    return true
  }

  touch(key: string, expiresAt: number): number | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    const furthest = Math.max(expiresAt, expiryOf(found.packed))
    this.#put(found, found.tier, withExpiry(found.packed, furthest))
    return furthest
  }

  delete(key: string): SessionRecord | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    this.#remove(found)
    return unpack(found.packed)
  }

  /** Forgets every record, and sweeps no more. */
  close(): void {
    for (const tier of this.#tiers) tier.clear()
    this.#disarm()
  }

  /** The live entry of a key. One that has expired goes as it is met. */
  #find(key: string): Entry | undefined {
    // Most requests are of those that come back.
    for (let at = this.#tiers.length - 1; at >= 0; at -= 1) {
      const tier = this.#tiers[at]
      const packed = tier.get(key)
      if (packed === undefined) continue
      const entry = { tier, key, packed }
      if (!hasExpired(packed, this.#clock.now())) return entry
      this.#remove(entry)
    }
  }

  /** The tier of a record that has not come back. */
  #tierOf(record: SessionRecord): Tier {
    return record.data === '' ? this.#empty : this.#unreturned
  }

  /** Puts a record, stored anew or as it was, at the end of a tier. */
  #put({ tier: before, key }: Entry, tier: Tier, packed: string): void {
    if (tier !== before) before.delete(key)
    tier.put(key, packed)
  }

  #remove({ tier, key }: Entry): void {
    tier.delete(key)
    if (this.size === 0) this.#disarm()
  }

  /** Makes room for one in a store that is full: of those that are next in their tiers, one that has expired, else that of the first tier. */
  #evict(): void {
    const now = this.#clock.now()
    const next = this.#tiers.flatMap((tier) => tier.oldest() ?? [])
    const expired = next.find((each) => hasExpired(each.packed, now))
    const entry = expired ?? next[0]
    this.#remove(entry)
    if (expired === undefined && evicted.hasSubscribers) evicted.publish({ session: entry.key, returned: entry.tier === this.#returned })
  }

  /** One timer for all records, so that a life may be longer than a timer can; it never holds the process. */
  #arm(milliseconds: number, pass?: Iterator<Entry, undefined>): void {
    this.#timer = this.#clock.setTimeout(() => { this.#sweep(pass ?? this.#entries()) }, milliseconds)
    this.#timer.unref()
  }

  #disarm(): void {
    this.#timer?.close()
    this.#timer = undefined
  }

  /** One step of a sweep; the next follows when others have had their turn. */
  #sweep(pass: Iterator<Entry, undefined>): void {
    this.#timer = undefined
    const now = this.#clock.now()
    for (let count = 0; count < recordsPerStep; count += 1) {
      const { value: entry } = pass.next()
      if (entry === undefined) {
        if (this.size > 0) this.#arm(this.#sweepInterval)
        return
      }
      if (hasExpired(entry.packed, now)) entry.tier.delete(entry.key)
    }
    this.#arm(0, pass)
  }

  *#entries(): Generator<Entry, undefined> {
    for (const tier of this.#tiers) yield * tier.entries()
  }
}

/** A record and its place. */
interface Entry {
  readonly tier: Tier
  readonly key: string
  readonly packed: string
}

/** A Map that grows copies itself in one go: of this many entries in some 0.3 ms, of a million in 100 ms. */
const entriesPerShard = 2000
const mostShards = 4096

class Shard extends Map<string, string> {
  /** The key that was put last. */
  newest: string | undefined
}

/** Packed records in the order in which they go: exact within a shard, and so with up to 2000 records; nearly so across shards. */
class Tier {
  size = 0
  readonly #shards: readonly Shard[]
  #turn = 0

  constructor(max: number) {
    this.#shards = Array.from({ length: Math.min(Math.ceil(max / entriesPerShard), mostShards) }, () => new Shard())
  }

  get(key: string): string | undefined {
    return this.#shardOf(key).get(key)
  }

  /** Puts a record at the end, whether it is in the tier or not. */
  put(key: string, packed: string): void {
    const shard = this.#shardOf(key)
    const before = shard.size
    // What is at the end already stays there: a page asks for its session many times in a row, and to take out and put back costs the most.
    if (shard.newest !== key) shard.delete(key)
    shard.set(key, packed)
    shard.newest = key
    this.size += shard.size - before
  }

  delete(key: string): void {
    if (this.#shardOf(key).delete(key)) this.size -= 1
  }

  /** The oldest entry of a shard: of another shard every time. */
  oldest(): Entry | undefined {
    while (this.size > 0) {
      this.#turn = (this.#turn + 1) % this.#shards.length
      const first = this.#shards[this.#turn].entries().next()
      if (first.done !== true) return { tier: this, key: first.value[0], packed: first.value[1] }
    }
  }

  *entries(): Generator<Entry, void> {
    if (this.size === 0) return
    for (const shard of this.#shards) {
      for (const [key, packed] of shard) yield { tier: this, key, packed }
    }
  }

  clear(): void {
    for (const shard of this.#shards) shard.clear()
    this.size = 0
  }

  /** By the last characters (FNV-1a): keys that are made one after the other differ there. */
  #shardOf(key: string): Shard {
    let hash = 0
    for (let at = Math.max(0, key.length - 8); at < key.length; at += 1) hash = Math.imul(hash ^ key.charCodeAt(at), 16_777_619)
    return this.#shards[(hash >>> 0) % this.#shards.length]
  }
}

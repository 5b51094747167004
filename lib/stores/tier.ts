import { hasExpired } from './packed-record.ts'

/** A packed record or trace, its key, and the tier that holds it. */
export interface Entry {
  readonly tier: Tier
  readonly key: string
  readonly packed: string
}

/**
 * The number of records that a shard is meant for. A `Map` that grows copies all of its entries at
 * once: that takes about 0.3 ms at this size, and 100 ms at a million entries.
 */
const entriesPerShard = 2000
const maxShards = 4096

/**
 * The number of entries that a shard loses in a row. A `Map` in which the oldest were deleted takes
 * a while to find the first that is left.
 */
const entriesPerTurn = 32

class Shard extends Map<string, string> {
  /** The key that was put last, even if it has been deleted since. */
  newest: string | undefined
}

/**
 * Packed records, ordered by when they were last put. The order is exact within a shard, and so for
 * a tier of up to 2000 records; across shards it is approximate.
 */
export class Tier {
  size = 0
  readonly #shards: readonly Shard[]
  /** Index of the shard that `oldest()` looked at last. */
  #current = 0

  /** @param max the number of records that the tier is meant for */
  constructor(max: number) {
    this.#shards = Array.from(
      { length: Math.min(Math.ceil(max / entriesPerShard), maxShards) },
      () => new Shard()
    )
  }

  get(key: string): string | undefined {
    return this.#shardOf(key).get(key)
  }

  /** Adds a record, or replaces the one under the key. The record becomes the newest. */
  put(key: string, packed: string): void {
    const shard = this.#shardOf(key)
    const sizeBefore = shard.size
    // Deleting and adding again is the expensive part, and the newest record need not move: a page
    // often requests the same session many times in a row.
    if (shard.newest !== key) shard.delete(key)
    shard.set(key, packed)
    shard.newest = key
    this.size += shard.size - sizeBefore
  }

  /** Replaces what is under the key. It keeps its place in the order. */
  replace(key: string, packed: string): void {
    this.#shardOf(key).set(key, packed)
  }

  delete(key: string): void {
    if (this.#shardOf(key).delete(key)) this.size -= 1
  }

  /**
   * Yields the entries that are next in line: the oldest of the next shard that has any, then those
   * of the one after it. Each but one is to be deleted before the next one is asked for.
   */
  *oldest(): Generator<Entry, undefined> {
    while (this.size > 0) {
      this.#current = (this.#current + 1) % this.#shards.length
      let count = 0
      for (const [key, packed] of this.#shards[this.#current]) {
        yield { tier: this, key, packed }
        count += 1
        if (count === entriesPerTurn) break
      }
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

  #shardOf(key: string): Shard {
    return this.#shards[hashOf(key) % this.#shards.length]
  }
}

/** The key that was hashed last: a store looks into several tiers for the same one. */
const last = { key: '', hash: 0 }

/** Hashes the last 8 characters (FNV-1a): keys made one after another differ at the end. */
function hashOf(key: string): number {
  if (key !== last.key) {
    let hash = 0
    for (let index = Math.max(0, key.length - 8); index < key.length; index += 1)
      hash = Math.imul(hash ^ key.charCodeAt(index), 16_777_619)
    last.key = key
    last.hash = hash >>> 0
  }
  return last.hash
}

/** The entries of a tier, in the order in which they are evicted. */
export class Line {
  /** The next one. */
  first: Entry | undefined
  /** Whether the next one has expired. */
  isExpired = false
  readonly #tier: Tier
  readonly #entries: Iterator<Entry, undefined>
  readonly #now: number
  readonly #spared: string | undefined

  /** @param spared the key of an entry that is not evicted */
  constructor(tier: Tier, now: number, spared: string | undefined) {
    this.#tier = tier
    this.#entries = tier.oldest()
    this.#now = now
    this.#spared = spared
    this.advance()
  }

  /** Goes on, after the first was deleted. */
  advance(): void {
    do {
      this.first = this.#entries.next().value
      // Nobody else is in it.
      if (this.first?.key === this.#spared && this.#tier.size === 1) this.first = undefined
    } while (this.first !== undefined && this.first.key === this.#spared)
    this.isExpired = this.first !== undefined && hasExpired(this.first.packed, this.#now)
  }
}

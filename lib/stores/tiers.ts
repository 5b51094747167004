import { SessionError } from '../errors.ts'
import { entryMemory, isTrace, memoryOf, packedMemory } from './packed-record.ts'
import { Line, Tier, type Entry } from './tier.ts'
import { subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'

interface Settings {
  /** The most records. */
  readonly max: number
  /** The most bytes of memory. */
  readonly maxMemory: number
  readonly clock: Clock
  /** Called when a record was removed. It must change none. */
  readonly removed: (entry: Entry) => void
}

/** The packed records of a MemoryStore, within its bounds, in the order in which they give way. */
export class Tiers {
  readonly #settings: Settings
  // A session counts as requested again after a `get`. A `touch` does not count: the request that
  // creates a session may touch it too.
  /** Sessions without data that were never requested again. */
  readonly #empty: Tier
  /** Sessions with data that were never requested again. */
  readonly #unreturned: Tier
  /** Sessions that were requested again. */
  readonly #returned: Tier
  /** All tiers, in the order in which they are evicted. */
  readonly #all: readonly Tier[]
  #lost: Entry[] = []
  #memory = 0

  constructor(settings: Settings) {
    const { max, maxMemory } = settings
    const most = Math.min(max, Math.ceil(maxMemory / entryMemory))
    this.#settings = settings
    this.#empty = new Tier(most)
    this.#unreturned = new Tier(most)
    this.#returned = new Tier(most)
    this.#all = [this.#empty, this.#unreturned, this.#returned]
  }

  get size(): number {
    return this.#empty.size + this.#unreturned.size + this.#returned.size
  }

  /** Bytes of memory that they take. */
  get memory(): number {
    return this.#memory
  }

  /** Returns what is under a key, expired or not. */
  find(key: string): Entry | undefined {
    // Backwards, because most requests are for sessions that were requested before.
    for (let index = this.#all.length - 1; index >= 0; index -= 1) {
      const tier = this.#all[index]
      const packed = tier.get(key)
      if (packed !== undefined) return { tier, key, packed }
    }
  }

  *entries(): Generator<Entry, undefined> {
    for (const tier of this.#all) yield* tier.entries()
  }

  /** Notes that a session was requested again. */
  returned({ tier, key, packed }: Entry): void {
    if (tier !== this.#returned) tier.delete(key)
    this.#returned.put(key, packed)
  }

  /** Whether a record is one of a session that was requested again. */
  hasReturned({ tier }: Entry): boolean {
    return tier === this.#returned
  }

  /**
   * Adds a record. Others give way if there is no room for it.
   *
   * @throws HOLDFAST_DATA_TOO_LARGE it has no room at all
   */
  add(key: string, packed: string, hasData: boolean): void {
    const growth = this.#memoryFor(key, packed)
    this.#makeRoom(growth, 1)
    this.#tierFor(key, hasData).put(key, packed)
    this.#memory += growth
  }

  /**
   * Replaces a record, which becomes the newest. Others give way to one that grows.
   *
   * @param hasData undefined: that has not changed
   * @throws HOLDFAST_DATA_TOO_LARGE
   */
  renew(before: Entry, packed: string, hasData?: boolean): void {
    const { key } = before
    this.#memoryFor(key, packed)
    const stays = hasData === undefined || this.hasReturned(before)
    const tier = stays ? before.tier : this.#tierFor(key, hasData)
    const growth = packedMemory(packed) - packedMemory(before.packed)
    this.#makeRoom(growth, 0, key)
    if (tier !== before.tier) before.tier.delete(key)
    tier.put(key, packed)
    this.#memory += growth
  }

  /** Replaces a record, which keeps its place. Others give way to what grows. */
  replace({ tier, key, packed: before }: Entry, packed: string): void {
    const growth = packedMemory(packed) - packedMemory(before)
    this.#makeRoom(growth, 0, key)
    tier.replace(key, packed)
    this.#memory += growth
  }

  /**
   * Replaces a record by a trace, and adds another record in the same tier: a session that moves.
   * Others give way if there is no room for both.
   *
   * @throws HOLDFAST_DATA_TOO_LARGE
   */
  move(
    { tier, key, packed: before }: Entry,
    trace: string,
    successor: string,
    packed: string
  ): void {
    const growth = this.#memoryFor(successor, packed) + packedMemory(trace) - packedMemory(before)
    this.#makeRoom(growth, 1, key)
    tier.replace(key, trace) // mutant: trace of a move
    tier.put(successor, packed)
    this.#memory += growth
  }

  remove(entry: Entry): void {
    const { tier, key, packed } = entry
    tier.delete(key)
    this.#memory -= memoryOf(key, packed)
    this.#settings.removed(entry)
  }

  /** Returns the live records that gave way since this was asked. */
  takeLost(): readonly Entry[] {
    const lost = this.#lost
    if (lost.length > 0) this.#lost = []
    return lost
  }

  clear(): void {
    for (const tier of this.#all) tier.clear()
    this.#memory = 0
  }

  /** Returns the tier for a record of a session that was never requested again. */
  #tierFor(key: string, hasData: boolean): Tier {
    return hasData || subjectOf(key) !== undefined ? this.#unreturned : this.#empty
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE */
  #memoryFor(key: string, packed: string): number {
    const memory = memoryOf(key, packed)
    if (memory > this.#settings.maxMemory) throw new SessionError('HOLDFAST_DATA_TOO_LARGE')
    return memory
  }

  #isFull(growth: number, places: number): boolean {
    const { max, maxMemory } = this.#settings
    return this.size + places > max || this.#memory + growth > maxMemory
  }

  /**
   * Removes records until there is room for so many bytes and places more: of the next in line in
   * each tier, one that has expired, or else the one of the first tier. Each of them takes room
   * itself, so the work is no more than the size of what comes.
   *
   * @param spared the key of what does not give way: the room is for itself
   */
  #makeRoom(growth: number, places: number, spared?: string): void {
    if (!this.#isFull(growth, places)) return
    const now = this.#settings.clock.now()
    const lines = this.#all.map((tier) => new Line(tier, now, spared))
    while (this.#isFull(growth, places)) {
      const line =
        lines.find(({ isExpired }) => isExpired) ?? lines.find(({ first }) => first !== undefined)
      // A session that moves takes two places for a while, even where there is one.
      if (line?.first === undefined) return
      const { first, isExpired } = line
      this.remove(first)
      if (!isExpired && !isTrace(first.packed)) this.#lost.push(first)
      line.advance()
    }
  }
}

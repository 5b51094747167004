import { systemClock } from '../clock.ts'
import { evicted } from '../events.ts'
import { check, SessionError } from '../errors.ts'
import { checkStoreOptions } from './check-store-options.ts'
import { idleOf } from './max-age.ts'
import { MemoryFeed } from './memory-feed.ts'
import { MemorySubjects } from './memory-subjects.ts'
import { Sweep } from './memory-sweep.ts'
import {
  entryMemory,
  expiryOf,
  hasExpired,
  isOfVersion,
  isTrace,
  memoryOf,
  pack,
  packedIdle,
  packedMemory,
  packTrace,
  unpack,
  versionOf,
  withExpiry
} from './packed-record.ts'
import { Line, Tier, type Entry } from './tier.ts'
import { handleOf, subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/**
 * Options of `MemoryStore`. An invalid one throws `HOLDFAST_OPTION_INVALID`; the message names the
 * option and the values that it takes.
 */
export interface MemoryStoreOptions {
  /**
   * Maximum number of records, including expired ones that have not been swept yet, and the traces
   * of sessions that have moved to another id. When the store is full, each new record replaces
   * another: an expired one if it is next in line; otherwise an empty session that was never
   * requested again, then any session that was never requested again, then the least recently used
   * one. A trace has the place that its record had. Default: 1,000,000.
   */
  max?: number
  /**
   * Maximum memory of all records, in bytes of the heap; at least 1024. When a new or a growing
   * record has no room, others are evicted, in the order that `max` has, until it has. A record
   * that is larger than this by itself is refused with `HOLDFAST_DATA_TOO_LARGE`, and evicts
   * nothing.
   *
   * A record counts with its text, its key and its place, each at the most that Node.js takes for
   * it: some 250 bytes and the data, and some 350 more if somebody is signed in. Text takes a byte
   * for each character; all of a session's text takes two if it has a character beyond U+00FF.
   *
   * Default: a quarter of the heap limit (`v8.getHeapStatistics().heap_size_limit`, which
   * `--max-old-space-size` sets). Give several stores of one process less each, as well as a store
   * beside whose sessions the app keeps much else.
   */
  maxMemory?: number
  /**
   * Seconds between two sweeps, which free the memory of expired records; at most 2,147,483.
   * Expired records are never returned, swept or not. Default: 60.
   */
  sweepInterval?: number
  /** Source of time, for tests. Default: the system clock. */
  clock?: Clock
}

/** The longest delay that a Node timer supports, in milliseconds. */
const maxTimerDelay = 2 ** 31 - 1

/** The part of the heap limit that the records of a store take by default: one in so many. */
const heapShare = 4

/** Returns the heap limit. Its module is loaded here, for that takes half a millisecond. */
const heapLimit = (): number =>
  process.getBuiltinModule('node:v8').getHeapStatistics().heap_size_limit

/** The least `maxMemory`: who gives less has meant megabytes. */
const leastMaxMemory = 1024

/**
 * Keeps sessions in the memory of this process: for apps of a single process, for development and
 * for tests. The sessions are lost when the process ends.
 *
 * Every method returns its result directly, without a promise. Records are kept serialised, as in a
 * remote store, so the store shares no object with its callers.
 */
export class MemoryStore implements SessionStore {
  readonly #max: number
  readonly #maxMemory: number
  readonly #sweep: Sweep<Entry>
  readonly #clock: Clock
  // A session counts as requested again after a `get`. A `touch` does not count: the request that
  // creates a session may touch it too.
  /** Sessions without data that were never requested again. */
  readonly #empty: Tier
  /** Sessions with data that were never requested again. */
  readonly #unreturned: Tier
  /** Sessions that were requested again. */
  readonly #returned: Tier
  /** All tiers, in the order in which they are evicted. */
  readonly #tiers: readonly Tier[]
  /** The sessions of subjects: which of them live. */
  readonly subjects: MemorySubjects
  /** Tells of the sessions that end. */
  readonly feed: MemoryFeed
  #memory = 0

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: MemoryStoreOptions = {}) {
    checkStoreOptions(options, ['max', 'maxMemory', 'sweepInterval', 'clock'])
    const {
      max = 1_000_000,
      maxMemory = Math.floor(heapLimit() / heapShare),
      sweepInterval = 60,
      clock = systemClock
    } = options
    check(Number.isSafeInteger(max) && max >= 1, 'max', 'a positive integer')
    check(
      Number.isSafeInteger(maxMemory) && maxMemory >= leastMaxMemory,
      'maxMemory',
      `an integer, no less than ${leastMaxMemory}: a number of bytes`
    )
    check(
      typeof sweepInterval === 'number' &&
        sweepInterval > 0 &&
        sweepInterval * 1000 <= maxTimerDelay,
      'sweepInterval',
      'a positive number of seconds, no more than 2147483'
    )
    this.#max = max
    this.#maxMemory = maxMemory
    this.#clock = clock
    const most = Math.min(max, Math.ceil(maxMemory / entryMemory))
    this.#empty = new Tier(most)
    this.#unreturned = new Tier(most)
    this.#returned = new Tier(most)
    this.#tiers = [this.#empty, this.#unreturned, this.#returned]
    this.#sweep = new Sweep<Entry>(clock, sweepInterval * 1000, {
      isEmpty: () => this.size === 0,
      entries: () => this.#entries(),
      sweep: (entry) => this.#sweepOne(entry)
    })
    const peek = (key: string): SessionRecord | SessionTrace | undefined => {
      const { packed } = this.#find(key) ?? {}
      return packed === undefined ? undefined : unpack(packed)
    }
    this.feed = new MemoryFeed(peek)
    this.subjects = new MemorySubjects({
      clock,
      peek,
      add: (key, record, before) => this.#add(key, record, before),
      leave: (key, trace) => this.#leave(key, trace),
      tell: (notice) => this.feed.tell(notice)
    })
  }

  /** Number of records and traces, including expired ones that have not been swept yet. */
  get size(): number {
    return this.#empty.size + this.#unreturned.size + this.#returned.size
  }

  /** Memory of these records in bytes, counted as `maxMemory` counts it. */
  get memory(): number {
    return this.#memory
  }

  get(key: string): SessionRecord | SessionTrace | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    const entry = unpack(found.packed)
    // A trace is no session that was requested again: it keeps its place.
    if (entry.successor !== undefined) return entry
    if (found.tier !== this.#returned) found.tier.delete(key)
    this.#returned.put(key, found.packed)
    return entry
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the record is larger than `maxMemory`; nothing was changed */
  create(key: string, record: SessionRecord): boolean {
    if (this.#find(key) !== undefined) return false
    this.#add(key, record)
    return true
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the record is larger than `maxMemory`; nothing was changed */
  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const found = this.#find(key)
    if (found === undefined) return false // mutant: existence check
    if (!isOfVersion(found.packed, expectedVersion)) return false // mutant: version check
    const tier = found.tier === this.#returned ? found.tier : this.#tierOf(key, record)
    const isShorter = idleOf(record) < packedIdle(found.packed)
    const before = isShorter ? 0 : expiryOf(found.packed)
    this.#put(key, pack(record, Math.max(record.expiresAt, before)), tier, found)
    return true
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the longer expiry has no room; nothing was changed */
  touch(key: string, expiresAt: number): number | undefined {
    const found = this.#find(key)
    if (found === undefined || isTrace(found.packed)) return undefined
    const allowed = Math.min(expiresAt, this.#clock.now() + packedIdle(found.packed))
    const furthest = Math.max(allowed, expiryOf(found.packed))
    this.#put(key, withExpiry(found.packed, furthest), found.tier, found)
    return furthest
  }

  delete(key: string): SessionRecord | SessionTrace | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    const entry = unpack(found.packed)
    if (entry.successor !== undefined) return entry // mutant: trace stays
    this.#remove(found)
    this.feed.tell({ reason: 'destroyed', key })
    return entry
  }

  retire(key: string, trace: SessionTrace): boolean {
    const isLeft = this.#leave(key, trace)
    if (isLeft) this.feed.tell({ key })
    return isLeft
  }

  #leave(key: string, trace: SessionTrace): boolean {
    const found = this.#find(key)
    if (found === undefined || !isOfVersion(found.packed, trace.version)) return false
    if (subjectOf(key) !== undefined) this.subjects.strike(key, trace.version)
    const packed = packTrace(trace)
    const growth = packedMemory(packed) - packedMemory(found.packed)
    if (this.#memory + growth > this.#maxMemory) {
      this.#put(key, packed, found.tier, found)
    } else {
      found.tier.replace(key, packed)
      this.#memory += growth
    }
    return true
  }

  /** Removes every record and stops the sweep. */
  close(): void {
    for (const tier of this.#tiers) tier.clear()
    this.#memory = 0
    this.#sweep.stop()
  }

  /** Returns the live entry of a key. Removes an expired one. */
  #find(key: string): Entry | undefined {
    // Backwards, because most requests are for sessions that were requested before.
    for (let index = this.#tiers.length - 1; index >= 0; index -= 1) {
      const tier = this.#tiers[index]
      const packed = tier.get(key)
      if (packed === undefined) continue
      const entry = { tier, key, packed }
      if (!hasExpired(packed, this.#clock.now()) && this.#isListed(entry)) return entry
      this.#remove(entry)
    }
  }

  /** Whether a record is listed, if it belongs to a subject. A trace needs not be. */
  #isListed({ key, packed }: Entry): boolean {
    if (subjectOf(key) === undefined || isTrace(packed)) return true
    return this.subjects.lists(key, versionOf(packed))
  }

  #add(key: string, record: SessionRecord, before?: string): void {
    const left = before === undefined ? undefined : this.#find(before)
    this.#put(key, pack(record, record.expiresAt), left?.tier ?? this.#tierOf(key, record))
    this.#sweep.start()
  }

  /** Returns the tier for a record that was never requested again. */
  #tierOf(key: string, record: SessionRecord): Tier {
    const isEmpty = record.data === '' && subjectOf(key) === undefined
    return isEmpty ? this.#empty : this.#unreturned
  }

  /**
   * Makes `packed` the record of a key, as the newest of `tier`, in place of `before`. Evicts other
   * records if there is no room for it.
   *
   * @throws HOLDFAST_DATA_TOO_LARGE
   */
  #put(key: string, packed: string, tier: Tier, before?: Entry): void {
    const memory = memoryOf(key, packed)
    if (memory > this.#maxMemory) throw new SessionError('HOLDFAST_DATA_TOO_LARGE')
    const growth =
      before === undefined ? memory : packedMemory(packed) - packedMemory(before.packed)
    const isFull =
      this.#memory + growth > this.#maxMemory || (before === undefined && this.size >= this.#max)
    // A record that grows is not evicted for itself.
    if (before !== undefined && (isFull || before.tier !== tier)) before.tier.delete(key)
    const lost = isFull ? this.#makeRoom(growth) : []
    tier.put(key, packed)
    this.#memory += growth
    // At the end, for a subscriber may use the store.
    for (const entry of lost.filter((each) => !isTrace(each.packed))) {
      this.feed.tell({ reason: 'evicted', key: entry.key })
      if (!evicted.hasSubscribers) continue
      const session = handleOf(entry.key, versionOf(entry.packed))
      evicted.publish({ session, returned: entry.tier === this.#returned })
    }
  }

  /** Removes a record. Stops the sweep if it was the last. */
  #remove(entry: Entry): void {
    this.#drop(entry)
    if (this.size === 0) this.#sweep.stop()
  }

  #drop({ tier, key, packed }: Entry): void {
    tier.delete(key)
    this.#memory -= memoryOf(key, packed)
    if (isTrace(packed) || subjectOf(key) === undefined) return
    this.subjects.strike(key, versionOf(packed))
  }

  /**
   * Removes records until there is room for one more, or for one that grows: of the next in line in
   * each tier, one that has expired, or else the one of the first tier. Each of them takes room
   * itself, so the work is no more than the size of what comes. Returns the live ones.
   */
  #makeRoom(growth: number): Entry[] {
    const now = this.#clock.now()
    const lines = this.#tiers.map((tier) => new Line(tier, now))
    const lost: Entry[] = []
    while (this.size >= this.#max || this.#memory + growth > this.#maxMemory) {
      // What has no room is no larger than the bound, so there is somebody to go.
      const line = (lines.find(({ isExpired }) => isExpired) ??
        lines.find(({ first }) => first !== undefined)) as Line & { first: Entry }
      const { first, isExpired } = line
      this.#drop(first)
      if (!isExpired) lost.push(first)
      line.advance()
    }
    return lost
  }

  /** Drops what has expired, or is listed no more. */
  #sweepOne(entry: Entry): void {
    if (hasExpired(entry.packed, this.#clock.now()) || !this.#isListed(entry)) this.#drop(entry)
  }

  *#entries(): Generator<Entry, undefined> {
    for (const tier of this.#tiers) yield* tier.entries()
  }
}

import { systemClock } from '../clock.ts'
import { evicted } from '../events.ts'
import { check } from '../errors.ts'
import { checkStoreOptions } from './check-store-options.ts'
import { idleOf } from './max-age.ts'
import { MemoryFeed } from './memory-feed.ts'
import { MemorySubjects } from './memory-subjects.ts'
import { Sweep } from './memory-sweep.ts'
import {
  expiryOf,
  hasExpired,
  isOfVersion,
  isTrace,
  pack,
  packedIdle,
  packTrace,
  unpack,
  versionOf,
  withExpiry
} from './packed-record.ts'
import type { Entry } from './tier.ts'
import { Tiers } from './tiers.ts'
import { handleOf, subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndNotice } from '../../types/feed.ts'
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
   * one. A trace has the place that its record had. A session that moves makes room for its trace
   * too, but does not give way itself: in a store for one it takes two places. Default: 1,000,000.
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
  readonly #records: Tiers
  readonly #sweep: Sweep<Entry>
  readonly #clock: Clock
  /** The sessions of subjects: which of them live. */
  readonly subjects: MemorySubjects
  /** Tells of the sessions that end. */
  readonly feed: MemoryFeed

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
    this.#clock = clock
    this.#records = new Tiers({
      max,
      maxMemory,
      clock,
      removed: ({ key, packed }) => {
        if (isTrace(packed) || subjectOf(key) === undefined) return
        this.subjects.strike(key, versionOf(packed))
      }
    })
    this.#sweep = new Sweep<Entry>(clock, sweepInterval * 1000, {
      isEmpty: () => this.size === 0,
      entries: () => this.#records.entries(),
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
      add: (key, record) => this.#add(key, record),
      move: (key, record, trace) => {
        const packed = pack(record, record.expiresAt)
        this.#records.move(this.#find(key) as Entry, packTrace(trace), trace.successor, packed)
      },
      tell: (notice) => this.#tell(notice)
    })
  }

  /** Number of records and traces, including expired ones that have not been swept yet. */
  get size(): number {
    return this.#records.size
  }

  /** Memory of these records in bytes, counted as `maxMemory` counts it. */
  get memory(): number {
    return this.#records.memory
  }

  get(key: string): SessionRecord | SessionTrace | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    const entry = unpack(found.packed)
    // A trace is no session that was requested again: it keeps its place.
    if (entry.successor !== undefined) return entry
    this.#records.returned(found)
    return entry
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the record is larger than `maxMemory`; nothing was changed */
  create(key: string, record: SessionRecord): boolean {
    if (this.#find(key) !== undefined) return false
    this.#add(key, record)
    this.#tell()
    return true
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the record is larger than `maxMemory`; nothing was changed */
  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const found = this.#find(key)
    if (found === undefined) return false // mutant: existence check
    if (!isOfVersion(found.packed, expectedVersion)) return false // mutant: version check
    const isShorter = idleOf(record) < packedIdle(found.packed)
    const before = isShorter ? 0 : expiryOf(found.packed)
    const packed = pack(record, Math.max(record.expiresAt, before))
    this.#records.renew(found, packed, record.data !== '')
    this.#tell()
    return true
  }

  /** @throws HOLDFAST_DATA_TOO_LARGE the longer expiry has no room; nothing was changed */
  touch(key: string, expiresAt: number): number | undefined {
    const found = this.#find(key)
    if (found === undefined || isTrace(found.packed)) return undefined
    const allowed = Math.min(expiresAt, this.#clock.now() + packedIdle(found.packed))
    const furthest = Math.max(allowed, expiryOf(found.packed))
    this.#records.renew(found, withExpiry(found.packed, furthest))
    this.#tell()
    return furthest
  }

  delete(key: string): SessionRecord | SessionTrace | undefined {
    const found = this.#find(key)
    if (found === undefined) return undefined
    const entry = unpack(found.packed)
    if (entry.successor !== undefined) return entry // mutant: trace stays
    this.#remove(found)
    this.#tell({ reason: 'destroyed', key })
    return entry
  }

  retire(key: string, trace: SessionTrace): boolean {
    const found = this.#find(key)
    if (found === undefined || !isOfVersion(found.packed, trace.version)) return false
    if (subjectOf(key) !== undefined) this.subjects.strike(key, trace.version)
    this.#records.replace(found, packTrace(trace))
    this.#tell({ key })
    return true
  }

  /** Removes every record and stops the sweep. */
  close(): void {
    this.#records.clear()
    this.#sweep.stop()
  }

  /** Returns the live entry of a key. Removes an expired one. */
  #find(key: string): Entry | undefined {
    const entry = this.#records.find(key)
    if (entry === undefined) return undefined
    if (!hasExpired(entry.packed, this.#clock.now()) && this.#isListed(entry)) return entry
    this.#remove(entry)
  }

  /** Whether a record is listed, if it belongs to a subject. A trace needs not be. */
  #isListed({ key, packed }: Entry): boolean {
    if (subjectOf(key) === undefined || isTrace(packed)) return true
    return this.subjects.lists(key, versionOf(packed))
  }

  #add(key: string, record: SessionRecord): void {
    this.#records.add(key, pack(record, record.expiresAt), record.data !== '')
    this.#sweep.start()
  }

  /** Removes a record. Stops the sweep if it was the last. */
  #remove(entry: Entry): void {
    this.#records.remove(entry)
    if (this.size === 0) this.#sweep.stop()
  }

  /** Drops what has expired, or is listed no more. */
  #sweepOne(entry: Entry): void {
    const isOver = hasExpired(entry.packed, this.#clock.now()) || !this.#isListed(entry)
    if (isOver) this.#records.remove(entry)
  }

  /**
   * Tells who gave way in a step, and what else came of it. That is the last of the step, for who
   * hears of it may use the store.
   */
  #tell(notice?: EndNotice): void {
    for (const entry of this.#records.takeLost()) {
      const { key, packed } = entry
      this.feed.tell({ reason: 'evicted', key })
      if (!evicted.hasSubscribers) continue
      const session = handleOf(key, versionOf(packed))
      evicted.publish({ session, returned: this.#records.hasReturned(entry) })
    }
    if (notice !== undefined) this.feed.tell(notice)
  }
}

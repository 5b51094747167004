import t from 'tap'

import {
  MemoryStore,
  type Clock,
  type EndNotice,
  type MemoryStoreOptions,
  type SessionFeed,
  type SessionRecord,
  type SessionStore,
  type SessionTrace
} from '../../lib/index.ts'
import { storeConformance, TestClock } from '../../lib/testing/index.ts'
import { MovingStore, nextTurn, slow, wraps } from '../helpers/stores.ts'

function isTrace(entry: SessionRecord | SessionTrace): entry is SessionTrace {
  return entry.successor !== undefined
}

/** Swept once a day: the tests let months go by. */
function daily(clock: Clock): MemoryStoreOptions {
  return { clock, sweepInterval: 24 * 60 * 60 }
}

t.test('MemoryStore', async (t) => {
  const clock = new TestClock()
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    clock,
    createStore: () => new MemoryStore(daily(clock))
  })
})

t.test('MemoryStore, answering later', async (t) => {
  const clock = new TestClock()
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    clock,
    createStore: async () => slow(new MemoryStore(daily(clock)))
  })
})

for (const [name, wrap] of Object.entries(wraps)) {
  t.test(`MemoryStore with move, on the ${name}`, async (t) => {
    const clock = new TestClock()
    storeConformance({
      test: (name, fn) => t.test(name, fn),
      clock,
      createStore: () => wrap(new MovingStore(daily(clock)))
    })
  })
}

t.test('MemoryStore, in real time', async (t) => {
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    shortLife: 200,
    createStore: () => new MemoryStore()
  })
})

/** Runs the suite without a runner, and names the tests that fail. */
async function failures(createStore: (clock: TestClock) => SessionStore): Promise<string[]> {
  const clock = new TestClock()
  const tests: Array<{ name: string; fn: () => Promise<void> }> = []
  storeConformance({
    test: (name, fn) => tests.push({ name, fn }),
    clock,
    createStore: () => createStore(clock)
  })
  const failed: string[] = []
  for (const { name, fn } of tests) {
    try {
      await fn()
    } catch {
      failed.push(name)
    }
  }
  return failed
}

/**
 * Stores that are wrong in one way each: what is wrong, the store, and a test that must find it.
 */
const broken: Array<
  [fault: string, createStore: (clock: TestClock) => SessionStore, foundBy: string]
> = [
  [
    'get keeps the record back',
    (clock) =>
      new (class extends MemoryStore {
        override get(): undefined {}
      })(daily(clock)),
    'a record comes back as it was given'
  ],

  [
    'get serves what has expired',
    () => new MemoryStore(daily(new TestClock())),
    'a record that has expired is absent to every verb'
  ],

  [
    'a record expires a millisecond late',
    (clock) => new MemoryStore(daily(shifted(clock, -1))),
    'a record is live until its instant, and not at it'
  ],

  [
    'a record expires a millisecond early',
    (clock) => new MemoryStore(daily(shifted(clock, 1))),
    'a record is live until its instant, and not at it'
  ],

  [
    'a life is cut to what a timer can hold',
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, {
            ...record,
            expiresAt: Math.min(record.expiresAt, clock.now() + 2 ** 31 - 1)
          })
        }
      })(daily(clock)),
    'a life may last longer than a timer can'
  ],

  [
    'instants are kept in seconds',
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, {
            ...record,
            createdAt: Math.floor(record.createdAt / 1000) * 1000
          })
        }
      })(daily(clock)),
    'a record comes back as it was given'
  ],

  [
    "a life's own length is lost",
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, { maxAge: _, ...record }: SessionRecord): boolean {
          return super.create(key, record)
        }
      })(daily(clock)),
    'a lifetime of its own comes back, is changed and is dropped'
  ],

  [
    "a life's own length is never dropped",
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          const stored = super.get(key) as SessionRecord | undefined
          return super.update(key, { ...stored, ...record }, expectedVersion)
        }
      })(daily(clock)),
    'a lifetime of its own comes back, is changed and is dropped'
  ],

  [
    'data is trimmed',
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, { ...record, data: record.data.trim() })
        }
      })(daily(clock)),
    'text that is no JSON: comes back to the byte'
  ],

  [
    'data is kept as ISO 8859-1',
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, {
            ...record,
            data: Buffer.from(record.data, 'latin1').toString('latin1')
          })
        }
      })(daily(clock)),
    'text of all planes: comes back to the byte'
  ],

  [
    'keys differ by case no more',
    (clock) =>
      new (class extends MemoryStore {
        override get(key: string): SessionRecord | SessionTrace | undefined {
          return super.get(key.toLowerCase())
        }

        override create(key: string, record: SessionRecord): boolean {
          return super.create(key.toLowerCase(), record)
        }
      })(daily(clock)),
    'keys are independent, whatever they are'
  ],

  [
    'records are the properties of an object',
    (clock) => new ObjectStore(clock, {}),
    'keys are independent, whatever they are'
  ],

  [
    'records are shared with the caller',
    (clock) => new ObjectStore(clock, Object.create(null)),
    'what is done to a record given or got does not reach the store'
  ],

  [
    'create overwrites',
    (clock) =>
      new (class extends MemoryStore {
        override create(key: string, record: SessionRecord): boolean {
          super.delete(key)
          return super.create(key, record)
        }
      })(daily(clock)),
    'create refuses a key that is taken, and leaves its record as it was'
  ],

  [
    'create never frees a key',
    (clock) =>
      new (class extends MemoryStore {
        readonly #taken = new Set<string>()

        override create(key: string, record: SessionRecord): boolean {
          return this.#taken.size < this.#taken.add(key).size && super.create(key, record)
        }
      })(daily(clock)),
    'a key can be created anew after its record has expired'
  ],

  [
    'create reads, then writes',
    (clock) => racing(clock, 'create'),
    'of 20 concurrent creates of a key one wins'
  ],

  [
    'update ignores the version',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord): boolean {
          return super.update(key, record, super.get(key)?.version ?? '')
        }
      })(daily(clock)),
    'update at another version is refused and changes nothing'
  ],

  [
    'update compares the beginning of the version',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          const version = super.get(key)?.version ?? ''
          return super.update(
            key,
            record,
            version.startsWith(expectedVersion) ? version : expectedVersion
          )
        }
      })(daily(clock)),
    'update at another version is refused and changes nothing'
  ],

  [
    'update creates',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          return super.update(key, record, expectedVersion) || super.create(key, record)
        }
      })(daily(clock)),
    'no update and no touch brings back what was deleted'
  ],

  [
    'update shortens a life',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          if (!super.update(key, record, expectedVersion)) return false
          super.delete(key)
          return super.create(key, record)
        }
      })(daily(clock)),
    'update does not shorten a life by an earlier expiry alone'
  ],

  [
    'update keeps the later expiry in spite of a shorter lifetime',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          const expiresAt = Math.max(record.expiresAt, super.get(key)?.expiresAt ?? 0)
          return super.update(key, { ...record, expiresAt }, expectedVersion)
        }
      })(daily(clock)),
    'update with a shorter lifetime sets the expiry exactly: own'
  ],

  [
    'touch looks at no lifetime',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string, expiresAt: number): number | undefined {
          const stored = super.get(key)
          if (stored === undefined || isTrace(stored)) return undefined
          const { maxAge: _, defaultMaxAge: __, ...rest } = stored
          super.update(key, rest, rest.version)
          const touched = super.touch(key, expiresAt)
          super.update(key, stored, rest.version)
          return touched
        }
      })(daily(clock)),
    'touch goes no further from now than the lifetime: defaultMaxAge'
  ],

  [
    'createdAt is by the clock of who asks',
    (clock) =>
      new (class extends MemoryStore {
        override get(key: string): SessionRecord | SessionTrace | undefined {
          const stored = super.get(key)
          if (stored === undefined || isTrace(stored)) return stored
          return { ...stored, createdAt: stored.createdAt - 1 }
        }
      })(daily(clock)),
    'a record comes back as it was given'
  ],

  [
    'update that would shorten a life writes nothing',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          const stored = super.get(key)
          if (stored !== undefined && stored.expiresAt > record.expiresAt)
            return stored.version === expectedVersion
          return super.update(key, record, expectedVersion)
        }
      })(daily(clock)),
    'update does not shorten a life by an earlier expiry alone'
  ],

  [
    'update does not lengthen a life',
    (clock) =>
      new (class extends MemoryStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          return super.update(key, { ...record, expiresAt: 0 }, expectedVersion)
        }
      })(daily(clock)),
    'a touch and an update lengthen a life'
  ],

  [
    'update reads, then writes',
    (clock) => racing(clock, 'update'),
    'of 20 concurrent updates at one version one wins'
  ],

  [
    'touch creates',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string, expiresAt: number): number {
          super.create(key, { data: '', version: 'v', createdAt: clock.now(), expiresAt })
          return super.touch(key, expiresAt) as number
        }
      })(daily(clock)),
    'no update and no touch brings back what was deleted'
  ],

  [
    'touch does nothing',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string): number | undefined {
          return super.touch(key, 0)
        }
      })(daily(clock)),
    'touch moves the expiry forward, and nothing else'
  ],

  [
    'touch moves the expiry back',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string, expiresAt: number): number | undefined {
          const stored = super.delete(key)
          return stored?.successor === undefined &&
            stored !== undefined &&
            super.create(key, { ...stored, expiresAt })
            ? expiresAt
            : undefined
        }
      })(daily(clock)),
    'touch never moves the expiry back'
  ],

  [
    'touch answers the expiry that was asked for',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string, expiresAt: number): number | undefined {
          return super.touch(key, expiresAt) === undefined ? undefined : expiresAt
        }
      })(daily(clock)),
    'touch never moves the expiry back'
  ],

  [
    'touch is a new version',
    (clock) =>
      new (class extends MemoryStore {
        override touch(key: string, expiresAt: number): number | undefined {
          const stored = super.get(key) as SessionRecord | undefined
          if (stored !== undefined)
            super.update(
              key,
              { ...stored, version: `${stored.version}+`, expiresAt },
              stored.version
            )
          return super.touch(key, expiresAt)
        }
      })(daily(clock)),
    'touch moves the expiry forward, and nothing else'
  ],

  [
    'delete answers nothing',
    (clock) =>
      new (class extends MemoryStore {
        override delete(key: string): undefined {
          super.delete(key)
        }
      })(daily(clock)),
    'delete returns the record that it removed, once'
  ],

  [
    'delete removes nothing',
    (clock) =>
      new (class extends MemoryStore {
        override delete(key: string): SessionRecord | SessionTrace | undefined {
          return super.get(key)
        }
      })(daily(clock)),
    'delete returns the record that it removed, once'
  ],

  [
    'delete answers the record as it was created',
    (clock) =>
      new (class extends MemoryStore {
        readonly #created = new Map<string, SessionRecord>()

        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, record) && this.#created.set(key, { ...record }).has(key)
        }

        override delete(key: string): SessionRecord | undefined {
          return super.delete(key) && this.#created.get(key)
        }
      })(daily(clock)),
    'delete returns what was written and touched last'
  ],

  [
    'delete reads, then removes',
    (clock) => racing(clock, 'delete'),
    'of 20 concurrent deletes one gets the record'
  ],

  [
    'retire removes the record',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          return super.retire(key, trace) && this.entries.delete(key)
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'retire answers true and does nothing',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          return this.record(key)?.version === trace.version
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'a trace forgets where the session went',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          return super.retire(key, { ...trace, successor: key })
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'a trace forgets the version',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          if (!super.retire(key, trace)) return false
          this.entries.set(key, { ...trace, version: '' })
          return true
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'the version of a trace is cut',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          if (!super.retire(key, trace)) return false
          this.entries.set(key, { ...trace, version: trace.version.slice(0, 100) })
          return true
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'a trace keeps the data',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const stored = this.record(key)
          if (!super.retire(key, trace)) return false
          this.entries.set(key, { ...stored, ...trace } as SessionTrace)
          return true
        }
      })(clock),
    'a record that is retired is a trace, which comes back as it was given'
  ],

  [
    'a trace keeps the later expiry',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const expiresAt = Math.max(trace.expiresAt, this.get(key)?.expiresAt ?? 0)
          return super.retire(key, { ...trace, expiresAt })
        }
      })(clock),
    'a trace expires when it says, earlier than the record'
  ],

  [
    'a trace keeps the earlier expiry',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const expiresAt = Math.min(trace.expiresAt, this.get(key)?.expiresAt ?? 0)
          return super.retire(key, { ...trace, expiresAt })
        }
      })(clock),
    'a trace expires when it says, later than the record'
  ],

  [
    'a trace never expires',
    (clock) =>
      new (class extends MapStore {
        override get(key: string): Entry | undefined {
          return this.entries.get(key)?.successor === undefined
            ? super.get(key)
            : this.entries.get(key)
        }
      })(clock),
    'a trace that has expired is absent to every verb, and its key is free'
  ],

  [
    'a trace expires a millisecond late',
    (clock) =>
      new (class extends MapStore {
        override get(key: string): Entry | undefined {
          const entry = this.entries.get(key)
          return entry?.successor !== undefined && entry.expiresAt === this.clock.now()
            ? entry
            : super.get(key)
        }
      })(clock),
    'a trace is there until its instant, and not at it'
  ],

  [
    'a trace expires a millisecond early',
    (clock) =>
      new (class extends MapStore {
        override get(key: string): Entry | undefined {
          const entry = super.get(key)
          return entry?.successor !== undefined && entry.expiresAt - 1 === this.clock.now()
            ? undefined
            : entry
        }
      })(clock),
    'a trace is there until its instant, and not at it'
  ],

  [
    'delete answers a trace that has expired',
    (clock) =>
      new (class extends MapStore {
        override delete(key: string): Entry | undefined {
          const entry = this.entries.get(key)
          return entry?.successor === undefined ? super.delete(key) : entry
        }
      })(clock),
    'a trace that has expired is absent to every verb, and its key is free'
  ],

  [
    'a key with a trace is never free again',
    (clock) =>
      new (class extends MapStore {
        override create(key: string, record: SessionRecord): boolean {
          return this.entries.get(key)?.successor === undefined && super.create(key, record)
        }
      })(clock),
    'a trace gives way to a new record as soon as it has expired'
  ],

  [
    'a record that follows a trace is one',
    (clock) =>
      new (class extends MapStore {
        override create(key: string, record: SessionRecord): boolean {
          const successor = this.entries.get(key)?.successor
          if (!super.create(key, record)) return false
          if (successor !== undefined) this.entries.set(key, { ...record, successor } as never)
          return true
        }
      })(clock),
    'a trace gives way to a new record as soon as it has expired'
  ],

  [
    'a trace is created over',
    (clock) =>
      new (class extends MapStore {
        override create(key: string, record: SessionRecord): boolean {
          if (this.record(key) === undefined) this.entries.delete(key)
          return super.create(key, record)
        }
      })(clock),
    'a trace is no record to create, update, touch and retire'
  ],

  [
    'a trace is updated',
    (clock) =>
      new (class extends MapStore {
        override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
          if (this.get(key)?.version !== expectedVersion) return false
          this.entries.set(key, { ...record })
          return true
        }
      })(clock),
    'a trace is no record to create, update, touch and retire'
  ],

  [
    'a touch moves the expiry of a trace',
    (clock) =>
      new (class extends MapStore {
        override touch(key: string, expiresAt: number): number | undefined {
          const entry = this.get(key)
          if (entry?.successor === undefined) return super.touch(key, expiresAt)
          this.entries.set(key, { ...entry, expiresAt: Math.max(entry.expiresAt, expiresAt) })
        }
      })(clock),
    'a trace is no record to create, update, touch and retire'
  ],

  [
    'a touch confirms a trace',
    (clock) =>
      new (class extends MapStore {
        override touch(key: string, expiresAt: number): number | undefined {
          return super.touch(key, expiresAt) ?? this.get(key)?.expiresAt
        }
      })(clock),
    'a trace is no record to create, update, touch and retire'
  ],

  [
    'a trace is retired',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          if (this.get(key)?.version !== trace.version) return false
          this.entries.set(key, { ...trace })
          return true
        }
      })(clock),
    'a trace is no record to create, update, touch and retire'
  ],

  [
    'delete removes a trace',
    (clock) =>
      new (class extends MapStore {
        override delete(key: string): Entry | undefined {
          const entry = super.delete(key)
          this.entries.delete(key)
          return entry
        }
      })(clock),
    'delete returns a trace, and leaves it'
  ],

  [
    'delete answers no trace',
    (clock) =>
      new (class extends MapStore {
        override delete(key: string): Entry | undefined {
          const entry = super.delete(key)
          return entry?.successor === undefined ? entry : undefined
        }
      })(clock),
    'delete returns a trace, and leaves it'
  ],

  [
    'delete follows a trace',
    (clock) =>
      new (class extends MapStore {
        override delete(key: string): Entry | undefined {
          const entry = super.delete(key)
          if (entry?.successor !== undefined) super.delete(entry.successor)
          return entry
        }
      })(clock),
    'a trace and the session that it leads to are independent'
  ],

  [
    'touch follows a trace',
    (clock) =>
      new (class extends MapStore {
        override touch(key: string, expiresAt: number): number | undefined {
          const { successor = key } = this.get(key) ?? {}
          const touched = super.touch(successor, expiresAt)
          return successor === key ? touched : undefined
        }
      })(clock),
    'a trace and the session that it leads to are independent'
  ],

  [
    'retire ignores the version',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const version = this.record(key)?.version ?? ''
          return version !== '' && super.retire(key, { ...trace, version })
        }
      })(clock),
    'retire at another version is refused and changes nothing'
  ],

  [
    'retire compares the beginning of the version',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const version = this.record(key)?.version ?? ''
          return super.retire(
            key,
            version.startsWith(trace.version) ? { ...trace, version } : trace
          )
        }
      })(clock),
    'retire at another version is refused and changes nothing'
  ],

  [
    'retire compares the version of the creation',
    (clock) =>
      new (class extends MapStore {
        readonly #created = new Map<string, string>()

        override create(key: string, record: SessionRecord): boolean {
          return super.create(key, record) && this.#created.set(key, record.version).has(key)
        }

        override retire(key: string, trace: SessionTrace): boolean {
          const version = this.record(key)?.version
          if (version === undefined || this.#created.get(key) !== trace.version) return false
          return super.retire(key, { ...trace, version })
        }
      })(clock),
    'retire at another version is refused and changes nothing'
  ],

  [
    'retire needs no record',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          if (this.get(key) === undefined) this.entries.set(key, { ...trace })
          return super.retire(key, trace)
        }
      })(clock),
    'retire where there is no record is refused and leaves nothing'
  ],

  [
    'retire finds a record that has expired',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const stored = this.entries.get(key)
          if (stored?.version !== trace.version || stored.successor !== undefined) return false
          this.entries.set(key, { ...trace })
          return true
        }
      })(clock),
    'a record that has expired is not retired'
  ],

  [
    'a trace that has expired is not left',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          return trace.expiresAt > this.clock.now() && super.retire(key, trace)
        }
      })(clock),
    'a trace that has expired when it is left ends the record'
  ],

  [
    'a trace that has expired lives for a moment',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          const expiresAt = Math.max(trace.expiresAt, this.clock.now() + 1)
          return super.retire(key, { ...trace, expiresAt })
        }
      })(clock),
    'a trace that has expired when it is left ends the record'
  ],

  [
    'traces are shared with the caller',
    (clock) =>
      new (class extends MapStore {
        override retire(key: string, trace: SessionTrace): boolean {
          return super.retire(key, trace) && this.entries.set(key, trace).has(key)
        }
      })(clock),
    'what is done to a trace given or got does not reach the store'
  ],

  [
    'a trace is handed out itself',
    (clock) =>
      new (class extends MapStore {
        override delete(key: string): Entry | undefined {
          super.delete(key)
          return this.entries.get(key)?.successor === undefined ? undefined : this.entries.get(key)
        }
      })(clock),
    'what is done to a trace given or got does not reach the store'
  ],

  [
    'retire reads, then writes',
    (clock) => racing(clock, 'retire'),
    'of 20 concurrent updates and retires, first retire, one wins'
  ],

  [
    'retire of a trace reads, then writes',
    (clock) => lateRetire(clock),
    'of 20 concurrent retires one wins'
  ],

  [
    'update reads, then writes over a trace',
    (clock) => lateUpdate(clock),
    'of 20 concurrent updates and retires, first update, one wins'
  ],

  [
    'delete reads, then removes what became a trace',
    (clock) => racing(clock, 'delete'),
    'of concurrent deletes and retire 11 one gets the record'
  ],

  [
    'move only creates',
    (clock) => moving(clock, (store, { to, record }) => store.create(to, record)),
    'move creates the record under the new key and leaves the trace'
  ],

  [
    'move only retires',
    (clock) => moving(clock, (store, { from, trace }) => store.retire(from, trace)),
    'move creates the record under the new key and leaves the trace'
  ],

  [
    'move creates, also if nothing can be retired',
    (clock) =>
      moving(
        clock,
        (store, { from, to, record, trace }) =>
          store.create(to, record) && store.retire(from, trace)
      ),
    'move at another version is refused and changes nothing'
  ],

  [
    'move retires, also if nothing can be created',
    (clock) =>
      moving(
        clock,
        (store, { from, to, record, trace }) =>
          store.retire(from, trace) && store.create(to, record)
      ),
    'move to a key that is taken is refused and changes nothing'
  ],

  [
    'move to its own key leaves a trace',
    (clock) =>
      moving(clock, (store, { from, to, record, trace }) =>
        from === to ? store.retire(from, trace) : store.moveRightly(from, record, trace)
      ),
    'move to its own key is refused and changes nothing'
  ],

  [
    'move overwrites what is under the new key',
    (clock) =>
      moving(clock, (store, { from, to, record, trace }) => {
        if (store.isAt(from, trace.version)) store.entriesOf().delete(to)
        return store.moveRightly(from, record, trace)
      }),
    'move to a key that is taken is refused and changes nothing'
  ],

  [
    'move ignores the version',
    (clock) =>
      moving(clock, (store, { from, record, trace }) => {
        const version = store.get(from)?.version ?? ''
        return store.moveRightly(from, record, { ...trace, version })
      }),
    'move at another version is refused and changes nothing'
  ],

  [
    'move takes a trace for a record',
    (clock) =>
      moving(
        clock,
        (store, { from, to, record, trace }) =>
          store.get(from)?.version === trace.version &&
          store.create(to, record) &&
          store.entriesOf().set(from, trace).has(from)
      ),
    'move where there is no record is refused and leaves nothing'
  ],

  [
    'move finds a record that has expired',
    (clock) =>
      moving(
        clock,
        (store, { from, to, record, trace }) =>
          store.entriesOf().get(from)?.version === trace.version &&
          store.create(to, record) &&
          store.entriesOf().set(from, trace).has(from)
      ),
    'move finds no record that has expired'
  ],

  [
    'move takes what has expired for a record that is in the way',
    (clock) =>
      moving(
        clock,
        (store, { from, to, record, trace }) =>
          !store.entriesOf().has(to) && store.moveRightly(from, record, trace)
      ),
    'move takes the key of what has expired'
  ],

  [
    'move creates, and retires a turn later',
    (clock) =>
      moving(clock, (store, { from, to, record, trace }) => {
        if (!store.isAt(from, trace.version) || !store.create(to, record)) return false
        return nextTurn().then(() => store.entriesOf().set(from, trace).has(from)) as never
      }),
    'of 20 concurrent moves one wins, and the others leave nothing'
  ],

  [
    'move looks, and moves what has been updated',
    (clock) => lateMove(clock),
    'of 20 concurrent updates and moves, first move, one wins'
  ],

  [
    'move looks, and moves what has been deleted',
    (clock) => lateMove(clock),
    'of concurrent deletes and move 1 one gets the record'
  ],

  [
    'feed tells nobody',
    (clock) => telling(clock, { listen: () => () => {} }),
    'feed: tells of what is deleted and what is retired'
  ],

  [
    'feed tells of what is deleted alone',
    (clock) =>
      telling(clock, {
        listen: (listener, feed) =>
          feed.listen((notice) => notice.reason === 'destroyed' && listener(notice))
      }),
    'feed: tells of what is deleted and what is retired'
  ],

  [
    'feed tells no subject of its ends',
    (clock) =>
      telling(clock, {
        listen: (listener, feed) =>
          feed.listen((notice) => notice.subject === undefined && listener(notice))
      }),
    'feed: tells of the ends of a subject'
  ],

  [
    'feed goes on after it is stopped',
    (clock) =>
      telling(clock, {
        listen(listener, feed) {
          feed.listen(listener)
          return () => {}
        }
      }),
    'feed: tells each listener, until it is stopped'
  ],

  [
    'feed stops for all at once',
    (clock) => {
      const listeners = new Set<(notice: EndNotice) => void>()
      return telling(clock, {
        listen(listener, feed) {
          if (listeners.size === 0)
            feed.listen((notice) => listeners.forEach((each) => each(notice)))
          listeners.add(listener)
          return () => listeners.clear()
        }
      })
    },
    'feed: tells each listener, until it is stopped'
  ],

  [
    'feed looks and sees no trace',
    (clock) =>
      telling(clock, {
        look: (keys, feed) =>
          feed.look(keys).map((look) => (look?.successor === undefined ? look : undefined))
      }),
    'feed: a look shows until when a record lives, and where a trace leads'
  ],

  [
    'feed looks and leaves out what is not there',
    (clock) =>
      telling(clock, {
        look: (keys, feed) => feed.look(keys).filter((look) => look !== undefined)
      }),
    'feed: a look shows nothing of what has expired, or is not listed'
  ]
]

/** A MemoryStore whose feed does otherwise. */
function telling(
  clock: TestClock,
  otherwise: {
    readonly listen?: (
      listener: (notice: EndNotice) => void,
      feed: MemoryStore['feed']
    ) => () => void
    readonly look?: (
      keys: readonly string[],
      feed: MemoryStore['feed']
    ) => ReturnType<MemoryStore['feed']['look']>
  }
): SessionStore {
  const store = new MemoryStore(daily(clock))
  const { feed } = store
  const { listen, look } = otherwise
  const other: SessionFeed = {
    listen: (listener) => (listen ?? ((each) => feed.listen(each)))(listener, feed),
    look: (keys) => (look ?? ((each) => feed.look(each)))(keys, feed)
  }
  return Object.assign(store, { feed: other })
}

for (const [fault, createStore, foundBy] of broken) {
  t.test(`the suite finds a store where ${fault}`, async (t) => {
    const found = await failures(createStore)
    t.ok(found.includes(foundBy), `fails "${foundBy}"`, { found })
  })
}

t.test('the suite finds nothing wrong with a store that is right', async (t) => {
  t.same(await failures((clock) => new MemoryStore(daily(clock))), [])
  t.same(await failures((clock) => new MapStore(clock)), [])
  const alone = (clock: TestClock): SessionStore =>
    Object.assign(new MemoryStore(daily(clock)), { subjects: undefined })
  t.same(await failures(alone), [], 'a feed without subjects')
  t.same(
    await failures((clock) =>
      moving(clock, (store, { from, record, trace }) => store.moveRightly(from, record, trace))
    ),
    []
  )
})

t.test('what a store cannot do is named, and then not asked of it', async (t) => {
  const names: string[] = []
  storeConformance({
    test: (name) => names.push(name),
    createStore: () => new MemoryStore(),
    nul: false
  })
  t.notOk(names.some((name) => name.includes('U+0000')))
})

t.test('a tolerance admits instants that are off by no more', async (t) => {
  const clock = new TestClock()
  const store = (by: number): SessionStore =>
    new (class extends MemoryStore {
      override create(key: string, record: SessionRecord): boolean {
        return super.create(key, { ...record, expiresAt: record.expiresAt + by })
      }
    })(daily(clock))
  for (const [by, passes] of [
    [5, true],
    [6, false]
  ] as const) {
    let test: (() => Promise<void>) | undefined
    storeConformance({
      test: (name, fn) => {
        if (name === 'a record comes back as it was given') test = fn
      },
      clock,
      createStore: () => store(by),
      tolerance: 5
    })
    if (passes) await t.resolves(test?.() ?? Promise.reject(new Error('no such test')))
    else await t.rejects(test?.() ?? Promise.resolve())
  }
})

function shifted(clock: TestClock, by: number): Clock {
  return {
    now: () => clock.now() + by,
    setTimeout: (callback, milliseconds) => clock.setTimeout(callback, milliseconds)
  }
}

/** A store one of whose verbs takes two steps. */
function racing(clock: TestClock, verb: 'create' | 'update' | 'delete' | 'retire'): SessionStore {
  const store = new MemoryStore(daily(clock))
  return {
    get: (key) => store.get(key),
    touch: (key, expiresAt) => store.touch(key, expiresAt),
    create:
      verb !== 'create'
        ? (key, record) => store.create(key, record)
        : async (key, record) => {
            const found = store.get(key)
            await nextTurn()
            if (found !== undefined) return false
            store.delete(key)
            return store.create(key, record)
          },
    update:
      verb !== 'update'
        ? (key, record, expectedVersion) => store.update(key, record, expectedVersion)
        : async (key, record, expectedVersion) => {
            const found = store.get(key)
            await nextTurn()
            return (
              found?.version === expectedVersion &&
              store.update(key, record, store.get(key)?.version ?? '')
            )
          },
    delete:
      verb !== 'delete'
        ? (key) => store.delete(key)
        : async (key) => {
            const found = store.get(key)
            await nextTurn()
            store.delete(key)
            return found
          },
    retire:
      verb !== 'retire'
        ? (key, trace) => store.retire(key, trace)
        : async (key, trace) => {
            const found = store.get(key)
            await nextTurn()
            if (found?.version !== trace.version || found.successor !== undefined) return false
            const stored = store.get(key)
            store.retire(key, { ...trace, version: stored?.version ?? '' })
            return true
          }
  }
}

type Entry = SessionRecord | SessionTrace

/** A store that is right. It hands in and out copies. */
/** The milliseconds of a record's lifetime, if it has one. */
function idleOf({ maxAge, defaultMaxAge }: SessionRecord): number | undefined {
  const seconds = maxAge ?? defaultMaxAge
  return seconds === undefined ? undefined : seconds * 1000
}

/** When a record ends that replaces another. */
function later(stored: SessionRecord, record: SessionRecord): number {
  const isShorter = (idleOf(record) ?? Infinity) < (idleOf(stored) ?? Infinity)
  return isShorter ? record.expiresAt : Math.max(stored.expiresAt, record.expiresAt)
}

class MapStore implements SessionStore {
  protected readonly entries = new Map<string, Entry>()
  protected readonly clock: TestClock

  constructor(clock: TestClock) {
    this.clock = clock
  }

  get(key: string): Entry | undefined {
    const entry = this.entries.get(key)
    return entry !== undefined && this.clock.now() < entry.expiresAt ? { ...entry } : undefined
  }

  create(key: string, record: SessionRecord): boolean {
    if (this.get(key) !== undefined) return false
    this.entries.set(key, { ...record })
    return true
  }

  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const stored = this.record(key)
    if (stored?.version !== expectedVersion) return false
    this.entries.set(key, { ...record, expiresAt: later(stored, record) })
    return true
  }

  touch(key: string, expiresAt: number): number | undefined {
    const stored = this.record(key)
    if (stored === undefined) return undefined
    const allowed = Math.min(expiresAt, this.clock.now() + (idleOf(stored) ?? Infinity))
    const furthest = Math.max(stored.expiresAt, allowed)
    this.entries.set(key, { ...stored, expiresAt: furthest })
    return furthest
  }

  delete(key: string): Entry | undefined {
    const entry = this.get(key)
    if (entry?.successor === undefined) this.entries.delete(key)
    return entry
  }

  retire(key: string, trace: SessionTrace): boolean {
    if (this.record(key)?.version !== trace.version) return false
    this.entries.set(key, { ...trace })
    return true
  }

  protected record(key: string): SessionRecord | undefined {
    const entry = this.get(key)
    return entry?.successor === undefined ? entry : undefined
  }
}

interface Moved {
  readonly from: string
  readonly to: string
  readonly record: SessionRecord
  readonly trace: SessionTrace
}

/** A MapStore that can move. It lets a test do it wrongly. */
class MovingMapStore extends MapStore {
  moveRightly(key: string, record: SessionRecord, trace: SessionTrace): boolean {
    return (
      this.isAt(key, trace.version) &&
      this.create(trace.successor, record) &&
      this.retire(key, trace)
    )
  }

  isAt(key: string, version: string): boolean {
    return this.record(key)?.version === version
  }

  entriesOf(): Map<string, Entry> {
    return this.entries
  }
}

/** A store whose `move` does this. */
function moving(
  clock: TestClock,
  move: (store: MovingMapStore, moved: Moved) => boolean
): SessionStore {
  return new (class extends MovingMapStore {
    move(from: string, record: SessionRecord, trace: SessionTrace): boolean {
      return move(this, { from, to: trace.successor, record, trace })
    }
  })(clock)
}

/** A store whose `move` looks, and writes a turn later. */
function lateMove(clock: TestClock): SessionStore {
  return moving(clock, (store, { from, to, record, trace }) => {
    const isFound = store.isAt(from, trace.version)
    return nextTurn().then(() => {
      if (!isFound || !store.create(to, record)) return false
      return store.entriesOf().set(from, trace).has(from)
    }) as never
  })
}

/** A store whose `retire` looks, and writes a turn later. */
function lateRetire(clock: TestClock): SessionStore {
  return new (class extends MapStore {
    override retire(key: string, trace: SessionTrace): never {
      const isFound = this.record(key)?.version === trace.version
      return nextTurn().then(() => isFound && this.entries.set(key, trace).has(key)) as never
    }
  })(clock)
}

/** A store whose `update` looks, and writes a turn later. */
function lateUpdate(clock: TestClock): SessionStore {
  return new (class extends MapStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): never {
      const isFound = this.record(key)?.version === expectedVersion
      return nextTurn().then(() => isFound && this.entries.set(key, record).has(key)) as never
    }
  })(clock)
}

/** Hands in and out the very objects that it keeps. */
class ObjectStore implements SessionStore {
  readonly #clock: TestClock
  readonly #records: Record<string, Entry | undefined>

  constructor(clock: TestClock, records: Record<string, Entry | undefined>) {
    this.#clock = clock
    this.#records = records
  }

  get(key: string): Entry | undefined {
    const entry = this.#records[key]
    return entry !== undefined && this.#clock.now() >= entry.expiresAt ? undefined : entry
  }

  create(key: string, record: SessionRecord): boolean {
    if (this.get(key) !== undefined) return false
    this.#records[key] = record
    return true
  }

  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const stored = this.#record(key)
    if (stored?.version !== expectedVersion) return false
    this.#records[key] = { ...record, expiresAt: later(stored, record) }
    return true
  }

  touch(key: string, expiresAt: number): number | undefined {
    const stored = this.#record(key)
    if (stored === undefined) return undefined
    const allowed = Math.min(expiresAt, this.#clock.now() + (idleOf(stored) ?? Infinity))
    const furthest = Math.max(stored.expiresAt, allowed)
    this.#records[key] = { ...stored, expiresAt: furthest }
    return furthest
  }

  delete(key: string): Entry | undefined {
    const entry = this.get(key)
    if (entry?.successor === undefined) delete this.#records[key]
    return entry
  }

  retire(key: string, trace: SessionTrace): boolean {
    if (this.#record(key)?.version !== trace.version) return false
    this.#records[key] = trace
    return true
  }

  #record(key: string): SessionRecord | undefined {
    const entry = this.get(key)
    return entry?.successor === undefined ? entry : undefined
  }
}

import t from 'tap'

import { MemoryStore, type Clock, type MemoryStoreOptions, type SessionRecord, type SessionStore } from '../../lib/index.ts'
import { storeConformance, TestClock } from '../../lib/testing/index.ts'
import { nextTurn, slow } from '../helpers/stores.ts'

/** Swept once a day: the tests let months go by. */
function daily(clock: Clock): MemoryStoreOptions {
  return { clock, sweepInterval: 24 * 60 * 60 }
}

t.test('MemoryStore', async (t) => {
  const clock = new TestClock()
  storeConformance({ test: (name, fn) => t.test(name, fn), clock, createStore: () => new MemoryStore(daily(clock)) })
})

t.test('MemoryStore, answering later', async (t) => {
  const clock = new TestClock()
  storeConformance({ test: (name, fn) => t.test(name, fn), clock, createStore: async () => slow(new MemoryStore(daily(clock))) })
})

t.test('MemoryStore, in real time', async (t) => {
  storeConformance({ test: (name, fn) => t.test(name, fn), shortLife: 200, createStore: () => new MemoryStore() })
})

/** Runs the suite without a runner, and names the tests that fail. */
async function failures(createStore: (clock: TestClock) => SessionStore): Promise<string[]> {
  const clock = new TestClock()
  const tests: Array<{ name: string, fn: () => Promise<void> }> = []
  storeConformance({ test: (name, fn) => tests.push({ name, fn }), clock, createStore: () => createStore(clock) })
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

/** Stores that are wrong in one way each: what is wrong, the store, and a test that must find it. */
const broken: Array<[fault: string, createStore: (clock: TestClock) => SessionStore, foundBy: string]> = [
  ['get keeps the record back', (clock) => new class extends MemoryStore {
    override get(): undefined {}
  }(daily(clock)), 'a record comes back as it was given'],

  ['get serves what has expired', () => new MemoryStore(daily(new TestClock())), 'a record that has expired is absent to every verb'],

  ['a record expires a millisecond late', (clock) => new MemoryStore(daily(shifted(clock, -1))), 'a record is live until its instant, and not at it'],

  ['a record expires a millisecond early', (clock) => new MemoryStore(daily(shifted(clock, 1))), 'a record is live until its instant, and not at it'],

  ['a life is cut to what a timer can hold', (clock) => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, { ...record, expiresAt: Math.min(record.expiresAt, clock.now() + 2 ** 31 - 1) })
    }
  }(daily(clock)), 'a life may last longer than a timer can'],

  ['instants are kept in seconds', (clock) => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, { ...record, createdAt: Math.floor(record.createdAt / 1000) * 1000 })
    }
  }(daily(clock)), 'a record comes back as it was given'],

  ['a life\'s own length is lost', (clock) => new class extends MemoryStore {
    override create(key: string, { maxAge: _, ...record }: SessionRecord): boolean {
      return super.create(key, record)
    }
  }(daily(clock)), 'a lifetime of its own comes back, is changed and is dropped'],

  ['a life\'s own length is never dropped', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      return super.update(key, { ...super.get(key), ...record }, expectedVersion)
    }
  }(daily(clock)), 'a lifetime of its own comes back, is changed and is dropped'],

  ['data is trimmed', (clock) => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, { ...record, data: record.data.trim() })
    }
  }(daily(clock)), 'text that is no JSON: comes back to the byte'],

  ['data is kept as ISO 8859-1', (clock) => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, { ...record, data: Buffer.from(record.data, 'latin1').toString('latin1') })
    }
  }(daily(clock)), 'text of all planes: comes back to the byte'],

  ['keys differ by case no more', (clock) => new class extends MemoryStore {
    override get(key: string): SessionRecord | undefined {
      return super.get(key.toLowerCase())
    }

    override create(key: string, record: SessionRecord): boolean {
      return super.create(key.toLowerCase(), record)
    }
  }(daily(clock)), 'keys are independent, whatever they are'],

  ['records are the properties of an object', (clock) => new ObjectStore(clock, {}), 'keys are independent, whatever they are'],

  ['records are shared with the caller', (clock) => new ObjectStore(clock, Object.create(null)), 'what is done to a record given or got does not reach the store'],

  ['create overwrites', (clock) => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      super.delete(key)
      return super.create(key, record)
    }
  }(daily(clock)), 'create refuses a key that is taken, and leaves its record as it was'],

  ['create never frees a key', (clock) => new class extends MemoryStore {
    readonly #taken = new Set<string>()

    override create(key: string, record: SessionRecord): boolean {
      return this.#taken.size < this.#taken.add(key).size && super.create(key, record)
    }
  }(daily(clock)), 'a key can be created anew after its record has expired'],

  ['create reads, then writes', (clock) => racing(clock, 'create'), 'of 20 concurrent creates of a key one wins'],

  ['update ignores the version', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord): boolean {
      return super.update(key, record, super.get(key)?.version ?? '')
    }
  }(daily(clock)), 'update at another version is refused and changes nothing'],

  ['update compares the beginning of the version', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      const version = super.get(key)?.version ?? ''
      return super.update(key, record, version.startsWith(expectedVersion) ? version : expectedVersion)
    }
  }(daily(clock)), 'update at another version is refused and changes nothing'],

  ['update creates', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      return super.update(key, record, expectedVersion) || super.create(key, record)
    }
  }(daily(clock)), 'no update and no touch brings back what was deleted'],

  ['update shortens a life', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      if (!super.update(key, record, expectedVersion)) return false
      super.delete(key)
      return super.create(key, record)
    }
  }(daily(clock)), 'update never shortens a life, and writes all else'],

  ['update that would shorten a life writes nothing', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      const stored = super.get(key)
      if (stored !== undefined && stored.expiresAt > record.expiresAt) return stored.version === expectedVersion
      return super.update(key, record, expectedVersion)
    }
  }(daily(clock)), 'update never shortens a life, and writes all else'],

  ['update does not lengthen a life', (clock) => new class extends MemoryStore {
    override update(key: string, record: SessionRecord, expectedVersion: string): boolean {
      return super.update(key, { ...record, expiresAt: 0 }, expectedVersion)
    }
  }(daily(clock)), 'a touch and an update lengthen a life'],

  ['update reads, then writes', (clock) => racing(clock, 'update'), 'of 20 concurrent updates at one version one wins'],

  ['touch creates', (clock) => new class extends MemoryStore {
    override touch(key: string, expiresAt: number): number {
      super.create(key, { data: '', version: 'v', createdAt: clock.now(), expiresAt })
      return super.touch(key, expiresAt) as number
    }
  }(daily(clock)), 'no update and no touch brings back what was deleted'],

  ['touch does nothing', (clock) => new class extends MemoryStore {
    override touch(key: string): number | undefined {
      return super.touch(key, 0)
    }
  }(daily(clock)), 'touch moves the expiry forward, and nothing else'],

  ['touch moves the expiry back', (clock) => new class extends MemoryStore {
    override touch(key: string, expiresAt: number): number | undefined {
      const stored = super.delete(key)
      return stored !== undefined && super.create(key, { ...stored, expiresAt }) ? expiresAt : undefined
    }
  }(daily(clock)), 'touch never moves the expiry back'],

  ['touch answers the expiry that was asked for', (clock) => new class extends MemoryStore {
    override touch(key: string, expiresAt: number): number | undefined {
      return super.touch(key, expiresAt) === undefined ? undefined : expiresAt
    }
  }(daily(clock)), 'touch never moves the expiry back'],

  ['touch is a new version', (clock) => new class extends MemoryStore {
    override touch(key: string, expiresAt: number): number | undefined {
      const stored = super.get(key)
      if (stored !== undefined) super.update(key, { ...stored, version: `${stored.version}+`, expiresAt }, stored.version)
      return super.touch(key, expiresAt)
    }
  }(daily(clock)), 'touch moves the expiry forward, and nothing else'],

  ['delete answers nothing', (clock) => new class extends MemoryStore {
    override delete(key: string): undefined {
      super.delete(key)
    }
  }(daily(clock)), 'delete answers the record that it removed, once'],

  ['delete removes nothing', (clock) => new class extends MemoryStore {
    override delete(key: string): SessionRecord | undefined {
      return super.get(key)
    }
  }(daily(clock)), 'delete answers the record that it removed, once'],

  ['delete answers the record as it was created', (clock) => new class extends MemoryStore {
    readonly #created = new Map<string, SessionRecord>()

    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, record) && this.#created.set(key, { ...record }).has(key)
    }

    override delete(key: string): SessionRecord | undefined {
      return super.delete(key) && this.#created.get(key)
    }
  }(daily(clock)), 'delete answers what was written and touched last'],

  ['delete reads, then removes', (clock) => racing(clock, 'delete'), 'of 20 concurrent deletes one gets the record']
]

for (const [fault, createStore, foundBy] of broken) {
  t.test(`the suite finds a store where ${fault}`, async (t) => {
    const found = await failures(createStore)
    t.ok(found.includes(foundBy), `fails "${foundBy}"`, { found })
  })
}

t.test('the suite finds nothing wrong with a store that is right', async (t) => {
  t.same(await failures((clock) => new MemoryStore(daily(clock))), [])
})

t.test('what a store cannot do is named, and then not asked of it', async (t) => {
  const names: string[] = []
  storeConformance({ test: (name) => names.push(name), createStore: () => new MemoryStore(), nul: false })
  t.notOk(names.some((name) => name.includes('U+0000')))
})

t.test('a tolerance admits instants that are off by no more', async (t) => {
  const clock = new TestClock()
  const store = (by: number): SessionStore => new class extends MemoryStore {
    override create(key: string, record: SessionRecord): boolean {
      return super.create(key, { ...record, expiresAt: record.expiresAt + by })
    }
  }(daily(clock))
  for (const [by, passes] of [[5, true], [6, false]] as const) {
    let test: (() => Promise<void>) | undefined
    storeConformance({
      test: (name, fn) => { if (name === 'a record comes back as it was given') test = fn }, clock, createStore: () => store(by), tolerance: 5
    })
    if (passes) await t.resolves(test?.() ?? Promise.reject(new Error('no such test')))
    else await t.rejects(test?.() ?? Promise.resolve())
  }
})

function shifted(clock: TestClock, by: number): Clock {
  return { now: () => clock.now() + by, setTimeout: (callback, milliseconds) => clock.setTimeout(callback, milliseconds) }
}

/** A store one of whose verbs takes two steps. */
function racing(clock: TestClock, verb: 'create' | 'update' | 'delete'): SessionStore {
  const store = new MemoryStore(daily(clock))
  return {
    get: (key) => store.get(key),
    touch: (key, expiresAt) => store.touch(key, expiresAt),
    create: verb !== 'create' ? (key, record) => store.create(key, record) : async (key, record) => {
      const found = store.get(key)
      await nextTurn()
      if (found !== undefined) return false
      store.delete(key)
      return store.create(key, record)
    },
    update: verb !== 'update' ? (key, record, expectedVersion) => store.update(key, record, expectedVersion) : async (key, record, expectedVersion) => {
      const found = store.get(key)
      await nextTurn()
      return found?.version === expectedVersion && store.update(key, record, store.get(key)?.version ?? '')
    },
    delete: verb !== 'delete' ? (key) => store.delete(key) : async (key) => {
      const found = store.get(key)
      await nextTurn()
      store.delete(key)
      return found
    }
  }
}

/** Hands in and out the very objects that it keeps. */
class ObjectStore implements SessionStore {
  readonly #clock: TestClock
  readonly #records: Record<string, SessionRecord | undefined>

  constructor(clock: TestClock, records: Record<string, SessionRecord | undefined>) {
    this.#clock = clock
    this.#records = records
  }

  get(key: string): SessionRecord | undefined {
    const record = this.#records[key]
    return record !== undefined && this.#clock.now() >= record.expiresAt ? undefined : record
  }

  create(key: string, record: SessionRecord): boolean {
    if (this.get(key) !== undefined) return false
    this.#records[key] = record
    return true
  }

  update(key: string, record: SessionRecord, expectedVersion: string): boolean {
    const stored = this.get(key)
    if (stored?.version !== expectedVersion) return false
    this.#records[key] = { ...record, expiresAt: Math.max(stored.expiresAt, record.expiresAt) }
    return true
  }

  touch(key: string, expiresAt: number): number | undefined {
    const stored = this.get(key)
    if (stored === undefined) return undefined
    const furthest = Math.max(stored.expiresAt, expiresAt)
    this.#records[key] = { ...stored, expiresAt: furthest }
    return furthest
  }

  delete(key: string): SessionRecord | undefined {
    const stored = this.get(key)
    delete this.#records[key]
    return stored
  }
}

import assert from 'node:assert/strict'

import { systemClock } from '../clock.ts'
import { checkFeed } from './conformance-feed.ts'
import { checkLifetimes } from './conformance-lifetimes.ts'
import { checkMoves } from './conformance-moves.ts'
import { checkSubjects } from './conformance-subjects.ts'
import { checkTraces, type Entry, type Tester } from './conformance-traces.ts'
import {
  day,
  elapse,
  hour,
  key,
  many,
  otherKey,
  preview,
  recordOf,
  spoil
} from './conformance-tools.ts'
import type { MaybePromise, SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/** Options of `storeConformance`. */
export interface ConformanceOptions {
  /**
   * Registers a test, as `test` of tap, node:test, Vitest and Jest does. The tests must run one
   * after another.
   */
  test: (name: string, fn: () => Promise<void>) => unknown
  /** Returns an empty store. Called for each test, which closes its store at the end. */
  createStore: () => MaybePromise<SessionStore>
  /**
   * The clock that the stores use, such as a `TestClock`. Expiry is then tested to the millisecond,
   * without waiting. `advance` may return a promise, for stores that have to make the records on a
   * server older. Default: none; the tests wait until short-lived records expire.
   */
  clock?: { now(): number; advance(milliseconds: number): MaybePromise<void> }
  /**
   * Milliseconds that short-lived records live if there is no `clock`. Should be several times the
   * duration of a call. Default: 250.
   */
  shortLife?: number
  /**
   * Milliseconds by which a timestamp may be off when it is read back, and by which a record may
   * expire late. Default: 0.
   */
  tolerance?: number
  /**
   * Whether the store can keep data that contains U+0000. JSON never does, and some databases
   * cannot keep it. Default: true.
   */
  nul?: boolean
}

/**
 * Registers tests that check a store against the contract of `SessionStore`:
 *
 * ```ts
 * storeConformance({ test, createStore: () => new MyStore() })
 * ```
 *
 * A test that fails rejects with an `AssertionError` of `node:assert`.
 */
export function storeConformance(options: ConformanceOptions): void {
  const { test, createStore, clock, shortLife = 250, tolerance = 0, nul = true } = options
  const now = (): number => (clock ?? systemClock).now()
  const begunAt = now()

  function check(name: string, body: (store: SessionStore) => Promise<void>): void {
    test(name, async () => {
      const store = await createStore()
      try {
        await body(store)
      } finally {
        await store.close?.()
      }
    })
  }

  /** Returns a record that lives for an hour, with some of its values replaced. */
  function record(values: Partial<SessionRecord> = {}): SessionRecord {
    return {
      data: '{"user":"ada"}',
      version: 'v1',
      createdAt: begunAt,
      expiresAt: now() + hour,
      ...values
    }
  }

  async function createExpired(store: SessionStore): Promise<void> {
    assert.equal(await store.create(key, shortLived()), true)
    await outlive()
  }

  function shortLived(): SessionRecord {
    return record({ expiresAt: now() + (clock === undefined ? shortLife : hour) })
  }

  /** Waits until short-lived records have expired: with a clock, to the millisecond. */
  async function outlive(): Promise<void> {
    if (clock === undefined) await elapse(shortLife + tolerance + 20)
    else await clock.advance(hour + tolerance)
  }

  function assertInstant(actual: number, expected: number): void {
    assert.ok(
      Math.abs(actual - expected) <= tolerance,
      `expected the instant ${expected}, got ${actual}`
    )
  }

  function assertRecord(entry: Entry, expected: SessionRecord): void {
    const actual = recordOf(entry)
    assert.ok(actual !== undefined, 'expected a record, got none')
    // Compared separately, so that a failure does not print 64 KB.
    assert.ok(
      actual.data === expected.data,
      `the data is not what was stored: ${preview(actual.data)}`
    )
    assert.equal(actual.version, expected.version)
    assert.equal(actual.maxAge, expected.maxAge)
    assert.equal(actual.notes, expected.notes)
    assert.equal(actual.defaultMaxAge, expected.defaultMaxAge)
    assert.equal(actual.createdAt, expected.createdAt)
    assertInstant(actual.expiresAt, expected.expiresAt)
  }

  function assertTrace(actual: Entry, expected: SessionTrace): void {
    assert.ok(typeof actual === 'object', 'expected a trace, got none')
    assert.equal(actual.successor, expected.successor)
    assert.equal(actual.version, expected.version)
    assert.equal(actual.data, undefined, 'a trace has no data')
    assertInstant(actual.expiresAt, expected.expiresAt)
  }

  async function assertTouches(
    store: SessionStore,
    expiresAt: number,
    expected: number
  ): Promise<void> {
    const touched = await store.touch(key, expiresAt)
    assert.ok(touched !== undefined, 'touch did not find the record')
    assertInstant(touched, expected)
  }

  async function assertAbsent(store: SessionStore): Promise<void> {
    assert.equal(await store.get(key), undefined, 'get found it')
    assert.equal(await store.touch(key, now() + hour), undefined, 'touch found it')
    assert.equal(await store.update(key, record({ version: 'v2' }), 'v1'), false, 'update found it')
    assert.equal(await store.delete(key), undefined, 'delete found it')
    assert.equal(await store.get(key), undefined, 'a call that was refused left something behind')
  }

  // Absent.

  check('an unknown key is absent to every verb', assertAbsent)

  // Create and get.

  check('a record comes back as it was given', async (store) => {
    const given = record({ createdAt: begunAt - 12_345 })
    assert.equal(await store.create(key, given), true)
    assertRecord(await store.get(key), given)
    assertRecord(await store.get(key), given)
  })

  const texts: Record<string, string> = {
    'no data': '',
    'JSON with quotes, backslashes and line ends': JSON.stringify({
      text: '"\'`\\ \r\n\t ${0} %s $1 :a'
    }),
    'text of all planes': '{"text":"é ß 漢字 😀 \u2028 \ufeff \uffff"}',
    'text that is no JSON': ' 1 2 null "undefined \n',
    '64 KB of data': `"${'é1'.repeat(32_767)}"`
  }
  if (nul) texts['data with U+0000'] = '"a\0b"'
  for (const [name, data] of Object.entries(texts)) {
    check(`${name}: comes back to the byte`, async (store) => {
      const given = record({ data })
      await store.create(key, given)
      assertRecord(await store.get(key), given)
      const next = record({ data: `${data} ${data}`, version: 'v2' })
      assert.equal(await store.update(key, next, 'v1'), true)
      assertRecord(await store.get(key), next)
      assertRecord(await store.delete(key), next)
    })
  }

  check('a version comes back as it was given, however long', async (store) => {
    const given = record({
      version: Array.from({ length: 9 }, () => 'aA0-_zZ9876543210aA0-_').join('.')
    })
    await store.create(key, given)
    assertRecord(await store.get(key), given)
    assert.equal(await store.update(key, record({ version: 'v2' }), given.version), true)
  })

  check('the notes come back, are changed and are dropped', async (store) => {
    await store.create(key, record({ notes: '0', maxAge: 60 }))
    assert.equal(recordOf(await store.get(key))?.notes, '0')
    const given = record({ version: 'v2', notes: '86400000!&%7B%22path%22%3A%22%2Fa%22%7D' })
    assert.equal(await store.update(key, given, 'v1'), true)
    await store.touch(key, given.expiresAt)
    assertRecord(await store.get(key), given)
    assert.equal(await store.update(key, record({ version: 'v3' }), 'v2'), true)
    assert.equal(recordOf(await store.delete(key))?.notes, undefined)
  })

  check('create refuses a key that is taken, and leaves its record as it was', async (store) => {
    const given = record()
    await store.create(key, given)
    assert.equal(
      await store.create(key, record({ data: '{}', version: 'v2', expiresAt: now() + 2 * hour })),
      false
    )
    assertRecord(await store.get(key), given)
  })

  check('of 20 concurrent creates of a key one wins', async (store) => {
    const versions = many((index) => `v${index}`)
    const results = await Promise.all(
      versions.map(async (version) => store.create(key, record({ version })))
    )
    assert.equal(results.filter(Boolean).length, 1)
    assert.equal(recordOf(await store.get(key))?.version, versions[results.indexOf(true)])
  })

  check('what is done to a record given or got does not reach the store', async (store) => {
    const given = record()
    const mine = { ...given }
    await store.create(key, mine)
    spoil(mine)
    assertRecord(await store.get(key), given)
    spoil(await store.get(key))
    assertRecord(await store.get(key), given)
    const next = { ...given, version: 'v2' }
    const mineNext = { ...next }
    await store.update(key, mineNext, 'v1')
    spoil(mineNext)
    assertRecord(await store.get(key), next)
  })

  check('keys are independent, whatever they are', async (store) => {
    const keys = [
      key,
      key.toUpperCase(),
      `${key.slice(0, -1)}-`,
      `${key.slice(0, -1)}_`,
      '__proto__',
      'constructor',
      'toString',
      'hasOwnProperty',
      '0',
      '-1'
    ]
    const given = record()
    for (const each of keys) {
      assert.equal(await store.get(each), undefined, `${each} was there before`)
      assert.equal(await store.create(each, { ...given, data: each }), true, `${each} was taken`)
    }
    for (const each of keys) assertRecord(await store.get(each), { ...given, data: each })
    assert.equal(await store.update(keys[0], record({ version: 'v2' }), 'v1'), true)
    for (const each of keys.slice(1, 5)) assert.notEqual(await store.delete(each), undefined)
    assert.equal(recordOf(await store.get(keys[0]))?.version, 'v2')
    for (const each of keys.slice(5)) assert.equal(recordOf(await store.get(each))?.version, 'v1')
  })

  // Update.

  check('update replaces the record at the version that is expected', async (store) => {
    await store.create(key, record())
    const next = record({ data: '{"user":"grace"}', version: 'v2', expiresAt: now() + 2 * hour })
    assert.equal(await store.update(key, next, 'v1'), true)
    assertRecord(await store.get(key), next)
  })

  check('update at another version is refused and changes nothing', async (store) => {
    const given = record({ version: 'v10' })
    await store.create(key, given)
    for (const expected of ['v1', 'v2', 'v100', 'V10', '']) {
      assert.equal(
        await store.update(
          key,
          record({ data: '', version: 'v11', expiresAt: now() + 2 * hour }),
          expected
        ),
        false
      )
    }
    assertRecord(await store.get(key), given)
  })

  check('update at the version before last is refused', async (store) => {
    await store.create(key, record())
    await store.update(key, record({ version: 'v2' }), 'v1')
    assert.equal(await store.update(key, record({ version: 'v3' }), 'v1'), false)
    assert.equal(recordOf(await store.get(key))?.version, 'v2')
  })

  check('update does not shorten a life by an earlier expiry alone', async (store) => {
    const given = record()
    await store.create(key, given)
    const shorter = record({ data: '{}', version: 'v2', expiresAt: now() + hour / 2 })
    assert.equal(await store.update(key, shorter, 'v1'), true)
    assertRecord(await store.get(key), { ...shorter, expiresAt: given.expiresAt })
    const past = record({ version: 'v3', expiresAt: now() - 1 })
    assert.equal(await store.update(key, past, 'v2'), true)
    assertRecord(await store.get(key), { ...past, expiresAt: given.expiresAt })
  })

  check('update does not undo a touch', async (store) => {
    await store.create(key, record())
    const touched = now() + 2 * hour
    await store.touch(key, touched)
    const next = record({ version: 'v2' })
    assert.equal(await store.update(key, next, 'v1'), true)
    assertRecord(await store.get(key), { ...next, expiresAt: touched })
  })

  check('of 20 concurrent updates at one version one wins', async (store) => {
    await store.create(key, record())
    const versions = many((index) => `w${index}`)
    const records = versions.map((version) => record({ version, data: `"${version}"` }))
    const results = await Promise.all(records.map(async (given) => store.update(key, given, 'v1')))
    assert.equal(results.filter(Boolean).length, 1)
    assertRecord(await store.get(key), records[results.indexOf(true)])
  })

  // Touch.

  check('touch moves the expiry forward, and nothing else', async (store) => {
    const given = record({ maxAge: 7200 })
    await store.create(key, given)
    const expiresAt = now() + 2 * hour
    await assertTouches(store, expiresAt, expiresAt)
    assertRecord(await store.get(key), { ...given, expiresAt })
    assert.equal(await store.update(key, record({ version: 'v2' }), 'v1'), true)
  })

  check('touch never moves the expiry back', async (store) => {
    const given = record()
    await store.create(key, given)
    for (const expiresAt of [now() + hour / 2, now(), now() - hour, 0]) {
      await assertTouches(store, expiresAt, given.expiresAt)
      assertRecord(await store.get(key), given)
    }
  })

  check('of concurrent touches the furthest counts', async (store) => {
    const given = record()
    await store.create(key, given)
    const instants = many((index) => now() + hour + ((index * 7) % 20) * 60_000)
    await Promise.all(instants.map(async (expiresAt) => store.touch(key, expiresAt)))
    assertRecord(await store.get(key), { ...given, expiresAt: Math.max(...instants) })
  })

  // Delete.

  check('delete returns the record that it removed, once', async (store) => {
    const given = record({ maxAge: 3600 })
    await store.create(key, given)
    assertRecord(await store.delete(key), given)
    assert.equal(await store.delete(key), undefined)
  })

  check('delete returns what was written and touched last', async (store) => {
    await store.create(key, record())
    const next = record({ data: '{"user":"grace"}', version: 'v2' })
    await store.update(key, next, 'v1')
    const expiresAt = now() + 2 * hour
    await store.touch(key, expiresAt)
    assertRecord(await store.delete(key), { ...next, expiresAt })
  })

  check('of 20 concurrent deletes one gets the record', async (store) => {
    await store.create(key, record())
    const results = await Promise.all(many(async () => store.delete(key)))
    assert.equal(results.filter((removed) => removed !== undefined).length, 1)
  })

  check('no update and no touch brings back what was deleted', async (store) => {
    await store.create(key, record())
    await store.delete(key)
    await assertAbsent(store)
  })

  check('a delete among concurrent writes is final', async (store) => {
    await store.create(key, record())
    await Promise.all(
      many(async (index) => {
        if (index === 10) return store.delete(key)
        return index % 2 === 0
          ? store.touch(key, now() + 2 * hour)
          : store.update(key, record({ version: `v${index}` }), 'v1')
      })
    )
    await assertAbsent(store)
  })

  check(
    'a key can be created anew after a delete; a version of its former life does not count',
    async (store) => {
      await store.create(key, record())
      await store.delete(key)
      const anew = record({ data: '', version: 'w1' })
      assert.equal(await store.create(key, anew), true)
      assert.equal(await store.update(key, record({ version: 'v2' }), 'v1'), false)
      assertRecord(await store.get(key), anew)
    }
  )

  // Traces and moves.

  const tester: Tester = {
    check,
    record,
    now,
    shortLived,
    outlive,
    advance: clock && (async (milliseconds) => clock.advance(milliseconds)),
    tolerance,
    assertRecord,
    assertTrace,
    assertTouches,
    assertAbsent
  }
  checkLifetimes(tester)
  checkTraces(tester)
  checkMoves(tester)
  checkSubjects(tester)
  checkFeed(tester)

  // Expiry.

  check('a record that has expired is absent to every verb', async (store) => {
    await createExpired(store)
    await assertAbsent(store)
  })

  for (const [method, call] of Object.entries({
    touch: async (store: SessionStore) => store.touch(key, now() + hour),
    update: async (store: SessionStore) =>
      (await store.update(key, record({ version: 'v2' }), 'v1')) || undefined
  })) {
    check(`${method} does not bring back what has expired`, async (store) => {
      await createExpired(store)
      assert.equal(await call(store), undefined)
      assert.equal(await store.get(key), undefined)
    })
  }

  check('delete does not return what has expired', async (store) => {
    await createExpired(store)
    assert.equal(await store.delete(key), undefined)
  })

  check('a key can be created anew after its record has expired', async (store) => {
    await createExpired(store)
    const anew = record({ data: '', version: 'w1' })
    assert.equal(await store.create(key, anew), true)
    assert.equal(await store.update(key, record({ version: 'v2' }), 'v1'), false)
    assertRecord(await store.get(key), anew)
  })

  check('a record that has expired when it is created is never there', async (store) => {
    assert.equal(await store.create(key, record({ expiresAt: now() })), true)
    await assertAbsent(store)
    const given = record({ version: 'w1' })
    assert.equal(await store.create(key, given), true)
    assert.equal(await store.create(key, record({ expiresAt: now() - 1 })), false)
    assertRecord(await store.get(key), given)
  })

  check('a touch and an update lengthen a life', async (store) => {
    await store.create(key, shortLived())
    await store.create(otherKey, shortLived())
    await assertTouches(store, now() + 2 * hour, now() + 2 * hour)
    assert.equal(
      await store.update(otherKey, record({ version: 'v2', expiresAt: now() + 2 * hour }), 'v1'),
      true
    )
    await outlive()
    assert.notEqual(await store.get(key), undefined)
    assert.notEqual(await store.get(otherKey), undefined)
  })

  if (clock !== undefined) {
    check('a record is live until its instant, and not at it', async (store) => {
      const given = record()
      await store.create(key, given)
      await clock.advance(hour - 1 - tolerance)
      assertRecord(await store.get(key), given)
      await assertTouches(store, 0, given.expiresAt)
      await clock.advance(1 + 2 * tolerance)
      assert.equal(await store.get(key), undefined)
    })
  }

  // Node limits a timer to 2 ** 31 - 1 milliseconds, which is 24.8 days. A longer one fires at
  // once.
  check('a life may last longer than a timer can', async (store) => {
    const given = record({ expiresAt: now() + 30 * day })
    await store.create(key, given)
    if (clock === undefined) await elapse(50)
    else await clock.advance(29 * day)
    assertRecord(await store.get(key), given)
    const expiresAt = given.expiresAt + 30 * day
    await assertTouches(store, expiresAt, expiresAt)
    if (clock === undefined) await elapse(50)
    else await clock.advance(30 * day)
    assertRecord(await store.get(key), { ...given, expiresAt })
  })
}

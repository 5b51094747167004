import assert from 'node:assert/strict'

import { hour, key, many, otherKey as successor, spoil } from './conformance-tools.ts'
import type { SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/** What a store may have under a key, or have removed. */
export type Entry = SessionRecord | SessionTrace | true | undefined

/** What `storeConformance()` tests with. */
export interface Tester {
  /** Registers a test with an empty store. */
  readonly check: (name: string, body: (store: SessionStore) => Promise<void>) => void
  /** Returns a record of version v1 that lives for an hour, with some of its values replaced. */
  readonly record: (values?: Partial<SessionRecord>) => SessionRecord
  readonly now: () => number
  /** Returns a record for the tests of expiry. */
  readonly shortLived: () => SessionRecord
  /** Waits until such a record has expired. */
  readonly outlive: () => Promise<void>
  /** Lets time pass, if the clock is the tests' own. */
  readonly advance: ((milliseconds: number) => Promise<void>) | undefined
  readonly tolerance: number
  readonly assertRecord: (actual: Entry, expected: SessionRecord) => void
  /** Touches, and asserts which expiry applies then. */
  readonly assertTouches: (
    store: SessionStore,
    expiresAt: number,
    expected: number
  ) => Promise<void>
  readonly assertTrace: (actual: Entry, expected: SessionTrace) => void
  /** Asserts that no verb finds anything under the key. */
  readonly assertAbsent: (store: SessionStore) => Promise<void>
}

/** Registers the tests of `retire()`, and of what the other methods make of a trace. */
export function checkTraces(tester: Tester): void {
  const { check, record, now, shortLived, outlive, advance, tolerance } = tester
  const { assertRecord, assertTrace, assertAbsent } = tester

  /** Returns a trace that lives for ten minutes, with some of its values replaced. */
  function trace(values: Partial<SessionTrace> = {}): SessionTrace {
    return { successor, version: 'v1', expiresAt: now() + 600_000, ...values }
  }

  /** Creates a record and replaces it by a trace. */
  async function leave(store: SessionStore, given = trace()): Promise<SessionTrace> {
    await store.create(key, record({ version: given.version, maxAge: 3600, notes: '1' }))
    assert.equal(await store.retire(key, given), true)
    return given
  }

  check('a record that is retired is a trace, which comes back as it was given', async (store) => {
    const version = many(() => 'aA0-_zZ9876543210').join('.')
    const given = await leave(store, trace({ version }))
    assertTrace(await store.get(key), given)
    assertTrace(await store.get(key), given)
  })

  for (const [than, life] of Object.entries({ earlier: 60_000, later: 3 * hour })) {
    check(`a trace expires when it says, ${than} than the record`, async (store) => {
      const given = await leave(store, trace({ expiresAt: now() + life }))
      assertTrace(await store.get(key), given)
    })
  }

  check('a trace is no record to create, update, touch and retire', async (store) => {
    const given = await leave(store)
    assert.equal(await store.create(key, record({ version: 'w1' })), false)
    assert.equal(await store.create(key, record({ expiresAt: now() - 1 })), false)
    assertTrace(await store.get(key), given)
    assert.equal(await store.update(key, record({ version: 'v2' }), 'v1'), false)
    assertTrace(await store.get(key), given)
    for (const expiresAt of [now() + 2 * hour, 0])
      assert.equal(await store.touch(key, expiresAt), undefined)
    assertTrace(await store.get(key), given)
    assert.equal(await store.retire(key, trace({ successor: key })), false)
    assertTrace(await store.get(key), given)
  })

  check('delete returns a trace, and leaves it', async (store) => {
    const given = await leave(store)
    assertTrace(await store.delete(key), given)
    assertTrace(await store.delete(key), given)
    assertTrace(await store.get(key), given)
  })

  check('a trace and the session that it leads to are independent', async (store) => {
    const next = record({ data: '{"user":"grace"}', version: 'w1' })
    await store.create(successor, next)
    const given = await leave(store)
    await store.delete(key)
    await store.touch(key, now() + 2 * hour)
    assertRecord(await store.get(successor), next)
    assert.equal(await store.update(successor, { ...next, version: 'w2' }, 'w1'), true)
    assertRecord(await store.delete(successor), { ...next, version: 'w2' })
    assertTrace(await store.get(key), given)
  })

  check('retire at another version is refused and changes nothing', async (store) => {
    const given = record({ version: 'v10' })
    await store.create(key, given)
    for (const version of ['v1', 'v2', 'v100', 'V10', ''])
      assert.equal(await store.retire(key, trace({ version })), false, version)
    assertRecord(await store.get(key), given)
    const next = { ...given, version: 'v11' }
    await store.update(key, next, 'v10')
    assert.equal(await store.retire(key, trace({ version: 'v10' })), false)
    assertRecord(await store.get(key), next)
    assert.equal(await store.retire(key, trace({ version: 'v11' })), true)
  })

  check('retire where there is no record is refused and leaves nothing', async (store) => {
    assert.equal(await store.retire(key, trace()), false)
    await assertAbsent(store)
    await store.create(key, record())
    await store.delete(key)
    assert.equal(await store.retire(key, trace()), false)
    await assertAbsent(store)
  })

  check('what is done to a trace given or got does not reach the store', async (store) => {
    const given = trace()
    const mine = { ...given }
    await leave(store, mine)
    spoil(mine)
    assertTrace(await store.get(key), given)
    spoil(await store.get(key))
    spoil(await store.delete(key))
    assertTrace(await store.get(key), given)
  })

  // Expiry.

  check('a record that has expired is not retired', async (store) => {
    await store.create(key, shortLived())
    await outlive()
    assert.equal(await store.retire(key, trace()), false)
    await assertAbsent(store)
  })

  check('a trace that has expired is absent to every verb, and its key is free', async (store) => {
    await leave(store, trace({ expiresAt: shortLived().expiresAt }))
    await outlive()
    assert.equal(await store.retire(key, trace()), false)
    await assertAbsent(store)
    const anew = record({ data: '', version: 'w1' })
    assert.equal(await store.create(key, anew), true)
    assert.equal(await store.retire(key, trace()), false)
    assertRecord(await store.get(key), anew)
    assert.equal(await store.update(key, record({ version: 'w2' }), 'w1'), true)
  })

  check('a trace gives way to a new record as soon as it has expired', async (store) => {
    await leave(store, trace({ expiresAt: shortLived().expiresAt }))
    await outlive()
    const anew = record({ data: '', version: 'w1' })
    assert.equal(await store.create(key, anew), true)
    assertRecord(await store.get(key), anew)
    assert.notEqual(await store.touch(key, 0), undefined)
    assertRecord(await store.delete(key), anew)
    await assertAbsent(store)
  })

  check('a trace that has expired when it is left ends the record', async (store) => {
    for (const expiresAt of [now(), now() - hour]) {
      await leave(store, trace({ expiresAt }))
      await assertAbsent(store)
    }
  })

  if (advance !== undefined) {
    check('a trace is there until its instant, and not at it', async (store) => {
      const given = await leave(store)
      await advance(600_000 - 1 - tolerance)
      assertTrace(await store.get(key), given)
      await advance(1 + 2 * tolerance)
      assert.equal(await store.get(key), undefined)
    })
  }

  // At once.

  check('of 20 concurrent retires one wins', async (store) => {
    await store.create(key, record())
    const traces = many((index) => trace({ successor: `${successor.slice(2)}${index + 10}` }))
    const results = await Promise.all(traces.map(async (given) => store.retire(key, given)))
    assert.equal(results.filter(Boolean).length, 1)
    assertTrace(await store.get(key), traces[results.indexOf(true)])
  })

  for (const [index, first] of ['retire', 'update'].entries()) {
    check(`of 20 concurrent updates and retires, first ${first}, one wins`, async (store) => {
      const given = { record: record(), trace: trace() }
      await store.create(key, given.record)
      const results = await Promise.all(
        many(async (call) =>
          call % 2 === index
            ? store.retire(key, given.trace)
            : store.update(key, { ...given.record, version: `w${call}` }, 'v1')
        )
      )
      assert.equal(results.filter(Boolean).length, 1)
      const winner = results.indexOf(true)
      if (winner % 2 === index) assertTrace(await store.get(key), given.trace)
      else assertRecord(await store.get(key), { ...given.record, version: `w${winner}` })
    })
  }

  for (const among of [0, 10, 19]) {
    check(`of concurrent deletes and retire ${among + 1} one gets the record`, async (store) => {
      await store.create(key, record())
      const given = trace()
      let isRetired: boolean | undefined
      const removed = await Promise.all(
        many(async (index) => {
          if (index !== among) return store.delete(key)
          isRetired = await store.retire(key, given)
        })
      )
      removed.splice(among, 1)
      if (isRetired) {
        for (const each of removed) assertTrace(each, given)
        assertTrace(await store.get(key), given)
      } else {
        assert.equal(removed.filter((each) => each !== undefined).length, 1)
        await assertAbsent(store)
      }
    })
  }
}

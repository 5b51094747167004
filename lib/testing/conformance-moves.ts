import assert from 'node:assert/strict'

import type { Tester } from './conformance-traces.ts'
import { hour, key, many, otherKey as successor } from './conformance-tools.ts'
import type { MaybePromise, SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/** Moves from `key`, by the method of the store that is tested. */
type Move = (record: SessionRecord, trace: SessionTrace) => MaybePromise<boolean>

/** Registers the tests of `move()`. A store without it passes: it need not have it. */
export function checkMoves(tester: Tester): void {
  const { record, now, shortLived, outlive } = tester
  const { assertRecord, assertTrace } = tester

  const next = (values: Partial<SessionRecord> = {}): SessionRecord =>
    record({ data: '{"user":"grace"}', version: 'w1', maxAge: 3600, notes: '1', ...values })

  function trace(values: Partial<SessionTrace> = {}): SessionTrace {
    return { successor, version: 'v1', expiresAt: now() + 600_000, ...values }
  }

  function check(name: string, body: (store: SessionStore, move: Move) => Promise<void>): void {
    tester.check(name, async (store) => {
      if (store.move === undefined) return
      const able = store as Required<SessionStore>
      await body(store, (given, left) => able.move(key, given, left))
    })
  }

  check('move creates the record under the new key and leaves the trace', async (store, move) => {
    const [given, left] = [
      next({ createdAt: now() - hour }),
      trace({ expiresAt: now() + 2 * hour })
    ]
    await store.create(key, record({ maxAge: 60, notes: '2' }))
    assert.equal(await move(given, left), true)
    assertRecord(await store.get(successor), given)
    assertTrace(await store.get(key), left)
    assertTrace(await store.delete(key), left)
    assert.equal(await store.update(successor, { ...given, version: 'w2' }, 'w1'), true)
    assertRecord(await store.delete(successor), { ...given, version: 'w2' })
    assertTrace(await store.get(key), left)
  })

  check('move at another version is refused and changes nothing', async (store, move) => {
    const given = record({ version: 'v10' })
    await store.create(key, given)
    for (const version of ['v1', 'v2', 'v100', 'V10', '']) {
      assert.equal(await move(next(), trace({ version })), false, version)
      assert.equal(await store.get(successor), undefined, version)
    }
    assertRecord(await store.get(key), given)
    assert.equal(await move(next(), trace({ version: 'v10' })), true)
  })

  check('move to a key that is taken is refused and changes nothing', async (store, move) => {
    const given = record()
    const other = record({ version: 'x1' })
    await store.create(key, given)
    await store.create(successor, other)
    assert.equal(await move(next(), trace()), false)
    assertRecord(await store.get(successor), other)
    assertRecord(await store.get(key), given)
    const left = trace({ successor: key, version: 'x1' })
    await store.retire(successor, left)
    assert.equal(await move(next(), trace()), false)
    assertTrace(await store.get(successor), left)
    assertRecord(await store.get(key), given)
  })

  check('move to its own key is refused and changes nothing', async (store, move) => {
    const given = record()
    await store.create(key, given)
    assert.equal(await move(next(), trace({ successor: key })), false)
    assertRecord(await store.get(key), given)
  })

  check('move where there is no record is refused and leaves nothing', async (store, move) => {
    const absent = async (): Promise<void> => {
      assert.equal(await move(next(), trace()), false)
      assert.equal(await store.get(successor), undefined)
    }
    await absent()
    assert.equal(await store.get(key), undefined)
    await store.create(key, record())
    const left = trace({ successor: key })
    await store.retire(key, left)
    await absent()
    assertTrace(await store.get(key), left)
  })

  check('move finds no record that has expired', async (store, move) => {
    await store.create(key, shortLived())
    await outlive()
    assert.equal(await move(next(), trace()), false)
    assert.equal(await store.get(key), undefined)
    assert.equal(await store.get(successor), undefined)
  })

  check('move takes the key of what has expired', async (store, move) => {
    await store.create(successor, shortLived())
    await outlive()
    const given = next()
    await store.create(key, record())
    assert.equal(await move(given, trace()), true)
    assertRecord(await store.get(successor), given)
  })

  check('of 20 concurrent moves one wins, and the others leave nothing', async (store, move) => {
    const given = next()
    await store.create(key, record())
    const traces = many((index) => trace({ successor: `${successor.slice(2)}${index + 10}` }))
    const results = await Promise.all(traces.map(async (left) => move(given, left)))
    assert.equal(results.filter(Boolean).length, 1)
    for (const [index, left] of traces.entries()) {
      const entry = await store.get(left.successor)
      if (results[index]) assertRecord(entry, given)
      else assert.equal(entry, undefined)
    }
    assertTrace(await store.get(key), traces[results.indexOf(true)])
  })

  for (const [index, first] of ['move', 'update'].entries()) {
    check(`of 20 concurrent updates and moves, first ${first}, one wins`, async (store, move) => {
      const given = { record: record(), next: next(), trace: trace() }
      await store.create(key, given.record)
      const results = await Promise.all(
        many(async (call) =>
          call % 2 === index
            ? move(given.next, given.trace)
            : store.update(key, { ...given.record, version: `u${call}` }, 'v1')
        )
      )
      assert.equal(results.filter(Boolean).length, 1)
      const winner = results.indexOf(true)
      const entry = await store.get(successor)
      if (winner % 2 === index) {
        assertTrace(await store.get(key), given.trace)
        assertRecord(entry, given.next)
      } else {
        assertRecord(await store.get(key), { ...given.record, version: `u${winner}` })
        assert.equal(entry, undefined)
      }
    })
  }

  for (const among of [0, 10, 19]) {
    check(
      `of concurrent deletes and move ${among + 1} one gets the record`,
      async (store, move) => {
        await store.create(key, record())
        const given = trace()
        let isMoved: boolean | undefined
        const removed = await Promise.all(
          many(async (index) => {
            if (index !== among) return store.delete(key)
            isMoved = await move(next(), given)
          })
        )
        removed.splice(among, 1)
        const records = removed.filter(
          (each) => each !== undefined && (each === true || each.successor === undefined)
        )
        assert.equal(records.length, isMoved ? 0 : 1)
        if (isMoved) assertTrace(await store.get(key), given)
        assert.equal((await store.get(successor)) !== undefined, isMoved)
      }
    )
  }
}

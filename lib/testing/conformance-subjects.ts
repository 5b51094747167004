import assert from 'node:assert/strict'

import type { Tester } from './conformance-traces.ts'
import { hour, many } from './conformance-tools.ts'
import type { SessionRecord, SessionStore, SessionTrace, SubjectStore } from '../../types/store.ts'

const subject = 'u42-_ZkT8bYw0dP3'
const otherSubject = 'v42-_ZkT8bYw0dP3'

/** Returns a key of a session of a subject. */
function keyOf(index: number, of: string = subject): string {
  return `${of}.${String(index).padStart(43, 'k')}`
}

/** Returns a version of the session of a lineage. */
function versionOf(index: number, writes = ''): string {
  return `lineage${index}${writes}`
}

/** Lists the lineages of all live sessions. */
async function listed(subjects: SubjectStore, from: string = subject): Promise<string[]> {
  const found = new Set<string>()
  for (let next: string | undefined, isFirst = true; isFirst || next !== undefined;) {
    isFirst = false
    const page = await subjects.list(from, next)
    for (const { lineage } of page.sessions) found.add(lineage)
    next = page.next
  }
  return [...found].toSorted()
}

/** Registers the tests of `subjects`. A store without it passes: it need not have it. */
export function checkSubjects(tester: Tester): void {
  const { record, now, shortLived, outlive } = tester
  const { assertRecord, assertTrace } = tester

  /** When the records of a test expire, if it does not say otherwise. */
  let until = 0

  function check(
    name: string,
    body: (store: SessionStore, subjects: SubjectStore) => Promise<void>
  ): void {
    tester.check(`subjects: ${name}`, async (store) => {
      until = now() + hour
      if (store.subjects !== undefined) await body(store, store.subjects)
    })
  }

  const of = (index: number, values: Partial<SessionRecord> = {}): SessionRecord =>
    record({ version: versionOf(index), expiresAt: until, ...values })

  /** Creates sessions of a subject under its present stamp. */
  async function enter(
    subjects: SubjectStore,
    indexes: readonly number[],
    values: Partial<SessionRecord> = {}
  ): Promise<string> {
    const stamp = await subjects.stamp(subject)
    for (const index of indexes) {
      assert.equal(await subjects.create(keyOf(index), of(index, values), { stamp }), 'created')
    }
    return stamp
  }

  async function assertEnded(store: SessionStore, index: number): Promise<void> {
    const key = keyOf(index)
    const version = versionOf(index)
    assert.equal(await store.get(key), undefined)
    assert.equal(await store.touch(key, now() + 2 * hour), undefined)
    assert.equal(await store.update(key, of(index, { version: `${version}.w` }), version), false)
    assert.equal(await store.retire(key, traceOf(9, version)), false)
    assert.equal(await store.subjects?.move(key, of(index), traceOf(9, version)), false)
    assert.equal(await store.get(keyOf(9)), undefined)
    assert.equal(await store.subjects?.find(subject, version), undefined)
    assert.equal(await store.delete(key), undefined)
  }

  function traceOf(successor: number, version: string): SessionTrace {
    return { successor: keyOf(successor), version, expiresAt: now() + 600_000 }
  }

  check('a stamp stays until an end of all', async (_store, subjects) => {
    const stamp = await subjects.stamp(subject)
    assert.equal(typeof stamp, 'string')
    assert.equal(await subjects.stamp(subject), stamp)
    await enter(subjects, [1])
    assert.equal(await subjects.stamp(subject), stamp)
    const seen = new Set([stamp])
    for (let count = 0; count < 5; count += 1) {
      await subjects.endAll(subject)
      seen.add(await subjects.stamp(subject))
    }
    assert.equal(seen.size, 6)
  })

  check('what is created is read, listed and found', async (store, subjects) => {
    await enter(subjects, [1, 2], { maxAge: 60, notes: '1' })
    assertRecord(await store.get(keyOf(1)), of(1, { maxAge: 60, notes: '1' }))
    const { sessions } = await subjects.list(subject)
    assert.equal(sessions.length, 2)
    for (const { lineage, key, record: found } of sessions) {
      const index = lineage === versionOf(1) ? 1 : 2
      assert.equal(key, keyOf(index))
      assertRecord(found, of(index, { maxAge: 60, notes: '1' }))
    }
    assert.equal(await subjects.find(subject, versionOf(1)), keyOf(1))
    assert.equal(await subjects.find(subject, versionOf(3)), undefined)
    assert.equal(await subjects.find(otherSubject, versionOf(1)), undefined)
    assert.deepEqual(await listed(subjects, otherSubject), [])
  })

  check('a session is written, touched and deleted as any other', async (store, subjects) => {
    await enter(subjects, [1])
    const next = of(1, { data: '{"a":2}', version: versionOf(1, '.w1') })
    assert.equal(await store.update(keyOf(1), next, versionOf(1)), true)
    assert.equal(await store.update(keyOf(1), next, versionOf(1)), false)
    assertRecord(await store.get(keyOf(1)), next)
    const expiresAt = now() + 3 * hour
    assert.notEqual(await store.touch(keyOf(1), expiresAt), undefined)
    assertRecord(await store.delete(keyOf(1)), { ...next, expiresAt })
    assert.equal(await store.delete(keyOf(1)), undefined)
    assert.deepEqual(await listed(subjects), [])
    await assertEnded(store, 1)
  })

  check('a record that is not listed is absent', async (store) => {
    await store.create(keyOf(1), of(1))
    await assertEnded(store, 1)
  })

  check('under another stamp nothing is created', async (store, subjects) => {
    const stamp = await enter(subjects, [1])
    await subjects.endAll(subject)
    for (const wrong of [stamp, '', `${await subjects.stamp(subject)}x`]) {
      assert.equal(await subjects.create(keyOf(2), of(2), { stamp: wrong }), 'refused')
    }
    assert.equal(await store.get(keyOf(2)), undefined)
    assert.deepEqual(await listed(subjects), [])
  })

  check('a key that is taken is refused, by a record and by a trace', async (store, subjects) => {
    const stamp = await enter(subjects, [1])
    assert.equal(await subjects.create(keyOf(1), of(2), { stamp }), 'taken')
    assertRecord(await store.get(keyOf(1)), of(1))
    await store.retire(keyOf(1), traceOf(3, versionOf(1)))
    assert.equal(await subjects.create(keyOf(1), of(2), { stamp }), 'taken')
    assert.deepEqual(await listed(subjects), [])
  })

  check('an end of all ends every session, and those of others stay', async (store, subjects) => {
    await enter(subjects, [1, 2, 3])
    const key = keyOf(1, otherSubject)
    const stamp = await subjects.stamp(otherSubject)
    assert.equal(await subjects.create(key, of(1), { stamp }), 'created')
    assert.equal(await subjects.endAll(subject), false)
    for (const index of [1, 2, 3]) await assertEnded(store, index)
    assert.deepEqual(await listed(subjects), [])
    assertRecord(await store.get(key), of(1))
    await enter(subjects, [4])
    assert.deepEqual(await listed(subjects), [versionOf(4)])
  })

  check('an end of all spares one, under whatever key it is', async (store, subjects) => {
    await enter(subjects, [1, 2])
    assert.equal(await subjects.endAll(subject, versionOf(1)), true)
    await assertEnded(store, 2)
    assertRecord(await store.get(keyOf(1)), of(1))
    const moved = of(1, { version: versionOf(1, '.w1') })
    assert.equal(await subjects.move(keyOf(1), moved, traceOf(5, versionOf(1))), true)
    assert.equal(await subjects.endAll(subject, versionOf(1)), true)
    assertRecord(await store.get(keyOf(5)), moved)
    assert.deepEqual(await listed(subjects), [versionOf(1)])
    assert.equal(await subjects.endAll(subject, versionOf(2)), false)
    assert.deepEqual(await listed(subjects), [])
  })

  check('a move keeps the session on the list', async (store, subjects) => {
    await enter(subjects, [1])
    const moved = of(1, { version: versionOf(1, '.w1'), data: '{"moved":true}' })
    const left = traceOf(5, versionOf(1))
    assert.equal(await subjects.move(keyOf(1), moved, traceOf(5, versionOf(1, '.x'))), false)
    assert.equal(await subjects.move(keyOf(1), moved, left), true)
    assertTrace(await store.get(keyOf(1)), left)
    assertTrace(await store.delete(keyOf(1)), left)
    assertRecord(await store.get(keyOf(5)), moved)
    assert.equal(await subjects.find(subject, versionOf(1)), keyOf(5))
    assert.equal(await subjects.move(keyOf(1), moved, left), false, 'it is a trace')
  })

  check('a move under another stamp changes nothing', async (store, subjects) => {
    const before = await enter(subjects, [1])
    await subjects.endAll(subject, versionOf(1))
    const moved = of(1, { version: versionOf(1, '.w1') })
    const left = traceOf(5, versionOf(1))
    assert.equal(await subjects.move(keyOf(1), moved, left, before), false)
    assertRecord(await store.get(keyOf(1)), of(1))
    assert.equal(await store.get(keyOf(5)), undefined)
    const stamp = await subjects.stamp(subject)
    assert.equal(await subjects.move(keyOf(1), moved, left, stamp), true)
    assert.deepEqual(await listed(subjects), [versionOf(1)])
  })

  check('a move to a key that is taken changes nothing', async (store, subjects) => {
    await enter(subjects, [1, 2])
    const moved = of(1, { version: versionOf(1, '.w1') })
    assert.equal(await subjects.move(keyOf(1), moved, traceOf(2, versionOf(1))), false)
    assertRecord(await store.get(keyOf(1)), of(1))
    assertRecord(await store.get(keyOf(2)), of(2))
    assert.deepEqual(await listed(subjects), [versionOf(1), versionOf(2)])
  })

  check('a trace takes the session off the list', async (store, subjects) => {
    await enter(subjects, [1, 2])
    const left = { ...traceOf(1, versionOf(1)), successor: 'elsewhere' }
    assert.equal(await store.retire(keyOf(1), left), true)
    assertTrace(await store.get(keyOf(1)), left)
    assert.deepEqual(await listed(subjects), [versionOf(2)])
    assert.equal(await subjects.find(subject, versionOf(1)), undefined)
  })

  check('one session is ended by its lineage', async (store, subjects) => {
    await enter(subjects, [1, 2])
    const moved = of(1, { version: versionOf(1, '.w1') })
    await subjects.move(keyOf(1), moved, traceOf(5, versionOf(1)))
    assert.equal(await subjects.endOne(subject, versionOf(1)), true)
    assert.equal(await store.get(keyOf(5)), undefined)
    assert.equal(await subjects.endOne(subject, versionOf(1)), false)
    assert.equal(await subjects.endOne(subject, versionOf(7)), false)
    assert.equal(await subjects.endOne(otherSubject, versionOf(2)), false)
    assert.deepEqual(await listed(subjects), [versionOf(2)])
  })

  check('a session is created only if none was added since', async (_store, subjects) => {
    const stamp = await subjects.stamp(subject)
    const { version } = await subjects.list(subject)
    assert.equal(await subjects.create(keyOf(1), of(1), { stamp, version }), 'created')
    assert.equal(await subjects.create(keyOf(2), of(2), { stamp, version }), 'refused')
    const second = (await subjects.list(subject)).version
    const instead = [versionOf(1)]
    assert.equal(
      await subjects.create(keyOf(2), of(2), { stamp, version: second, instead }),
      'created'
    )
    assert.deepEqual(await listed(subjects), [versionOf(2)])
    // What is refused, or taken, changes nothing.
    const late = { stamp, version: second, instead: [versionOf(2)] }
    assert.equal(await subjects.create(keyOf(3), of(3), late), 'refused')
    const { version: third } = await subjects.list(subject)
    const taken = { stamp, version: third, instead: [versionOf(2)] }
    assert.equal(await subjects.create(keyOf(2), of(3), taken), 'taken')
    assert.deepEqual(await listed(subjects), [versionOf(2)])
    await subjects.endOne(subject, versionOf(2))
    for (const before of [version, second]) {
      assert.equal(await subjects.create(keyOf(3), of(3), { stamp, version: before }), 'refused')
    }
  })

  check('of 20 that are created at one version one is', async (_store, subjects) => {
    const stamp = await subjects.stamp(subject)
    const { version } = await subjects.list(subject)
    const results = await Promise.all(
      many(async (index) => subjects.create(keyOf(index), of(index), { stamp, version }))
    )
    assert.equal(results.filter((each) => each === 'created').length, 1)
    assert.equal((await listed(subjects)).length, 1)
  })

  check(
    'what has expired is not listed, not found, and not there to be ended',
    async (store, subjects) => {
      await enter(subjects, [1], { expiresAt: shortLived().expiresAt })
      await enter(subjects, [2], { expiresAt: now() + 3 * hour })
      await outlive()
      assert.equal(await subjects.endOne(subject, versionOf(1)), false)
      assert.deepEqual(await listed(subjects), [versionOf(2)])
      assert.equal(await store.get(keyOf(1)), undefined)
    }
  )

  check('what is listed outlives a touch', async (store, subjects) => {
    await enter(subjects, [1], { expiresAt: shortLived().expiresAt })
    assert.notEqual(await store.touch(keyOf(1), now() + 3 * hour), undefined)
    await outlive()
    assert.deepEqual(await listed(subjects), [versionOf(1)])
  })

  check('more sessions than a page has are all listed', async (_store, subjects) => {
    const stamp = await subjects.stamp(subject)
    await Promise.all(
      Array.from({ length: 250 }, async (_, index) =>
        subjects.create(keyOf(index), of(index), { stamp })
      )
    )
    assert.equal((await listed(subjects)).length, 250)
  })

  check('the sessions of all subjects are ended', async (store, subjects) => {
    const stamp = await enter(subjects, [1])
    const key = keyOf(1, otherSubject)
    const other = await subjects.stamp(otherSubject)
    await subjects.create(key, of(1), { stamp: other })
    await store.create('anonymous'.padEnd(43, '-'), of(1))
    // Somebody may sign in who has no session yet.
    const third = 'w42-_ZkT8bYw0dP3'
    const pending = await subjects.stamp(third)
    await subjects.endEverything()
    assert.equal(await subjects.create(keyOf(1, third), of(1), { stamp: pending }), 'refused')
    await assertEnded(store, 1)
    assert.equal(await store.get(key), undefined)
    assert.equal(await subjects.create(keyOf(2), of(2), { stamp }), 'refused')
    assertRecord(await store.get('anonymous'.padEnd(43, '-')), of(1))
    await enter(subjects, [3])
    assert.deepEqual(await listed(subjects), [versionOf(3)])
  })

  for (const among of [0, 10, 19]) {
    check(`of concurrent ends and move ${among + 1} nothing survives`, async (store, subjects) => {
      await enter(subjects, [1])
      const moved = of(1, { version: versionOf(1, '.w1') })
      await Promise.all(
        many(async (index) =>
          index === among
            ? subjects.move(keyOf(1), moved, traceOf(5, versionOf(1)))
            : subjects.endOne(subject, versionOf(1))
        )
      )
      assert.equal(await store.get(keyOf(5)), undefined)
      assert.deepEqual(await listed(subjects), [])
    })

    check(
      `of concurrent ends of others and move ${among + 1} one lives`,
      async (store, subjects) => {
        await enter(subjects, [1, 2])
        const moved = of(1, { version: versionOf(1, '.w1') })
        const results = await Promise.all(
          many(async (index) =>
            index === among
              ? subjects.move(keyOf(1), moved, traceOf(5, versionOf(1)))
              : subjects.endAll(subject, versionOf(1))
          )
        )
        assert.deepEqual(
          results,
          many(() => true)
        )
        assertRecord(await store.get(keyOf(5)), moved)
        assert.deepEqual(await listed(subjects), [versionOf(1)])
      }
    )

    check(
      `of concurrent ends and creation ${among + 1} all end or it lives`,
      async (store, subjects) => {
        const stamp = await enter(subjects, [1])
        const results = await Promise.all(
          many(async (index) =>
            index === among ? subjects.create(keyOf(2), of(2), { stamp }) : subjects.endAll(subject)
          )
        )
        assert.ok(['created', 'refused'].includes(String(results[among])))
        assert.equal(await store.get(keyOf(2)), undefined, 'an end of all was later')
        assert.deepEqual(await listed(subjects), [])
      }
    )
  }
}

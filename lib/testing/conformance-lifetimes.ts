import assert from 'node:assert/strict'

import { day, hour, key, recordOf } from './conformance-tools.ts'
import type { Tester } from './conformance-traces.ts'
import type { SessionRecord, SessionStore } from '../../types/store.ts'

/** Registers the tests of what a record's lifetime does to its expiry. */
export function checkLifetimes(tester: Tester): void {
  const { check, record, now, tolerance, assertRecord, assertTouches } = tester

  /** Touches with an instant that is beyond the lifetime. Returns the expiry that now applies. */
  async function touchTooFar(store: SessionStore, lifetime: number): Promise<number> {
    const earliest = now() + lifetime
    const touched = await store.touch(key, now() + day)
    assert.ok(
      touched !== undefined &&
        touched >= earliest - tolerance &&
        touched <= now() + lifetime + tolerance,
      `expected an instant from ${earliest} to ${now() + lifetime}, got ${touched}`
    )
    return touched
  }

  check('a lifetime of its own comes back, is changed and is dropped', async (store) => {
    await store.create(key, record({ maxAge: 1209600 }))
    assert.equal(recordOf(await store.get(key))?.maxAge, 1209600)
    await store.update(key, record({ version: 'v2', maxAge: 60 }), 'v1')
    assert.equal(recordOf(await store.get(key))?.maxAge, 60)
    await store.update(key, record({ version: 'v3' }), 'v2')
    assert.equal(recordOf(await store.get(key))?.maxAge, undefined)
    await store.update(key, record({ version: 'v4', maxAge: 1 }), 'v3')
    assert.equal(recordOf(await store.delete(key))?.maxAge, 1)
  })

  check('a default lifetime comes back, is changed and is dropped', async (store) => {
    const given = record({ defaultMaxAge: 3600 })
    await store.create(key, given)
    assertRecord(await store.get(key), given)
    for (const values of [{ defaultMaxAge: 7200 }, { maxAge: 7200 }, { defaultMaxAge: 7200 }, {}]) {
      const { version } = recordOf(await store.get(key)) as SessionRecord
      const next = record({ version: `${version}.`, ...values })
      assert.equal(await store.update(key, next, version), true)
      assertRecord(await store.get(key), next)
    }
  })

  for (const [name, before, after] of [
    ['own', { maxAge: 3600 }, { maxAge: 60 }],
    ['default', { defaultMaxAge: 3600 }, { defaultMaxAge: 60 }],
    ['own, after a default', { defaultMaxAge: 3600 }, { maxAge: 60 }],
    ['default, after an own', { maxAge: 3600 }, { defaultMaxAge: 60 }],
    ['own, after none', {}, { maxAge: 60 }],
    ['default, after none', {}, { defaultMaxAge: 60 }]
  ] as const) {
    check(`update with a shorter lifetime sets the expiry exactly: ${name}`, async (store) => {
      await store.create(key, record(before))
      const shorter = record({ version: 'v2', expiresAt: now() + 60_000, ...after })
      assert.equal(await store.update(key, shorter, 'v1'), true)
      assertRecord(await store.get(key), shorter)
      const expiresAt = await touchTooFar(store, 60_000)
      const same = record({ version: 'v3', expiresAt: now() + 30_000, ...after })
      assert.equal(await store.update(key, same, 'v2'), true)
      assertRecord(await store.get(key), { ...same, expiresAt })
    })
  }

  check('update to a longer lifetime, or to none, keeps the later expiry', async (store) => {
    const given = record({ maxAge: 3600 })
    await store.create(key, given)
    for (const [version, values] of Object.entries({ v2: { defaultMaxAge: 7200 }, v3: {} })) {
      const next = record({ version, expiresAt: now() + 1000, ...values })
      const { version: before } = recordOf(await store.get(key)) as SessionRecord
      assert.equal(await store.update(key, next, before), true)
      assertRecord(await store.get(key), { ...next, expiresAt: given.expiresAt })
    }
  })

  for (const lifetime of [{ maxAge: 5400 }, { defaultMaxAge: 5400 }]) {
    const name = Object.keys(lifetime)[0]
    check(`touch goes no further from now than the lifetime: ${name}`, async (store) => {
      const given = record(lifetime)
      await store.create(key, given)
      const allowed = now() + 1.4 * hour
      await assertTouches(store, allowed, allowed)
      const expiresAt = await touchTooFar(store, 1.5 * hour)
      assertRecord(await store.get(key), { ...given, expiresAt })
    })
  }
}

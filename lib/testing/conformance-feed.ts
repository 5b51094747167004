import assert from 'node:assert/strict'

import { elapse, hour, key, otherKey } from './conformance-tools.ts'
import type { Tester } from './conformance-traces.ts'
import type { EndNotice, SessionFeed } from '../../types/feed.ts'
import type { SessionStore, SubjectStore } from '../../types/store.ts'

const subject = 'f42-_ZkT8bYw0dP3'
const listedKey = `${subject}.${key}`
const movedKey = `${subject}.${otherKey}`

/** What is ended until somebody hears of it: a subscription may take a while. */
const probed = 'p'.repeat(43)

/** Milliseconds after which a notice should have come, and between two looks for it. */
const patience = 2000
const step = 5

/** Registers the tests of `feed`. A store without it passes: it need not have it. */
export function checkFeed(tester: Tester): void {
  const { record, now, shortLived, outlive, tolerance } = tester

  function check(
    name: string,
    body: (store: SessionStore, feed: SessionFeed) => Promise<void>
  ): void {
    tester.check(`feed: ${name}`, async (store) => {
      if (store.feed !== undefined) await body(store, store.feed)
    })
  }

  /** Ends a session of its own, until somebody hears of it. */
  async function listen(store: SessionStore, feed: SessionFeed): ReturnType<typeof listenTo> {
    return listenTo(feed, async () => {
      await store.create(probed, record())
      await store.delete(probed)
    })
  }

  async function enter(
    { subjects }: { readonly subjects: SubjectStore },
    ...keys: readonly string[]
  ): Promise<void> {
    const stamp = await subjects.stamp(subject)
    for (const [index, each] of keys.entries()) {
      const values = { version: `lineage${index}.w`, expiresAt: now() + hour }
      assert.equal(await subjects.create(each, record(values), { stamp }), 'created')
    }
  }

  check('a look shows until when a record lives, and where a trace leads', async (store, feed) => {
    const given = record({ expiresAt: now() + hour })
    await store.create(key, given)
    await store.create(otherKey, record())
    await store.retire(otherKey, { successor: key, version: 'v1', expiresAt: now() + hour })
    const [live, trace, absent] = await feed.look([key, otherKey, 'a'.repeat(43)])
    assert.ok(live !== undefined && live.successor === undefined)
    assert.ok(Math.abs(live.createdAt - given.createdAt) <= tolerance)
    assert.ok(Math.abs(live.expiresAt - given.expiresAt) <= tolerance)
    assert.equal(trace?.successor, key)
    assert.equal(absent, undefined)
    assert.deepEqual(await feed.look([]), [])
  })

  check('a look shows nothing of what has expired, or is not listed', async (store, feed) => {
    await store.create(key, shortLived())
    const { subjects } = store
    if (subjects !== undefined) {
      await enter({ subjects }, listedKey)
      await subjects.endAll(subject)
    }
    await outlive()
    assert.deepEqual(await feed.look([key, listedKey]), [undefined, undefined])
  })

  check('tells of what is deleted and what is retired', async (store, feed) => {
    const { hears, stop } = await listen(store, feed)
    await store.create(key, record())
    await store.delete(key)
    assert.ok(await hears({ reason: 'destroyed', key }))
    await store.create(otherKey, record())
    const trace = { successor: 's'.repeat(43), version: 'v1', expiresAt: now() + hour }
    assert.equal(await store.retire(otherKey, trace), true)
    assert.ok(await hears({ key: otherKey, reason: undefined }))
    if (store.move !== undefined) {
      const from = 'm'.repeat(43)
      await store.create(from, record())
      assert.equal(await store.move(from, record(), { ...trace, successor: 't'.repeat(43) }), true)
      assert.ok(await hears({ key: from, reason: undefined }))
    }
    await stop()
  })

  check('tells of the ends of a subject', async (store, feed) => {
    const { subjects } = store
    if (subjects === undefined) return
    const { hears, stop } = await listen(store, feed)
    await enter({ subjects }, listedKey)
    const trace = { successor: movedKey, version: 'lineage0.w', expiresAt: now() + hour }
    const moved = record({ version: 'lineage0.m', expiresAt: now() + hour })
    assert.equal(await subjects.move(listedKey, moved, trace), true)
    assert.ok(await hears({ key: listedKey }))
    await subjects.endOne(subject, 'lineage0')
    assert.ok(await hears({ reason: 'destroyed', key: movedKey }))
    await enter({ subjects }, `${subject}.${'a'.repeat(43)}`)
    const stamp = await subjects.stamp(subject)
    const next = record({ version: 'other.w', expiresAt: now() + hour })
    await subjects.create(`${subject}.${'b'.repeat(43)}`, next, { stamp, instead: ['lineage0'] })
    assert.ok(await hears({ reason: 'limit', subject }))
    await subjects.endAll(subject)
    assert.ok(await hears({ reason: 'all destroyed', subject }))
    await stop()
  })

  check('tells each listener, until it is stopped', async (store, feed) => {
    const [one, other] = [await listen(store, feed), await listen(store, feed)]
    await one.stop()
    await store.create(key, record())
    await store.delete(key)
    assert.ok(await other.hears({ key }))
    assert.equal(await Promise.race([one.hears({ key }), elapse(50).then(() => false)]), false)
    await other.stop()
  })
}

/** Notes what is told, from when the probe is heard. */
async function listenTo(
  feed: SessionFeed,
  probe: () => Promise<unknown>
): Promise<{
  readonly hears: (what: Partial<EndNotice>) => Promise<boolean>
  readonly stop: () => Promise<void>
}> {
  const notices: EndNotice[] = []
  const stop = await feed.listen((notice) => notices.push(notice))
  const isHeard = (): boolean => notices.some((notice) => isAbout(notice, { key: probed }))
  for (let waited = 0; !isHeard() && waited < patience; waited += step) {
    await probe()
    await elapse(step)
  }
  return {
    async hears(what) {
      for (let waited = 0; waited < patience; waited += step) {
        if (notices.some((notice) => isAbout(notice, what))) return true
        await elapse(step)
      }
      return false
    },
    stop: async () => stop()
  }
}

function isAbout(notice: EndNotice, what: Partial<EndNotice>): boolean {
  return Object.entries(what).every(([name, value]) => notice[name as keyof EndNotice] === value)
}

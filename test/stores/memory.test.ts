import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'

import fc from 'fast-check'
import t from 'tap'

import {
  MemoryStore,
  SessionError,
  type MemoryStoreOptions,
  type SessionRecord,
  type SessionTrace,
  type Timer
} from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'

const second = 1000
const hour = 3600 * second
const day = 24 * hour

/** Tells what is done with its timers. */
class WatchedClock extends TestClock {
  /** How long each timer was set to, in the order in which they were set. */
  readonly set: number[] = []
  /** How many have neither fired nor been cancelled, and how many of those hold the process. */
  pending = 0
  holding = 0
  /** Called before and after each callback. */
  around: (moment: 'before' | 'after') => void = () => {}

  override setTimeout(callback: () => void, milliseconds: number): Timer {
    let state: 'holding' | 'let go' | 'over' = 'holding'
    this.set.push(milliseconds)
    this.pending += 1
    this.holding += 1
    const letGo = (): void => {
      if (state === 'holding') this.holding -= 1
    }
    const end = (): void => {
      letGo()
      if (state !== 'over') this.pending -= 1
      state = 'over'
    }
    const timer = super.setTimeout(() => {
      end()
      this.around('before')
      callback()
      this.around('after')
    }, milliseconds)
    return {
      close: () => {
        end()
        timer.close()
      },
      unref: () => {
        letGo()
        if (state === 'holding') state = 'let go'
      }
    }
  }
}

function setUp(options: MemoryStoreOptions = {}): {
  clock: WatchedClock
  store: MemoryStore
  record: (over?: Partial<SessionRecord>) => SessionRecord
} {
  const clock = new WatchedClock()
  return {
    clock,
    store: new MemoryStore({ clock, ...options }),
    record: (over) => ({
      data: '',
      version: 'v1',
      createdAt: clock.now(),
      expiresAt: clock.now() + hour,
      ...over
    })
  }
}

function keyOf(name: string | number): string {
  return createHash('sha256').update(String(name)).digest('base64url')
}

const data = '{"user":"ada"}'

/** Which of the keys are there, told without a `get`, which would count as a return. */
function held(store: MemoryStore, keys: string[]): string[] {
  return keys.filter((key) => store.touch(key, 0) !== undefined)
}

// Room.

t.test('S23: what never came back and is empty gives way first, oldest first', async (t) => {
  const { store, record } = setUp({ max: 4 })
  store.create('written', record({ data }))
  store.create('empty 1', record())
  store.create('returned', record())
  store.get('returned')
  store.create('empty 2', record())

  store.create('a', record({ data }))
  t.notOk(store.get('empty 1'))
  store.create('b', record({ data }))
  t.same(held(store, ['written', 'returned', 'empty 2', 'a', 'b']), [
    'written',
    'returned',
    'a',
    'b'
  ])
  t.equal(store.size, 4)
})

t.test('S23: next is what never came back, oldest first', async (t) => {
  const { store, record } = setUp({ max: 3 })
  store.create('returned', record())
  store.get('returned')
  store.create('written 1', record({ data }))
  store.create('written 2', record({ data }))
  store.create('written 3', record({ data }))
  t.same(held(store, ['returned', 'written 1', 'written 2', 'written 3']), [
    'returned',
    'written 2',
    'written 3'
  ])
})

t.test('S23: last is what came back, least recently used first, to the letter', async (t) => {
  const keys = Array.from({ length: 1000 }, (_, index) => keyOf(index))
  const order = [...keys.slice(300), ...keys.slice(0, 300)]
  for (const newcomers of [0, 1, 2, 699, 700, 701, 850, 999]) {
    const { store, record } = setUp({ max: 1000 })
    for (const key of keys) store.create(key, record({ data }))
    for (const key of keys) store.get(key)
    for (const key of keys.slice(0, 100)) store.get(key)
    for (const key of keys.slice(100, 200)) store.touch(key, 0)
    for (const key of keys.slice(200, 300)) store.update(key, record({ data, version: 'v2' }), 'v1')
    for (let index = 0; index < newcomers; index += 1) {
      store.create(keyOf(`new ${index}`), record())
      store.get(keyOf(`new ${index}`))
    }
    t.equal(store.size, 1000)
    t.same(
      held(store, order),
      order.slice(newcomers),
      `${newcomers} newcomers take the places of as many`
    )
  }
})

t.test('data written to an empty session keeps it from going with the empty ones', async (t) => {
  const { store, record } = setUp({ max: 2 })
  store.create('written later', record())
  store.create('empty', record())
  store.update('written later', record({ data, version: 'v2' }), 'v1')
  store.create('new', record())
  t.same(held(store, ['written later', 'empty', 'new']), ['written later', 'new'])
})

t.test('a session that its first request touches and updates has not come back', async (t) => {
  const { store, record } = setUp({ max: 2 })
  store.create('returned', record())
  store.get('returned')
  store.create('touched', record())
  store.touch('touched', record().expiresAt + 1)
  store.update('touched', record({ data, version: 'v2' }), 'v1')
  store.create('new', record({ data }))
  t.same(held(store, ['returned', 'touched', 'new']), ['returned', 'new'])
})

for (const [flood, over] of Object.entries({ empty: {}, written: { data: '{"csrf":"x"}' } })) {
  t.test(`a flood of ${flood} sessions that never return pushes out none that did`, async (t) => {
    const { store, record } = setUp({ max: 1000 })
    const regulars = Array.from({ length: 300 }, (_, index) => keyOf(`regular ${index}`))
    for (const key of regulars) {
      store.create(key, record({ data }))
      store.get(key)
    }
    for (let index = 0; index < 5000; index += 1) store.create(keyOf(index), record(over))
    t.equal(store.size, 1000)
    t.equal(held(store, regulars).length, 300)
    t.ok(store.get(keyOf(4999)), 'and the latest has its chance to return')
  })
}

t.test(
  'S23: over many shards: the bound and the order of the kinds are kept, and age very nearly',
  async (t) => {
    const { store, record } = setUp({ max: 10_000 })
    const keys = Array.from({ length: 20_000 }, (_, index) => keyOf(index))
    const regulars = keys.slice(0, 3000)
    for (const key of regulars) {
      store.create(key, record())
      store.get(key)
    }
    for (const key of keys.slice(3000)) store.create(key, record({ data }))
    t.equal(store.size, 10_000)
    t.equal(held(store, regulars).length, 3000)
    t.ok(held(store, keys.slice(-6000)).length > 5950)
    t.ok(held(store, keys.slice(3000, 12_000)).length < 50)
  }
)

t.test('keys that are much alike are spread well enough', async (t) => {
  const { store, record } = setUp({ max: 10_000 })
  const keys = Array.from({ length: 20_000 }, (_, index) => `session:${index}`)
  for (const key of keys) store.create(key, record())
  t.equal(store.size, 10_000)
  t.ok(held(store, keys.slice(-8000)).length > 7000)
})

t.test('S23: a trace has the place that its record had, whoever asks for it', async (t) => {
  const { clock, store, record } = setUp({ max: 6 })
  const leave = (key: string): void => {
    const trace = { successor: 'next', version: 'v1', expiresAt: clock.now() + 600_000 }
    t.equal(store.retire(key, trace), true)
  }
  const gone: string[] = []
  const note = (message: unknown): void => {
    gone.push((message as { session: string }).session)
  }
  subscribe('fastify-holdfast:evicted', note)
  t.teardown(() => {
    unsubscribe('fastify-holdfast:evicted', note)
  })
  const keys = ['empty 1', 'empty 2', 'written 1', 'written 2', 'returned 1', 'returned 2']
  for (const key of keys) {
    store.create(key, record(key.startsWith('empty') ? {} : { data }))
    if (key.startsWith('returned')) store.get(key)
  }
  for (const key of keys.filter((each) => each.endsWith('1'))) leave(key)
  t.equal(store.size, 6)
  for (const key of keys.filter((each) => each.endsWith('1'))) {
    t.equal(store.get(key)?.successor, 'next')
    t.equal(store.delete(key)?.successor, 'next')
    t.equal(store.touch(key, clock.now() + 2 * hour), undefined)
    t.equal(store.update(key, record({ version: 'v2' }), 'v1'), false)
    t.equal(store.create(key, record()), false)
  }
  const traces = keys.filter((each) => each.endsWith('1'))
  for (let index = 0; index < keys.length; index += 1) {
    store.create(`new ${index}`, record({ data }))
    store.get(`new ${index}`)
    t.equal(store.size, 6)
    const next = traces[0]
    if (next !== undefined && store.delete(next) === undefined) gone.push(`${traces.shift()}`)
  }
  t.same(gone, keys, 'each once: a trace is no session that was lost')
})

t.test('a trace is swept when it has expired, and before its record would have', async (t) => {
  const { clock, store, record } = setUp()
  for (let index = 0; index < 1000; index += 1) {
    store.create(keyOf(index), record({ data, expiresAt: clock.now() + 30 * day }))
    const expiresAt = clock.now() + 600_000
    store.retire(keyOf(index), { successor: 'next', version: 'v1', expiresAt })
  }
  clock.advance(600_000 - 1)
  t.equal(store.size, 1000)
  clock.advance(60_001)
  t.same([store.size, clock.pending], [0, 0])
})

t.test('a trace that has expired gives way before anything live', async (t) => {
  const { clock, store, record } = setUp({ max: 3, sweepInterval: 10 * 3600 })
  for (const key of ['left', 'one', 'two']) store.create(key, record({ data }))
  store.get('left')
  store.retire('left', { successor: 'next', version: 'v1', expiresAt: clock.now() + 1 })
  clock.advance(1)
  store.create('new', record())
  t.same(held(store, ['left', 'one', 'two', 'new']), ['one', 'two', 'new'])
})

t.test('what has expired gives way before anything live', async (t) => {
  const { clock, store, record } = setUp({ max: 3, sweepInterval: 10 * 3600 })
  store.create('expiring', record({ data }))
  store.get('expiring')
  store.create('empty', record({ expiresAt: clock.now() + 2 * hour }))
  store.create('written', record({ data, expiresAt: clock.now() + 2 * hour }))
  clock.advance(hour)
  t.equal(store.size, 3)
  store.create('new', record())
  t.same(held(store, ['empty', 'written', 'new']), ['empty', 'written', 'new'])
})

t.test('a key that is taken pushes nothing out', async (t) => {
  const { store, record } = setUp({ max: 2 })
  store.create('one', record())
  store.create('two', record())
  t.equal(store.create('one', record()), false)
  t.same(held(store, ['one', 'two']), ['one', 'two'])
})

t.test('room for one', async (t) => {
  const { clock, store, record } = setUp({ max: 1 })
  store.create('one', record())
  store.get('one')
  store.create('two', record())
  t.same(held(store, ['one', 'two']), ['two'])
  t.equal(clock.pending, 1)
})

// Memory.

t.test('S18: what has expired is not served, swept or not', async (t) => {
  const { clock, store, record } = setUp({ sweepInterval: 2 * 3600 })
  for (const key of ['get', 'touch', 'update', 'delete', 'create'])
    store.create(key, record({ data }))
  clock.advance(hour)
  t.equal(store.size, 5)
  t.equal(store.get('get'), undefined)
  t.equal(store.touch('touch', clock.now() + hour), undefined)
  t.equal(store.update('update', record({ version: 'v2' }), 'v1'), false)
  t.equal(store.delete('delete'), undefined)
  t.equal(store.create('create', record({ version: 'w1' })), true)
  t.equal(store.get('create')?.version, 'w1')
  t.equal(store.size, 1)
})

t.test('a sweep gives back the memory of what has expired, and of that alone', async (t) => {
  const { clock, store, record } = setUp({ max: 20_000 })
  const keys = Array.from({ length: 9000 }, (_, index) => keyOf(index))
  for (const [index, key] of keys.entries()) {
    store.create(
      key,
      record({
        data: index % 2 === 0 ? data : '',
        expiresAt: clock.now() + (index % 3 === 0 ? 3 * hour : hour)
      })
    )
    if (index % 5 === 0) store.get(key)
  }
  clock.advance(hour - 1)
  t.equal(store.size, 9000)
  clock.advance(60_001)
  t.equal(store.size, 3000)
  t.equal(
    held(
      store,
      keys.filter((_, index) => index % 3 === 0)
    ).length,
    3000
  )
  clock.advance(2 * hour)
  t.equal(store.size, 0)
})

t.test('a sweep goes in small steps, and lets others in between', async (t) => {
  const { clock, store, record } = setUp({ max: 20_000 })
  for (let index = 0; index < 9000; index += 1)
    store.create(keyOf(index), record({ expiresAt: clock.now() + 1 }))
  let before = 0
  let most = 0
  let steps = 0
  clock.around = (moment) => {
    if (moment === 'before') {
      before = store.size
      steps += 1
      // A session comes in the middle of the sweep, and is seen by all and swept by none.
      store.create(keyOf(`new ${steps}`), record())
      return
    }
    most = Math.max(most, before + 1 - store.size)
  }
  clock.advance(60_000)
  t.ok(most <= 500, `${most} in one step`)
  t.ok(steps >= 18 && steps < 25, `${steps} steps`)
  t.equal(store.size, steps)
  t.ok(clock.set.every((milliseconds) => milliseconds === 60_000 || milliseconds === 0))
})

t.test('there is one timer while there are records, and none otherwise', async (t) => {
  const { clock, store, record } = setUp()
  t.equal(clock.pending, 0)
  for (let index = 0; index < 100; index += 1) store.create(keyOf(index), record())
  t.same([clock.pending, clock.holding], [1, 0])
  clock.advance(10 * 60_000)
  t.same([clock.pending, clock.holding], [1, 0])
  for (let index = 0; index < 100; index += 1) store.delete(keyOf(index))
  t.equal(clock.pending, 0)

  store.create('one', record())
  t.equal(clock.pending, 1)
  clock.advance(hour)
  t.equal(store.get('one'), undefined)
  t.same([store.size, clock.pending], [0, 0])

  store.create('two', record())
  clock.advance(2 * hour)
  t.same([store.size, clock.pending], [0, 0])
})

t.test('a closed store is empty, and has no timer', async (t) => {
  const { clock, store, record } = setUp()
  for (let index = 0; index < 2000; index += 1)
    store.create(keyOf(index), record({ data, expiresAt: clock.now() + 1 }))
  for (let index = 0; index < 1000; index += 1) store.get(keyOf(index))
  // In the middle of a sweep.
  clock.around = () => {
    store.close()
  }
  clock.advance(60_000)
  t.same([store.size, clock.pending], [0, 0])
  t.equal(store.get(keyOf(0)), undefined)
  t.doesNotThrow(() => store.close())
})

t.test('the interval between sweeps is what the option says', async (t) => {
  const { clock, store, record } = setUp({ sweepInterval: 1.5 })
  store.create('key', record({ expiresAt: clock.now() + 1 }))
  clock.advance(1499)
  t.equal(store.size, 1)
  clock.advance(1)
  t.equal(store.size, 0)
})

t.test('S18: a life may be longer than a timer can', async (t) => {
  const { clock, store, record } = setUp({ sweepInterval: 3600 })
  store.create('key', record({ expiresAt: clock.now() + 400 * day }))
  store.create('no end', record({ expiresAt: Infinity }))
  clock.advance(400 * day - 1)
  t.ok(store.get('key'))
  clock.advance(1)
  t.notOk(store.get('key'))
  t.ok(store.get('no end'))
  t.ok(clock.set.every((milliseconds) => milliseconds <= hour))
})

t.test('S18: a store does not hold the process', async (t) => {
  const program = `
    import { MemoryStore } from ${JSON.stringify(new URL('../../lib/stores/memory.js', import.meta.url))}
    const store = new MemoryStore()
    store.create('key', { data: '', version: 'v1', createdAt: Date.now(), expiresAt: Date.now() + ${hour} })
    console.log(store.size)
  `
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { timeout: 20_000, encoding: 'utf8' }
  )
  t.same({ status, stdout }, { status: 0, stdout: '1\n' })
})

t.test('a small session takes less than 220 bytes', async (t) => {
  const program = `
    import { randomBytes } from 'node:crypto'
    import { MemoryStore } from ${JSON.stringify(new URL('../../lib/stores/memory.js', import.meta.url))}
    const store = new MemoryStore({ max: 40_000 })
    const memory = () => { gc(); gc(); return process.memoryUsage().heapUsed }
    const now = Date.now()
    const before = memory()
    for (let index = 0; index < 38_000; index += 1) {
      const version = randomBytes(9).toString('base64url')
      store.create(randomBytes(32).toString('base64url'), { data: JSON.stringify({ user: 'u123' }), version, createdAt: now, expiresAt: now + index })
    }
    console.log((memory() - before) / 38_000, store.memory / 38_000)
  `
  const { stdout } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '--eval', program],
    { encoding: 'utf8' }
  )
  const [taken = NaN, counted = NaN] = stdout.split(' ').map(Number)
  t.ok(taken > 100 && taken < 220, stdout)
  t.ok(taken < counted && counted < 2 * taken, stdout)
})

t.test('a small session of a subject takes less than 450 bytes, and counts for more', async (t) => {
  const program = `
    import { randomBytes } from 'node:crypto'
    import { MemoryStore } from ${JSON.stringify(new URL('../../lib/stores/memory.js', import.meta.url))}
    const count = 38_000
    const store = new MemoryStore({ max: 40_000 })
    const memory = () => { gc(); gc(); return process.memoryUsage().heapUsed }
    const text = (bytes) => randomBytes(bytes).toString('base64url')
    const now = Date.now()
    const fill = (each) => {
      const before = memory()
      for (let index = 0; index < count / each; index += 1) {
        const subject = text(12)
        for (let session = 0; session < each; session += 1) {
          const stamp = store.subjects.stamp(subject)
          const record = { data: '{"user":"u123"}', version: text(6) + '.' + text(6), createdAt: now, expiresAt: now + 1e6 }
          store.subjects.create(subject + '.' + text(32), record, { stamp })
        }
      }
      const figures = [(memory() - before) / count, store.memory / count]
      store.close()
      store.subjects.endEverything()
      return figures
    }
    fill(1)
    console.log(JSON.stringify([fill(1), fill(2), fill(10)]))
  `
  const { stdout } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '--eval', program],
    { encoding: 'utf8' }
  )
  for (const [taken, counted] of JSON.parse(stdout) as Array<[number, number]>) {
    t.ok(taken > 200 && taken < 450, stdout)
    t.ok(taken < counted && counted < 2.5 * taken, stdout)
  }
})

t.test('instants of any size and kind come back as they were', async (t) => {
  const store = new MemoryStore({ clock: new TestClock(0) })
  t.teardown(() => store.close())
  const instants = [0, 1.5, 1e21, 123_456_789_012_345_680_000, 984_285_714_285_714_300, Infinity]
  for (const instant of instants) {
    const record = { data: '', version: 'v1', createdAt: instant, expiresAt: instant + 1 }
    store.create(`key ${instant}`, record)
    t.same(store.get(`key ${instant}`), record)
  }
})

// Bytes.

/** What a session counts, by the rule of `maxMemory`. */
function counted(key: string, record: SessionRecord): number {
  const { data, version, createdAt, expiresAt, maxAge, defaultMaxAge, notes } = record
  const seconds = maxAge ?? (defaultMaxAge === undefined ? '' : `+${defaultMaxAge}`)
  const settings = notes === undefined ? seconds : `${seconds};${notes}`
  const text = `${expiresAt} ${createdAt} ${settings} ${version.length} ${version} ${data}`
  const isWide = (text: string): boolean => text.split('').some((unit) => unit > '\xff')
  const words = (length: number): number => Math.ceil((16 + length) / 8) * 8
  return (
    112 +
    words(isWide(key) ? 2 * key.length : key.length) +
    words(isWide(text) ? 2 * (text.length + 1) : text.length)
  )
}

/** The sessions that a full store lost, in order, while something was done. */
function lostBy(action: () => void): Array<{ session: string; returned: boolean }> {
  const lost: Array<{ session: string; returned: boolean }> = []
  const note = (message: unknown): void => {
    lost.push(message as { session: string; returned: boolean })
  }
  subscribe('fastify-holdfast:evicted', note)
  action()
  unsubscribe('fastify-holdfast:evicted', note)
  return lost
}

t.test('S23: the bytes are counted exactly, and never more than the bound', async (t) => {
  const step = fc.record({
    verb: fc.constantFrom(
      ...(['create', 'create', 'create', 'update', 'update', 'update'] as const),
      ...(['touch', 'get', 'delete', 'wait'] as const)
    ),
    key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'schlüssel', 'ключ'),
    data: fc
      .tuple(fc.nat({ max: 700 }), fc.constantFrom('x', 'ÿ', 'я', '\ud800'))
      .map(([length, character]) => character.repeat(length)),
    version: fc.constantFrom('v1', 'я2'),
    expected: fc.constantFrom('v1', 'я2'),
    lives: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constantFrom(0.5, Infinity)),
    extras: fc.constantFrom(
      {},
      { maxAge: 60 },
      { notes: 'x' },
      { maxAge: 0.5, notes: 'я' },
      { defaultMaxAge: 3 }
    ),
    waits: fc.nat({ max: 3000 })
  })
  const seen = { evicted: 0, swept: 0, refused: 0, grown: 0, shrunk: 0, touched: 0 }
  const sum = (entries: Iterable<[string, SessionRecord]>): number =>
    [...entries].reduce((total, entry) => total + counted(...entry), 0)

  const run = (
    steps: Array<typeof step extends fc.Arbitrary<infer T> ? T : never>,
    max: number
  ) => {
    const maxMemory = 1500
    const { clock, store } = setUp({ max, maxMemory, sweepInterval: 2.5 })
    /** What the store should hold, and what has expired, of which it may hold some. */
    const model = new Map<string, SessionRecord>()
    const liveOnes = (): Array<[string, SessionRecord]> =>
      [...model].filter(([, { expiresAt }]) => expiresAt > clock.now())

    for (const { verb, key, data, version, expected, lives, extras, waits } of steps) {
      const sizeBefore = store.size
      if (verb === 'wait') {
        clock.advance(waits)
        if (store.size < sizeBefore) seen.swept += 1
      }
      const before = new Map(liveOnes()).get(key)
      const idle = (each: SessionRecord): number | undefined => each.maxAge ?? each.defaultMaxAge
      const given = { data, version, createdAt: clock.now(), expiresAt: clock.now(), ...extras }
      const isShorter =
        before !== undefined && (idle(given) ?? Infinity) < (idle(before) ?? Infinity)
      const asked = clock.now() + lives
      const kept = (verb === 'update' && isShorter ? undefined : before?.expiresAt) ?? 0
      const allowed = before && clock.now() + (idle(before) ?? Infinity) * 1000
      const expiresAt = Math.max(verb === 'touch' ? Math.min(asked, allowed ?? 0) : asked, kept)
      const written = { ...given, expiresAt }
      const cases = {
        create: () => [before === undefined, store.create(key, written), written],
        update: () => [before?.version === expected, store.update(key, written, expected), written],
        touch: () => [
          before && expiresAt,
          store.touch(key, asked),
          before && { ...before, expiresAt }
        ],
        get: () => [before, store.get(key), before],
        delete: () => [before, store.delete(key), undefined],
        wait: () => [undefined, undefined, before]
      }
      let becomes: SessionRecord | undefined = before
      const lost = lostBy(() => {
        try {
          const [due, answer, next] = cases[verb]()
          assert.deepEqual(answer, due)
          if (answer !== false) becomes = next as SessionRecord | undefined
        } catch (error) {
          assert.ok(error instanceof SessionError && error.code === 'HOLDFAST_DATA_TOO_LARGE')
          assert.ok(counted(key, written) > maxMemory)
          seen.refused += 1
        }
      })
      for (const { session } of lost) assert.ok(session !== key && model.delete(session), session)
      seen.evicted += lost.length
      if (becomes !== undefined) model.set(key, becomes)
      else if (verb !== 'wait') model.delete(key)
      if (before !== undefined && becomes !== undefined) {
        if (counted(key, becomes) > counted(key, before)) seen.grown += 1
        if (counted(key, becomes) < counted(key, before)) seen.shrunk += 1
        if (verb === 'touch') seen.touched += 1
      }

      const live = liveOnes()
      assert.ok(store.memory <= maxMemory && store.size <= max, 'the bounds hold')
      assert.ok(store.memory >= sum(live) && store.memory <= sum(model), 'all is counted, once')
      if (store.size === live.length) assert.equal(store.memory, sum(live))
    }
    // What has expired goes when it is asked for.
    for (const key of model.keys()) store.touch(key, 0)
    assert.deepEqual([store.size, store.memory], [liveOnes().length, sum(liveOnes())])
    for (const key of model.keys()) store.delete(key)
    t.same([store.size, store.memory, clock.pending], [0, 0, 0])
  }

  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 60 }), fc.constantFrom(3, 5, 1000), run),
    { numRuns: 150 }
  )
  for (const [what, times] of Object.entries(seen)) t.ok(times > 30, `${what}: ${times}`)
})

// Sessions of subjects.

const ada = 'a'.repeat(16)
const bob = 'b'.repeat(16)
const keyFor = (subject: string, index: number): string =>
  `${subject}.${String(index).padStart(43, 'k')}`

/** Signs a subject in. */
function signIn(store: MemoryStore, subject: string, index: number, record: SessionRecord): string {
  const { subjects } = store
  return subjects.create(keyFor(subject, index), record, { stamp: subjects.stamp(subject) })
}

for (const max of [1, 2, 3, 5]) {
  t.test(`P1: a session that moves does not give way to itself (room for ${max})`, async (t) => {
    const { store, record } = setUp({ max })
    const lineage = 'adas'
    signIn(store, ada, 0, record({ version: `${lineage}.1` }))
    store.get(keyFor(ada, 0))
    // Whoever was requested since is newer.
    for (let index = 1; index < max; index += 1) {
      store.create(`other ${index}`, record({ data }))
      store.get(`other ${index}`)
    }
    const successor = keyFor(ada, 1)
    const trace = { successor, version: `${lineage}.1`, expiresAt: Infinity }
    const lost = lostBy(() => {
      t.equal(store.subjects.move(keyFor(ada, 0), record({ version: `${lineage}.2` }), trace), true)
    })
    t.same(
      lost.map(({ session }) => session),
      max === 1 ? [] : ['other 1']
    )
    t.same(store.get(keyFor(ada, 0)), trace)
    t.match(store.get(successor), { version: `${lineage}.2` })
    t.equal(store.subjects.find(ada, lineage), successor)
    // The next one finds room for it as ever.
    store.create('next', record({ data }))
    t.ok(store.size <= max, `${store.size}`)
  })
}

t.test('P1: in no more bytes than two sessions take, a move keeps both ends', async (t) => {
  const { store, record } = setUp({ maxMemory: 1400 })
  signIn(store, ada, 0, record({ version: 'adas.1' }))
  store.create('other', record({ data: 'x'.repeat(400) }))
  const trace = { successor: keyFor(ada, 1), version: 'adas.1', expiresAt: Infinity }
  t.equal(store.subjects.move(keyFor(ada, 0), record({ version: 'adas.2' }), trace), true)
  t.same(store.get(keyFor(ada, 0)), trace)
  t.match(store.get(keyFor(ada, 1)), { version: 'adas.2' })
  t.equal(store.get('other'), undefined)
  store.delete(keyFor(ada, 1))
  store.subjects.endAll(ada)
})

t.test('S23: in a full store too, a trace has the place that its record had', async (t) => {
  const life = Infinity
  for (const how of ['move', 'retire'] as const) {
    const { store, record } = setUp(how === 'move' ? { max: 5 } : { maxMemory: 2300 })
    const key = (index: number): string => (how === 'move' ? keyFor(ada, index) : keyOf(index))
    const version = (index: number): string => `life${index}.1`
    for (let index = 1; index <= 5; index += 1) {
      if (how === 'move') signIn(store, ada, index, record({ version: version(index) }))
      else store.create(key(index), record({ version: version(index), data: 'x'.repeat(200) }))
    }
    // The second one moves, after the others were requested.
    for (let index = 1; index <= 5; index += 1) store.get(key(index))
    if (how === 'move') {
      const trace = { successor: key(6), version: version(2), expiresAt: life }
      t.ok(store.subjects.move(key(2), record({ version: 'life2.2' }), trace))
    } else {
      const trace = { successor: 's'.repeat(400), version: version(2), expiresAt: life }
      t.ok(store.retire(key(2), trace))
    }
    store.get(key(5))
    const next = record({ data: 'x'.repeat(200) })
    store.create('next', next)
    store.get('next')
    t.equal(store.get(key(2)), undefined, `${how}: the trace is the next to go`)
    for (const index of [3, 4, 5]) t.ok(store.get(key(index)), `${how}: ${index} stays`)
  }
})

t.test('who hears of an eviction finds the step done that it made room for', async (t) => {
  const { store, record } = setUp({ max: 2 })
  const seen: unknown[] = []
  const lineage = 'adas'
  const look = (): void => {
    seen.push([
      store.get(keyFor(ada, 1))?.version,
      store.subjects.list(ada).sessions.map(({ key }) => key),
      store.subjects.endOne(ada, lineage)
    ])
  }
  const unlisten = store.feed.listen(({ reason }) => {
    if (reason === 'evicted') look()
  })
  t.teardown(unlisten)
  const done = [[`${lineage}.1`, [keyFor(ada, 1)], true]]

  // A sign-in.
  store.create('one', record())
  store.create('two', record())
  signIn(store, ada, 1, record({ version: `${lineage}.1` }))
  t.same(seen.splice(0), done)
  t.equal(store.get(keyFor(ada, 1)), undefined, 'the end holds')

  // A move.
  store.close()
  signIn(store, ada, 0, record({ version: `${lineage}.0` }))
  store.create('two', record())
  const trace = { successor: keyFor(ada, 1), version: `${lineage}.0`, expiresAt: Infinity }
  store.subjects.move(keyFor(ada, 0), record({ version: `${lineage}.1` }), trace)
  t.same(seen.splice(0), done)
  t.equal(store.get(keyFor(ada, 1)), undefined, 'the end holds')
  t.same(store.subjects.list(ada).sessions, [])
})

t.test(
  'P11: of two sign-ins that count on no other, one is refused, also on the way',
  async (t) => {
    const { store, record } = setUp({ max: 1 })
    store.create('gives way', record())
    const { subjects } = store
    const stamp = subjects.stamp(ada)
    const { version } = subjects.list(ada)
    const results: unknown[] = []
    t.teardown(
      store.feed.listen(({ reason }) => {
        if (reason === 'evicted' && results.length === 0)
          results.push(
            subjects.create(keyFor(ada, 2), record({ version: 'second' }), { stamp, version })
          )
      })
    )
    results.push(subjects.create(keyFor(ada, 1), record({ version: 'first' }), { stamp, version }))
    t.same(results, ['refused', 'created'])
  }
)

t.test('a sign-in holds though the eviction for it makes many lists unused', async (t) => {
  const { store, record } = setUp({ max: 1 })
  signIn(store, bob, 1, record({ version: 'bobs' }))
  const { subjects } = store
  const stamp = subjects.stamp(ada)
  for (let index = 0; index < 49_999; index += 1) subjects.stamp(String(index).padStart(16, '_'))
  t.equal(subjects.create(keyFor(ada, 1), record({ version: 'adas' }), { stamp }), 'created')
  t.match(store.get(keyFor(ada, 1)), { version: 'adas' })
  t.equal(subjects.find(ada, 'adas'), keyFor(ada, 1))
})

t.test('a text with one character beyond U+00FF counts two bytes for each', async (t) => {
  const { store, record } = setUp()
  const sizes = ['x', 'ÿ', 'я', '語'].map((character) => {
    store.create('key', record({ data: character.repeat(10_000) }))
    const { memory } = store
    store.delete('key')
    return memory
  })
  t.equal(sizes[0], sizes[1])
  t.equal(sizes[2], sizes[3])
  t.ok(sizes[0]! > 10_000 && sizes[0]! < 10_300, `${sizes[0]}`)
  t.ok(sizes[2]! > 20_000 && sizes[2]! < 20_400, `${sizes[2]}`)
  t.equal(store.memory, 0)
})

t.test('a text takes one byte for each character also if it was cut from one with two', (t) => {
  const program = `
    import { MemoryStore } from ${JSON.stringify(new URL('../../lib/stores/memory.js', import.meta.url))}
    const store = new MemoryStore()
    const memory = () => { gc(); gc(); return process.memoryUsage().heapUsed }
    const fill = (text) => {
      const before = memory()
      for (let index = 0; index < 200; index += 1)
        store.create('key' + index, { data: text(index), version: 'v1', createdAt: 0, expiresAt: Infinity })
      const figures = [memory() - before, store.memory]
      store.close()
      return figures
    }
    fill(String)
    const cut = fill((index) => JSON.stringify({ text: ('\\u2003' + String(index).padEnd(20_000, 'x')).trim() }))
    const wide = fill((index) => JSON.stringify({ text: '\\u2003' + String(index).padEnd(20_000, 'x') }))
    console.log(JSON.stringify([...cut, ...wide]))
  `
  const { stdout } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '--eval', program],
    { encoding: 'utf8' }
  )
  const [cut, cutCounted, wide, wideCounted] = JSON.parse(stdout) as number[]
  for (const [taken, counted, expected] of [
    [cut!, cutCounted!, 200 * 20_000],
    [wide!, wideCounted!, 200 * 40_000]
  ] as const) {
    t.ok(counted > expected && counted < expected * 1.02, `counts ${counted}`)
    t.ok(Math.abs(taken - counted) < 400_000, `takes ${taken}`)
  }
  t.end()
})

t.test('S23: a large record takes the place of many, in the order that holds', async (t) => {
  const { clock, store, record } = setUp({ maxMemory: 20_000, sweepInterval: 10 * 3600 })
  const names = (kind: string): string[] =>
    Array.from({ length: 15 }, (_, n) => `${kind} ${n + 10}`)
  for (const key of names('returned')) {
    store.create(key, record({ data }))
    store.get(key)
  }
  for (const key of names('written')) store.create(key, record({ data }))
  for (const key of names('empty')) store.create(key, record())
  for (const key of names('returned').slice(0, 3)) store.get(key)
  t.same(
    lostBy(() => store.create('small', record({ data }))),
    []
  )
  const order = [
    ...names('empty').map((session) => ({ session, returned: false })),
    ...[...names('written'), 'small'].map((session) => ({ session, returned: false })),
    ...[...names('returned').slice(3), ...names('returned').slice(0, 3)].map((session) => ({
      session,
      returned: true
    }))
  ]
  for (const size of [12_000, 15_000, 19_000]) {
    store.delete('large')
    const before = store.size
    const lost = lostBy(() => store.create('large', record({ data: 'x'.repeat(size) })))
    t.ok(lost.length > 5, `${lost.length} give way`)
    t.same(lost, order.splice(0, lost.length))
    t.equal(store.size, before - lost.length + 1)
    // The last of them had to go: without it there was no room.
    t.ok(store.memory <= 20_000 && store.memory > 20_000 - 300, `${store.memory}`)
  }

  // What has expired and is next in line goes before anything live, and no event tells of it.
  store.close()
  for (const key of names('returned')) {
    store.create(key, record({ data }))
    store.get(key)
  }
  for (const key of names('empty')) store.create(key, record({ expiresAt: clock.now() + 2 * hour }))
  clock.advance(hour)
  t.same(
    lostBy(() => store.create('large', record({ data: 'x'.repeat(15_500) }))),
    []
  )
  t.equal(held(store, names('empty')).length, 15)
})

t.test(
  'S23: over many shards, a large record takes the place of old ones, no more than needed',
  (t) => {
    const { store, record } = setUp({ maxMemory: 2_400_000 })
    const keys = Array.from({ length: 12_000 }, (_, index) => keyOf(index))
    for (const key of keys) store.create(key, record())
    const full = held(store, keys)
    for (const character of ['x', 'я']) {
      const before = store.size
      const text = character.repeat(60_000)
      const lost = lostBy(() => store.create(keyOf(character), record({ data: text })))
      t.ok(lost.length > 200 && lost.length < 700, `${lost.length} give way`)
      t.equal(store.size, before - lost.length + 1)
      t.ok(store.memory <= 2_400_000 && store.memory > 2_400_000 - 300, `${store.memory}`)
      const oldest = new Set(full.slice(0, full.length / 4))
      t.equal(lost.filter(({ session }) => !oldest.has(session)).length, 0)
    }
    t.end()
  }
)

t.test('a record that grows pushes out others, never itself', async (t) => {
  const { clock, store, record } = setUp({ maxMemory: 10_000 })
  store.create('first', record())
  for (let index = 0; index < 20; index += 1) store.create(`other ${index}`, record({ data }))
  const grow = (version: string, length: number): string[] =>
    lostBy(() => {
      const next = record({ data: 'x'.repeat(length), version: `v${Number(version.slice(1)) + 1}` })
      t.equal(store.update('first', next, version), true)
    }).map(({ session }) => session)
  const others = Array.from({ length: 20 }, (_, index) => `other ${index}`)
  const first = grow('v1', 8000)
  t.ok(first.length > 5)
  t.same(first, others.splice(0, first.length))
  t.same(grow('v2', 1000), [])
  t.same(grow('v3', 8000), [])
  t.same(grow('v4', 9700), others)
  t.same([store.size, store.get('first')?.data?.length, clock.pending], [1, 9700, 1])
  t.same(grow('v5', 9701), [], 'one that came back, likewise')
})

t.test('a trace that is larger than its record pushes out others, never itself', async (t) => {
  const { clock, store, record } = setUp({ maxMemory: 2000 })
  store.create('first', record())
  let count = 0
  while (lostBy(() => store.create(`other ${count}`, record())).length === 0) count += 1
  store.create('last', record())
  const trace = { successor: 'x'.repeat(500), version: 'v1', expiresAt: clock.now() + hour }
  const lost = lostBy(() => t.equal(store.retire('last', trace), true))
  t.ok(lost.length > 0)
  t.ok(store.memory <= 2000)
  t.same(store.get('last'), trace)
})

t.test('a record larger than the bound is refused, and all others stay as they are', async (t) => {
  const { store, record } = setUp({ maxMemory: 2000 })
  const tooLarge = { code: 'HOLDFAST_DATA_TOO_LARGE', statusCode: 500, message: /maxMemory/ }
  store.create('one', record({ data }))
  store.create('two', record({ data }))
  const { memory } = store
  t.throws(() => store.create('large', record({ data: 'x'.repeat(2000) })), tooLarge)
  t.throws(
    () => store.update('one', record({ data: 'я'.repeat(1000), version: 'v2' }), 'v1'),
    tooLarge
  )
  t.same([store.size, store.memory], [2, memory])
  t.same(store.get('one'), record({ data }))
  t.equal(store.get('large'), undefined)
  t.equal(store.create('one', record({ data: 'x'.repeat(2000) })), false, 'the key is taken first')

  // To the byte, also where an expiry has more digits.
  const full = record({ data: 'x'.repeat(998) })
  const { store: exact } = setUp({ maxMemory: counted('k', full) })
  t.throws(() => exact.create('k', { ...full, data: `${full.data}x` }), tooLarge)
  t.ok(exact.create('k', full))
  t.throws(() => exact.touch('k', full.expiresAt + 0.5), tooLarge)
  t.same(exact.get('k'), full)
})

t.test('a subscriber that hears of an eviction may use the store', async (t) => {
  const { store, record } = setUp({ maxMemory: 3000 })
  const bring = (message: unknown): void => {
    const { session } = message as { session: string }
    t.ok(store.memory <= 3000)
    t.equal(store.get(session), undefined)
    if (!session.startsWith('again')) store.create(`again ${session}`, record())
  }
  subscribe('fastify-holdfast:evicted', bring)
  for (let index = 0; index < 50; index += 1) {
    store.create(`new ${index}`, record({ data: 'x'.repeat((index % 5) * 300) }))
    t.ok(store.memory <= 3000)
  }
  unsubscribe('fastify-holdfast:evicted', bring)
})

// Records.

t.test('any string is kept: a lone surrogate, U+0000, a number, another record', async (t) => {
  const { store, record } = setUp()
  for (const text of ['\ud800 \udfff', 'a\0b', ' ', '  1 2', '12', '1900000000000 1 2 3 v w']) {
    const given = record({
      data: text,
      version: text,
      maxAge: 2 ** 52 + 0.5,
      createdAt: 0.1,
      expiresAt: 2 ** 53
    })
    t.equal(store.create(text, given), true)
    t.same(store.get(text), given)
    t.equal(store.touch(text, 2 ** 53 + 2), 2 ** 53 + 2)
    t.same(store.delete(text), { ...given, expiresAt: 2 ** 53 + 2 })
  }
})

t.test('a trace keeps any string, and no string makes it a record', async (t) => {
  const { clock, store, record } = setUp()
  const texts = ['\ud800', 'a\0b', '', ' ', '> ', '2 v1 ', '2 v1 2 v1 ', '0  1  ', '1 > 2']
  for (const successor of texts) {
    for (const version of texts) {
      const key = `${successor}/${version}`
      const trace: SessionTrace = { successor, version, expiresAt: clock.now() + 0.5 }
      t.equal(store.create(key, record({ version })), true)
      t.equal(store.retire(key, trace), true)
      t.same(store.get(key), trace)
      for (const expected of [...texts, 'v1', successor, version]) {
        t.equal(store.update(key, record(), expected), false)
        t.equal(store.retire(key, { ...trace, version: expected }), false)
      }
      t.same(store.delete(key), trace)
    }
  }
})

t.test('no key is special: the empty one, a long one', async (t) => {
  const { store, record } = setUp()
  for (const key of ['', 'k', 'k'.repeat(10_000), '\ud800']) {
    t.equal(store.create(key, record({ data: key })), true)
    t.equal(store.get(key)?.data, key)
  }
  t.equal(store.size, 4)
})

// Options.

t.test('wrong options are refused by name', async (t) => {
  for (const max of [0, -1, 1.5, NaN, Infinity, '10', null]) {
    t.throws(() => new MemoryStore({ max: max as number }), {
      code: 'HOLDFAST_OPTION_INVALID',
      message: /\bmax must be a positive integer/
    })
  }
  for (const maxMemory of [0, -1, 512, 1023, 2048.5, NaN, Infinity, '1e6', null]) {
    t.throws(() => new MemoryStore({ maxMemory: maxMemory as number }), {
      code: 'HOLDFAST_OPTION_INVALID',
      message: /\bmaxMemory must be an integer, no less than 1024: a number of bytes/
    })
  }
  for (const sweepInterval of [0, -1, NaN, Infinity, 2_147_484, '60', null]) {
    t.throws(() => new MemoryStore({ sweepInterval: sweepInterval as number }), {
      code: 'HOLDFAST_OPTION_INVALID',
      message: /sweepInterval must be a positive number/
    })
  }
})

t.test('any bound is taken', async (t) => {
  const { MAX_SAFE_INTEGER } = Number
  for (const options of [
    { max: MAX_SAFE_INTEGER },
    { maxMemory: MAX_SAFE_INTEGER },
    { max: MAX_SAFE_INTEGER, maxMemory: MAX_SAFE_INTEGER },
    { maxMemory: 1024 }
  ]) {
    const { store, record } = setUp(options)
    t.equal(store.create('key', record()), true)
  }
  t.doesNotThrow(() => new MemoryStore({ max: 1, sweepInterval: 2_147_483 }))
})

// The clock of the tests.

t.test(
  'TestClock calls timers in the order in which they fall due, each at its instant',
  async (t) => {
    const clock = new TestClock(1000)
    const calls: Array<[name: string, at: number]> = []
    const call = (name: string) => () => {
      calls.push([name, clock.now()])
    }
    clock.setTimeout(call('late'), 30)
    clock.setTimeout(call('first'), 10)
    clock.setTimeout(call('second'), 10)
    clock.setTimeout(call('cancelled'), 20).close()
    clock
      .setTimeout(() => {
        call('sets others')()
        clock.setTimeout(call('at once'), 0)
        clock.setTimeout(call('in the window'), 5)
        clock.setTimeout(call('beyond it'), 100)
      }, 20)
      .unref()
    clock.advance(30)
    t.same(calls, [
      ['first', 1010],
      ['second', 1010],
      ['sets others', 1020],
      ['at once', 1020],
      ['in the window', 1025],
      ['late', 1030]
    ])
    t.equal(clock.now(), 1030)
    clock.advance(90)
    t.same(calls.at(-1), ['beyond it', 1120])
  }
)

t.test('a stamp is kept for an hour, and never comes again', async (t) => {
  const clock = new TestClock()
  const store = new MemoryStore({ clock })
  const { subjects } = store
  const record = {
    data: '',
    version: 'v1',
    createdAt: clock.now(),
    expiresAt: clock.now() + 60 * second
  }
  const seen = new Set<string>()
  const isNew = (stamp: string): boolean => seen.size < seen.add(stamp).size
  const tags = ['a', 'b', 'c'].map((letter) => letter.repeat(16))
  for (const tag of tags) {
    t.ok(isNew(subjects.stamp(tag)))
    subjects.endAll(tag)
    const stamp = subjects.stamp(tag)
    t.ok(isNew(stamp))
    t.equal(subjects.create(`${tag}.${'k'.repeat(43)}`, record, { stamp }), 'created')
  }
  clock.advance(61 * second)
  for (const tag of tags) t.same(subjects.list(tag).sessions, [])
  clock.advance(3590 * second)
  for (const tag of tags) t.notOk(isNew(subjects.stamp(tag)), 'a sign-in may be under way')
  clock.advance(3601 * second)
  subjects.stamp('y'.repeat(16))
  for (const tag of tags) t.ok(isNew(subjects.stamp(tag)))
})

t.test('attack: stamps of subjects without number fill no memory', async (t) => {
  const { subjects } = new MemoryStore({ clock: new TestClock() })
  const first = 'x'.repeat(16)
  const stamp = subjects.stamp(first)
  for (let index = 0; index < 50_000; index += 1) {
    subjects.stamp(String(index).padStart(16, '0'))
  }
  t.not(subjects.stamp(first), stamp, 'the oldest is forgotten')
})

t.test('P11: who hears of an eviction, and ends all, ends what is being added too', async (t) => {
  const subject = 's'.repeat(16)
  const now = Date.now()
  const keyOf = (letter: string): string => `${subject}.${letter.repeat(43)}`
  const record = (version: string): SessionRecord => ({
    data: '{}',
    version,
    createdAt: now,
    expiresAt: now + hour
  })
  for (const way of ['create', 'move'] as const) {
    const store = new MemoryStore({ max: 2 })
    t.teardown(() => store.close())
    const stamp = store.subjects.stamp(subject)
    store.create('a'.repeat(43), record('other'))
    store.subjects.create(keyOf('b'), record('one'), { stamp })
    const end = (): void => {
      store.subjects.endAll(subject)
    }
    subscribe('fastify-holdfast:evicted', end)
    if (way === 'create') store.subjects.create(keyOf('c'), record('two'), { stamp })
    else {
      const trace = { successor: keyOf('c'), version: 'one', expiresAt: now + hour }
      store.subjects.move(keyOf('b'), record('one.w'), trace)
    }
    unsubscribe('fastify-holdfast:evicted', end)
    t.same(store.subjects.list(subject).sessions, [], way)
    t.equal(store.get(keyOf('c')), undefined, way)
  }
})

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'

import t from 'tap'

import { MemoryStore, type MemoryStoreOptions, type SessionRecord, type Timer } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'

const hour = 3_600_000
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

function setUp(options: MemoryStoreOptions = {}): { clock: WatchedClock, store: MemoryStore, record: (over?: Partial<SessionRecord>) => SessionRecord } {
  const clock = new WatchedClock()
  return {
    clock,
    store: new MemoryStore({ clock, ...options }),
    record: (over) => ({ data: '', version: 'v1', createdAt: clock.now(), expiresAt: clock.now() + hour, ...over })
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
  t.same(held(store, ['written', 'returned', 'empty 2', 'a', 'b']), ['written', 'returned', 'a', 'b'])
  t.equal(store.size, 4)
})

t.test('S23: next is what never came back, oldest first', async (t) => {
  const { store, record } = setUp({ max: 3 })
  store.create('returned', record())
  store.get('returned')
  store.create('written 1', record({ data }))
  store.create('written 2', record({ data }))
  store.create('written 3', record({ data }))
  t.same(held(store, ['returned', 'written 1', 'written 2', 'written 3']), ['returned', 'written 2', 'written 3'])
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
    t.same(held(store, order), order.slice(newcomers), `${newcomers} newcomers take the places of as many`)
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

t.test('S23: over many shards: the bound and the order of the kinds are kept, and age very nearly', async (t) => {
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
})

t.test('keys that are much alike are spread well enough', async (t) => {
  const { store, record } = setUp({ max: 10_000 })
  const keys = Array.from({ length: 20_000 }, (_, index) => `session:${index}`)
  for (const key of keys) store.create(key, record())
  t.equal(store.size, 10_000)
  t.ok(held(store, keys.slice(-8000)).length > 7000)
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
  for (const key of ['get', 'touch', 'update', 'delete', 'create']) store.create(key, record({ data }))
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
    store.create(key, record({ data: index % 2 === 0 ? data : '', expiresAt: clock.now() + (index % 3 === 0 ? 3 * hour : hour) }))
    if (index % 5 === 0) store.get(key)
  }
  clock.advance(hour - 1)
  t.equal(store.size, 9000)
  clock.advance(60_001)
  t.equal(store.size, 3000)
  t.equal(held(store, keys.filter((_, index) => index % 3 === 0)).length, 3000)
  clock.advance(2 * hour)
  t.equal(store.size, 0)
})

t.test('a sweep goes in small steps, and lets others in between', async (t) => {
  const { clock, store, record } = setUp({ max: 20_000 })
  for (let index = 0; index < 9000; index += 1) store.create(keyOf(index), record({ expiresAt: clock.now() + 1 }))
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
  for (let index = 0; index < 2000; index += 1) store.create(keyOf(index), record({ data, expiresAt: clock.now() + 1 }))
  for (let index = 0; index < 1000; index += 1) store.get(keyOf(index))
  // In the middle of a sweep.
  clock.around = () => { store.close() }
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
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { timeout: 20_000, encoding: 'utf8' })
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
    console.log((memory() - before) / 38_000)
  `
  const { stdout } = spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '--eval', program], { encoding: 'utf8' })
  t.ok(Number(stdout) > 100 && Number(stdout) < 220, stdout)
})

// Records.

t.test('any string is kept: a lone surrogate, U+0000, a number, another record', async (t) => {
  const { store, record } = setUp()
  for (const text of ['\ud800 \udfff', 'a\0b', ' ', '  1 2', '12', '1900000000000 1 2 3 v w']) {
    const given = record({ data: text, version: text, maxAge: 0.5, createdAt: 0.1, expiresAt: 2 ** 53 })
    t.equal(store.create(text, given), true)
    t.same(store.get(text), given)
    t.equal(store.touch(text, 2 ** 53 + 2), 2 ** 53 + 2)
    t.same(store.delete(text), { ...given, expiresAt: 2 ** 53 + 2 })
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
    t.throws(() => new MemoryStore({ max: max as number }), { code: 'HOLDFAST_OPTION_INVALID', message: /\bmax must be a positive integer/ })
  }
  for (const sweepInterval of [0, -1, NaN, Infinity, 2_147_484, '60', null]) {
    t.throws(() => new MemoryStore({ sweepInterval: sweepInterval as number }), { code: 'HOLDFAST_OPTION_INVALID', message: /sweepInterval must be a positive number/ })
  }
})

t.test('any bound is taken', async (t) => {
  const { store, record } = setUp({ max: Number.MAX_SAFE_INTEGER })
  t.equal(store.create('key', record()), true)
  t.doesNotThrow(() => new MemoryStore({ max: 1, sweepInterval: 2_147_483 }))
})

// The clock of the tests.

t.test('TestClock calls timers in the order in which they fall due, each at its instant', async (t) => {
  const clock = new TestClock(1000)
  const calls: Array<[name: string, at: number]> = []
  const call = (name: string) => () => { calls.push([name, clock.now()]) }
  clock.setTimeout(call('late'), 30)
  clock.setTimeout(call('first'), 10)
  clock.setTimeout(call('second'), 10)
  clock.setTimeout(call('cancelled'), 20).close()
  clock.setTimeout(() => {
    call('sets others')()
    clock.setTimeout(call('at once'), 0)
    clock.setTimeout(call('in the window'), 5)
    clock.setTimeout(call('beyond it'), 100)
  }, 20).unref()
  clock.advance(30)
  t.same(calls, [['first', 1010], ['second', 1010], ['sets others', 1020], ['at once', 1020], ['in the window', 1025], ['late', 1030]])
  t.equal(clock.now(), 1030)
  clock.advance(90)
  t.same(calls.at(-1), ['beyond it', 1120])
})

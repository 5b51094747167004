import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'

import { merge, type Data } from '../lib/session/merge.ts'

const examples: Readonly<
  Record<string, readonly [base: Data, mine: Data, theirs: Data, merged: Data]>
> = {
  'nobody changed anything': [{ a: 1 }, { a: 1 }, { a: 1 }, { a: 1 }],
  'I changed a key': [{ a: 1 }, { a: 2 }, { a: 1 }, { a: 2 }],
  'they changed a key': [{ a: 1 }, { a: 1 }, { a: 2 }, { a: 2 }],
  'different keys both take effect': [
    { a: 1, b: 1 },
    { a: 2, b: 1 },
    { a: 1, b: 2 },
    { a: 2, b: 2 }
  ],
  'keys added on both sides': [{}, { a: 1 }, { b: 2 }, { a: 1, b: 2 }],
  'the same key changed on both sides: mine, which is written last': [
    { a: 1 },
    { a: 2 },
    { a: 3 },
    { a: 2 }
  ],
  'the same key added on both sides: mine': [{}, { a: 2 }, { a: 3 }, { a: 2 }],
  'nested values are taken whole': [
    { a: { x: 1, y: 1 } },
    { a: { x: 2, y: 1 } },
    { a: { x: 1, y: 2 } },
    { a: { x: 2, y: 1 } }
  ],
  'my delete': [{ a: 1, b: 1 }, { b: 1 }, { a: 1, b: 1 }, { b: 1 }],
  'my delete wins over their change': [{ a: 1 }, {}, { a: 2 }, {}],
  'their delete wins over my change': [{ a: 1 }, { a: 2 }, {}, {}],
  'their delete wins over my reading': [{ a: 1 }, { a: 1 }, {}, {}],
  'both deleted': [{ a: 1 }, {}, {}, {}]
}

for (const [name, [base, mine, theirs, merged]] of Object.entries(examples)) {
  t.test(name, async (t) => {
    t.strictSame({ ...merge(base, mine, theirs, isDeepStrictEqual) }, merged)
  })
}

function equalAsJson(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

t.test('a value that is equal once serialised is no change', async (t) => {
  t.same(merge({ a: { x: 1 } }, { a: { x: 1, y: undefined } }, { a: { x: 2 } }, equalAsJson), {
    a: { x: 2 }
  })
})

const keys = ['a', 'b', 'c', '__proto__', 'constructor', 'toString', 'hasOwnProperty'] as const

/**
 * Data without a prototype, so that `__proto__` is a key like any other; few keys and values, so
 * that they meet.
 */
const data: fc.Arbitrary<Data> = fc
  .uniqueArray(
    fc.tuple(
      fc.constantFrom(...keys),
      fc.constantFrom<unknown>(0, 1, null, [1], { x: 1 }, { x: 2 })
    ),
    { selector: ([key]) => key }
  )
  .map(fromEntries)

function fromEntries(entries: readonly (readonly [string, unknown])[]): Data {
  const result = Object.create(null) as Data
  for (const [key, value] of entries) result[key] = value
  return result
}

/** Independent of the order of keys and of prototypes. */
function sorted(data: Data): [string, unknown][] {
  return Object.entries(data).toSorted(([one], [other]) => (one < other ? -1 : 1))
}

const join = (base: Data, mine: Data, theirs: Data): Data =>
  merge(base, mine, theirs, isDeepStrictEqual)
const has = (data: Data, key: string): boolean => Object.hasOwn(data, key)

/** Whether a side added, changed or deleted a key. */
function touched(base: Data, side: Data, key: string): boolean {
  return has(base, key) !== has(side, key) || !isDeepStrictEqual(base[key], side[key])
}

const properties: Readonly<Record<string, (base: Data, mine: Data, theirs: Data) => boolean>> = {
  'merge(base, mine, base) is mine': (base, mine) =>
    isDeepStrictEqual(sorted(join(base, mine, base)), sorted(mine)),
  'merge(base, base, theirs) is theirs': (base, _mine, theirs) =>
    isDeepStrictEqual(sorted(join(base, base, theirs)), sorted(theirs)),
  'merge(base, both, both) is both': (base, mine) =>
    isDeepStrictEqual(sorted(join(base, mine, mine)), sorted(mine)),
  'no key comes from nowhere': (base, mine, theirs) =>
    Object.keys(join(base, mine, theirs)).every((key) => has(mine, key) || has(theirs, key)),
  'what one side alone touched is as that side has it; what nobody touched stays': (
    base,
    mine,
    theirs
  ) => {
    const merged = join(base, mine, theirs)
    return keys.every((key) => {
      if (touched(base, mine, key) && touched(base, theirs, key)) return true
      const expected = touched(base, mine, key) ? mine : theirs
      return (
        has(merged, key) === has(expected, key) && isDeepStrictEqual(merged[key], expected[key])
      )
    })
  },
  'a delete on either side wins': (base, mine, theirs) => {
    const merged = join(base, mine, theirs)
    return Object.keys(base).every(
      (key) => (has(mine, key) && has(theirs, key)) || !has(merged, key)
    )
  },
  'what both changed is as I have it': (base, mine, theirs) => {
    const merged = join(base, mine, theirs)
    return keys.every(
      (key) =>
        !has(mine, key) ||
        !has(theirs, key) ||
        !touched(base, mine, key) ||
        isDeepStrictEqual(merged[key], mine[key])
    )
  },
  'the order of disjoint changes does not matter': (base, mine, theirs) => {
    if (keys.some((key) => touched(base, mine, key) && touched(base, theirs, key))) return true
    return isDeepStrictEqual(sorted(join(base, mine, theirs)), sorted(join(base, theirs, mine)))
  }
}

for (const [name, holds] of Object.entries(properties)) {
  t.test(name, async () => {
    fc.assert(fc.property(data, data, data, holds), { numRuns: 1000 })
  })
}

t.test('the inputs are left as they were', async (t) => {
  fc.assert(
    fc.property(data, data, data, (base, mine, theirs) => {
      const before = structuredClone([sorted(base), sorted(mine), sorted(theirs)])
      join(Object.freeze(base), Object.freeze(mine), Object.freeze(theirs))
      t.same([sorted(base), sorted(mine), sorted(theirs)], before)
    })
  )
})

t.test('__proto__ is a key like any other, and nothing is inherited', async (t) => {
  const poisoned = JSON.parse('{"__proto__":{"admin":true}}') as Data
  for (const merged of [
    join({}, poisoned, {}),
    join({}, {}, poisoned),
    join(poisoned, poisoned, poisoned)
  ]) {
    t.same(Object.keys(merged), ['__proto__'])
    t.equal(merged['admin'], undefined)
  }
  t.same(Object.keys(join(poisoned, {}, poisoned)), [], 'it can be deleted')
  t.equal(({} as Data)['admin'], undefined)
})

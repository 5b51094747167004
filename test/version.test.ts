import fc from 'fast-check'
import t from 'tap'

import {
  firstVersion,
  includesWrite,
  nextVersion,
  remembersSince,
  sameLife
} from '../lib/session/version.ts'

/** The versions of one record after 0, 1, 2 … writes. */
function life(writes: number): string[] {
  const versions = [firstVersion()]
  for (let count = 0; count < writes; count += 1) versions.push(nextVersion(versions[count]))
  return versions
}

/** A life, and two of its versions: the earlier first. */
const twoOfALife = fc.tuple(fc.nat(30), fc.nat(30)).map(([from, ahead]) => {
  const versions = life(from + ahead)
  return { ahead, earlier: versions[from], later: versions[from + ahead], versions }
})

t.test('every version is unlike every other', async (t) => {
  const versions = [...life(100), ...life(100)]
  t.equal(new Set(versions).size, versions.length)
})

t.test('no two writes have one token, however many are drawn', async (t) => {
  const tokens = Array.from({ length: 1000 }, () => firstVersion())
  t.equal(new Set(tokens).size, tokens.length)
  t.ok(
    tokens.every((token) => /^[\w-]{8}$/.test(token)),
    'stores may put them where blanks and dots separate'
  )
})

t.test(
  'two writers that begin from one version make different ones, and neither includes the other',
  async (t) => {
    const base = life(3)[3]
    const [one, other] = [nextVersion(base), nextVersion(base)]
    t.not(one, other)
    t.equal(includesWrite(one, other), false)
    t.equal(includesWrite(other, one), false)
    t.equal(includesWrite(nextVersion(one), other), false)
  }
)

t.test(
  'versions of one record are of the same life; of another, or of the same key created anew, not',
  async (t) => {
    fc.assert(
      fc.property(twoOfALife, ({ earlier, later }) => {
        t.equal(sameLife(earlier, later), true)
        t.equal(sameLife(later, earlier), true)
        t.equal(sameLife(later, firstVersion()), false)
        t.equal(includesWrite(life(2)[2], later), false)
      }),
      { numRuns: 50 }
    )
  }
)

t.test(
  'a version includes its own write and the recent ones before it, and none that comes after',
  async (t) => {
    fc.assert(
      fc.property(twoOfALife, ({ ahead, earlier, later }) => {
        t.equal(includesWrite(later, later), true)
        if (ahead < 8) t.equal(includesWrite(later, earlier), true)
        if (ahead > 0 && earlier.includes('.')) t.equal(includesWrite(earlier, later), false)
      }),
      { numRuns: 100 }
    )
  }
)

t.test('the creation is included for ever', async (t) => {
  const versions = life(50)
  t.equal(includesWrite(versions[50], versions[0]), true)
})

t.test(
  'an answer is never wrong: what it remembers since is what it includes every write of',
  async (t) => {
    fc.assert(
      fc.property(twoOfALife, ({ ahead, earlier, later, versions }) => {
        if (!remembersSince(later, earlier)) {
          t.ok(ahead >= 8, 'forgets only what is at least eight writes ago')
          return
        }
        const from = versions.indexOf(earlier)
        for (const version of versions.slice(from, from + ahead + 1))
          t.equal(includesWrite(later, version), true)
      }),
      { numRuns: 200 }
    )
  }
)

t.test('a write that never took effect is told from one that is forgotten', async (t) => {
  const base = life(4)[4]
  const lost = nextVersion(base)
  let current = base
  for (let count = 1; count <= 7; count += 1) {
    current = nextVersion(current)
    t.equal(includesWrite(current, lost), false)
    t.equal(remembersSince(current, base), true, `${count} writes later it is sure`)
  }
  t.equal(remembersSince(nextVersion(current), base), false, '8 writes later it is not')
})

t.test('a version stays short however many writes there were', async (t) => {
  t.ok(life(1000)[1000].length <= 128)
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import t from 'tap'

import { Recent } from '../lib/recent.ts'

t.test('what was made last of a text is not made again', async (t) => {
  const made: string[] = []
  const recent = new Recent((text) => {
    made.push(text)
    return text.toUpperCase()
  })
  for (const text of ['a', 'b', 'a', 'b', 'a']) t.equal(recent.get(text), text.toUpperCase())
  t.same(made, ['a', 'b'])
})

t.test('attack: of texts that differ in one character each has its own value', async (t) => {
  let made = 0
  const recent = new Recent((text) => {
    made += 1
    return `${text}!`
  })
  const texts = ['x-same-end', 'y-same-end', 'x-same-enD', '']
  for (let time = 0; time < 3; time += 1) {
    for (const text of texts) t.equal(recent.get(text), `${text}!`)
  }
  t.equal(made, texts.length)
})

t.test('what is asked for again and again is not made again, however many come by', async (t) => {
  let made = 0
  const recent = new Recent((text) => {
    if (text === 'a visitor who stays') made += 1
    return text.length
  })
  for (let count = 0; count < 5000; count += 1) {
    recent.get(`text number ${count}`)
    if (count % 400 === 0) recent.get('a visitor who stays')
  }
  t.equal(made, 1)
})

t.test('however many texts come, no more than 1,024 values are kept', async (t) => {
  let made = 0
  const recent = new Recent((text) => {
    made += 1
    return { text }
  })
  for (let count = 0; count < 5000; count += 1) recent.get(`text number ${count}`)
  made = 0
  for (let count = 0; count < 5000; count += 1) recent.get(`text number ${count}`)
  t.ok(made >= 5000 - 1024, 'most are made again')
})

t.test(
  'attack: a text that is too long for an id, or of other characters, is not kept',
  async (t) => {
    let made = 0
    const recent = new Recent((text) => {
      made += 1
      return text
    })
    for (const text of ['x'.repeat(129), '\u{1f36a}', '\ud800', '\u0141']) {
      for (let time = 0; time < 2; time += 1) t.equal(recent.get(text), text)
    }
    t.equal(made, 8)
    // These are what is left of the others in Latin-1.
    for (const text of ['A', 'x'.repeat(128)]) t.equal(recent.get(text), text)
  }
)

t.test('attack: an id in a long header does not keep the header in memory', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // A part of a text keeps all of it.
  const recent = new Recent((text) => text.slice(-20))
  const heap = (): number => {
    collect()
    return process.memoryUsage().heapUsed
  }
  const before = heap()
  for (let count = 0; count < 1000; count += 1) {
    const header = Buffer.alloc(16_000, 'other=cookie; ').toString('latin1') + count
    recent.get(header.slice(-40))
  }
  const kept = heap() - before
  t.ok(kept < 2_000_000, `${kept} bytes`)
  t.equal(recent.get('x'), 'x')
})

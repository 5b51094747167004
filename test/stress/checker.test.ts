import t from 'tap'

import type { Data, Step } from '../races/program.ts'
import { check, explain } from './checker.ts'
import type { History, Recorded, Told } from './history.ts'

/**
 * From when to when a phase lasted, and what its handler saw then; null as the end: nobody knows.
 */
type Lasted = readonly [invoked: number, returned: number | null, saw?: Data]

let requests = 0

function request(
  steps: readonly Step[],
  phases: readonly Lasted[],
  told?: Told,
  more: Partial<Recorded> = {}
): Recorded {
  return {
    number: (requests += 1),
    transport: 'cookie',
    carriesId: true,
    under: undefined,
    steps,
    server: 0,
    phases: phases.map(([invoked, returned, saw]) => ({
      invoked,
      returned: returned ?? Infinity,
      saw
    })),
    told,
    faulty: false,
    unknown: undefined,
    ...more
  }
}

function history(
  make: (mark: (ahead?: number) => string) => Recorded[],
  initial: Data | null = { a: 0, n: 0 }
): History {
  requests = 0
  return { id: 'made-by-hand', initial, requests: make((number) => `written by ${number}`) }
}

const reads = (from: number, to: number, saw: Data): Recorded =>
  request(
    ['read'],
    [
      [from, to, saw],
      [to, to + 1]
    ],
    'nothing'
  )

/** A move that keeps a, from the id of the history or of another request. */
const moves = (at: number, saw: Data, under?: number, kept: Data = { a: 0 }): Recorded =>
  request(
    ['regenerate, keeping a'],
    [
      [at, at + 1, saw],
      [at + 1, at + 2, kept],
      [at + 2, at + 3]
    ],
    'its own',
    { under }
  )

/** A logout by an id that the session had before: it finds nothing there, and ends what became. */
const endsByOldId = (at: number): Recorded =>
  request(
    ['destroy'],
    [
      [at, at + 1, {}],
      [at + 1, at + 2, {}],
      [at + 2, at + 3]
    ],
    'nothing'
  )

const readsUnder = (under: number, at: number, saw: Data): Recorded => ({
  ...reads(at, at + 1, saw),
  under
})

const writesUnder = (under: number | undefined, at: number, saw: Data, told: Told): Recorded =>
  request(
    ['write b'],
    [
      [at, at + 1, saw],
      [at + 2, at + 3]
    ],
    told,
    { under }
  )

/** Two logins at once that keep nothing: there are two sessions, and one is what became. */
const twoLogins = (mark: (ahead?: number) => string): Recorded[] =>
  [1, 2].map((number) =>
    request(
      ['regenerate', 'write b'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, { b: mark(number) }],
        [4, 9]
      ],
      'its own'
    )
  )

/** Two requests that write a key and update, together; the first sees this. */
const twoUpdates = (mark: (ahead?: number) => string, saw: Data): Recorded[] => [
  request(
    ['write a', 'update'],
    [
      [0, 1, { a: mark(1), n: 0 }],
      [2, 6, saw],
      [7, 8]
    ],
    'the session'
  ),
  request(
    ['write a', 'update'],
    [
      [0, 1, { a: mark(2), n: 0 }],
      [2, 6, { a: mark(2), n: 2 }],
      [7, 8]
    ],
    'the session'
  )
]

/**
 * A move that is told that the session is gone, beside a logout by the old id, and then a late
 * request with that.
 */
const endedMove = (faulty: boolean): History =>
  history(() => [
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [1, 2, { a: 0 }],
        [2, 9]
      ],
      'gone',
      { faulty }
    ),
    request(
      ['destroy'],
      [
        [0, 1, { a: 0, n: 0 }],
        [4, 5, {}],
        [5, 6]
      ],
      'clear'
    ),
    request(
      ['update'],
      [
        [10, 11, {}],
        [11, 12]
      ],
      'gone'
    )
  ])

const allowed: Record<string, History> = {
  'of two updates that are stored together the first sees the second': history((mark) => [
    ...twoUpdates(mark, { a: mark(2), n: 2 }),
    reads(9, 10, { a: mark(2), n: 2 })
  ]),
  'a session goes on under its new id, and the old one names nothing': history((mark) => [
    moves(0, { a: 0, n: 0 }),
    writesUnder(1, 4, { a: 0, b: mark(2) }, 'the session'),
    reads(8, 9, {}),
    readsUnder(1, 10, { a: 0, b: mark(2) })
  ]),
  'a logout by the old id ends what the session became': history(() => [
    moves(0, { a: 0, n: 0 }),
    readsUnder(1, 4, { a: 0 }),
    endsByOldId(6),
    readsUnder(1, 10, {})
  ]),
  'a logout by the first of three ids ends what the session became': history(() => [
    moves(0, { a: 0, n: 0 }),
    moves(4, { a: 0 }, 1),
    readsUnder(2, 8, { a: 0 }),
    endsByOldId(10),
    readsUnder(2, 14, {}),
    readsUnder(1, 16, {})
  ]),
  'a late write by the old id is dropped': history((mark) => [
    moves(0, { a: 0, n: 0 }),
    writesUnder(undefined, 4, { b: mark(2) }, 'nothing'),
    readsUnder(1, 8, { a: 0 })
  ]),
  'of two logins at once, a logout by the old id ends the one': history((mark) => [
    ...twoLogins(mark),
    endsByOldId(10),
    readsUnder(1, 14, {}),
    readsUnder(2, 14, { b: mark(2) })
  ]),
  'of two logins at once, a logout by the old id ends the other': history((mark) => [
    ...twoLogins(mark),
    endsByOldId(10),
    readsUnder(1, 14, { b: mark(1) }),
    readsUnder(2, 14, {})
  ]),
  'a move of unknown outcome that was one': history(() => [
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [1, 2, { a: 0 }],
        [2, null]
      ]
    ),
    reads(4, 5, { a: 0, n: 0 }),
    reads(8, 9, {})
  ]),
  'nothing happened': history(() => []),
  'requests one after the other': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, 3]
      ],
      'the session'
    ),
    request(
      ['update'],
      [
        [4, 5, { a: 'written by 1', n: 0 }],
        [6, 7, { a: 'written by 1', n: 1 }],
        [8, 9]
      ],
      'the session'
    ),
    request(
      ['delete a'],
      [
        [10, 11, { n: 1 }],
        [12, 13]
      ],
      'the session'
    ),
    reads(14, 15, { n: 1 })
  ]),
  'two that write different keys at once': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    request(
      ['write b'],
      [
        [0, 1, { a: 0, b: 'written by 2', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    reads(10, 11, { a: 'written by 1', b: 'written by 2', n: 0 })
  ]),
  'of two that write one key at once, either may be the last': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 2', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    reads(10, 11, { a: 'written by 1', n: 0 })
  ]),
  'one that read before a logout drops what it wrote': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [6, 7]
      ],
      'nothing'
    ),
    request(
      ['destroy'],
      [
        [2, 3, { a: 0, n: 0 }],
        [3, 4, {}],
        [4, 5]
      ],
      'clear'
    ),
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [6, 7]
      ],
      'gone'
    )
  ]),
  'a write of unknown outcome that takes effect late': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, null]
      ]
    ),
    reads(10, 11, { a: 0, n: 0 }),
    reads(20, 21, { a: 'written by 1', n: 0 })
  ]),
  'an update of unknown outcome that never takes effect': history(() => [
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, null]
      ]
    ),
    reads(10, 11, { a: 0, n: 0 })
  ]),
  'a request that was killed between its phases': history(() => [
    request(
      ['update', 'write a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, { a: 'written by 1', n: 1 }]
      ]
    ),
    reads(10, 11, { a: 0, n: 1 })
  ]),
  'a removal that lost its answer, was made again and found nothing': history(() => [
    request(
      ['destroy'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, {}],
        [4, 5]
      ],
      'nothing',
      { faulty: true }
    )
  ]),
  'a move that lost its answer, and was ended by another before it could ask': endedMove(true),
  'a login begins another session': history(() => [
    request(
      ['regenerate, keeping a', 'write b'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, { a: 0, b: 'written by 1' }],
        [4, 5]
      ],
      'its own'
    ),
    reads(6, 7, {})
  ]),
  'a visitor without an id begins a session': history(
    () => [
      request(
        ['read'],
        [
          [0, 1, {}],
          [2, 3]
        ],
        'its own',
        { carriesId: false }
      )
    ],
    null
  )
}

for (const [name, made] of Object.entries(allowed)) {
  t.test(`allowed: ${name}`, async (t) => {
    t.equal(check(made).outcome, 'allowed')
  })
}

const violated: Record<string, History> = {
  'a late update that ends where nobody has moved the session': endedMove(false),
  'an update that sees what nobody has stored': history((mark) => [
    ...twoUpdates(mark, { a: mark(1), n: 2 }),
    reads(9, 10, { a: mark(2), n: 2 })
  ]),
  'an update that sees no update': history((mark) => [
    ...twoUpdates(mark, { a: mark(2), n: 0 }),
    reads(9, 10, { a: mark(2), n: 2 })
  ]),
  'a session that lives on after a logout by its old id': history(() => [
    moves(0, { a: 0, n: 0 }),
    endsByOldId(4),
    readsUnder(1, 8, { a: 0 })
  ]),
  'a session that lives on after a logout by the first of three ids': history(() => [
    moves(0, { a: 0, n: 0 }),
    moves(4, { a: 0 }, 1),
    endsByOldId(8),
    readsUnder(2, 12, { a: 0 })
  ]),
  'a session that is over after a move, though nobody has ended it': history(() => [
    moves(0, { a: 0, n: 0 }),
    readsUnder(1, 4, {})
  ]),
  'a logout by an old id that ends another session': history((mark) => [
    ...twoLogins(mark),
    endsByOldId(10),
    readsUnder(1, 14, {}),
    readsUnder(2, 14, {})
  ]),
  'a late write by the old id that gets into what the session became': history((mark) => [
    moves(0, { a: 0, n: 0 }),
    writesUnder(undefined, 4, { b: mark(2) }, 'nothing'),
    readsUnder(1, 8, { a: 0, b: mark(2) })
  ]),
  'a late request with the old id that reads what the session became': history(() => [
    moves(0, { a: 0, n: 0 }),
    reads(4, 5, { a: 0 })
  ]),
  'a late request with the old id that begins a session': history((mark) => [
    moves(0, { a: 0, n: 0 }),
    writesUnder(undefined, 4, { b: mark(2) }, 'its own')
  ]),
  'an old id that names its session again after the move': history(() => [
    moves(0, { a: 0, n: 0 }),
    reads(4, 5, { a: 0, n: 0 })
  ]),
  'a move that leaves behind what was written before it': history((mark) => [
    request(
      ['write a'],
      [
        [0, 1, { a: mark(1), n: 0 }],
        [2, 3]
      ],
      'the session'
    ),
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [1, 2, { a: 0 }],
        [4, 5]
      ],
      'its own'
    ),
    readsUnder(2, 6, { a: 0 })
  ]),
  'a lost update': history(() => [
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 9, { a: 0, n: 1 }],
        [9, 10]
      ],
      'the session'
    ),
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 9, { a: 0, n: 1 }],
        [9, 10]
      ],
      'the session'
    )
  ]),
  'an update made twice': history(() => [
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, { a: 0, n: 2 }],
        [4, 5]
      ],
      'the session',
      { faulty: true }
    )
  ]),
  'an update of unknown outcome made twice': history(() => [
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, null]
      ]
    ),
    reads(10, 11, { a: 0, n: 1 }),
    reads(20, 21, { a: 0, n: 2 })
  ]),
  'an update of unknown outcome undone': history(() => [
    request(
      ['update'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, null]
      ]
    ),
    reads(10, 11, { a: 0, n: 1 }),
    reads(20, 21, { a: 0, n: 0 })
  ]),
  'a write lost to one of another key': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    request(
      ['write b'],
      [
        [0, 1, { a: 0, b: 'written by 2', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    reads(10, 11, { a: 0, b: 'written by 2', n: 0 })
  ]),
  'a stale read after a write': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [2, 3]
      ],
      'the session'
    ),
    reads(4, 5, { a: 0, n: 0 })
  ]),
  'a read that sees half of a write': history(() => [
    request(
      ['write a', 'write b'],
      [
        [0, 1, { a: 'written by 1', b: 'written by 1', n: 0 }],
        [2, 9]
      ],
      'the session'
    ),
    reads(3, 4, { a: 'written by 1', n: 0 })
  ]),
  'a delete undone by one that changed the key': history(() => [
    request(
      ['write a'],
      [
        [0, 1, { a: 'written by 1', n: 0 }],
        [6, 7]
      ],
      'the session'
    ),
    request(
      ['delete a'],
      [
        [2, 3, { n: 0 }],
        [4, 5]
      ],
      'the session'
    ),
    reads(10, 11, { a: 'written by 1', n: 0 })
  ]),
  'a session that lives again': history(() => [
    request(
      ['destroy'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, {}],
        [4, 5]
      ],
      'clear'
    ),
    reads(10, 11, { a: 0, n: 0 })
  ]),
  'data that lives on under a new id after a logout': history(() => [
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [6, 7, { a: 0 }],
        [8, 9]
      ],
      'its own'
    ),
    request(
      ['destroy'],
      [
        [2, 3, { a: 0, n: 0 }],
        [3, 4, {}],
        [4, 5]
      ],
      'clear'
    )
  ]),
  'a dead id that goes out': history(() => [
    request(
      ['touch'],
      [
        [0, 1, { a: 0, n: 0 }],
        [6, 7]
      ],
      'the session'
    ),
    request(
      ['destroy'],
      [
        [2, 3, { a: 0, n: 0 }],
        [3, 4, {}],
        [4, 5]
      ],
      'clear'
    )
  ]),
  'a new session for a cookie that does not resolve, with nothing written': history(() => [
    request(
      ['destroy'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 3, {}],
        [4, 5]
      ],
      'clear'
    ),
    request(
      ['read'],
      [
        [6, 7, {}],
        [8, 9]
      ],
      'its own'
    )
  ]),
  'two that both claim one session': history(() => [
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 9, { a: 0 }],
        [9, 10]
      ],
      'its own'
    ),
    request(
      ['regenerate, keeping a'],
      [
        [0, 1, { a: 0, n: 0 }],
        [2, 9, { a: 0 }],
        [9, 10]
      ],
      'its own'
    )
  ])
}

for (const [name, made] of Object.entries(violated)) {
  t.test(`violated: ${name}`, async (t) => {
    t.equal(check(made).outcome, 'violated')
    // Whatever is left of it is wrong too, and is shown.
    t.match(explain(made), /^No order of these explains .*\n +ms from +to\n +\d/)
  })
}

t.test('the explanation leaves out what has no part in it', async (t) => {
  const made = history(() => [
    reads(0, 1, { a: 0, n: 0 }),
    request(
      ['write b'],
      [
        [2, 3, { a: 0, b: 'written by 2', n: 0 }],
        [4, 5]
      ],
      'the session'
    ),
    request(
      ['update'],
      [
        [6, 7, { a: 0, b: 'written by 2', n: 0 }],
        [8, 9, { a: 0, b: 'written by 2', n: 2 }],
        [10, 11]
      ],
      'the session'
    ),
    request(
      ['destroy'],
      [
        [12, 13, { a: 0, b: 'written by 2', n: 2 }],
        [14, 15, {}],
        [16, 17]
      ],
      'clear'
    )
  ])
  t.equal(
    explain(made),
    [
      'No order of these explains what was seen under made-by-…, which held {"a":0,"n":0} at the start:',
      ' ms from       to',
      '     6.0      7.0  #3 on server 0: resolve, holds {"a":0,"b":"written by 2","n":0}',
      '     8.0      9.0  #3 on server 0: update, holds {"a":0,"b":"written by 2","n":2}',
      'whatever came of these: #2 (cookie: write b)'
    ].join('\n')
  )
})

t.test('it gives up when it is told to', async (t) => {
  const many = history(() =>
    Array.from({ length: 12 }, () =>
      request(
        ['update'],
        [
          [0, 1, { a: 0, n: 0 }],
          [2, null]
        ]
      )
    )
  )
  const made = { ...many, requests: [...many.requests, reads(10, 11, { a: 0, n: 13 })] }
  t.equal(check(made, 100).outcome, 'undecided')
  t.equal(
    check(made).outcome,
    'violated',
    'twelve updates whose outcome is unknown do not come to thirteen'
  )
})

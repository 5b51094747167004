import t from 'tap'

import { storeConformance, TestClock } from '../../lib/testing/index.ts'
import { openPool, postgresStore, skipPostgres } from '../helpers/postgres.ts'

/** The isolation levels that a server, a database or a role may have as its default. */
const levels = ['read committed', 'repeatable read', 'serializable']

for (const level of levels) {
  t.test(`PostgresStore, ${level}`, { skip: skipPostgres }, async (t) => {
    const clock = new TestClock()
    const pool = await openPool(t, { default_transaction_isolation: level })
    storeConformance({
      test: (name, fn) => t.test(name, fn),
      nul: false,
      clock,
      createStore: async () => (await postgresStore(clock, pool)).store
    })
  })
}

t.test('PostgresStore, in real time', { skip: skipPostgres }, async (t) => {
  storeConformance({
    test: (name, fn) => t.test(name, fn),
    nul: false,
    tolerance: 200,
    shortLife: 500,
    createStore: async () => (await postgresStore()).store
  })
})

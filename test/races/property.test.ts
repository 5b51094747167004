import t from 'tap'

import { checkPrograms } from './property.ts'
import { loadLib } from './world.ts'

t.test('P1 to P5 hold for random programs of concurrent requests, in random interleavings, with random faults', async (t) => {
  t.equal(await checkPrograms(await loadLib(), 500), undefined)
})

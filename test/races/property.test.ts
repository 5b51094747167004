import t from 'tap'

import { backends, moving } from '../helpers/backends.ts'
import { checkPrograms } from './property.ts'
import { loadLib } from './world.ts'

for (const { name, skip, open } of [...backends, moving]) {
  t.test(
    `P1 to P5 hold for random programs of concurrent requests, in random interleavings, with random faults (${name})`,
    { skip },
    async (t) => {
      t.equal(
        await checkPrograms(await loadLib(), name === 'MemoryStore' ? 200 : 80, open),
        undefined
      )
    }
  )
}

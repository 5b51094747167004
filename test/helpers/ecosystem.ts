import type { FastifyReply } from 'fastify'
import type { Test } from 'tap'

import { overEach, type Over } from './attack.ts'
import { backends, later, postgres } from './backends.ts'
import type { Served } from './serve.ts'

/**
 * What a handler or a hook ends with: `return answer(reply, value)`, or, where it has sent already,
 * `return answer(reply.redirect('/'))`.
 */
type Answer = (reply: FastifyReply, value?: unknown) => unknown

export interface Beside extends Over {
  readonly answer: Answer
}

/** One that answers at once, one on a server, and one that answers later. */
const stores = [...backends.filter((backend) => backend !== postgres), later]

const returned: Answer = (reply, value) => (value === undefined ? reply : value)

const sent: Answer = (reply, value) => {
  if (value !== undefined) reply.send(value)
}

/** Runs a test beside another plugin over each kind of store. */
export function overStores(
  t: Test,
  name: string,
  test: (t: Test, over: Beside) => Promise<void>
): void {
  overEach(stores, t, name, (t, over) => test(t, { ...over, answer: returned }))
}

/**
 * The same with handlers and hooks that return their reply, and with such as do not: Fastify waits
 * for a reply that is returned, and must learn of another that it is on its way, or it goes on.
 */
export function overAnswers(
  t: Test,
  name: string,
  test: (t: Test, over: Beside) => Promise<void>
): void {
  overStores(t, `${name}, with replies that are returned`, (t, over) => answered(t, over, test))
  overStores(t, `${name}, with replies that are not returned`, (t, over) => {
    return answered(t, { ...over, answer: sent }, test)
  })
}

async function answered(
  t: Test,
  over: Beside,
  test: (t: Test, over: Beside) => Promise<void>
): Promise<void> {
  const served: Served[] = []
  await test(t, {
    ...over,
    async serve(...options) {
      const one = await over.serve(...options)
      served.push(one)
      return one
    }
  })
  const lines = served.flatMap(({ log }) => log)
  t.same(
    lines.filter((line) => line.includes('FST_ERR_REP_ALREADY_SENT')),
    [],
    'one reply each'
  )
}

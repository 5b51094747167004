import type { SessionOptions } from '../../lib/index.ts'

/** How often a request of a returning visitor waits for the server, if nobody else is about. */
export const waits: readonly [what: string, url: string, roundTrips: number, options?: SessionOptions][] = [
  ['a request that does not look at its session', '/look-away', 1],
  ['a request that reads', '/read', 1],
  ['a request that writes', '/write/new', 2],
  ['a request that touches', '/touch', 2],
  ['a request that reads, each one touching', '/read', 2, { touchAfter: 0 }],
  ['a login', '/login', 3],
  ['a logout', '/logout', 2]
]

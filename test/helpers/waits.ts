import type { SessionOptions } from '../../lib/index.ts'

interface Wait {
  /** What is sent. */
  readonly what: string
  readonly url: string
  /** How often it waits for the server, if nobody else is about. */
  readonly roundTrips: number
  /** The same where the store moves a session in one step. */
  readonly whereItMoves?: number
  readonly options?: SessionOptions
}

/** The requests of a returning visitor. */
export const waits: readonly Wait[] = [
  { what: 'a request that does not look at its session', url: '/look-away', roundTrips: 1 },
  { what: 'a request that reads', url: '/read', roundTrips: 1 },
  { what: 'a request that writes', url: '/write/new', roundTrips: 2 },
  { what: 'a request that touches', url: '/touch', roundTrips: 2 },
  {
    what: 'a request that reads, each one touching',
    url: '/read',
    roundTrips: 2,
    options: { touchAfter: 0 }
  },
  { what: 'a login', url: '/login', roundTrips: 3, whereItMoves: 2 },
  { what: 'a logout', url: '/logout', roundTrips: 2 }
]

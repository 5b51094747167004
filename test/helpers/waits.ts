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
  /** What the visitor has sent before. Default: a write. */
  readonly before?: string
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
  { what: 'a logout', url: '/logout', roundTrips: 2 },
  { what: 'a sign-in', url: '/sign-in-ada', roundTrips: 4 },
  { what: 'a request that reads, signed in', url: '/read', roundTrips: 1, before: '/sign-in-ada' },
  {
    what: 'a request that writes, signed in',
    url: '/write/new',
    roundTrips: 2,
    before: '/sign-in-ada'
  },
  { what: 'a step-up', url: '/step-up-all', roundTrips: 2, before: '/sign-in-ada' },
  {
    what: 'a check once more',
    url: '/reauthenticate',
    roundTrips: 3,
    before: '/sign-in-ada'
  },
  { what: 'a sign-in again', url: '/sign-in-ada', roundTrips: 3, before: '/sign-in-ada' },
  { what: 'a logout, signed in', url: '/logout', roundTrips: 2, before: '/sign-in-ada' },
  {
    what: 'a sign-in where there may be so many sessions',
    url: '/sign-in-ada',
    roundTrips: 5,
    options: { subjectSessions: { max: 5 } }
  }
]

import { channelOf, namesFor, selectOf, type Listing } from './postgres-sql.ts'

/** The statements of the feed. */
export interface FeedStatements {
  readonly listen: string
  readonly look: string
  readonly lookListed: string
}

export function feedStatementsFor(tableName: string | undefined, listing: Listing): FeedStatements {
  const { table } = namesFor(tableName)
  const look = (also?: Listing): string =>
    `SELECT key, ${selectOf('stored', also, "''")} FROM ${table} AS stored WHERE key = ANY ($1)`
  return {
    listen: `LISTEN ${channelOf(tableName)}`,
    look: look(),
    lookListed: look(listing)
  }
}

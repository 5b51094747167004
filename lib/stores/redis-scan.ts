import type { RedisClient } from './redis-client.ts'
import { tagLength } from '../subject-key.ts'

/** Returns what a cursor and its options are answered with: by ioredis, or by node-redis. */
type Page =
  | readonly [cursor: unknown, keys: readonly unknown[]]
  | { readonly cursor: unknown; readonly keys: readonly unknown[] }

/** A client of one server. */
interface Scanner {
  scan(cursor: string, ...options: unknown[]): Promise<Page>
}

/** What clients of clusters have: `nodes` those of ioredis, the others those of node-redis. */
interface Cluster {
  nodes?(role: 'master'): Scanner[]
  readonly masters?: readonly unknown[]
  nodeClient?(master: unknown): Promise<Scanner> | Scanner
}

/**
 * Yields the keys of all lists of subjects, a few at a time. One may come more than once.
 *
 * @param prefix as the server has it: clients put nothing before the pattern of a SCAN
 */
export async function* listKeys(
  client: RedisClient,
  prefix: string
): AsyncGenerator<readonly string[], void> {
  const pattern = `${prefix.replace(/[\\*?[\]]/g, '\\$&')}{${'?'.repeat(tagLength)}}`
  const options =
    'evalsha' in client ? ['MATCH', pattern, 'COUNT', '1000'] : [{ MATCH: pattern, COUNT: 1000 }]
  for (const scanner of await scannersOf(client as unknown as Cluster & Scanner)) {
    let cursor = '0'
    do {
      const page = await scanner.scan(cursor, ...options)
      const [next, keys] = isList(page) ? page : [page.cursor, page.keys]
      cursor = String(next)
      yield keys.map(String)
    } while (cursor !== '0')
  }
}

/** Returns a client of each server that writes. */
async function scannersOf(client: Cluster & Scanner): Promise<readonly Scanner[]> {
  if (typeof client.nodes === 'function') return client.nodes('master')
  const { masters } = client
  if (masters === undefined || client.nodeClient === undefined) return [client]
  return Promise.all(masters.map((master) => client.nodeClient?.(master) as Promise<Scanner>))
}

function isList(page: Page): page is readonly [unknown, readonly unknown[]] {
  return Array.isArray(page)
}

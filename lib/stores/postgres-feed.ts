import { entryOf, type Row } from './postgres-row.ts'
import type { FeedStatements } from './postgres-feed-sql.ts'
import { subjectOf } from '../subject-key.ts'
import { noticeOf, unreadable } from './notice.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndNotice, SessionFeed, SessionLook } from '../../types/feed.ts'

/** A connection of its own, as `pg` has it. */
interface Connection {
  connect(): Promise<unknown>
  query(text: string): Promise<unknown>
  on(event: string, listener: (message: { readonly payload?: string }) => void): unknown
  removeAllListeners(): unknown
  end(): Promise<unknown>
}

/** What a pool of `pg` makes its connections with. */
interface Connecting {
  readonly Client?: new (options: unknown) => Connection
  readonly options?: unknown
}

/** What a PostgresStore does for its feed. */
interface Tools {
  readonly pool: object
  readonly clock: Clock
  readonly statements: FeedStatements
  readonly run: (text: string, values: unknown[]) => Promise<{ rows: readonly unknown[] }>
}

/** Milliseconds before a connection that has failed is tried again. */
const pause = 1000

/** Tells of ends by LISTEN, on one connection of its own. What ends a session sends NOTIFY. */
export class PostgresFeed implements SessionFeed {
  readonly #tools: Tools

  constructor(tools: Tools) {
    this.#tools = tools
  }

  listen(listener: (notice: EndNotice) => void): () => Promise<void> {
    const { pool, clock, statements } = this.#tools
    const { Client, options } = pool as Connecting
    if (Client === undefined) return async () => {}
    let connection: Connection | undefined
    let isOver = false
    const release = (): void => {
      connection?.removeAllListeners()
      // Without a listener an error of the connection would end the process.
      connection?.on('error', () => {})
      connection?.end().catch(() => {})
      connection = undefined
    }
    const beginLater = (): void => {
      release()
      if (!isOver) clock.setTimeout(() => void begin(), pause).unref()
    }
    const begin = async (): Promise<void> => {
      if (isOver) return
      let made: Connection | undefined
      try {
        made = new Client(options)
        connection = made
        made.on('error', beginLater)
        made.on('end', beginLater)
        made.on('notification', ({ payload = '' }) => listener(noticeOf(payload)))
        await made.connect()
        await made.query(statements.listen)
        // What was sent before is lost.
        listener({})
      } catch {
        if (connection === made) beginLater()
      }
    }
    void begin()
    return async () => {
      isOver = true
      release()
    }
  }

  async look(keys: readonly string[]): Promise<Array<SessionLook | undefined>> {
    const { clock, statements, run } = this.#tools
    const now = clock.now()
    const listed = keys.filter((key) => subjectOf(key) !== undefined)
    const plain = keys.filter((key) => subjectOf(key) === undefined)
    const groups = [
      { text: statements.look, of: plain },
      { text: statements.lookListed, of: listed }
    ]
    const found = await Promise.all(
      groups.filter(({ of }) => of.length > 0).map(({ text, of }) => run(text, [of]))
    )
    const rows = found.flatMap((each) => each.rows) as ReadonlyArray<Row & { key: string }>
    const looks = new Map(rows.map((row) => [row.key, lookOf(row, now)]))
    return keys.map((key) => looks.get(key))
  }
}

function lookOf(row: Row, now: number): SessionLook | undefined {
  const entry = entryOf([row], now)
  return entry === 'unreadable' ? unreadable : entry
}

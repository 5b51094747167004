/** A connection that closes at some time. */
export interface Connection {
  readonly destroyed?: boolean
  once(event: 'close', listener: () => void): unknown
}

/** Who waits for a connection to close: by one listener, however many they are. */
const waiting = new WeakMap<Connection, Set<() => void>>()

/** Calls back when a connection closes, or at once if it has. */
export function whenClosed(connection: Connection, callback: () => void): void {
  if (connection.destroyed === true) return callback()
  let callbacks = waiting.get(connection)
  if (callbacks === undefined) {
    const all = new Set<() => void>()
    callbacks = all
    waiting.set(connection, all)
    connection.once('close', () => {
      for (const each of all) each()
    })
  }
  callbacks.add(callback)
}

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

/** The signals that were asked for of a connection. */
const signals = new WeakMap<Connection, Map<string, AbortSignal>>()

/**
 * Returns the signal of a session that a connection brings: one, however often it is read.
 *
 * @param life tells the session from others, also from those that had its id before
 * @param make makes the signal
 */
export function signalFor(
  connection: Connection,
  life: string,
  make: () => AbortSignal
): AbortSignal {
  const all = signals.get(connection) ?? new Map<string, AbortSignal>()
  signals.set(connection, all)
  const present = all.get(life)
  if (present !== undefined && !present.aborted) return present
  const signal = make()
  all.set(life, signal)
  return signal
}

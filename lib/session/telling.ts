import type { EndCall, Ends, Waiting } from './ends.ts'
import { isTrace } from './trace.ts'
import { andThen, isPromise } from './waiting.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from '../../types/store.ts'

/**
 * Makes a call that may end or move sessions. Who waits for that is told before the call is over.
 *
 * @param about which sessions, and how they end
 * @param tell tells those who wait what the call has come to
 */
export function telling<T>(
  ends: Ends,
  about: EndCall,
  call: () => MaybePromise<T>,
  tell: (waiting: Waiting, value: T) => MaybePromise<void>
): MaybePromise<T> {
  const waiting = ends.waiting(about)
  const succeed = (value: T): MaybePromise<T> => {
    waiting.over()
    return andThen(tell(waiting, value), () => value)
  }
  const fail = (error: unknown): never => {
    waiting.over()
    // It may have taken effect.
    void waiting.unknown(about.reason)
    throw error
  }
  let result: MaybePromise<T>
  try {
    result = call()
  } catch (error) {
    return fail(error)
  }
  return isPromise(result) ? result.then(succeed, fail) : succeed(result)
}

/** Makes a call that removes what is under a key. */
export function tellingOfDelete(
  ends: Ends,
  key: string,
  call: () => MaybePromise<Removed>
): MaybePromise<Removed> {
  return telling(ends, { reason: 'destroyed', key }, call, (waiting, removed) => {
    // It may be the second try of a call that has removed it, and lost its answer.
    if (removed === undefined) return waiting.unknown('destroyed')
    if (isTrace(removed)) return waiting.moved(removed.successor, removed.version)
    return waiting.ended('destroyed')
  })
}

/** Where a session goes. */
interface Move {
  readonly key: string
  readonly successor: string
  /** That of the record that goes. */
  readonly from: string
  /** That of its record there, if it is known. */
  readonly version?: string
}

/** Makes a call that may move a session to another key. */
export function tellingOfMove(
  ends: Ends,
  { key, successor, from, version }: Move,
  call: () => MaybePromise<boolean>
): MaybePromise<boolean> {
  return telling(ends, { key }, call, (waiting, hasMoved) =>
    hasMoved ? waiting.moved(successor, from, version) : waiting.unknown()
  )
}

/** Returns where a session goes that is created under another key, in the step that it leaves. */
export function moveOf(key: string, { version }: SessionRecord, trace: SessionTrace): Move {
  return { key, successor: trace.successor, from: trace.version, version }
}

type Removed = SessionRecord | SessionTrace | true | undefined

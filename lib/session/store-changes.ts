import { SessionError } from '../errors.ts'
import type { WriteResult, Written } from './batch.ts'
import type { SessionConfig } from './config.ts'
import { leavesBehind } from './move-outcome.ts'
import { move } from './move.ts'
import type { Write } from './prepare-record.ts'
import { isRefusal } from './send.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'
import type { Snapshot } from './snapshot.ts'
import { mintToken } from './version.ts'
import { andThen } from './waiting.ts'
import type { Writer } from './write.ts'
import type { SessionData } from '../../types/session.ts'
import type { MaybePromise } from '../../types/store.ts'

/** How many ids a new session tries: a generator that repeats itself more often is broken. */
const maxIdTries = 3

/** What is to be stored: what the session held at the snapshot, changed further by `change`. */
interface Changes<Result> {
  readonly snapshot: Snapshot
  readonly change?: (draft: SessionData) => Result
}

/** What it is stored with. */
interface StoreTools {
  readonly config: SessionConfig
  readonly store: StoreClient
  readonly writer: Writer
  /** Whether a reply is going to send the cookie to the browser that has it. */
  readonly isCookieSent: boolean
  /** Whether a reply waits for this that is no error. */
  readonly isSuccess: boolean
}

/** What became of it. */
type Stored<Result> = Written<Result> | { readonly kind: 'gone' }

/**
 * Stores what a session holds, and takes the outcome into its state. If `regenerate()` was called
 * before, this is where the session moves.
 *
 * @throws HOLDFAST_ID_TAKEN, the failure of the store, and as `Writer.write()`
 */
export function storeChanges<Result>(
  tools: StoreTools,
  state: SessionState,
  changes: Changes<Result>
): MaybePromise<Stored<Result>> {
  const { missed } = state.moving
  if (missed !== undefined) {
    return leavesBehind(tools, missed, changes.snapshot.text).then((isLess) => {
      if (isLess) return goneFor(state)
      state.moving.beganAnew()
      return storeChanges(tools, state, changes)
    })
  }
  const { departure } = state.moving // mutant: order
  return andThen(write(tools, state, changes), (result) => {
    if (result.kind === 'gone') return goneFor(state)
    if (departure !== undefined) state.arrived(departure)
    state.recordWritten(result.record, changes.snapshot)
    tools.config.ends.stored(state)
    if (result.hasMoved) state.markGone()
    return result
  })
}

function goneFor(state: SessionState): { readonly kind: 'gone' } {
  state.markGone()
  return { kind: 'gone' }
}

/** Writes or moves, under other ids if those of a new session are taken. */
function write<Result>(
  tools: StoreTools,
  state: SessionState,
  changes: Changes<Result>,
  tries = 1
): MaybePromise<Stored<Result>> {
  const again = (): MaybePromise<Stored<Result>> => {
    state.identity.replaceTaken(state.identity.signIn && mintToken()) // mutant: lineage
    return write(tools, state, changes, tries + 1)
  }
  const settle = (result: WriteResult<Result>): MaybePromise<Stored<Result>> => {
    switch (result.kind) {
      case 'written':
      case 'gone':
        return result
      case 'id-taken':
        if (result.beginsAnew === true) state.moving.beganAnew()
        if (tries >= maxIdTries) throw new SessionError('HOLDFAST_ID_TAKEN')
        return again()
      case 'id-lost':
        if (tries === 1 && state.identity.isReplaceable) return again()
        state.recordUncertain()
        throw result.error
      case 'failed':
        if (result.mayExist) state.recordUncertain()
        if (isRefusal(result.error)) state.identity.refuse()
        throw result.error
    }
  }
  const { departure } = state.moving
  const toWrite = writeOf(tools, state, changes)
  const written =
    departure === undefined
      ? tools.writer.write(tools.store, toWrite)
      : move(tools, departure, toWrite)
  return andThen(written, settle)
}

function writeOf<Result>(
  { isCookieSent }: StoreTools,
  { identity, record, createdAt, use: { isUse } }: SessionState,
  { snapshot, change }: Changes<Result>
): Write<Result> {
  return {
    identity,
    base: record,
    text: snapshot.text,
    maxAge: snapshot.maxAge,
    attributes: snapshot.attributes,
    login: snapshot.login,
    former: snapshot.former,
    isCookieSent,
    isUse,
    createdAt,
    mayJoin: identity.isAdopted,
    signIn: identity.signIn,
    change
  }
}

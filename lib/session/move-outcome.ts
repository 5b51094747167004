import { SessionError } from '../errors.ts'
import { regenerated } from '../events.ts'
import { publishWritten, type WriteResult, type Written } from './batch.ts'
import { follow } from './find.ts'
import { keepsNothing, pick } from './keep.ts'
import type { Data } from './merge.ts'
import type { Departure, Missed } from './moving.ts'
import type { Write } from './prepare-record.ts'
import type { Tools } from './touch.ts'
import type { SessionTrace } from '../../types/store.ts'

/** What a session moves with. */
export type MoveTools = Pick<Tools, 'config' | 'store' | 'writer' | 'isSuccess'>

/** A session that is on its way from one id to another. */
export interface Move<Result> extends MoveTools {
  readonly departure: Departure
  /** What is written to create the successor. */
  readonly write: Write<Result>
  /** Whether the successor is stored already. If not, it is created as the old id dies. */
  readonly isStored: boolean
  /** Whether the successor has what others have stored in the session meanwhile. */
  readonly hasCaughtUp?: boolean
}

/**
 * Ends a move that is too late. The request begins anew if nothing of the session was to be kept,
 * and it lives on; otherwise there is no successor.
 */
export async function giveUp<Result>(
  moving: Move<Result>,
  successor: Written<Result> | undefined,
  trace?: SessionTrace
): Promise<WriteResult<Result>> {
  const { store, writer, write, isStored } = moving
  if (trace === undefined || !(await beginsAnew(moving, trace))) {
    await removeSuccessor(moving)
    return gone
  }
  if (moving.hasCaughtUp === true || (write.signIn !== undefined && !isStored)) {
    // The successor has what went along elsewhere, or its lineage: it begins again without that.
    await removeSuccessor(moving)
    return { kind: 'id-taken', beginsAnew: true }
  }
  return isStored && successor !== undefined ? successor : writer.write(store, write)
}

/** Whether a request that was too late goes on beside the session, with a session of its own. */
async function beginsAnew(
  { config, store, departure, write, isSuccess }: Move<unknown>,
  { successor }: SessionTrace
): Promise<boolean> {
  const { keep, mine, isUnseen } = departure
  if (write.signIn === undefined || write.signIn.by === 'reauthenticate') {
    // What is signed in already goes on in one place.
    if (write.login !== '') return false
    // Who begins anew with nothing logs out, and must know that the session goes on elsewhere.
    if (isSuccess && write.text === '' && write.change === undefined) return false
  }
  if (!isUnseen && Object.keys(pick(config.codec.parse(mine), keep)).length > 0) return false
  const kept = await keptAt({ config, store }, { successor, keep })
  return kept !== undefined && kept !== 'unreadable' && !lacks(config.codec.parse(write.text), kept)
}

/**
 * Whether a late request that begins anew would leave behind what it was to keep: its session has
 * moved with that, and the request does not have it.
 *
 * @throws HOLDFAST_DATA_UNDECODABLE
 */
export async function leavesBehind(
  { config, store }: Pick<MoveTools, 'config' | 'store'>,
  missed: Missed,
  text: string
): Promise<boolean> {
  if (keepsNothing(missed.keep)) return false
  const kept = await keptAt({ config, store }, missed)
  if (kept === 'unreadable') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
  return kept !== undefined && lacks(config.codec.parse(text), kept)
}

/** Returns what a session that has moved has of what is to be kept. Undefined: it has ended. */
async function keptAt(
  { config, store }: Pick<MoveTools, 'config' | 'store'>,
  { successor, keep }: Missed
): Promise<Data | 'unreadable' | undefined> {
  const record = await follow(store, successor)
  if (record === undefined) return undefined
  if (keepsNothing(keep)) return {}
  return record === 'unreadable' ? record : pick(config.codec.parse(record.data), keep)
}

function lacks(data: Data, kept: Data): boolean {
  return Object.keys(kept).some((key) => !Object.hasOwn(data, key))
}

export async function removeSuccessor({ store, write, isStored }: Move<unknown>): Promise<void> {
  if (!isStored) return
  try {
    await store.delete(write.identity.publicId) // mutant: clean up
  } catch {
    // Nobody knows its id.
  }
}

export function arrive<Result>(
  { config, departure, write, isStored }: Move<Result>,
  successor: Written<Result>
): Written<Result> {
  const { sessionName } = config
  if (!isStored) publishWritten(config, write, undefined)
  if (regenerated.hasSubscribers) regenerated.publish({ sessionName, session: departure.handle })
  return successor
}

export const gone = { kind: 'gone' } as const

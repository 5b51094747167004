import { SessionError } from '../errors.ts'
import type { SessionClient } from './client.ts'
import type { SessionState } from './state.ts'

/** Whether the reply can still bring an id: the commit has not decided, and it has not left. */
export function canDeliverId(
  { statusAtCommit }: SessionState,
  client: SessionClient | undefined
): boolean {
  return statusAtCommit === undefined && client?.canReceiveId() === true
}

/**
 * Before anything is removed: if no reply can bring the new id, a move would be a logout.
 *
 * @throws HOLDFAST_ID_UNDELIVERABLE
 */
export function assertDeliverable(state: SessionState, client: SessionClient | undefined): void {
  if (client !== undefined && !canDeliverId(state, client)) {
    throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
  }
}

/**
 * Refuses to store a record under an id that nobody gets to know.
 *
 * @throws HOLDFAST_ID_UNDELIVERABLE
 */
export function assertReachable(state: SessionState, client: SessionClient | undefined): void {
  const { record, identity, moving } = state
  if (record !== undefined || identity.isAdopted || client === undefined) return
  const mayBegin = moving.isRegenerated || client.beginsWith !== 'regenerate'
  if (!mayBegin || !canDeliverId(state, client)) {
    throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
  }
}

/** @throws HOLDFAST_DATA_UNDECODABLE, HOLDFAST_SESSION_GONE */
export function assertStorable({ status }: SessionState): void {
  if (status === 'unreadable') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
  if (status === 'gone' || status === 'moved') throw new SessionError('HOLDFAST_SESSION_GONE')
}

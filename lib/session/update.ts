import type { SessionClient } from './client.ts'
import type { SessionConfig } from './config.ts'
import { followData, guardSubject } from './data-subject.ts'
import { SessionError } from '../errors.ts'
import { applyTo } from './prepare-record.ts'
import { assertReachable, assertStorable, canDeliverId } from './reach.ts'
import type { SessionState } from './state.ts'
import { storeChanges } from './store-changes.ts'
import type { Tools } from './touch.ts'
import type { SessionData } from '../../types/session.ts'

type Change<Result> = (draft: SessionData) => Result

/** Changes the data as it is stored now, and returns what the change returns. */
export async function update<Result>(
  state: SessionState,
  client: SessionClient | undefined,
  tools: Tools,
  change: Change<Result>
): Promise<Result> {
  if (typeof change !== 'function') {
    throw new SessionError('HOLDFAST_VALUE_INVALID', { detail: 'update() takes a function' })
  }
  assertStorable(state)
  const { config, store } = tools
  const idle = resultWithoutData(config, state, change)
  if (idle !== undefined) return idle.result
  assertReachable(state, client)
  if (config.subjectOf !== undefined && client !== undefined) {
    await followData(config, state, store, canDeliverId(state, client))
  }
  const changes = { snapshot: state.snapshot(), change: guardSubject(config, change) }
  // The reply need not come to its commit, and then brings no cookie.
  const stored = await storeChanges({ ...tools, isCookieSent: false }, state, changes)
  if (stored.kind === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
  return stored.result
}

/**
 * Returns the result of a change that leaves a session without a record empty: then there is
 * nothing to store, and no session begins by it. Undefined: there may be something.
 */
function resultWithoutData<Result>(
  config: SessionConfig,
  state: SessionState,
  change: Change<Result>
): { readonly result: Result } | undefined {
  const { status, identity } = state
  if ((status !== 'new' && status !== 'destroyed') || identity.isAdopted) return undefined
  const { text, login } = state.snapshot()
  if (text !== '' || login !== '') return undefined
  const { result, data } = applyTo(config.codec, '', change)
  return data === '' ? { result } : undefined
}

import type { SessionConfig } from './config.ts'
import { SessionError } from '../errors.ts'
import { isLive } from './lifetime.ts'
import { assertStorable } from './reach.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'
import { isTrace } from './trace.ts'
import { sameLife } from './version.ts'

/**
 * Shows the data as it is stored now. A session that has moved is not followed: who has an old id
 * must not read what has come since.
 *
 * @throws HOLDFAST_SESSION_GONE, HOLDFAST_DATA_UNDECODABLE
 */
export async function reload(
  store: StoreClient,
  state: SessionState,
  config: SessionConfig
): Promise<void> {
  const { clock, codec, lifetimes } = config
  assertStorable(state)
  if (state.status === 'destroyed') throw new SessionError('HOLDFAST_SESSION_GONE')
  const { departure } = state.moving
  // One that regenerate() has left goes on from there until it is stored.
  const { publicId } = departure ?? state.identity
  const record = departure === undefined ? state.record : departure.record
  if (record === undefined) return
  const entry = await store.get(publicId)
  const isThere =
    entry !== undefined &&
    !isTrace(entry) &&
    sameLife(entry.version, record.version) &&
    isLive(entry, clock.now(), lifetimes)
  if (!isThere) {
    void config.ends.hear({ key: publicId })
    state.markGone()
    throw new SessionError('HOLDFAST_SESSION_GONE')
  }
  if (departure !== undefined) return
  try {
    codec.parse(entry.data)
  } catch (cause) {
    throw new SessionError('HOLDFAST_DATA_UNDECODABLE', { cause })
  }
  state.recordReread(entry)
}

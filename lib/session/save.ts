import type { SessionClient } from './client.ts'
import { carryOut, needsStore, prepareCommit, resultOf } from './commit.ts'
import { followData } from './data-subject.ts'
import { SessionError } from '../errors.ts'
import { assertReachable, assertStorable, canDeliverId } from './reach.ts'
import type { SessionState } from './state.ts'
import type { Tools } from './touch.ts'

/** Commits now, and puts what a commit says on the reply. */
export async function save(
  state: SessionState,
  client: SessionClient | undefined,
  tools: () => Tools
): Promise<void> {
  assertStorable(state)
  const announces = canDeliverId(state, client)
  const { config, store } = tools()
  await followData(config, state, store, announces || client === undefined)
  const mustSendId = announces && state.mustSendId
  const { plan, snapshot } = prepareCommit(state, config, {
    mayBegin: true,
    beginsWith: client?.beginsWith === 'regenerate' ? 'regenerate' : 'request',
    mustSendId
  })
  if (plan.kind === 'create' || snapshot.text !== '') assertReachable(state, client)
  const result = needsStore(plan)
    ? await carryOut(plan, state, snapshot, tools())
    : resultOf(plan, state)
  if (result.action === 'gone') throw new SessionError('HOLDFAST_SESSION_GONE')
  // The commit has to send it again, and has the last word.
  if (result.reply === 'id' && result.isConfirmed) state.announceId()
  if (announces && canDeliverId(state, client)) client?.announce(result)
}

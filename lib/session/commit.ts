import type { BeginsWith, CommitResult } from './client.ts'
import { SessionError } from '../errors.ts'
import type { SessionConfig } from './config.ts'
import { endDeparture, endSession } from './end.ts'
import type { SessionState } from './state.ts'
import { storeChanges } from './store-changes.ts'
import { isTouchDue, touch, type Tools } from './touch.ts'
import type { Snapshot } from './snapshot.ts'
import { andThen } from './waiting.ts'
import type { CommitAction, Status } from '../../types/events.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What a commit depends on. */
export interface CommitFacts {
  readonly status: Status
  /** Whether the session holds data. */
  readonly hasData: boolean
  /** Whether it is that of a subject. */
  readonly isSignedIn: boolean
  /** Whether it differs from its record. */
  readonly isChanged: boolean
  /** Whether a session without a record is to be stored even if it holds no data. */
  readonly mayBegin: boolean
  /** What it takes for a session to begin with this request. */
  readonly beginsWith: BeginsWith
  /** Whether the reply must send the id of a loaded session, which the store then confirms. */
  readonly mustSendId: boolean
  readonly isTouchDue: boolean
  readonly mustClearCookie: boolean
  /** Whether `regenerate()` has departed from a stored session. */
  readonly hasDeparted: boolean
}

/** What a commit is to do. */
export type CommitPlan = PlanHere | StorePlan

/** A plan for which the store is not asked. */
type PlanHere =
  /** The session ended while the request ran: drop its changes. */
  | { readonly kind: 'drop' }
  /** There is no session to store, or it could not be reached. */
  | {
      readonly kind: 'nothing'
      readonly reply: Exclude<CommitResult['reply'], 'id'>
    }
  /** The record is as it should be. */
  | { readonly kind: 'keep' }

/** A plan for which it is. */
type StorePlan =
  /** `regenerate()` has departed from a session, and none goes on: what there is ends. */
  | { readonly kind: 'end' }
  | { readonly kind: 'create' }
  | { readonly kind: 'replace' }
  /** Move the expiry, and have the store confirm the id. */
  | { readonly kind: 'touch' }

/** Decides what a commit does, by the facts alone. */
export function planCommit(facts: CommitFacts): CommitPlan {
  const { status, isChanged, mustSendId, mustClearCookie } = facts
  switch (status) {
    case 'gone':
      return { kind: 'drop' }
    case 'unreadable':
      return { kind: 'nothing', reply: 'none' }
    case 'moved':
      return facts.hasData ? { kind: 'drop' } : { kind: 'nothing', reply: 'none' }
    case 'new':
    case 'regenerated':
    case 'destroyed':
      if (begins(facts)) return { kind: 'create' }
      if (status === 'regenerated' && facts.hasDeparted) return { kind: 'end' }
      if (mustClearCookie) return { kind: 'nothing', reply: 'clear-cookie' }
      return { kind: 'nothing', reply: facts.hasData ? 'undeliverable' : 'none' }
    case 'loaded':
      if (isChanged) return { kind: 'replace' }
      return mustSendId || facts.isTouchDue ? { kind: 'touch' } : { kind: 'keep' }
  }
}

/** Whether a session without a record is to be stored. */
function begins({ status, hasData, isSignedIn, mayBegin, beginsWith }: CommitFacts): boolean {
  if (status === 'regenerated') return hasData || isSignedIn || mayBegin
  if (beginsWith === 'regenerate') return false
  return hasData || (mayBegin && beginsWith === 'request' && status === 'new')
}

/** Plans what to do with a session as it is now. @throws HOLDFAST_DATA_UNSERIALIZABLE */
export function prepareCommit(
  state: SessionState,
  config: SessionConfig,
  { mayBegin, beginsWith, mustSendId }: Pick<CommitFacts, 'mayBegin' | 'beginsWith' | 'mustSendId'>
): { readonly plan: CommitPlan; readonly snapshot: Snapshot } {
  const snapshot = state.snapshot()
  const plan = planCommit({
    status: state.status,
    hasData: snapshot.text !== '',
    isSignedIn: snapshot.login !== '',
    isChanged: state.data.isChanged(snapshot),
    mayBegin,
    beginsWith,
    mustSendId,
    isTouchDue: isTouchDue(state, config),
    mustClearCookie: state.cookie.mustBeCleared,
    hasDeparted: (state.moving.departure ?? state.moving.missed) !== undefined
  })
  return { plan, snapshot }
}

/** Whether a plan is one for which the store is asked. */
export function needsStore(plan: CommitPlan): plan is StorePlan {
  return plan.kind !== 'drop' && plan.kind !== 'nothing' && plan.kind !== 'keep'
}

/** Returns what comes of a plan for which the store is not asked. */
export function resultOf(plan: PlanHere, state: SessionState): CommitResult {
  switch (plan.kind) {
    case 'drop':
      return gone
    case 'nothing':
      return results[plan.reply]
    case 'keep':
      return sendId(state, 'nothing', false)
  }
}

/** Does what was planned. @throws what `storeChanges()` throws */
export function carryOut(
  plan: StorePlan,
  state: SessionState,
  snapshot: Snapshot,
  tools: Tools
): MaybePromise<CommitResult> {
  switch (plan.kind) {
    case 'end':
      return end(state, tools)
    case 'create':
    case 'replace':
      return andThen(storeChanges(tools, state, { snapshot }), (stored) => {
        const action = plan.kind === 'create' ? 'created' : 'updated'
        if (stored.kind === 'written') return stored.hasMoved ? moved : sendId(state, action)
        // The reply to a login must not go out if there was none.
        if (plan.kind === 'create') throw new SessionError('HOLDFAST_SESSION_GONE')
        return gone
      })
    case 'touch':
      return andThen(touch(state, tools), (outcome) => {
        if (outcome === 'failed') return nothing
        return outcome === 'gone' ? gone : sendId(state, 'touched')
      })
  }
}

/** Ends what `destroy()` ends; under an error reply only what nobody has moved meanwhile. */
async function end(
  state: SessionState,
  { store, config, isSuccess }: Tools
): Promise<CommitResult> {
  await (isSuccess ? endSession : endDeparture)(store, state, config)
  return state.cookie.mustBeCleared ? results['clear-cookie'] : nothing
}

const nothing: CommitResult = Object.freeze({ action: 'nothing', reply: 'none' })
const results = {
  none: nothing,
  'clear-cookie': Object.freeze({ action: 'nothing', reply: 'clear-cookie' }),
  undeliverable: Object.freeze({ action: 'nothing', reply: 'undeliverable' })
} as const
const gone: CommitResult = Object.freeze({ action: 'gone', reply: 'none' })
/** What was written went along with the session to another id. */
const moved: CommitResult = Object.freeze({ action: 'updated', reply: 'none' })

function sendId(
  { identity, expiresAt }: SessionState,
  action: CommitAction,
  isConfirmed = true
): CommitResult {
  return { action, reply: 'id', id: identity.id, isConfirmed, expiresAt }
}

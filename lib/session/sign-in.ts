import { SessionError } from '../errors.ts'
import type { SessionClient } from './client.ts'
import type { SessionConfig } from './config.ts'
import { regenerateSession } from './end.ts'
import { readHandle } from './handle.ts'
import { readKeep } from './keep.ts'
import { belongTo, checkSubject, lineageFor, loginOf, readInfo, tagOf } from './login.ts'
import { assertDeliverable } from './reach.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'

/** Runs an operation on the session, after those before it. */
type Run = <Result>(operation: (store: StoreClient) => Promise<Result>) => Promise<Result>

/** What a sign-in works with. */
interface SignInTools {
  readonly config: SessionConfig
  readonly state: SessionState
  readonly run: Run
  readonly client: SessionClient | undefined
  /** Called when the session is no more the one that the request came with. */
  readonly leaveBehind: () => void
}

/**
 * Signs a subject in: takes its stamp, has the credentials checked, and goes on under a new id. It
 * is stored with the commit, and only if the stamp still holds then.
 *
 * @returns whether the credentials were right
 */
export async function signIn(
  tools: SignInTools,
  subject: unknown,
  options: unknown
): Promise<boolean> {
  const { config, state, run } = tools
  const { verify, keep, info, ...rest } = Object(options ?? {}) as Record<string, unknown>
  checkSubject(subject)
  checkVerify(verify, verify === undefined, rest)
  const kept = readKeep(keep)
  const noted = readInfo(info)
  assertFirst(state)
  assertUsable(tools)
  const begunAt = config.clock.now()
  const tag = tagOf(config.sessionName, subject)
  const stamp = await run(async (store) => store.subjects.stamp(tag)) // mutant: stamp first
  if (verify !== undefined && !(await isRight(verify))) return false
  return run(async (store) => {
    assertFirst(state)
    assertUsable(tools)
    await leaveExpired(state, store)
    regenerateSession(state, config, kept)
    const login = { subject, authenticatedAt: config.clock.now(), info: noted }
    const lineage = lineageFor(state.moving, tag)
    belongTo(state, config, login, { lineage, signIn: { stamp, begunAt, by: 'signIn' } })
    tools.leaveBehind()
    const { former } = state.cookie
    if (former !== undefined) await former.supersede(store, state.moving)
    return true
  })
}

/**
 * Has the credentials of the subject checked once more, and goes on under a new id.
 *
 * @returns whether they were right
 */
export async function reauthenticate(tools: SignInTools, verify: unknown): Promise<boolean> {
  const { config, state, run } = tools
  checkVerify(verify, false, {})
  const before = loginOf(state)
  if (before === undefined) throw new SessionError('HOLDFAST_SESSION_NOT_FRESH')
  assertUsable(tools)
  const begunAt = config.clock.now()
  const tag = tagOf(config.sessionName, before.subject)
  const stamp = await run(async (store) => store.subjects.stamp(tag))
  if (!(await isRight(verify as () => unknown))) return false
  return run(async (store) => {
    const login = loginOf(state)
    assertUsable(tools)
    if (login?.subject !== before.subject) throw new SessionError('HOLDFAST_SESSION_GONE')
    regenerateSession(state, config, { keys: 'all', lifetime: true })
    const { lineage, signIn: pending = { stamp, begunAt, by: 'reauthenticate' } } = state.identity
    const now = { ...login, authenticatedAt: config.clock.now() }
    belongTo(state, config, now, { lineage: lineage as string, signIn: pending })
    tools.leaveBehind()
    const { former } = state.cookie
    if (former !== undefined) await former.supersede(store, state.moving)
    return true
  })
}

/**
 * Ends the session that the request presents, if it has expired here and perhaps not elsewhere: the
 * sign-in begins anew, and it must not count beside it.
 */
export async function leaveExpired(state: SessionState, store: StoreClient): Promise<void> {
  const { led, expired } = state.moving
  const handle = led && expired && readHandle(led.handle)
  if (!handle) return
  await store.subjects.endOne(handle.subject, handle.lineage)
  state.moving.endedExpired()
}

/** @throws HOLDFAST_SIGN_IN_REPEATED */
function assertFirst({ identity }: SessionState): void {
  if (identity.signIn?.by === 'signIn') throw new SessionError('HOLDFAST_SIGN_IN_REPEATED')
}

/** @throws HOLDFAST_SESSION_GONE, HOLDFAST_ID_UNDELIVERABLE */
function assertUsable({ state, client }: SignInTools): void {
  if (state.status === 'gone' || state.status === 'destroyed') {
    throw new SessionError('HOLDFAST_SESSION_GONE')
  }
  assertDeliverable(state, client)
}

/** @throws HOLDFAST_VALUE_INVALID */
function checkVerify(
  verify: unknown,
  isOptional: boolean,
  rest: object
): asserts verify is (() => unknown) | undefined {
  if ((typeof verify === 'function' || isOptional) && Object.keys(rest).length === 0) return
  throw new SessionError('HOLDFAST_VALUE_INVALID', {
    detail: 'verify is a function; there are also keep and info'
  })
}

/** @throws what the check throws; HOLDFAST_VALUE_INVALID it does not tell */
async function isRight(verify: () => unknown): Promise<boolean> {
  const answer = await verify()
  if (typeof answer === 'boolean') return answer
  throw new SessionError('HOLDFAST_VALUE_INVALID', { detail: 'verify returns true or false' })
}

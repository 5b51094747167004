import type { SessionConfig } from './config.ts'
import { SessionError } from '../errors.ts'
import { regenerateSession } from './end.ts'
import {
  belongTo,
  belongToNobody,
  checkSubject,
  lineageFor,
  loginOf,
  readLogin,
  tagOf
} from './login.ts'
import { readNotes } from './notes.ts'
import { leaveExpired } from './sign-in.ts'
import type { SessionState } from './state.ts'
import type { StoreClient } from './store-client.ts'
import type { SessionData } from '../../types/session.ts'
import type { MaybePromise } from '../../types/store.ts'

/** What the data says of who is signed in. */
interface Change {
  /** Undefined: nobody. */
  readonly subject: string | undefined
  /** When the credentials were checked last, if not for this request. */
  readonly authenticatedAt: number | undefined
}

/**
 * Signs in whom the data names since this request, by the option `subject`, and goes on as nobody
 * where it names nobody any more. The session then has another id.
 *
 * @param canDeliver whether a reply can bring that to the client
 * @throws HOLDFAST_VALUE_INVALID, HOLDFAST_ID_UNDELIVERABLE, HOLDFAST_SUBJECT_MISMATCH
 * @throws what the option throws
 */
export function followData(
  config: SessionConfig,
  state: SessionState,
  store: StoreClient,
  canDeliver: boolean
): MaybePromise<void> {
  const change = changeOf(config, state)
  if (change === undefined) return
  const by = state.identity.signIn?.by ?? 'data'
  if (by !== 'data') throw new SessionError('HOLDFAST_SUBJECT_MISMATCH')
  if (!canDeliver) throw new SessionError('HOLDFAST_ID_UNDELIVERABLE')
  const { subject } = change
  if (subject !== undefined) return signIn(config, state, store, { ...change, subject })
  regenerateSession(state, config, { keys: 'all', lifetime: state.status === 'loaded' })
  belongToNobody(state)
  // A logout ends them too.
  return state.cookie.former?.supersede(store, state.moving, true)
}

/** Signs in whom the data names. The lifetimes begin anew, if it is a login. */
async function signIn(
  config: SessionConfig,
  state: SessionState,
  store: StoreClient,
  { subject, authenticatedAt }: Change & { readonly subject: string }
): Promise<void> {
  const begunAt = config.clock.now()
  const tag = tagOf(config.sessionName, subject)
  const stamp = await store.subjects.stamp(tag)
  await leaveExpired(state, store)
  regenerateSession(state, config, { keys: 'all', lifetime: authenticatedAt !== undefined })
  const login = { subject, authenticatedAt: authenticatedAt ?? begunAt }
  const lineage = lineageFor(state.moving, tag)
  belongTo(state, config, login, { lineage, signIn: { stamp, begunAt, by: 'data' } })
  const { former } = state.cookie
  if (former !== undefined) await former.supersede(store, state.moving)
}

/**
 * Has a change of the data fail that changes whom the option `subject` reads from it: it would be
 * stored before the session has the id, and the place, of whom it then names.
 *
 * @throws HOLDFAST_SUBJECT_CHANGED
 */
export function guardSubject<Result>(
  { subjectOf, codec }: SessionConfig,
  change: (draft: SessionData) => Result
): (draft: SessionData) => Result {
  if (subjectOf === undefined) return change
  const read = (draft: SessionData): unknown =>
    subjectOf(codec.parse(codec.stringify({ ...draft }))) ?? undefined
  return (draft) => {
    const before = read(draft)
    const result = change(draft)
    if (read(draft) !== before) throw new SessionError('HOLDFAST_SUBJECT_CHANGED')
    return result
  }
}

/** Returns what is new of whom the data names. Undefined: it names whom it named before. */
function changeOf({ subjectOf, codec }: SessionConfig, state: SessionState): Change | undefined {
  const { data, status } = state
  if (subjectOf === undefined || data.session === undefined) return undefined
  if (!['loaded', 'new', 'regenerated', 'destroyed'].includes(status)) return undefined
  const read = (text: string): string | undefined => {
    const subject: unknown = subjectOf(codec.parse(text))
    if (subject === undefined || subject === null) return undefined
    checkSubject(subject)
    return subject
  }
  const subject = read(data.snapshot().text)
  const login = loginOf(state)
  if (subject === login?.subject) return undefined
  const { led, expired, isRegenerated } = state.moving
  // Whom the data has named before, it names without a login in this request.
  const found = expired === undefined ? led?.record : undefined
  const isKnown = found !== undefined && subject !== undefined && subject === read(found.data)
  // One that was begun before the option was set stays as it is until the next login.
  if (isKnown && login === undefined && !isRegenerated) return undefined
  if (!isKnown) return { subject, authenticatedAt: undefined }
  const before = readLogin(readNotes(found).login)
  return { subject, authenticatedAt: before?.authenticatedAt ?? found.createdAt }
}

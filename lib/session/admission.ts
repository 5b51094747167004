import { SessionError } from '../errors.ts'
import type { SessionConfig, SubjectLimit } from './config.ts'
import type { SignIn } from './id.ts'
import { isLive } from './lifetime.ts'
import { maxSignInTime } from './login.ts'
import type { StoreClient } from './store-client.ts'
import { subjectOf } from '../subject-key.ts'
import { andThen } from './waiting.ts'
import type { ListedSession, MaybePromise, SessionRecord } from '../../types/store.ts'

/** What a record is created with. */
interface AdmissionTools {
  readonly config: Pick<SessionConfig, 'subjectLimit' | 'clock' | 'lifetimes'>
  readonly store: StoreClient
}

/**
 * Creates a record. That of a session that is signed in is created only if nothing has ended the
 * sessions of its subject since the credentials were checked.
 *
 * @returns false: the key is taken
 * @throws HOLDFAST_SIGN_IN_ENDED, HOLDFAST_SESSIONS_FULL
 */
export function createRecord(
  tools: AdmissionTools,
  key: string,
  record: SessionRecord,
  signIn: SignIn | undefined
): MaybePromise<boolean> {
  const { config, store } = tools
  if (signIn === undefined) return store.create(key, record)
  assertInTime(config, signIn)
  const { stamp } = signIn
  if (config.subjectLimit !== undefined)
    return admit(tools, config.subjectLimit, { key, record, stamp })
  return andThen(store.subjects.create(key, record, { stamp }), (answer) => {
    if (answer === 'refused') throw new SessionError('HOLDFAST_SIGN_IN_ENDED')
    return answer === 'created'
  })
}

/** @throws HOLDFAST_SIGN_IN_ENDED its stamp may have been forgotten by now */
export function assertInTime({ clock }: Pick<SessionConfig, 'clock'>, { begunAt }: SignIn): void {
  if (clock.now() - begunAt > maxSignInTime) throw new SessionError('HOLDFAST_SIGN_IN_ENDED')
}

/** Counts the sessions that there are, and creates one only if none was added since. */
async function admit(
  { config, store }: AdmissionTools,
  limit: SubjectLimit,
  {
    key,
    record,
    stamp
  }: { readonly key: string; readonly record: SessionRecord; readonly stamp: string }
): Promise<boolean> {
  const subject = subjectOf(key) as string
  for (let tries = 1; ; tries += 1) {
    const found = await listAll(store, subject)
    if (found.stamp !== stamp) throw new SessionError('HOLDFAST_SIGN_IN_ENDED')
    const now = config.clock.now()
    const isLiveHere = ({ record: each }: ListedSession): boolean =>
      isLive(each, now, config.lifetimes)
    const live = found.sessions.filter(isLiveHere)
    // Those that have expired here may live elsewhere, and count there.
    const dead = found.sessions.filter((each) => !isLiveHere(each))
    const tooMany = live.length - limit.max + 1
    if (tooMany > 0 && limit.whenFull === 'refuse') throw new SessionError('HOLDFAST_SESSIONS_FULL')
    const oldestFirst = live.toSorted((one, other) => one.record.createdAt - other.record.createdAt)
    const ended = [...dead, ...oldestFirst.slice(0, Math.max(0, tooMany))]
    const instead = ended.map(({ lineage }) => lineage)
    const { version } = found
    const answer = await store.subjects.create(key, record, { stamp, version, instead }) // mutant: count
    if (answer !== 'refused') return answer === 'created'
    await store.pause(tries)
  }
}

/** Lists every session once, with the stamp and the version from before. */
async function listAll(
  { subjects }: StoreClient,
  subject: string
): Promise<{
  readonly stamp: string
  readonly version: string
  readonly sessions: readonly ListedSession[]
}> {
  const { stamp, version, ...first } = await subjects.list(subject)
  const sessions = new Map(first.sessions.map((each) => [each.lineage, each]))
  for (let { next } = first; next !== undefined;) {
    const page = await subjects.list(subject, next)
    for (const each of page.sessions) sessions.set(each.lineage, each)
    next = page.next
  }
  return { stamp, version, sessions: [...sessions.values()] }
}

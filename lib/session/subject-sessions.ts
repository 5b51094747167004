import { SessionError } from '../errors.ts'
import { destroyed } from '../events.ts'
import type { SessionConfig } from './config.ts'
import { readHandle } from './handle.ts'
import { idleOf, isLive } from './lifetime.ts'
import { checkSubject, readLogin, tagOf } from './login.ts'
import { readNotes } from './notes.ts'
import { Session } from './session.ts'
import { withStore } from './store-client.ts'
import { handleOf } from '../subject-key.ts'
import type { SubjectSession, SubjectSessions } from '../../types/sessions.ts'
import type { ListedSession } from '../../types/store.ts'

/** What is known of the session of a request. */
interface Current {
  readonly publicId: string
}

/** What `list()` is given. */
interface ListOptions {
  readonly current?: Current
  readonly from?: string
}

/** Lists the live sessions of a subject, those used last first. */
export async function listSessions(
  config: SessionConfig,
  subject: string,
  options: unknown
): Promise<SubjectSessions> {
  checkSubject(subject)
  const { current, from } = readOptions<ListOptions>(options, ['current', 'from'])
  checkSession(current, 'current')
  if (from !== undefined && (typeof from !== 'string' || !/^[\w-]{1,64}$/.test(from))) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', { detail: 'from is `next` of a page' })
  }
  const tag = tagOf(config.sessionName, subject)
  const handle = current?.publicId
  const live = new Map<string, SubjectSession>()
  let next = from
  do {
    const page = await withStore(config, async (store) => store.subjects.list(tag, next))
    const now = config.clock.now()
    for (const each of page.sessions) {
      if (!isLive(each.record, now, config.lifetimes)) continue
      live.set(each.lineage, describe(each, handle))
    }
    ;({ next } = page)
    // Of what a page has, all may have expired.
  } while (live.size === 0 && next !== undefined)
  const lastFirst = [...live.values()].toSorted((one, other) => other.lastUsedAt - one.lastUsedAt)
  return { sessions: lastFirst, next }
}

/**
 * Returns options that have no other names than these: one that is misspelt must not be ignored.
 *
 * @throws HOLDFAST_VALUE_INVALID
 */
function readOptions<Options extends object>(
  options: unknown,
  names: ReadonlyArray<keyof Options & string>
): Partial<Options> {
  const given = options === undefined ? {} : options
  const isKnown =
    typeof given === 'object' &&
    given !== null &&
    Object.keys(given).every((name) => (names as readonly string[]).includes(name))
  if (isKnown) return given
  throw new SessionError('HOLDFAST_VALUE_INVALID', { detail: `options are ${names.join(', ')}` })
}

/** @throws HOLDFAST_VALUE_INVALID */
function checkSession(session: Current | undefined, name: string): void {
  if (session === undefined || session instanceof Session) return
  throw new SessionError('HOLDFAST_VALUE_INVALID', {
    detail: `${name} is the session of a request`
  })
}

function describe({ key, record }: ListedSession, current: string | undefined): SubjectSession {
  const publicId = handleOf(key, record.version)
  const { createdAt, expiresAt } = record
  const login = readLogin(readNotes(record).login)
  const idle = idleOf(record)
  return {
    publicId,
    isCurrent: publicId === current,
    createdAt,
    authenticatedAt: login?.authenticatedAt ?? createdAt,
    lastUsedAt: Math.max(createdAt, Number.isFinite(idle) ? expiresAt - idle : createdAt),
    expiresAt,
    info: login?.info
  }
}

/** Ends all sessions of a subject, but perhaps one. */
export async function endSessions(
  config: SessionConfig,
  subject: string,
  options: unknown
): Promise<void> {
  checkSubject(subject)
  const { except } = readOptions<{ readonly except?: Current }>(options, ['except'])
  checkSession(except, 'except')
  const tag = tagOf(config.sessionName, subject)
  const spared = except === undefined ? undefined : readHandle(except.publicId)
  if (except !== undefined && spared?.subject !== tag) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: 'except is the session of a request, signed in as this subject'
    })
  }
  // One that is about to be signed in would end with the others.
  if (except !== undefined) await Session.storeSignIn(except)
  const isSpared = await withStore(
    config,
    async ({ subjects }) => subjects.endAll(tag, spared?.lineage) // mutant: spare
  )
  if (spared !== undefined && !isSpared) throw new SessionError('HOLDFAST_SESSION_GONE')
}

/** Returns the key of a session by what it is called in lists. Undefined: it has ended. */
export async function keyOf(config: SessionConfig, publicId: string): Promise<string | undefined> {
  const handle = readHandle(publicId)
  if (handle === undefined) return publicId
  return withStore(config, async (store) => store.subjects.find(handle.subject, handle.lineage))
}

/** Ends the session of a handle. @returns whether there was one */
export async function endByHandle(
  config: SessionConfig,
  handle: { readonly subject: string; readonly lineage: string }
): Promise<boolean> {
  return withStore(config, async (store) => {
    if (config.former !== undefined) {
      const key = await store.subjects.find(handle.subject, handle.lineage)
      if (key !== undefined) await config.former.endWith(store, key)
    }
    const wasListed = await store.subjects.endOne(handle.subject, handle.lineage)
    if (!wasListed && !store.isRetried) return false
    if (destroyed.hasSubscribers) {
      const { sessionName } = config
      destroyed.publish({ sessionName, session: `${handle.subject}.${handle.lineage}` })
    }
    return true
  })
}

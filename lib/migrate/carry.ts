import { draftOf, recordOf, type Draft } from './draft.ts'
import type { FormerId } from './former-cookie.ts'
import { lifeOf, type FormerSessionStore } from './former-store.ts'
import { carriedNote, claimOf, idOf, isCarried, isEnded, noteKey, readNote } from './note.ts'
import { SessionError } from '../errors.ts'
import { created } from '../events.ts'
import { createRecord } from '../session/admission.ts'
import type { Log } from '../session/client.ts'
import type { SessionConfig } from '../session/config.ts'
import { publicIdOf } from '../session/id.ts'
import { tagOf } from '../session/login.ts'
import type { StoreClient } from '../session/store-client.ts'
import { sameLife } from '../session/version.ts'
import { lineageOf } from '../subject-key.ts'
import type { CarryOverOptions, FormerSession } from '../../types/migrate.ts'
import type { SessionRecord } from '../../types/store.ts'

/** What a former session is carried over with. */
export interface CarryTools {
  readonly config: SessionConfig
  readonly store: StoreClient
  readonly formerStore: FormerSessionStore
  readonly options: CarryOverOptions
  readonly log: Log
}

/** What becomes of a former session. */
export type Carried =
  /** It goes on here under this id. Whether that is live is for the store to say. */
  | { readonly id: string }
  /** There is no such session, or it has ended. */
  | 'gone'
  /** The app leaves it where it is. */
  | 'left'

/** What this request is about to do. */
interface Plan {
  readonly claim: SessionRecord
  readonly draft: Draft
  /** Milliseconds that the former session may still live. Undefined: it does not say. */
  readonly life: number | undefined
}

/**
 * Carries a former session over, unless somebody has.
 *
 * Of all who try, one has the claim. It creates the session under an id that only this claim leads
 * to, and then makes the claim the note that it was carried over, by compare-and-set: that is the
 * one step by which the session is there. Whoever comes too late for it, however late, has made a
 * session that no cookie leads to. Then the former session goes; the note stays.
 *
 * @throws HOLDFAST_STORE_TIMEOUT somebody else has the claim, and is not done; what `draftOf()`
 *   throws; the failure of a store
 */
export async function carry(tools: CarryTools, former: FormerId): Promise<Carried> {
  const { config, store, formerStore } = tools
  const key = noteKey(config, former)
  let plan: Plan | undefined
  let isGone = false
  let tries = 0
  for (;;) {
    tries += 1
    // Who else tries gets a turn, and the store's deadline ends it.
    if (tries > 5) await store.pause(tries)
    const note = await readNote(config, store, former)
    if (note !== undefined && isEnded(note)) {
      // A process of the former plugin may have stored it again.
      await removeFormer(tools, former)
      return 'gone'
    }
    if (note !== undefined && isCarried(note)) return { id: idOf(former, note) }
    if (note === undefined) {
      // A former session goes only when it is noted: seen before the note, it has never been here.
      if (isGone) return 'gone'
      const found = await formerStore.get(store, former, config.clock.now())
      if (found === undefined) {
        isGone = true
        continue
      }
      plan = planFor(tools, found, former)
      if (plan === undefined) return 'left'
      await store.create(key, plan.claim)
    } else if (note.version === plan?.claim.version) {
      const id = await fulfil(tools, former, plan)
      if (id !== undefined) return { id }
    } else {
      await store.pause(4)
    }
  }
}

function planFor(
  { config, options }: CarryTools,
  found: FormerSession,
  former: FormerId
): Plan | undefined {
  // Read before the app's functions see it, which may change it.
  const life = lifeOf(found, config.clock.now())
  const draft = draftOf(config, options, found, former)
  return draft && { claim: claimOf(config), draft, life }
}

/** Does what the claim is for. Undefined: the claim has expired, and nothing is left of it. */
async function fulfil(
  tools: CarryTools,
  former: FormerId,
  { claim, draft, life }: Plan
): Promise<string | undefined> {
  const { config, store, options } = tools
  const tag = await createSession(tools, former, { claim, draft, life })
  const isUsed = options.sideBySide === true
  const note = carriedNote(config, claim, { life, tag, isUsed })
  const id = idOf(former, note)
  const key = noteKey(config, former)
  const session = publicIdOf(config.sessionName, id)
  if (!(await store.update(key, note, claim.version))) {
    // A client of the store may have sent it twice.
    const now = await readNote(config, store, former)
    if (now === undefined || !isCarried(now) || !sameLife(now.version, claim.version)) {
      await store.delete(session)
      return undefined
    }
  }
  if (created.hasSubscribers) created.publish({ sessionName: config.sessionName, session })
  if (!isUsed) await removeFormer(tools, former)
  return id
}

/** Removes a former session that is noted. A failure is logged: it is not carried over again. */
export async function removeFormer(
  { store, formerStore, log }: CarryTools,
  former: FormerId
): Promise<void> {
  try {
    await formerStore.destroy(store, former)
  } catch (err) {
    log.warn({ err }, 'a former session was carried over, and could not be removed')
  }
}

/**
 * Creates the session; if its data names a subject, as one of that, however many that has: nobody is
 * logged out. If all of them are ended meanwhile, there is none.
 *
 * @returns what its id has of its subject
 */
async function createSession(
  { config, store }: CarryTools,
  former: FormerId,
  { claim, draft }: Plan
): Promise<string | undefined> {
  const { subject } = draft
  const lineage = lineageOf(claim.version)
  const unlimited = { ...config, subjectLimit: undefined }
  const create = (tag: string | undefined, stamp = ''): unknown => {
    const data = tag === undefined ? '' : ` ${tag}`
    const key = publicIdOf(config.sessionName, idOf(former, { ...claim, data }))
    const record = recordOf(config, draft, lineage, tag === undefined ? undefined : subject)
    const begunAt = config.clock.now()
    const signIn = tag === undefined ? undefined : { stamp, begunAt, by: 'data' as const }
    return createRecord({ config: unlimited, store }, key, record, signIn)
  }
  if (subject === undefined) {
    await create(undefined)
    return undefined
  }
  const tag = tagOf(config.sessionName, subject)
  const stamp = await store.subjects.stamp(tag)
  try {
    await create(tag, stamp)
  } catch (error) {
    if (!(error instanceof SessionError && error.code === 'HOLDFAST_SIGN_IN_ENDED')) throw error
  }
  return tag
}

import { carry, removeFormer, type CarryTools } from './carry.ts'
import { readLink } from './draft.ts'
import { FormerCookie, mostAsked, type FormerId } from './former-cookie.ts'
import { FormerSessionStore, lifeOf, type Link } from './former-store.ts'
import { idOf, isCarried, isEnded, readNote } from './note.ts'
import { FormerSessionsOfRequest } from './of-request.ts'
import type { Former, Connectable } from '../carry-over.ts'
import type { SerializeCookie } from '../http/cookie-attributes.ts'
import type { SessionConfig } from '../session/config.ts'
import type { PresentedId } from '../session/client.ts'
import { endAt } from '../session/end.ts'
import { find, type Entry } from '../session/find.ts'
import type { FormerAnswer, FormerRequest } from '../session/former.ts'
import { publicIdOf } from '../session/id.ts'
import { idleOf, isLive } from '../session/lifetime.ts'
import { readNotes } from '../session/notes.ts'
import { withStore, type StoreClient } from '../session/store-client.ts'
import { isTrace } from '../session/trace.ts'
import type { CarryOverOptions } from '../../types/migrate.ts'
import type { MaybePromise, SessionRecord } from '../../types/store.ts'

/** The plugin that the app had before, as its options describe it. */
export class FormerPlugin implements Connectable {
  readonly cookie: string
  readonly sideBySide: boolean
  readonly #options: CarryOverOptions

  constructor(options: CarryOverOptions) {
    this.#options = options
    this.cookie = options.cookie
    this.sideBySide = options.sideBySide === true
  }

  connect(serializeCookie: SerializeCookie): Former {
    const cookie = new FormerCookie(this.#options, serializeCookie)
    const sessions = new FormerSessions(this.#options, cookie)
    return {
      former: sessions,
      answerFormer: (config, request) => sessions.answer(config, request),
      formerCookie: this.sideBySide ? undefined : cookie
    }
  }
}

/** Its sessions. */
class FormerSessions {
  readonly #options: CarryOverOptions
  readonly #isSideBySide: boolean
  readonly #cookie: FormerCookie
  readonly #store: FormerSessionStore

  constructor(options: CarryOverOptions, cookie: FormerCookie) {
    this.#options = options
    this.#isSideBySide = options.sideBySide === true
    this.#cookie = cookie
    this.#store = new FormerSessionStore(options.store)
  }

  answer(config: SessionConfig, request: FormerRequest): MaybePromise<FormerAnswer | undefined> {
    const { presented, cookies, mayCarryOver, log } = request
    const ids = this.#cookie.read(cookies)
    const mayBeLinked = this.#isSideBySide && presented.id !== undefined
    if (ids.length === 0 && !mayBeLinked) return undefined
    return withStore(config, async (store) => {
      const tools = { config, store, log, options: this.#options, formerStore: this.#store }
      const former = new FormerSessionsOfRequest(tools, ids)
      const own = await this.#findOwn(tools, presented)
      const isOwn = isTrace(own) || isLiveHere(own, config)
      const asPresented = { id: undefined, found: own, former }
      if (isOwn && !isUntouched(own)) {
        former.isOver = await former.areNoted(store)
        return asPresented
      }
      const carried = mayCarryOver && (await this.#carry(tools, former, presented.isUse))
      if (!carried) return asPresented
      // An own one, even without data, gives way to nothing but a session that is live.
      const isOwnBetter = carried.id === presented.id || (isOwn && isTrace(carried.found))
      if (!isOwnBetter) return { ...carried, former }
      former.isOver = true
      return asPresented
    })
  }

  async endWith(store: StoreClient, key: string): Promise<void> {
    if (!this.#isSideBySide) return
    const link = linkOf(await find(store, key))
    if (link !== undefined) await this.#store.destroy(store, link)
  }

  /** Finds what our own id leads to. */
  async #findOwn(tools: CarryTools, presented: PresentedId): Promise<Entry | undefined> {
    const { config, store } = tools
    const { id, isUse } = presented
    if (id === undefined) return undefined
    const key = publicIdOf(config.sessionName, id)
    const entry = presented.found ?? (await find(store, key))
    return this.#unlessEnded(tools, { key, entry, isUse })
  }

  /**
   * Carries over the one former session that is live. Of two live ones neither is, for somebody
   * else may have set the cookie of one.
   */
  async #carry(
    tools: CarryTools,
    former: FormerSessionsOfRequest,
    isUse: boolean
  ): Promise<Pick<FormerAnswer, 'id' | 'found'> | undefined> {
    const { ids } = former
    const mayBeSeveral = ids.length > 1 && ids.length <= mostAsked
    const live = mayBeSeveral ? await this.#liveOf(tools, ids) : ids
    if (live.length > 1) {
      tools.log.warn({}, 'a request brings several live former sessions: none is carried over')
      return undefined
    }
    const [only] = live
    const carried = only && (await carry(tools, only))
    if (only !== undefined && typeof carried === 'object') {
      const found = await this.#findCarried(tools, carried.id, isUse)
      if (found !== undefined) return { id: carried.id, found }
      // It was carried over and has ended here. What is left of it there must not come back.
      if (!this.#isSideBySide) await removeFormer(tools, only)
    }
    former.isOver = only === undefined ? await former.areNoted(tools.store) : carried !== 'left'
  }

  /** Which of several are live, there or here. */
  async #liveOf(tools: CarryTools, ids: readonly FormerId[]): Promise<readonly FormerId[]> {
    const { config, store } = tools
    const live: FormerId[] = []
    for (const each of ids) {
      const found = await this.#store.get(store, each, config.clock.now())
      // Read after it: who carries it over notes that before it goes.
      const note = await readNote(config, store, each)
      if (note !== undefined && isEnded(note)) continue
      const isCarriedOver = note !== undefined && isCarried(note)
      const isStillLive = isCarriedOver
        ? (await this.#findCarried(tools, idOf(each, note), false)) !== undefined
        : found !== undefined || note !== undefined
      if (isStillLive) live.push(each)
    }
    return live
  }

  /** Finds what goes on under the id of one that was carried over. Undefined: it has ended. */
  async #findCarried(tools: CarryTools, id: string, isUse: boolean): Promise<Entry | undefined> {
    const { config, store } = tools
    const key = publicIdOf(config.sessionName, id)
    const found = await this.#unlessEnded(tools, { key, entry: await find(store, key), isUse })
    return isTrace(found) || isLiveHere(found, config) ? found : undefined
  }

  /** Ends a session whose former one has ended on the other side. Undefined: it has, or had. */
  async #unlessEnded(
    { config, store }: CarryTools,
    { key, entry, isUse }: { key: string; entry: Entry | undefined; isUse: boolean }
  ): Promise<Entry | undefined> {
    const link = this.#isSideBySide ? linkOf(entry) : undefined
    if (link === undefined) return entry
    const now = config.clock.now()
    const session = await this.#store.get(store, link, now)
    if (session === undefined) {
      await endAt(store, config, key)
      return undefined
    }
    const { expiresAt } = entry as SessionRecord
    const lastUsedAt = expiresAt - idleOf(entry as SessionRecord)
    const life = lifeOf(session, now) ?? Infinity
    const isDue = now - lastUsedAt >= Math.max(Math.min(config.touchAfter, life / 2), 1)
    if (isUse && isDue) await this.#store.touch(store, link, session, now)
    return entry
  }
}

/** Returns what leads to the former session that lives beside one of ours. Undefined: none does. */
function linkOf(entry: Entry | undefined): Link | undefined {
  if (!isRecord(entry)) return undefined
  const { former } = readNotes(entry)
  return former === '' ? undefined : readLink(former)
}

/** Whether it is a session that goes on under its key, or may be. */
function isLiveHere(entry: Entry | undefined, { clock, lifetimes }: SessionConfig): boolean {
  return entry === 'unreadable' || (isRecord(entry) && isLive(entry, clock.now(), lifetimes))
}

/**
 * Whether a live session is as it began by itself, without data. One that was emptied has been
 * written, which its version says.
 */
function isUntouched(entry: Entry | undefined): boolean {
  if (!isRecord(entry) || entry.data !== '' || entry.version.includes('.')) return false
  const { attributes, login } = readNotes(entry)
  return attributes === '' && login === ''
}

function isRecord(entry: Entry | undefined): entry is SessionRecord {
  return entry !== undefined && entry !== 'unreadable' && !isTrace(entry)
}

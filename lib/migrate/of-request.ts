import { removeFormer, type CarryTools } from './carry.ts'
import { mostAsked, type FormerId } from './former-cookie.ts'
import { endedNote, idOf, isCarried, isEnded, noteKey, readNote } from './note.ts'
import type { PresentedFormer } from '../session/client.ts'
import { endAt } from '../session/end.ts'
import { find, type Entry } from '../session/find.ts'
import { publicIdOf } from '../session/id.ts'
import type { StoreClient } from '../session/store-client.ts'
import { isTrace } from '../session/trace.ts'
import type { SessionRecord } from '../../types/store.ts'

type OwnSession = Parameters<PresentedFormer['supersede']>[1]

/** The former sessions whose cookies a request brings. */
export class FormerSessionsOfRequest implements PresentedFormer {
  readonly ids: readonly FormerId[]
  isOver = false
  readonly #tools: Omit<CarryTools, 'store'>

  constructor(tools: Omit<CarryTools, 'store'>, ids: readonly FormerId[]) {
    this.#tools = tools
    this.ids = ids
  }

  /** Whether all of them have been carried over, or have ended. Of too many, nobody asks. */
  async areNoted(store: StoreClient): Promise<boolean> {
    if (this.ids.length > mostAsked) return false
    for (const id of this.ids) {
      const note = await readNote(this.#tools.config, store, id)
      if (note === undefined || !(isCarried(note) || isEnded(note))) return false
    }
    return this.ids.length > 0
  }

  async end(store: StoreClient): Promise<readonly string[]> {
    const { config, formerStore, options } = this.#tools
    const keys: string[] = []
    for (const id of this.ids) {
      const note = await this.#noteEnd(store, id)
      if (note !== undefined) keys.push(publicIdOf(config.sessionName, idOf(id, note)))
      // It is live there as long as it is stored.
      if (options.sideBySide === true) await formerStore.destroy(store, id)
    }
    this.isOver = true
    return keys
  }

  async supersede(
    store: StoreClient,
    { led, departure }: OwnSession,
    isLogout = false
  ): Promise<void> {
    const { config, options } = this.#tools
    // Side by side, they live on as long as what they have become here.
    if (options.sideBySide === true && !isLogout) return
    const own = [led?.publicId, departure?.publicId]
    for (const key of await this.end(store)) {
      if (!(await leadsTo(store, key, own))) await endAt(store, config, key)
    }
    if (isLogout) await this.remove(store)
  }

  async remove(store: StoreClient): Promise<void> {
    for (const id of this.ids) {
      // Side by side it has been removed. A request that is under way there may store it again.
      if (this.#tools.options.sideBySide === true) await this.#noteEnd(store, id, true)
      else await removeFormer({ ...this.#tools, store }, id)
    }
  }

  /**
   * Notes that a former session has ended: nobody carries it over any more, whoever is about to.
   *
   * @param hasEndedHere whether what it became here has ended, if it was carried over
   * @returns the note that it was carried over, if that stays
   */
  async #noteEnd(
    store: StoreClient,
    id: FormerId,
    hasEndedHere = false
  ): Promise<SessionRecord | undefined> {
    const { config } = this.#tools
    const key = noteKey(config, id)
    let tries = 0
    for (;;) {
      tries += 1
      if (tries > 5) await store.pause(tries)
      const note = await readNote(config, store, id)
      if (note !== undefined && isCarried(note) && !hasEndedHere) return note
      if (note !== undefined && isEnded(note)) return undefined
      const ended = endedNote(config, note)
      // Who has the claim finds that it is not theirs any more.
      const isNoted = await (note === undefined
        ? store.create(key, ended)
        : store.update(key, ended, note.version))
      if (isNoted) return undefined
    }
  }
}

/** Whether a key, or a trace there, leads to one of these. */
async function leadsTo(
  store: StoreClient,
  key: string,
  keys: ReadonlyArray<string | undefined>
): Promise<boolean> {
  let next: string | undefined = key
  while (next !== undefined && !keys.includes(next)) {
    const entry: Entry | undefined = await find(store, next)
    next = isTrace(entry) ? entry.successor : undefined
  }
  return next !== undefined
}

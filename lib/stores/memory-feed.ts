import type { EndNotice, SessionFeed, SessionLook } from '../../types/feed.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

/** Tells of the sessions that end in a MemoryStore, when a method has done what it does. */
export class MemoryFeed implements SessionFeed {
  readonly #peek: (key: string) => SessionRecord | SessionTrace | undefined
  readonly #listeners = new Set<(notice: EndNotice) => void>()

  /** @param peek returns what is under a key, which is no use of it */
  constructor(peek: (key: string) => SessionRecord | SessionTrace | undefined) {
    this.#peek = peek
  }

  listen(listener: (notice: EndNotice) => void): () => void {
    // One of its own, for the same listener may be given twice.
    const added = (notice: EndNotice): void => listener(notice)
    this.#listeners.add(added)
    return () => {
      this.#listeners.delete(added)
    }
  }

  look(keys: readonly string[]): Array<SessionLook | undefined> {
    return keys.map((key) => this.#peek(key))
  }

  tell(notice: EndNotice): void {
    for (const listener of this.#listeners) listener(notice)
  }
}

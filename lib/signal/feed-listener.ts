import { isPromise } from '../session/waiting.ts'
import type { EndNotice, SessionFeed } from '../../types/feed.ts'
import type { MaybePromise } from '../../types/store.ts'

/** Has a store tell of ends, while somebody wants to hear of them. */
export class FeedListener {
  readonly #feed: SessionFeed | undefined
  readonly #hear: (notice: EndNotice) => void
  #isWanted = false
  #isListening = false
  #stop: (() => MaybePromise<void>) | undefined

  /** @param feed undefined: the store cannot tell */
  constructor(feed: SessionFeed | undefined, hear: (notice: EndNotice) => void) {
    this.#feed = feed
    this.#hear = hear
  }

  /** Begins, unless it has begun. What fails is tried again with the next call. */
  start(): void {
    this.#isWanted = true
    if (this.#feed === undefined || this.#isListening) return
    this.#isListening = true
    try {
      const begun = this.#feed.listen(this.#hear)
      if (isPromise(begun)) begun.then((stop) => this.#keep(stop)).catch(() => this.#fail())
      else void this.#keep(begun)
    } catch {
      this.#fail()
    }
  }

  /** Ends, until it is to begin again. */
  async stop(): Promise<void> {
    this.#isWanted = false
    const stop = this.#stop
    if (stop === undefined) return
    this.#stop = undefined
    this.#isListening = false
    await stop()
  }

  #keep(stop: () => MaybePromise<void>): MaybePromise<void> {
    this.#stop = stop
    return this.#isWanted ? undefined : this.stop()
  }

  #fail(): void {
    this.#isListening = false
  }
}

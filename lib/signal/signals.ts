import type { WatchConfig } from './config.ts'
import { EndWatch } from './end-watch.ts'
import { endedError } from './reasons.ts'
import { Watched } from './watched.ts'
import type { Closing, EndCall, Ends, Followed, Waiting } from '../session/ends.ts'
import type { EndNotice } from '../../types/feed.ts'
import type { MaybePromise, SessionStore } from '../../types/store.ts'

/** The watch of each store. */
const watches = new WeakMap<SessionStore, EndWatch>()

/** The signals of a registration. Who shares a store in this process shares its watch. */
export class Signals implements Ends {
  readonly #config: WatchConfig
  readonly #watched = new WeakMap<Followed, Watched>()
  readonly #watch: EndWatch
  #isClosed = false

  constructor(config: Omit<WatchConfig, 'ends'>) {
    this.#config = { ...config, ends: this }
    const { store, clock } = config
    this.#watch = watches.get(store) ?? new EndWatch(store, clock)
    this.#watch.members += 1
    watches.set(store, this.#watch)
  }

  signalOf(state: Followed, client: Closing | undefined): AbortSignal {
    const present = this.#watched.get(state)
    if (present !== undefined) return present.controller.signal
    const watched = new Watched(this.#config)
    const { controller } = watched
    this.#watched.set(state, watched)
    const { status, record, moving } = state
    const mayBeStored = record !== undefined || status === 'unreadable'
    // One that is gone may have moved: the look finds out.
    const stored = moving.departure ?? (mayBeStored ? state.identity : undefined)
    const key = status === 'moved' ? moving.trace?.successor : stored?.publicId
    if (status === 'destroyed' || (status === 'gone' && key === undefined)) {
      controller.abort(endedError(status === 'gone' ? 'unknown' : 'destroyed'))
      return controller.signal
    }
    if (key !== undefined) this.#put(watched, state, key)
    client?.whenClosed(() => {
      watched.isOver = true
      this.#watch.remove(watched)
    })
    return controller.signal
  }

  stored(state: Followed): void {
    const watched = this.#watched.get(state)
    const { identity, expiresAt } = state
    if (watched === undefined) {
      this.#watch.lasts(identity.publicId, expiresAt)
    } else if (watched.controller.signal.aborted) {
      // It was that of the session before.
      this.#watched.delete(state)
    } else {
      this.#put(watched, state, identity.publicId)
    }
  }

  ended(state: Followed): void {
    const watched = this.#watched.get(state)
    if (watched === undefined) return
    this.#watched.delete(state)
    this.#watch.end(watched, 'destroyed')
  }

  waiting(call: EndCall): Waiting {
    return this.#watch.waiting(call)
  }

  hear(notice: EndNotice): MaybePromise<void> {
    return this.#watch.hear(notice)
  }

  async close(): Promise<void> {
    const { store } = this.#config
    if (!this.#isClosed) this.#watch.members -= 1
    this.#isClosed = true
    // The next registration may have another clock.
    if (this.#watch.members === 0 && watches.get(store) === this.#watch) watches.delete(store)
    await this.#watch.leave(this.#config)
  }

  #put(watched: Watched, state: Followed, key: string): void {
    if (this.#isClosed || watched.isOver) return
    const { record, moving, identity } = state
    const isThere = watched.isWatched && watched.key === key
    const stored = key === identity.publicId ? record : moving.departure?.record
    watched.version = stored?.version ?? ''
    watched.lasts(state)
    this.#watch.add(watched, key)
    // It may have ended before it was watched there.
    if (!isThere) this.#watch.lookAt(watched)
  }
}

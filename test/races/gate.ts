import { WatchedStore, type Verb } from '../helpers/stores.ts'
import { signal } from '../helpers/waiting.ts'
import type { SessionStore } from '../../lib/index.ts'

/** A store call that was stopped. */
export interface Held {
  /** Settles when a call has arrived here. */
  readonly reached: Promise<void>
  /** Lets the call go on. */
  release(): void
}

type When = 'before' | 'after'

/**
 * An asynchronous store at whose calls a test can stop a request: before the call takes effect, or
 * after it and before its answer.
 */
export class Gate extends WatchedStore {
  readonly #holds: {
    readonly verb: Verb
    readonly when: When
    readonly arrive: () => Promise<void>
  }[] = []

  constructor(inner: SessionStore) {
    super(inner)
    this.intercept = async ({ verb }, pass) => {
      await this.#stop(verb, 'before')
      const answer = await pass()
      await this.#stop(verb, 'after')
      return answer
    }
  }

  /**
   * Stops the next call of this kind that no other hold stops. A call of `move` is both a `create`
   * and a `retire`.
   */
  hold(verb: Verb, when: When = 'before'): Held {
    const [reached, arrived] = signal()
    const [released, release] = signal()
    this.#holds.push({
      verb,
      when,
      arrive() {
        arrived()
        return released
      }
    })
    return { reached, release }
  }

  async #stop(verb: Verb, when: When): Promise<void> {
    const kinds = verb === 'move' ? ['move', 'create', 'retire'] : [verb]
    const index = this.#holds.findIndex((hold) => kinds.includes(hold.verb) && hold.when === when)
    if (index !== -1) await this.#holds.splice(index, 1)[0]?.arrive()
  }
}

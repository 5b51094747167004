import type { MaybePromise, SessionRecord, SessionStore } from '../../lib/index.ts'

export type Verb = 'get' | 'create' | 'update' | 'touch' | 'delete'

/** A call of a store, as a test sees it. */
export interface Call {
  readonly verb: Verb
  readonly key: string
}

/** Stands before a store, and lets a test watch and break its calls. */
export class WatchedStore implements SessionStore {
  readonly calls: Call[] = []
  readonly #inner: SessionStore

  constructor(inner: SessionStore) {
    this.#inner = inner
  }

  /** What happens to a call; the default passes it on. A test replaces it. */
  intercept: <T>(call: Call, pass: () => MaybePromise<T>) => MaybePromise<T> = (_call, pass) => pass()

  get(key: string): MaybePromise<SessionRecord | undefined> {
    return this.#through('get', key, () => this.#inner.get(key))
  }

  create(key: string, record: SessionRecord): MaybePromise<boolean> {
    return this.#through('create', key, () => this.#inner.create(key, record))
  }

  update(key: string, record: SessionRecord, expectedVersion: string): MaybePromise<boolean> {
    return this.#through('update', key, () => this.#inner.update(key, record, expectedVersion))
  }

  touch(key: string, expiresAt: number): MaybePromise<number | undefined> {
    return this.#through('touch', key, () => this.#inner.touch(key, expiresAt))
  }

  delete(key: string): MaybePromise<SessionRecord | undefined> {
    return this.#through('delete', key, () => this.#inner.delete(key))
  }

  /** The verbs called since the last time, and forgets them. */
  taken(): Verb[] {
    return this.calls.splice(0).map(({ verb }) => verb)
  }

  #through<T>(verb: Verb, key: string, pass: () => MaybePromise<T>): MaybePromise<T> {
    const call = { verb, key }
    this.calls.push(call)
    return this.intercept(call, pass)
  }
}

/** A store, and how time passes for it and for the test's clock. */
export interface Aging<Store extends SessionStore = SessionStore> {
  readonly store: Store
  readonly advance: (milliseconds: number) => MaybePromise<void>
}

/** Answers every call with a promise, a turn of the event loop later: as a store on a network does. */
export function slow(inner: SessionStore): WatchedStore {
  const store = new WatchedStore(inner)
  store.intercept = async (_call, pass) => {
    await nextTurn()
    const answer = await pass()
    await nextTurn()
    return answer
  }
  return store
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve) })
}

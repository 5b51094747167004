import {
  MemoryStore,
  type MaybePromise,
  type SessionFeed,
  type SessionRecord,
  type SessionStore,
  type SessionTrace,
  type SubjectStore
} from '../../lib/index.ts'

export type Verb =
  | 'get'
  | 'create'
  | 'update'
  | 'touch'
  | 'delete'
  | 'retire'
  | 'move'
  | 'look'
  | keyof SubjectStore

/** A call of a store, as a test sees it. */
export interface Call {
  readonly verb: Verb
  readonly key: string
}

/** Stands before a store, and lets a test watch and break its calls. */
export class WatchedStore implements SessionStore {
  readonly calls: Call[] = []
  /** There if the store has it. */
  readonly move?: Required<SessionStore>['move']
  readonly subjects?: SubjectStore
  readonly feed?: SessionFeed
  readonly #inner: SessionStore

  constructor(inner: SessionStore) {
    this.#inner = inner
    const { subjects } = inner
    if (inner.move !== undefined) {
      const able = inner as Required<SessionStore>
      this.move = (...given) => this.#through('move', given[0], () => able.move(...given))
    }
    if (subjects !== undefined) this.subjects = this.#watch(subjects)
    const { feed } = inner
    if (feed !== undefined) {
      this.feed = {
        listen: (listener) => feed.listen(listener),
        look: (keys) => this.#through('look', keys.join(' '), () => feed.look(keys))
      }
    }
  }

  /** What happens to a call; the default passes it on. A test replaces it. */
  intercept: <T>(call: Call, pass: () => MaybePromise<T>) => MaybePromise<T> = (_call, pass) =>
    pass()

  get(key: string): MaybePromise<SessionRecord | SessionTrace | undefined> {
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

  delete(key: string): MaybePromise<SessionRecord | SessionTrace | true | undefined> {
    return this.#through('delete', key, () => this.#inner.delete(key))
  }

  retire(key: string, trace: SessionTrace): MaybePromise<boolean> {
    return this.#through('retire', key, () => this.#inner.retire(key, trace))
  }

  /** The verbs called since the last time, and forgets them. */
  taken(): Verb[] {
    return this.calls.splice(0).map(({ verb }) => verb)
  }

  #watch(subjects: SubjectStore): SubjectStore {
    const through =
      <Name extends keyof SubjectStore>(verb: Name) =>
      (...given: Parameters<SubjectStore[Name]>): MaybePromise<unknown> =>
        this.#through(verb, given[0] ?? '', () =>
          (subjects[verb] as (...args: unknown[]) => MaybePromise<unknown>).apply(subjects, given)
        )
    const verbs = ['stamp', 'list', 'find', 'create', 'move', 'endAll', 'endOne', 'endEverything']
    return Object.fromEntries(
      verbs.map((verb) => [verb, through(verb as keyof SubjectStore)])
    ) as unknown as SubjectStore
  }

  #through<T>(verb: Verb, key: string, pass: () => MaybePromise<T>): MaybePromise<T> {
    const call = { verb, key }
    this.calls.push(call)
    return this.intercept(call, pass)
  }
}

/** A MemoryStore that can move a session in one step, as PostgresStore can. */
export class MovingStore extends MemoryStore {
  move(key: string, record: SessionRecord, trace: SessionTrace): boolean {
    const departed = this.get(key)
    if (departed?.version !== trace.version || departed.successor !== undefined) return false
    return this.create(trace.successor, record) && this.retire(key, trace)
  }
}

/** A store, and how time passes for it and for the test's clock. */
export interface Aging<Store extends SessionStore = SessionStore> {
  readonly store: Store
  readonly advance: (milliseconds: number) => MaybePromise<void>
}

/**
 * Returns a promise from every call, and settles it a turn of the event loop later: as a store on a
 * network does.
 */
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

/** What stands before a store in a test, and lets the test watch it. */
export type Wrap = (inner: SessionStore) => WatchedStore

/** A store that returns plain values, and one that returns promises: a test runs once over each. */
export const wraps: Readonly<Record<'memory store' | 'slow store', Wrap>> = {
  'memory store': (inner) => new WatchedStore(inner),
  'slow store': slow
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

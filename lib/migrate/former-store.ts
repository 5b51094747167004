import { SessionError } from '../errors.ts'
import type { FormerId } from './former-cookie.ts'
import type { StoreClient } from '../session/store-client.ts'
import type { FormerSession, FormerStore } from '../../types/migrate.ts'

type Callback = (error?: unknown, result?: unknown) => void

/** What leads to a former session. */
export type Link = Pick<FormerId, 'sid' | 'hasExpiry'>

/** The store of the former plugin, whose calls count for the deadline of an operation. */
export class FormerSessionStore {
  readonly #store: FormerStore

  constructor(store: FormerStore) {
    this.#store = store
  }

  /**
   * Returns the live session of an id. Undefined: there is none.
   *
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  async get(client: StoreClient, former: Link, now: number): Promise<FormerSession | undefined> {
    const session = await call(client, (done) => this.#store.get(former.sid, done))
    if (isNothing(session)) return undefined
    if (!isSession(session)) throw failed('it returns what is no session')
    // A store that cannot touch leaves it to the plugin to see what has expired.
    const goesByExpiry = former.hasExpiry || this.#store.touch === undefined
    return goesByExpiry && now >= (expiryOf(session) ?? Infinity) ? undefined : session
  }

  /** @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT */
  async destroy(client: StoreClient, { sid }: Pick<Link, 'sid'>): Promise<void> {
    await call(client, (done) => this.#store.destroy(sid, done))
  }

  /**
   * Moves the expiry of a session, as a request to the former plugin does.
   *
   * @throws HOLDFAST_STORE_FAILED, HOLDFAST_STORE_TIMEOUT
   */
  async touch(
    client: StoreClient,
    { sid, hasExpiry }: Link,
    session: FormerSession,
    now: number
  ): Promise<void> {
    // A touch does not reach the expiry that a session has, and setting it could bring back what is
    // being ended there.
    if (hasExpiry || this.#store.touch === undefined) return
    const { cookie } = session
    const maxAge = cookie?.originalMaxAge
    const expires = typeof maxAge === 'number' ? new Date(now + maxAge) : cookie?.expires
    const touched = { ...session, cookie: { ...cookie, expires } }
    await call(client, (done) => this.#store.touch?.(sid, touched, done))
  }
}

/** When a former session expires, as far as it says so: epoch milliseconds. */
function expiryOf({ cookie }: FormerSession): number | undefined {
  const { expires } = cookie ?? {}
  if (typeof expires !== 'number' && typeof expires !== 'string' && !isDate(expires)) {
    return undefined
  }
  const at = new Date(expires).getTime()
  return Number.isNaN(at) ? undefined : at
}

/** How many milliseconds a former session may still live. Undefined: it does not say. */
export function lifeOf(session: FormerSession, now: number): number | undefined {
  const left = (expiryOf(session) ?? -Infinity) - now
  const maxAge: unknown = session.cookie?.originalMaxAge
  const life = Math.max(left, typeof maxAge === 'number' ? maxAge : -Infinity)
  return Number.isFinite(life) ? life : undefined
}

/** Makes a call that ends by its callback, or by a promise that rejects. */
async function call(client: StoreClient, begin: (done: Callback) => unknown): Promise<unknown> {
  const called = new Promise<unknown>((resolve, reject) => {
    const begun = begin((error, result) => {
      // Some stores say by an error that they have no such session.
      if (isNothing(error)) resolve(result)
      else if (isMissing(error)) resolve(undefined)
      else reject(error)
    })
    Promise.resolve(begun).catch(reject)
  })
  try {
    return await client.waitFor(called)
  } catch (cause) {
    if (cause instanceof SessionError) throw cause
    throw failed('it failed', cause)
  }
}

function failed(what: string, cause?: unknown): SessionError {
  const detail = `the store of carryOver(): ${what}`
  return new SessionError(
    'HOLDFAST_STORE_FAILED',
    cause === undefined ? { detail } : { cause, detail }
  )
}

/** Stores say in several ways that they have no such session. */
function isNothing(value: unknown): boolean {
  return value === undefined || value === null || value === false || value === ''
}

/** Whether it is an object of keys, of this realm or of another one. */
function isSession(value: unknown): value is FormerSession {
  return Object.prototype.toString.call(value) === '[object Object]'
}

function isDate(value: unknown): value is Date {
  return value instanceof Date
}

/** Whether an error says that there is no such session. A socket that is not there is another matter. */
function isMissing(error: unknown): boolean {
  const { code, syscall } = error as { readonly code?: unknown; readonly syscall?: unknown }
  return code === 'ENOENT' && syscall !== 'connect'
}

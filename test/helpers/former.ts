import { createHmac } from 'node:crypto'

import type { FormerStore } from '../../lib/migrate/index.ts'
import type { MaybePromise } from '../../lib/index.ts'

/** The secret of the former plugin: shorter than ours may be. */
export const formerSecret = 'keyboard cat'

/** Signs as cookie-signature of express-session and the Signer of @fastify/cookie do. */
export function sign(sid: string, secret = formerSecret): string {
  const mac = createHmac('sha256', secret).update(sid).digest('base64').replaceAll('=', '')
  return `${sid}.${mac}`
}

/** The Cookie header of a browser that express-session gave its cookie. */
export function ofExpress(sid: string, secret = formerSecret): { cookie: string } {
  return { cookie: `connect.sid=${encodeURIComponent(`s:${sign(sid, secret)}`)}` }
}

/** The same of @fastify/session. */
export function ofFastify(sid: string, secret = formerSecret): { cookie: string } {
  return { cookie: `connect.sid=${encodeURIComponent(sign(sid, secret))}` }
}

type Verb = 'get' | 'destroy' | 'touch'
type Done = (error?: unknown, session?: unknown) => void

/** A store of express-session, as far as it is asked, whose calls a test can watch and break. */
export class OldStore implements FormerStore {
  readonly sessions = new Map<string, string>()
  readonly calls: Verb[] = []
  /** What happens to a call; the default passes it on. A test replaces it. */
  intercept: <T>(verb: Verb, pass: () => T) => MaybePromise<T> = (_verb, pass) => pass()

  put(sid: string, data: object, cookie: object = { originalMaxAge: 3_600_000 }): void {
    this.sessions.set(sid, JSON.stringify({ cookie, ...data }))
  }

  get(sid: string, callback: Done): void {
    this.#call('get', callback, () => {
      const text = this.sessions.get(sid)
      return text === undefined ? null : JSON.parse(text)
    })
  }

  destroy(sid: string, callback: Done): void {
    this.#call('destroy', callback, () => this.sessions.delete(sid))
  }

  touch(sid: string, session: { cookie: object }, callback: Done): void {
    this.#call('touch', callback, () => {
      const text = this.sessions.get(sid)
      if (text === undefined) return
      const { cookie } = session
      this.sessions.set(sid, JSON.stringify({ ...JSON.parse(text), cookie }))
    })
  }

  async #answer(verb: Verb, callback: Done, pass: () => unknown): Promise<void> {
    let result: unknown
    try {
      result = await this.intercept(verb, pass)
    } catch (error) {
      callback(error)
      return
    }
    callback(null, result)
  }

  #call(verb: Verb, callback: Done, pass: () => unknown): void {
    this.calls.push(verb)
    void this.#answer(verb, callback, pass)
  }
}

import type { InjectOptions, LightMyRequestResponse } from 'fastify'

import { systemClock } from '../clock.ts'

/**
 * Injects requests as a browser sends them: with the cookies it was given, until they end, and with `Sec-Fetch-Site` and `Sec-Fetch-Mode`.
 * It knows one app, and so no `Domain`, `Path` or `Secure`.
 *
 * ```ts
 * const ada = new TestBrowser(app)
 * await ada.inject('/login', { method: 'POST', payload: { user: 'ada' } })
 * const reply = await ada.inject('/me')
 * ```
 */
export class TestBrowser {
  /** What it holds: the values as they travel. */
  readonly cookies: Map<string, string> = new Map()
  readonly #app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }

  constructor(app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }) {
    this.#app = app
  }

  /** Sends a request, and takes in the cookies of the reply. */
  async inject(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    return this.receive(await this.send(url, options))
  }

  /** Sends a request with the cookies of now; what the reply sets waits for `receive()`, in the order that a test wants. */
  async send(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', ...cookie === '' ? {} : { cookie }, ...options.headers }
    return await this.#app.inject({ ...options, url, headers })
  }

  /** Takes in the cookies that a reply sets, and drops those that it ends. Answers the reply. */
  receive(reply: LightMyRequestResponse): LightMyRequestResponse {
    for (const line of [reply.headers['set-cookie'] ?? []].flat()) {
      const [, name, value] = /^([^=;]*)=([^;]*)/.exec(line) ?? []
      if (name === undefined || value === undefined) continue
      if (hasEnded(line)) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return reply
  }
}

/** Max-Age goes before Expires (RFC 6265, 5.3). */
function hasEnded(line: string): boolean {
  const [, maxAge] = /;\s*max-age=(-?\d+)/i.exec(line) ?? []
  if (maxAge !== undefined) return Number(maxAge) <= 0
  const [, expires] = /;\s*expires=([^;]+)/i.exec(line) ?? []
  return expires !== undefined && Date.parse(expires) <= systemClock.now()
}

import type { InjectOptions, LightMyRequestResponse } from 'fastify'

import { systemClock } from '../clock.ts'

/**
 * Sends requests through `app.inject()` as a browser would: with the cookies that it was given,
 * until they expire, and with `Sec-Fetch-Site` and `Sec-Fetch-Mode`. It knows a single app, and so
 * ignores the attributes `Domain`, `Path` and `Secure`.
 *
 * ```ts
 * const ada = new TestBrowser(app)
 * await ada.inject('/login', { method: 'POST', payload: { user: 'ada' } })
 * const reply = await ada.inject('/me')
 * ```
 */
export class TestBrowser {
  /** The cookies of the browser: their values by name, encoded as they are sent. */
  readonly cookies: Map<string, string> = new Map()
  readonly #app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }

  constructor(app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }) {
    this.#app = app
  }

  /** Sends a request, stores the cookies of the reply, and returns the reply. */
  async inject(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    return this.receive(await this.send(url, options))
  }

  /**
   * Sends a request with the present cookies, and returns the reply without storing its cookies.
   * Pass it to `receive()` to do so: a test can thus decide in which order concurrent replies
   * arrive.
   */
  async send(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = {
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'navigate',
      ...(cookie === '' ? {} : { cookie }),
      ...options.headers
    }
    return await this.#app.inject({ ...options, url, headers })
  }

  /** Stores the cookies that a reply sets, removes those that it expires, and returns the reply. */
  receive(reply: LightMyRequestResponse): LightMyRequestResponse {
    const setCookie = reply.headers['set-cookie'] ?? []
    for (const line of Array.isArray(setCookie) ? setCookie : [setCookie]) {
      const [, name, value] = /^([^=;]*)=([^;]*)/.exec(line) ?? []
      if (name === undefined || value === undefined) continue
      if (isExpired(line)) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return reply
  }
}

/** Returns whether a Set-Cookie line expires its cookie. Max-Age has precedence (RFC 6265, 5.3). */
function isExpired(line: string): boolean {
  const [, maxAge] = /;\s*max-age=(-?\d+)/i.exec(line) ?? []
  if (maxAge !== undefined) return Number(maxAge) <= 0
  const [, expires] = /;\s*expires=([^;]+)/i.exec(line) ?? []
  return expires !== undefined && Date.parse(expires) <= systemClock.now()
}

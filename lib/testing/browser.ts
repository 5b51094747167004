import type { InjectOptions, LightMyRequestResponse } from 'fastify'

import { systemClock } from '../clock.ts'
import { afterRedirect } from './redirect.ts'

/** How many redirects a browser follows (Fetch, 4.4). */
const maxRedirects = 20

/**
 * Sends requests through `app.inject()` as a browser would: with the cookies that it was given,
 * until they expire, and with `Sec-Fetch-Site` and `Sec-Fetch-Mode`. It knows a single app, and so
 * ignores the attributes `Domain`, `Path` and `Secure`.
 *
 * Every method takes what `app.inject()` takes: a URL or the options, or both.
 *
 * ```ts
 * const ada = new TestBrowser(app)
 * await ada.inject('/login', { method: 'POST', payload: { user: 'ada' } })
 * const reply = await ada.inject({ url: '/me', query: { full: 'yes' } })
 * const page = await ada.submit('/cart', { fruit: 'apple' })
 * ```
 */
export class TestBrowser {
  /** The cookies of the browser: their values by name, encoded as they are sent. */
  readonly cookies: Map<string, string> = new Map()
  readonly #app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }

  constructor(app: { inject(options: InjectOptions): PromiseLike<LightMyRequestResponse> }) {
    this.#app = app
  }

  /** Sends a request, stores the cookies of the reply, and returns the reply, also a redirect. */
  async inject(
    request: string | InjectOptions,
    options: InjectOptions = {}
  ): Promise<LightMyRequestResponse> {
    return this.receive(await this.send(request, options))
  }

  /**
   * Opens a page: as `inject()`, and follows redirects as a browser does (Fetch, 4.4). After a 303,
   * and a 301 or 302 to a POST, it goes on with a GET. A redirect to another origin is
   * returned as it is.
   *
   * @throws Error the app redirects more than 20 times
   */
  async open(
    request: string | InjectOptions,
    options: InjectOptions = {}
  ): Promise<LightMyRequestResponse> {
    let asked = merge(request, options)
    for (let redirects = 0; redirects <= maxRedirects; redirects++) {
      const reply = await this.inject(asked)
      const next = afterRedirect(asked, reply)
      if (next === undefined) return reply
      asked = next
    }
    throw new Error(`The app redirects more than ${maxRedirects} times`)
  }

  /**
   * Posts a form, URL-encoded as a browser does, and follows redirects as `open()` does.
   *
   * @param fields the values by name; a list for a name that the form has several times
   */
  async submit(
    request: string | InjectOptions,
    fields: Readonly<Record<string, string | readonly string[]>> = {},
    options: InjectOptions = {}
  ): Promise<LightMyRequestResponse> {
    const form = new URLSearchParams(
      Object.entries(fields).flatMap(([name, values]) => [values].flat().map((one) => [name, one]))
    )
    const { headers, ...rest } = merge(request, options)
    return this.open({
      method: 'POST',
      ...rest,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: form.toString()
    })
  }

  /**
   * Sends a request with the present cookies, and returns the reply without storing its cookies.
   * Pass it to `receive()` to do so: a test can thus decide in which order concurrent replies
   * arrive.
   */
  async send(
    request: string | InjectOptions,
    options: InjectOptions = {}
  ): Promise<LightMyRequestResponse> {
    const asked = merge(request, options)
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = {
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'navigate',
      ...(cookie === '' ? {} : { cookie }),
      ...asked.headers
    }
    return await this.#app.inject({ ...asked, headers })
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

/** The options of a request, of either or both forms of `app.inject()`. */
function merge(request: string | InjectOptions, options: InjectOptions): InjectOptions {
  return { ...options, ...(typeof request === 'string' ? { url: request } : request) }
}

/** Returns whether a Set-Cookie line expires its cookie. Max-Age has precedence (RFC 6265, 5.3). */
function isExpired(line: string): boolean {
  const [, maxAge] = /;\s*max-age=(-?\d+)/i.exec(line) ?? []
  if (maxAge !== undefined) return Number(maxAge) <= 0
  const [, expires] = /;\s*expires=([^;]+)/i.exec(line) ?? []
  return expires !== undefined && Date.parse(expires) <= systemClock.now()
}

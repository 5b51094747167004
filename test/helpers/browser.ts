import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'

/** A client that keeps cookies as a browser does: one per name, gone at Max-Age 0. */
export class Browser {
  readonly cookies = new Map<string, string>()
  readonly #app: FastifyInstance

  constructor(app: FastifyInstance) {
    this.#app = app
  }

  /** Sends what it holds now; takes in what the reply sets when it arrives. */
  async get(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    return this.receive(await this.send(url, options))
  }

  /** Only sends. The reply is taken in with `receive`, in the order the network delivers. */
  async send(url: string, options: InjectOptions = {}): Promise<LightMyRequestResponse> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    // An injected request starts when it is awaited.
    return await this.#app.inject({
      url,
      ...options,
      headers: { 'sec-fetch-mode': 'navigate', ...cookie === '' ? {} : { cookie }, ...options.headers }
    })
  }

  receive(reply: LightMyRequestResponse): LightMyRequestResponse {
    for (const { name, value, maxAge } of reply.cookies) {
      if (maxAge === 0) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return reply
  }
}

/** What a reply carries of the session. */
export function carriedBy(reply: LightMyRequestResponse): { header: string | undefined, cookie: string | undefined } {
  return {
    header: reply.headers['x-session-id'] as string | undefined,
    cookie: reply.cookies.find(({ name }) => name === 'session_id')?.value
  }
}

import type { InjectOptions, LightMyRequestResponse } from 'fastify'

import { TestBrowser } from '../../lib/testing/index.ts'

/** The published test browser, with the verb that our tests use most. */
export class Browser extends TestBrowser {
  get(url: string, options?: InjectOptions): Promise<LightMyRequestResponse> {
    return this.inject(url, options)
  }
}

/** What a reply carries of the session. */
export function carriedBy(reply: LightMyRequestResponse): { header: string | undefined, cookie: string | undefined } {
  return {
    header: reply.headers['x-session-id'] as string | undefined,
    cookie: reply.cookies.find(({ name }) => name === 'session_id')?.value
  }
}

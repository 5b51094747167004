import type { InjectOptions, LightMyRequestResponse } from 'fastify'

import { TestBrowser } from '../../lib/testing/index.ts'

/** The published test browser, with the verb that our tests use most. */
export class Browser extends TestBrowser {
  get(url: string, options?: InjectOptions): Promise<LightMyRequestResponse> {
    return this.inject(url, options)
  }
}

/** The id in a browser's cookie. It is empty where there is none. */
export function idIn({ cookies }: Browser): string {
  return cookies.get('session_id') ?? ''
}

/** What a reply carries of the session. */
export function carriedBy(reply: LightMyRequestResponse): {
  header: string | undefined
  cookie: string | undefined
} {
  return {
    header: reply.headers['x-session-id'] as string | undefined,
    cookie: reply.cookies.findLast(({ name }) => name === 'session_id')?.value
  }
}

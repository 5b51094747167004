import type {
  FastifyInstance,
  FastifyReply,
  FastifyServerOptions,
  LightMyRequestResponse
} from 'fastify'
import type { Test } from 'tap'

import {
  MemoryStore,
  type Session,
  type SessionData,
  type SessionOptions
} from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Browser, idIn } from './browser.ts'
import { serve, stored, type Served } from './serve.ts'
import { wraps, WatchedStore, type Wrap } from './stores.ts'

/** Serves one request. What it returns is the body of the reply; the default is 'ok'. */
type Handler = (session: Session, reply: FastifyReply) => unknown

/** What `serve()` gives, and a browser whose requests each have a handler of their own. */
export interface World extends Served {
  readonly browser: Browser
  /** Gives a handler a URL. */
  readonly route: (handler: Handler) => string
  /** Sends a request of the browser to a handler. */
  readonly visit: (
    handler?: Handler,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** The id in the browser's cookie. It is empty where there is none. */
  readonly id: () => string
  /** The data stored under an id, by default under the browser's. */
  readonly stored: (id?: string) => Promise<SessionData | undefined>
}

/** What a test may have otherwise. */
interface Setting {
  /** What stands before the store. It is a watched store that passes every call on by default. */
  readonly wrap?: Wrap
  readonly fastifyOptions?: FastifyServerOptions
  /** Gets the app before the plugin does. */
  readonly before?: (app: FastifyInstance) => void
}

/** Serves an app over a MemoryStore, or over the store of the options. */
export async function world(
  t: Test,
  options: SessionOptions = {},
  { wrap = wraps['memory store'], fastifyOptions, before }: Setting = {}
): Promise<World> {
  const clock = options.clock instanceof TestClock ? options.clock : new TestClock()
  // It sweeps seldom: a test clock that moves on by months goes through every sweep.
  const inner = options.store ?? new MemoryStore({ clock, sweepInterval: 2_000_000 })
  const store = inner instanceof WatchedStore ? inner : wrap(inner)
  const served = await serve(t, { ...options, clock, store }, fastifyOptions, before)
  const { app } = served
  const browser = new Browser(app)
  const handlers: Handler[] = []
  app.get<{ Params: { n: number } }>(
    '/handlers/:n',
    async ({ session, params }, reply) => (await handlers[params.n]?.(session, reply)) ?? 'ok'
  )
  const route: World['route'] = (handler) => `/handlers/${handlers.push(handler) - 1}`
  return {
    ...served,
    browser,
    route,
    visit: (handler = () => {}, headers = {}) => browser.get(route(handler), { headers }),
    id: () => idIn(browser),
    stored: (id = idIn(browser)) => stored(app, id)
  }
}

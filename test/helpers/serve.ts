import Fastify, { type FastifyInstance, type FastifyServerOptions, type LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'

import './data.ts'
import sessionPlugin, { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { WatchedStore } from './stores.ts'

export interface Served {
  readonly app: FastifyInstance
  /** What the app was given, if that was none of its own. */
  readonly store: WatchedStore
  readonly clock: TestClock
  /** The lines of the log from level warn on. */
  readonly log: readonly string[]
}

/** An app with the plugin over a watched store, and a few routes; a test adds its own. */
export async function serve(t: Test, options: SessionOptions = {}, fastifyOptions: FastifyServerOptions = {}): Promise<Served> {
  const clock = options.clock instanceof TestClock ? options.clock : new TestClock()
  const store = options.store instanceof WatchedStore ? options.store : new WatchedStore(new MemoryStore({ clock }))
  const log: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { log.push(line) } } }, ...fastifyOptions })
  t.teardown(() => app.close())
  await app.register(sessionPlugin, { clock, store, ...options })
  return { app: addRoutes(app), store, clock, log }
}

/** The routes that tests have in common. */
export function addRoutes(app: FastifyInstance): FastifyInstance {
  app.get('/look-away', async () => 'seen nothing')
  app.get('/read', async ({ session }) => ({ ...session }))
  app.get<{ Params: { value: string } }>('/write/:value', async ({ session, params }) => {
    session.a = params.value
    return 'written'
  })
  app.get('/touch', async ({ session }) => { session.touch() })
  app.get('/login', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
  })
  app.get('/update', async ({ session }) => ({ n: await session.update((draft) => draft.n = (draft.n ?? 0) + 1) }))
  app.get('/logout', async ({ session }) => { await session.destroy() })
  return app
}

/** Begins a session that holds a: value, and answers its id. */
export async function begin(app: FastifyInstance, value = 'old'): Promise<string> {
  return (await app.inject(`/write/${value}`)).cookies[0]?.value as string
}

/** What the session of an id holds, signed or not; undefined if there is none. */
export async function stored(app: FastifyInstance, id: string): Promise<unknown> {
  return (await app.sessions.get(app.sessions.publicIdOf(id.split('.', 1)[0] as string)))?.data
}

/** Every Set-Cookie line of a reply. */
export function setCookies(reply: LightMyRequestResponse): string[] {
  return [reply.headers['set-cookie'] ?? []].flat()
}

/** Collects what would end the process. */
export function unhandled(t: Test): unknown[] {
  const rejections: unknown[] = []
  const note = (reason: unknown): void => { rejections.push(reason) }
  process.on('unhandledRejection', note)
  t.teardown(() => { process.off('unhandledRejection', note) })
  return rejections
}

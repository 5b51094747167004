import type { AddressInfo } from 'node:net'

import Fastify, {
  type FastifyInstance,
  type FastifyServerOptions,
  type LightMyRequestResponse
} from 'fastify'
import type { Test } from 'tap'

import './data.ts'
import sessionPlugin, {
  MemoryStore,
  type SessionData,
  type SessionOptions
} from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { WatchedStore } from './stores.ts'

export interface Served {
  readonly app: FastifyInstance
  /** The app's store, unless the options had one that nobody watches. */
  readonly store: WatchedStore
  readonly clock: TestClock
  /** The lines of the log from level warn on. */
  readonly log: readonly string[]
}

/**
 * An app with the plugin over a watched store, and a few routes; a test adds its own. `before` gets
 * the app before the plugin does.
 */
export async function serve(
  t: Test,
  options: SessionOptions = {},
  fastifyOptions: FastifyServerOptions = {},
  before: (app: FastifyInstance) => void = () => {}
): Promise<Served> {
  const clock = options.clock instanceof TestClock ? options.clock : new TestClock()
  const store =
    options.store instanceof WatchedStore
      ? options.store
      : new WatchedStore(new MemoryStore({ clock }))
  const log: string[] = []
  const app = Fastify({
    logger: logInto(log),
    ...fastifyOptions
  })
  t.teardown(() => app.close())
  before(app)
  await app.register(sessionPlugin, { clock, store, ...options })
  return { app: addRoutes(app), store, clock, log }
}

/** A logger whose lines a test reads. */
export function logInto(lines: string[], level = 'warn'): FastifyServerOptions['logger'] & object {
  return {
    level,
    stream: {
      write(line: string) {
        lines.push(line)
      }
    }
  }
}

/** The routes that tests have in common. */
function addRoutes(app: FastifyInstance): FastifyInstance {
  app.get('/look-away', async () => 'seen nothing')
  app.get('/read', async ({ session }) => ({ ...session }))
  app.get<{ Params: { value: string } }>('/write/:value', async ({ session, params }) => {
    session.a = params.value
    return 'written'
  })
  app.get('/touch', async ({ session }) => {
    session.touch()
  })
  app.get('/sign-in-ada', async ({ session }) => session.signIn('ada'))
  app.get('/reauthenticate', async ({ session }) => session.reauthenticate(() => true))
  app.get('/step-up-all', async ({ session }) => session.regenerate('all', { keepLifetime: true }))
  app.get('/login', async ({ session }) => {
    await session.regenerate()
    session.user = 'ada'
  })
  app.get('/update', async ({ session }) => ({
    n: await session.update((draft) => (draft.n = (draft.n ?? 0) + 1))
  }))
  app.get('/logout', async ({ session }) => {
    await session.destroy()
  })
  return app
}

/** Has an app listen on a free port, and returns the port. */
export async function listen(app: FastifyInstance): Promise<number> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  return (app.server.address() as AddressInfo).port
}

/** Begins a session that holds a: value, and returns its id. */
export async function begin(app: FastifyInstance, value = 'old'): Promise<string> {
  return (await app.inject(`/write/${value}`)).cookies[0]?.value as string
}

/** What the session of an id holds, signed or not; undefined if there is none. */
export async function stored(app: FastifyInstance, id: string): Promise<SessionData | undefined> {
  return (await app.sessions.get(app.sessions.publicIdOf(id.split('.', 1)[0] as string)))?.data
}

/** Every Set-Cookie line of a reply. */
export function setCookies(reply: LightMyRequestResponse): string[] {
  return [reply.headers['set-cookie'] ?? []].flat()
}

/** Collects what would end the process. */
export function unhandled(t: Test): unknown[] {
  const rejections: unknown[] = []
  const note = (reason: unknown): void => {
    rejections.push(reason)
  }
  process.on('unhandledRejection', note)
  t.teardown(() => {
    process.off('unhandledRejection', note)
  })
  return rejections
}

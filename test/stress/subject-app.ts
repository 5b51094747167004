// A server process under stress, for users who sign in on several devices. It tells the instants at
// which it called something by the clock that all processes of a machine share.
import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { setTimeout as pass } from 'node:timers/promises'

import type { Session } from '../../lib/index.ts'
import type { Said } from './app.ts'
import { openStore, type AppSettings } from './open-store.ts'
import { now, type Answer, type Order } from './subject-history.ts'

const settings = JSON.parse(process.argv[2]) as AppSettings
const { lib, storeTimeout } = settings
const { default: sessionPlugin } = (await import(
  new URL('index.js', lib).href
)) as typeof import('../../lib/index.ts')

function say(message: Said): void {
  process.send?.(message)
}

process.on('message', () => {})
process.on('disconnect', () => {
  process.exit()
})
process.on('unhandledRejection', (reason) => {
  say({ say: 'unhandled', what: String(reason) })
})

const app = Fastify()
await app.register(sessionPlugin, {
  store: await openStore(settings),
  storeTimeout,
  subjectSessions: { max: 4 },
  // A login is a session, and nothing else is.
  saveUninitialized: false
})

function about(session: Session): Answer {
  if (session.subject === undefined) return {}
  const checkedFrom = session.get('checkedFrom') as number
  return { subject: session.subject, handle: session.publicId, checkedFrom }
}

app.post<{ Body: Order }>('/', async ({ session, body }): Promise<Answer> => {
  const { sessions } = app
  switch (body.action) {
    case 'who':
      return about(session)
    case 'sign in': {
      let checkedFrom = 0
      await session.signIn(body.subject, {
        async verify() {
          checkedFrom = now()
          await pass(body.pause)
          return true
        }
      })
      session.set('checkedFrom', checkedFrom)
      return { checkedFrom }
    }
    case 'write':
      if (session.subject !== undefined) session.set('written', body.pause)
      return {}
    case 'step up':
      if (session.subject !== undefined) await session.regenerate('all', { keepLifetime: true })
      return {}
    case 'sign out': {
      const before = about(session)
      const calledAt = now()
      await session.destroy()
      return { ...before, calledAt }
    }
    case 'list': {
      const listed = (await sessions.list(body.subject)).sessions
      return { listed: listed.map(({ publicId }) => publicId) }
    }
    case 'end one': {
      const calledAt = now()
      await sessions.destroy(body.handle)
      return { calledAt }
    }
    case 'end others': {
      const before = about(session)
      if (before.handle === undefined) return {}
      const calledAt = now()
      await sessions.destroyAll(body.subject, { except: session })
      return { ...before, calledAt }
    }
    case 'end all': {
      const calledAt = now()
      await sessions.destroyAll(body.subject)
      return { calledAt }
    }
  }
})

await app.listen({ port: 0, host: '127.0.0.1' })
say({ say: 'listening', port: (app.server.address() as AddressInfo).port })

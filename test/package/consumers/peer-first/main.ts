// Two plugins declare request.session. The first that is imported gives the type: here
// @fastify/session, and ours has another name.
import peer, { type FastifySessionObject } from '@fastify/session'
import sessionPlugin, { type Session } from 'fastify-holdfast'
import Fastify from 'fastify'

declare module 'fastify-holdfast' {
  interface NamedSessions {
    admin: { operator?: string }
  }
}

const app = Fastify()
await app.register(peer, { secret: 'at least thirty-two characters long' })
await app.register(sessionPlugin, { sessionName: 'admin' })
app.get('/', async ({ admin, session }) => {
  const theirs: FastifySessionObject = session
  const ours: Session<{ operator?: string }> = admin
  return [theirs.sessionId, ours.operator, app.admins]
})

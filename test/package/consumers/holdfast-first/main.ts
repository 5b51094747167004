// The same, the other way round: ours gives the type.
import sessionPlugin, { type Session } from 'fastify-holdfast'
import type { FastifySessionObject } from '@fastify/session'
import Fastify from 'fastify'

declare module 'fastify-holdfast' {
  interface SessionData {
    user?: string
  }
}

export type Theirs = FastifySessionObject

const app = Fastify()
await app.register(sessionPlugin)
app.get('/', async ({ session }) => {
  const ours: Session = session
  return [ours.user, ours.publicId]
})

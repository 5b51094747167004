// Beside the plugins that call a session: what they declare leaves ours as it is.
import csrfProtection from '@fastify/csrf-protection'
import flash from '@fastify/flash'
import { Authenticator } from '@fastify/passport'
import Fastify from 'fastify'
import sessionPlugin, { type Session } from 'fastify-holdfast'

declare module 'fastify-holdfast' {
  interface SessionData {
    user?: string
  }
}

const passport = new Authenticator()
const app = Fastify()
await app.register(sessionPlugin)
await app.register(flash)
await app.register(csrfProtection, { sessionPlugin: '@fastify/session' })
await app.register(passport.initialize())
await app.register(passport.secureSession())
app.get('/', { preValidation: passport.authenticate('session') }, async (request, reply) => {
  const session: Session = request.session
  session.user = 'ada'
  request.flash('welcome', 'ada')
  return { user: session.user, flash: reply.flash('welcome'), token: reply.generateCsrf() }
})

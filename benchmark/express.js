// The contenders on Express.
import { connectRedis, cookieName, dataOf, hour, secret } from './common.js'

export async function bareExpress() {
  const { default: express } = await import('express')
  const app = express()
  app.get('/ignore', (_request, response) => {
    response.json({ ok: true })
  })
  for (const path of ['/read', '/write', '/login', '/seed/:bytes'])
    app.get(path, (_request, response) => {
      response.json({ n: 0 })
    })
  return app
}

export async function expressSession({ redis, ...options }) {
  const { default: express } = await import('express')
  const { default: session } = await import('express-session')
  const app = express()
  app.use(
    session({
      secret,
      name: cookieName,
      resave: false,
      saveUninitialized: redis === undefined,
      cookie: { maxAge: hour * 1000, sameSite: 'lax' },
      ...(await connectRedis(redis)),
      ...options
    })
  )
  const write = ({ session }, response) => {
    session.n = (session.n ?? 0) + 1
    response.json({ n: session.n })
  }
  app.get('/ignore', (_request, response) => {
    response.json({ ok: true })
  })
  app.get('/read', ({ session }, response) => {
    response.json({ n: session.n ?? null })
  })
  app.get('/write', write)
  app.get('/increment', write)
  app.get('/login', (request, response, next) => {
    request.session.regenerate((error) => {
      if (error) return next(error)
      request.session.user = 'ada'
      response.json({ user: 'ada' })
    })
  })
  app.get('/seed/:bytes', (request, response) => {
    Object.assign(request.session, dataOf(Number(request.params.bytes)))
    response.json({ ok: true })
  })
  return app
}

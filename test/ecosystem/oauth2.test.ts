import { randomUUID } from 'node:crypto'

import oauth2, { type OAuth2Namespace } from '@fastify/oauth2'
import { Authenticator } from '@fastify/passport'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Strategy as OAuth2Strategy } from 'passport-oauth2'
import t, { type Test } from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, carriedBy, idIn } from '../helpers/browser.ts'
import { overAnswers, type Beside } from '../helpers/ecosystem.ts'
import { identityProvider, type IdentityProvider } from '../helpers/identity-provider.ts'
import { stored } from '../helpers/serve.ts'
import { Gate } from '../races/gate.ts'

interface Shop {
  readonly app: FastifyInstance
  readonly browser: Browser
  readonly provider: IdentityProvider
  /** The paths whose handlers ran though a hook had replied. */
  readonly overrun: readonly string[]
}

const callback = 'http://shop.example/sign-in/callback'

/** Logs in by passport-oauth2, which keeps its state nested in the session. */
async function byPassport(
  t: Test,
  { serve, answer }: Beside,
  pkce: boolean,
  options?: SessionOptions
): Promise<Shop> {
  const provider = await identityProvider(t)
  const { app } = await serve(options)
  const passport = new Authenticator()
  passport.use(
    'provider',
    new OAuth2Strategy(
      {
        authorizationURL: `${provider.url}/authorize`,
        tokenURL: `${provider.url}/token`,
        clientID: provider.client.id,
        clientSecret: provider.client.secret,
        callbackURL: callback,
        state: true,
        pkce
      },
      async (
        token: string,
        _refresh: string,
        _profile: unknown,
        done: (error: unknown, user?: object) => void
      ) => {
        done(null, await whoIs(provider, token))
      }
    )
  )
  passport.registerUserSerializer(async (user: { sub: string }) => user.sub)
  passport.registerUserDeserializer(async (sub: string) => ({ sub }))
  await app.register(passport.initialize())
  await app.register(passport.secureSession())
  const overrun: string[] = []
  const overran = async ({ url }: FastifyRequest): Promise<void> => {
    overrun.push(url)
  }
  app.get(
    '/sign-in',
    {
      preValidation: passport.authenticate('provider', { authInfo: false })
    },
    overran
  )
  app.get(
    '/sign-in/callback',
    {
      preValidation: passport.authenticate('provider', { successRedirect: '/me', authInfo: false })
    },
    overran
  )
  app.get('/me', async ({ user }, reply) => answer(reply, { user }))
  return { app, browser: new Browser(app), provider, overrun }
}

/**
 * Logs in by @fastify/oauth2, with the state in the session, as its README has it, and used once.
 */
async function byRecipe(
  t: Test,
  { serve, answer }: Beside,
  pkce: boolean,
  options?: SessionOptions
): Promise<Shop> {
  const provider = await identityProvider(t)
  const { app } = await serve(options)
  await app.register(oauth2, {
    name: 'provider',
    credentials: {
      client: provider.client,
      auth: { tokenHost: provider.url, tokenPath: '/token', authorizePath: '/authorize' }
    },
    startRedirectPath: '/sign-in',
    callbackUri: callback,
    generateStateFunction: ({ session }: FastifyRequest) => (session.state = randomUUID()),
    checkStateFunction: ({ session, query }: FastifyRequest) => {
      const { state } = session
      delete session.state
      return state !== undefined && (query as { state?: string }).state === state
    },
    ...(pkce ? { pkce: 'S256' as const } : {})
  })
  const { provider: client } = app as unknown as { provider: OAuth2Namespace }
  app.get('/sign-in/callback', async (request, reply) => {
    const { token } = await client.getAccessTokenFromAuthorizationCodeFlow(request)
    const { sub } = await whoIs(provider, token.access_token)
    await request.session.regenerate()
    request.session.user = sub
    return answer(reply.redirect('/me'))
  })
  app.get('/me', async ({ session: { user } }, reply) => {
    return answer(reply, { user: user === undefined ? null : { sub: user } })
  })
  return { app, browser: new Browser(app), provider, overrun: [] }
}

async function whoIs({ url }: IdentityProvider, token: string): Promise<{ sub: string }> {
  return (await (
    await fetch(`${url}/userinfo`, { headers: { authorization: `Bearer ${token}` } })
  ).json()) as { sub: string }
}

const ways = { 'passport-oauth2': byPassport, '@fastify/oauth2': byRecipe } as const
const ended = {
  'passport-oauth2': { passport: 'ada' },
  '@fastify/oauth2': { user: 'ada' }
} as const

for (const [name, way] of Object.entries(ways) as [keyof typeof ways, typeof byPassport][]) {
  for (const pkce of [false, true]) {
    const means = pkce ? `${name} with PKCE` : name
    overAnswers(t, `${means}: a login across the redirects`, async (t, over) => {
      const options = { saveUninitialized: false }
      const { app, browser, provider, overrun } = await way(t, over, pkce, options)
      const start = await browser.get('/sign-in')
      t.equal(start.statusCode, 302)
      t.equal(new URL(start.headers.location as string).searchParams.has('code_challenge'), pkce)
      const before = idIn(browser)
      t.equal(
        JSON.stringify(await stored(app, before)).includes(
          new URL(start.headers.location as string).searchParams.get('state') as string
        ),
        true,
        'the state is stored before the redirect leaves'
      )
      const reply = await browser.get(await provider.consent(start.headers.location as string))
      t.same([reply.statusCode, reply.headers.location], [302, '/me'])
      t.not(idIn(browser), before)
      t.same(await stored(app, before), undefined, 'the id from before the login is dead')
      t.same(await stored(app, idIn(browser)), ended[name], 'the state is used up')
      t.same((await browser.get('/me')).json(), { user: { sub: 'ada' } })
      t.equal(provider.issued(), 1)
      t.same(overrun, [])
    })
  }

  overAnswers(
    t,
    `${name}: another's callback, or one used before, logs nobody in`,
    async (t, over) => {
      const { app, browser, provider, overrun } = await way(t, over, false)
      const victim = new Browser(app)
      const path = await provider.consent(
        (await browser.get('/sign-in')).headers.location as string
      )
      await victim.get('/me')
      await victim.get('/sign-in')
      t.equal(
        (await victim.get(path)).statusCode >= 400,
        true,
        "login CSRF: the state of the attacker's session"
      )
      t.equal((await new Browser(app).get(path)).statusCode >= 400, true, 'no session')
      t.equal(
        (await browser.get(path.replace(/state=[^&]*/, 'state=guessed'))).statusCode >= 400,
        true
      )
      t.equal(
        (await browser.get(path)).statusCode >= 400,
        true,
        'a state that failed once is used up'
      )
      t.equal(provider.issued(), 0)
      for (const one of [victim, browser]) t.notMatch(await stored(app, idIn(one)), ended[name])
      const good = await provider.consent(
        (await browser.get('/sign-in')).headers.location as string
      )
      t.equal((await browser.get(good)).statusCode, 302)
      t.equal((await browser.get(good)).statusCode >= 400, true, 'once')
      t.equal(provider.issued(), 1)
      t.same(overrun, [])
    }
  )

  overAnswers(
    t,
    `${name}: a slow request from before the login does not replace its cookie`,
    async (t, over) => {
      const gate = new Gate(over.store)
      const { app, browser, provider } = await way(t, over, false, { store: gate })
      const start = await browser.get('/sign-in')
      const before = idIn(browser)
      const held = gate.hold('update')
      const slow = browser.send('/write/x')
      await held.reached
      await browser.get(await provider.consent(start.headers.location as string))
      const after = idIn(browser)
      held.release()
      const reply = browser.receive(await slow)
      t.same(carriedBy(reply), { header: undefined, cookie: undefined })
      t.not(after, before)
      t.equal(idIn(browser), after)
      t.equal(await stored(app, before), undefined)
      t.same(await stored(app, after), ended[name])
    }
  )
}

overAnswers(t, 'passport-oauth2: its nested state is seen to change and to go', async (t, over) => {
  const options = { saveUninitialized: false }
  const { app, browser, provider, overrun } = await byPassport(t, over, false, options)
  const key = `oauth2:${new URL(provider.url).hostname}`
  const states: unknown[] = []
  for (const round of [1, 2]) {
    await browser.get('/sign-in')
    const data = (await stored(app, idIn(browser))) as Record<string, { state: string }>
    t.match(data, { [key]: { state: String } }, `start ${round}`)
    states.push(data[key]?.state)
  }
  t.not(states[0], states[1])
  const refused = await browser.get('/sign-in/callback?code=guessed&state=guessed')
  t.equal(refused.statusCode, 403)
  t.same(await stored(app, idIn(browser)), {})
  t.same(overrun, [])
})

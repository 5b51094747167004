import { readdirSync, readFileSync } from 'node:fs'

import t, { type Test } from 'tap'

import { readPage, rowsWithTests } from './helpers/pages.ts'
import { runProgram, type Program } from './helpers/program.ts'
import { redisUrl, skipRedis } from './helpers/redis.ts'
import { testNames } from './helpers/test-names.ts'

const page = readFileSync('SECURITY.md', 'utf8')
const example = readFileSync('examples/production.js', 'utf8')

interface Running extends Program {
  readonly send: (
    method: string,
    path: string,
    options?: { body?: object; headers?: Record<string, string>; cookie?: string | undefined }
  ) => Promise<Response>
  /** Logs in, and returns the cookie. */
  readonly login: () => Promise<string>
}

const secrets = ['a-new-secret-of-more-than-32-bytes', 'an-old-secret-of-more-than-32-bytes']

/** The example, as a proxy on this machine that ends TLS reaches it. */
async function run(t: Test, env: Record<string, string> = {}): Promise<Running> {
  const program = await runProgram(t, 'examples/production.js', {
    REDIS_URL: await redisUrl(),
    SESSION_SECRETS: secrets.join(','),
    ADA_PASSWORD: 'right',
    ...env
  })
  const send: Running['send'] = async (method, path, { body, headers = {}, cookie } = {}) =>
    await fetch(`${program.url}${path}`, {
      method,
      headers: {
        'x-forwarded-proto': 'https',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(cookie !== undefined && { cookie }),
        ...headers
      },
      ...(body !== undefined && { body: JSON.stringify(body) })
    })
  return { ...program, send, login: () => logIn(send) }
}

async function logIn(send: Running['send']): Promise<string> {
  return (await send('POST', '/login', { body: { user: 'ada', password: 'right' } })).headers
    .getSetCookie()[0]
    ?.split(';')[0] as string
}

type Check = (t: Test, app: Running) => unknown

/**
 * A check for each line of the checklist, under the words that the line begins with. It looks at
 * the example from outside where that is possible, and otherwise at its code.
 */
const checks: Readonly<Record<string, Check>> = {
  'Use TLS all the way to the client': async (t, { send }) => {
    t.match(
      (
        await send('POST', '/login', { body: { user: 'ada', password: 'right' } })
      ).headers.getSetCookie(),
      [/; Secure;/]
    )
    t.same(
      (
        await send('POST', '/login', {
          body: { user: 'ada', password: 'right' },
          headers: { 'x-forwarded-proto': 'http' }
        })
      ).headers.getSetCookie(),
      []
    )
    t.match(example, /trustProxy: '[a-z]+'/)
  },
  'If only browsers use the app': async (t, { send, login }) => {
    const [, id] = (await login()).split('=') as [string, string]
    t.equal((await send('GET', '/me', { headers: { 'x-session-id': id } })).status, 401)
    t.equal(
      (await send('POST', '/login', { body: { user: 'ada', password: 'right' } })).headers.get(
        'x-session-id'
      ),
      null
    )
  },
  'Give the cookie a `__Host-` name': async (t, { send }) =>
    t.match(
      (
        await send('POST', '/login', { body: { user: 'ada', password: 'right' } })
      ).headers.getSetCookie(),
      [/^__Host-session=.*; Path=\/; HttpOnly; Secure; SameSite=Lax$/]
    ),
  'Read `secret` from the environment': async (t, { send, login }) => {
    const cookie = await login()
    t.match(cookie, /=[\w-]{36}~[\w-]{16}\.[\w-]{43}$/)
    t.equal((await send('GET', '/me', { cookie: cookie.slice(0, -1) })).status, 401)
    t.notMatch(example, /secret: '/)
    // Before the rotation the old one signed: who came then is still there.
    const before = await run(t, { SESSION_SECRETS: secrets[1] as string })
    const early = await before.login()
    const renewed = await send('GET', '/me', { cookie: early })
    t.equal(renewed.status, 200)
    t.equal(renewed.headers.getSetCookie().length, 1, 'and has a new signature')
  },
  'Use a store that all processes share': async (t, { login }) => {
    const other = await run(t)
    t.equal(
      (await other.send('GET', '/me', { cookie: await login() })).status,
      200,
      'another process has the session too'
    )
  },
  'Set `maxAge` and `absoluteTimeout`': (t) => {
    t.match(example, 'maxAge: 60 * 60,')
    t.match(example, 'absoluteTimeout: 24 * 60 * 60,')
  },
  'Do not create sessions for visitors that need none': async (t, { send }) => {
    for (const path of ['/me', '/health', '/nowhere'])
      t.same((await send('GET', path)).headers.getSetCookie(), [], path)
    const health = await send('GET', '/health', { cookie: '__Host-session=x' })
    t.same([health.status, health.headers.get('vary')], [200, null])
  },
  'Call `signIn()` at login': async (t, { send, login }) => {
    const before = await login()
    const after = (
      await send('POST', '/login', { body: { user: 'ada', password: 'right' }, cookie: before })
    ).headers
      .getSetCookie()[0]
      ?.split(';')[0] as string
    t.not(after, before)
    t.equal((await send('GET', '/me', { cookie: before })).status, 401)
    t.equal((await send('GET', '/me', { cookie: after })).status, 200)
  },
  'Call `destroy()` at logout': async (t, { send, login }) => {
    const cookie = await login()
    t.equal((await send('GET', '/logout', { cookie })).status, 404, 'no GET logs out')
    t.match((await send('POST', '/logout', { cookie })).headers.getSetCookie(), [
      /^__Host-session=; Max-Age=0/
    ])
    t.equal((await send('GET', '/me', { cookie })).status, 401)
  },
  'Show users where they are signed in': async (t, { send, login }) => {
    const [mine, other, third] = [await login(), await login(), await login()]
    const status = async (cookie: string): Promise<number> =>
      (await send('GET', '/me', { cookie })).status
    const { sessions } = (await (await send('GET', '/sessions', { cookie: mine })).json()) as {
      readonly sessions: ReadonlyArray<{ readonly publicId: string; readonly isCurrent: boolean }>
    }
    t.ok(sessions.length >= 3)
    t.equal(sessions.filter(({ isCurrent }) => isCurrent).length, 1)
    const tag = /~([\w-]{16})/.exec(third)?.[1]
    const ended = await send('POST', `/sessions/${tag}.AAAAAAAA/end`, { cookie: mine })
    t.same(await ended.json(), { ended: false })
    const password = { password: 'right', next: 'right' }
    const wrong = { ...password, password: 'wrong' }
    t.equal((await send('POST', '/password', { body: wrong, cookie: mine })).status, 401)
    t.equal(await status(other), 200)
    t.equal((await send('POST', '/logout-elsewhere', { cookie: third })).status, 200)
    t.same([await status(mine), await status(other), await status(third)], [401, 401, 200])
    const again = await login()
    const changed = await send('POST', '/password', { body: password, cookie: again })
    const now = changed.headers.getSetCookie()[0]?.split(';')[0] as string
    t.same([await status(now), await status(again), await status(third)], [200, 401, 401])
    t.match(example, 'fresh: 15 * 60')
    t.match(example, 'subjectSessions: { max: 20')
  },
  'Accept requests that change something': async (t, { send }) => {
    const status = async (headers: Record<string, string>): Promise<number> =>
      (await send('POST', '/logout', { headers })).status
    for (const site of ['cross-site', 'same-site', 'none'])
      t.equal(await status({ 'sec-fetch-site': site }), 403, site)
    t.equal(await status({ 'sec-fetch-site': 'same-origin', origin: 'https://any.example' }), 200)
    t.equal(await status({ origin: 'https://evil.example' }), 403)
    t.equal(await status({ origin: 'null' }), 403)
    t.equal(await status({}), 200, 'no browser')
  },
  'Limit the rate of logins': async (t, { send }) => {
    const statuses = []
    for (let count = 0; count < 6; count += 1)
      statuses.push(
        (await send('POST', '/login', { body: { user: 'ada', password: 'wrong' } })).status
      )
    t.equal(statuses[0], 401)
    t.equal(statuses.at(-1), 429)
  },
  'Keep request headers out of the logs': async (t, { send, login, output }) => {
    const [, value] = (await login()).split('=') as [string, string]
    await send('GET', '/me', { cookie: `__Host-session=${value}` })
    for (const part of value.split('.')) t.notOk(output().includes(part))
    t.match(example, /redact: \['req\.headers\.cookie'/)
  },
  'Watch the [events]': async (t, { send, output }) => {
    await send('GET', '/me', { cookie: '__Host-session=guessed' })
    // It has been written by now, and is on its way through the pipe.
    for (let turn = 0; turn < 100_000 && !output().includes('"reason":"malformed"'); turn += 1)
      await new Promise((resolve) => {
        setImmediate(resolve)
      })
    t.match(output(), '"reason":"malformed"')
  },
  'Close the app on a signal': async (t, { stop }) => t.equal(await stop(), 0)
}

t.test('the example for production follows the checklist', { skip: skipRedis }, async (t) => {
  const lines = [
    ...page.slice(page.indexOf('## Production checklist')).matchAll(/^(\d+)\. (.*)$/gm)
  ].map(([, number, text]) => ({ number, text }))
  t.same(
    lines.map(({ number }) => number),
    lines.map((_, index) => String(index + 1))
  )
  const names = Object.keys(checks)
  t.same(
    lines.map(({ text }) => names.find((name) => text.startsWith(name)) ?? text),
    names,
    'a check for each line'
  )
  const marked = new Set([...example.matchAll(/\/\/ (\d+)\b/g)].map(([, number]) => number))
  t.same(
    lines.map(({ number }) => number).filter((number) => !marked.has(number as string)),
    [],
    'each is marked in the example'
  )
  const app = await run(t)
  for (const [index, [name, check]] of Object.entries(checks).entries()) {
    // Logins are limited for each client.
    const send: Running['send'] = (method, path, options = {}) =>
      app.send(method, path, {
        ...options,
        headers: { 'x-forwarded-for': `192.0.2.${index}`, ...options.headers }
      })
    const login: Running['login'] = () => logIn(send)
    await t.test(`${index + 1}. ${name}`, async (t) => {
      await check(t, { ...app, send, login })
    })
  }
})

t.test('every attack of the list is in the name of a test', async (t) => {
  const attacks = rowsWithTests(readPage('docs/attacks.md'), 'S')
  for (const { name, files } of attacks) {
    t.not(files.length, 0, `${name} has a test`)
    for (const file of files)
      t.match(testNames(file), new RegExp(`\\b${name}\\b`), `${name} in ${file}`)
  }
})

t.test('the list has every attack that is in the name of a test, in order', async (t) => {
  const names = readdirSync('test', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .map((path) => testNames(`test/${path}`))
    .join('\n')
  const tested = [...new Set(names.match(/\bS\d+\b/g))]
  t.same(
    rowsWithTests(readPage('docs/attacks.md'), 'S').map(({ name }) => name),
    tested.toSorted((one, other) => Number(one.slice(1)) - Number(other.slice(1)))
  )
})

t.test('the page has the defaults that the code has', async (t) => {
  const options = readFileSync('lib/options.ts', 'utf8')
  t.match(page, '1 hour (`maxAge: 3600`)')
  t.match(options, 'maxAge = 3600,')
  t.match(page, '30 days (`absoluteTimeout: 2592000`)')
  t.match(options, 'absoluteTimeout = 30 * 24 * 60 * 60,')
})

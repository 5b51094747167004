import { once } from 'node:events'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'

import type { FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { Browser, carriedBy } from '../helpers/browser.ts'
import { certificate } from '../helpers/certificate.ts'
import { begin, listen, serve, setCookies, stored } from '../helpers/serve.ts'

const tls = certificate()

interface Answer {
  readonly cookies: readonly string[]
  readonly body: string
}

/** Asks over HTTPS, believing in our certificate. */
function askTls(port: number, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(
      {
        host: '127.0.0.1',
        servername: 'localhost',
        port,
        path,
        headers,
        ca: tls.cert,
        agent: false
      },
      (response) => {
        let body = ''
        response
          .setEncoding('utf8')
          .on('data', (chunk: string) => {
            body += chunk
          })
          .on('end', () => {
            resolve({ cookies: response.headers['set-cookie'] ?? [], body })
          })
      }
    )
      .on('error', reject)
      .end()
  })
}

/**
 * Ends TLS before an app that listens to plain HTTP, and says so in X-Forwarded-Proto. Answers its
 * port.
 */
async function proxy(t: Test, upstream: number): Promise<number> {
  const server = createServer(tls, (incoming, outgoing) => {
    const headers: IncomingHttpHeaders = {
      ...incoming.headers,
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '192.0.2.1'
    }
    incoming.pipe(
      httpRequest(
        {
          host: '127.0.0.1',
          port: upstream,
          path: incoming.url,
          method: incoming.method,
          headers,
          agent: false
        },
        (response) => {
          outgoing.writeHead(response.statusCode as number, response.headers)
          response.pipe(outgoing)
        }
      )
    )
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.close()
  })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function withoutId(line: string | undefined): string | undefined {
  return line?.replace(/=[\w-]{36};/, '=ID;')
}

const plain = 'session_id=ID; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax'
const secured = 'session_id=ID; Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax'

t.test(
  "S33: over HTTPS of Node's own the cookie is Secure by auto, and __Host- works",
  async (t) => {
    const rows: ReadonlyArray<[SessionOptions, string]> = [
      [{}, secured],
      [{ cookie: { secure: true } }, secured],
      [{ sessionCookie: '__Host-session_id', cookie: { secure: true } }, `__Host-${secured}`],
      [
        {
          sessionCookie: '__Secure-session_id',
          cookie: { secure: true, sameSite: 'none', partitioned: true }
        },
        '__Secure-session_id=ID; Max-Age=3600; Path=/; HttpOnly; Secure; Partitioned; SameSite=None'
      ]
    ]
    for (const [options, expected] of rows) {
      const { app, log } = await serve(t, options, { https: tls } as FastifyServerOptions)
      const port = await listen(app)
      const { cookies } = await askTls(port, '/write/x')
      t.equal(withoutId(cookies.at(-1)), expected)
      const [pair] = (cookies.at(-1) as string).split(';')
      t.equal((await askTls(port, '/read', { cookie: pair as string })).body, '{"a":"x"}')
      t.same(log, [])
      await app.close()
    }
  }
)

const trusting: ReadonlyArray<FastifyServerOptions['trustProxy']> = [
  true,
  '127.0.0.1',
  ['10.0.0.0/8', '127.0.0.0/8'],
  'loopback',
  (address) => address === '127.0.0.1'
]
// Fastify's types know no number of hops any more.
const doubting = [false, '192.0.2.7', 1, 2] as ReadonlyArray<FastifyServerOptions['trustProxy']>

t.test('S33: behind a TLS proxy that Fastify trusts the cookie is Secure', async (t) => {
  for (const trustProxy of trusting) {
    for (const secure of ['auto', true] as const) {
      const { app, log } = await serve(
        t,
        { cookie: { secure } },
        { trustProxy: trustProxy as true }
      )
      const { cookies } = await askTls(await proxy(t, await listen(app)), '/write/x')
      t.same(cookies.map(withoutId), [secured], `${trustProxy}, ${secure}`)
      t.same(log, [])
    }
  }
})

t.test(
  'S33: behind a TLS proxy that Fastify does not trust, nor by a number of hops, a secure cookie is not sent, and one warning names the cure',
  async (t) => {
    for (const trustProxy of doubting) {
      const { app, log } = await serve(
        t,
        { cookie: { secure: true } },
        { trustProxy: trustProxy as false }
      )
      const port = await proxy(t, await listen(app))
      t.same((await askTls(port, '/write/x')).cookies, [], `${trustProxy}`)
      t.same((await askTls(port, '/write/x')).cookies, [])
      t.equal(log.length, 1, 'one warning')
      t.match(log[0], /trustProxy to the proxy's address, or to true; a number of hops will not do/)
    }
  }
)

t.test(
  'S33: behind a TLS proxy that Fastify does not trust, auto sends a cookie that works, without Secure: X-Forwarded-Proto may be forged',
  async (t) => {
    for (const trustProxy of doubting) {
      const { app, log } = await serve(t, {}, { trustProxy: trustProxy as false })
      const { cookies } = await askTls(await proxy(t, await listen(app)), '/write/x')
      t.same(cookies.map(withoutId), [plain], `${trustProxy}`)
      t.same(log, [])
    }
  }
)

t.test('S33: of several X-Forwarded-Proto the last counts, and nothing but https is', async (t) => {
  for (const [forwarded, expected] of [
    ['http, https', secured],
    ['https, http', plain],
    ['HTTPS', plain],
    ['wss', plain],
    ['', plain],
    ['javascript', plain]
  ] as const) {
    const { app } = await serve(t, {}, { trustProxy: true })
    t.equal(
      withoutId(
        setCookies(
          await app.inject({ url: '/write/x', headers: { 'x-forwarded-proto': forwarded } })
        )[0]
      ),
      expected,
      forwarded
    )
  }
})

t.test(
  'S33: on localhost, over http, auto works; what must be secure is not sent, with one warning that names the cure',
  async (t) => {
    const { app, log } = await serve(t)
    const url = `http://localhost:${await listen(app)}`
    const reply = await fetch(`${url}/write/x`)
    t.same(reply.headers.getSetCookie().map(withoutId), [plain])
    const [pair] = (reply.headers.getSetCookie()[0] as string).split(';')
    t.equal(
      await (await fetch(`${url}/read`, { headers: { cookie: pair as string } })).text(),
      '{"a":"x"}'
    )
    t.same(log, [])
    const mustBeSecure: readonly SessionOptions[] = [
      { cookie: { secure: true } },
      { sessionCookie: '__Host-id', cookie: { secure: true } },
      { sessionCookie: '__Secure-id', cookie: { secure: true } },
      { cookie: { secure: true, sameSite: 'none' } },
      { cookie: { secure: true, partitioned: true } }
    ]
    for (const options of mustBeSecure) {
      const { app, log } = await serve(t, options)
      const port = await listen(app)
      for (const path of ['/write/x', '/write/y']) {
        t.same(
          (await fetch(`http://localhost:${port}${path}`)).headers.getSetCookie(),
          [],
          JSON.stringify(options)
        )
      }
      t.equal(log.length, 1, JSON.stringify(options))
      t.match(
        log[0],
        /Without TLS, as on localhost, set cookie\.secure to 'auto', which goes without __Host-/
      )
    }
  }
)

t.test('S33: sameSite is never weakened, over http neither', async (t) => {
  for (const sameSite of ['strict', 'lax'] as const) {
    for (const forwarded of ['http', 'https']) {
      const { app } = await serve(t, { cookie: { sameSite } }, { trustProxy: true })
      t.match(
        setCookies(
          await app.inject({ url: '/write/x', headers: { 'x-forwarded-proto': forwarded } })
        )[0],
        new RegExp(`SameSite=${sameSite}$`, 'i')
      )
    }
  }
})

t.test('S33: a clearing cookie that must be secure is not sent over http either', async (t) => {
  const { app, log } = await serve(t, { cookie: { secure: true } })
  const id = carriedBy(await app.inject('/write/x')).header as string
  t.same(setCookies(await app.inject({ url: '/logout', cookies: { session_id: id } })), [])
  t.equal(await stored(app, id), undefined, 'the session is gone all the same')
  t.equal(log.length, 1)
})

t.test(
  'S33: in production, an insecure session cookie is warned about once, with the cure',
  async (t) => {
    const before = process.env['NODE_ENV']
    process.env['NODE_ENV'] = 'production'
    t.teardown(() => {
      if (before === undefined) delete process.env['NODE_ENV']
      else process.env['NODE_ENV'] = before
    })
    for (const [secure, forwarded, cure] of [
      [false, 'http', /without Secure\. Behind a TLS proxy set the Fastify option trustProxy/],
      ['auto', 'http', /without Secure\. Behind a TLS proxy set the Fastify option trustProxy/],
      [false, 'https', /without Secure\. Set cookie\.secure to true or 'auto'/]
    ] as const) {
      const { app, log } = await serve(t, { cookie: { secure } }, { trustProxy: true })
      for (let count = 0; count < 2; count += 1)
        t.equal(
          setCookies(
            await app.inject({ url: '/write/x', headers: { 'x-forwarded-proto': forwarded } })
          ).length,
          1
        )
      t.equal(log.length, 1, `${secure}, ${forwarded}`)
      t.match(log[0], cure)
    }
    const { app, log } = await serve(t, {}, { trustProxy: true })
    await app.inject({ url: '/write/x', headers: { 'x-forwarded-proto': 'https' } })
    t.same(log, [], 'nothing to warn of')
  }
)

t.test(
  "S30, S13: attributes of one session's cookie, by session.options(): the clearing cookie repeats them",
  async (t) => {
    const { app } = await serve(t)
    const options = {
      path: '/shop',
      sameSite: 'strict',
      priority: 'high',
      domain: 'shop.example'
    } as const
    app.get('/begin', async ({ session }) => {
      session.options(options)
      session.a = 'x'
    })
    app.get('/end', async ({ session }) => {
      await session.destroy()
    })
    const live = setCookies(await app.inject('/begin')).at(-1)
    const id = /=([\w-]{36});/.exec(live as string)?.[1] as string
    t.equal(
      withoutId(live),
      'session_id=ID; Max-Age=3600; Domain=shop.example; Path=/shop; HttpOnly; Priority=High; SameSite=Strict'
    )
    t.equal(
      setCookies(await app.inject({ url: '/end', cookies: { session_id: id } })).at(-1),
      'session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Domain=shop.example; Path=/shop; HttpOnly; Priority=High; SameSite=Strict'
    )
  }
)

t.test('S29: what session.options() is given is held to the same rules', async (t) => {
  const { app } = await serve(t, { sessionCookie: '__Host-id', cookie: { secure: true } })
  const wrong = [
    { path: '/shop' },
    { domain: 'a.example' },
    { secure: false },
    { secure: 'auto' },
    { path: '/a;b' },
    { sameSite: 'Lax' },
    { partitioned: 1 }
  ]
  for (const [index, attributes] of wrong.entries()) {
    app.get(`/${index}`, async ({ session }) => {
      session.options(attributes as object)
    })
  }
  for (const [index, attributes] of wrong.entries()) {
    const reply = await app.inject(`/${index}`)
    t.same(
      [reply.statusCode, reply.json().code],
      [500, 'HOLDFAST_VALUE_INVALID'],
      JSON.stringify(attributes)
    )
  }
})

t.test(
  "S10: a session loaded from the cookie is never answered in the readable header, nor is a browser's first login",
  async (t) => {
    for (const secret of [undefined, 'x'.repeat(32)]) {
      const { app } = await serve(t, secret === undefined ? {} : { secret })
      const browser = new Browser(app)
      for (const url of [
        '/login',
        '/read',
        '/write/new',
        '/touch',
        '/login',
        '/look-away',
        '/logout',
        '/login'
      ]) {
        const reply = await browser.get(url)
        t.equal(carriedBy(reply).header, undefined, url)
        const held = browser.cookies.get('session_id') ?? 'none'
        const { 'set-cookie': _, ...readable } = reply.headers
        t.notOk(
          JSON.stringify(readable).includes(held),
          `${url}: in no header that a script can read`
        )
      }
    }
  }
)

t.test('S10: with mirror it is, which is what the option is for', async (t) => {
  const { app } = await serve(t, { mirror: true })
  const id = await begin(app)
  t.equal(carriedBy(await app.inject({ url: '/read', cookies: { session_id: id } })).header, id)
})

t.test(
  'S10: a browser is told by Sec-Fetch-Site, which no script can take off, whatever else it sends',
  async (t) => {
    const { app } = await serve(t)
    for (const site of ['none', 'same-origin', 'same-site', 'cross-site', '']) {
      for (const others of [
        {},
        { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' },
        { 'sec-fetch-mode': 'cors' }
      ] as const) {
        const { header, cookie } = carriedBy(
          await app.inject({ url: '/login', headers: { 'sec-fetch-site': site, ...others } })
        )
        t.equal(header, undefined)
        t.ok(cookie)
      }
    }
    const { header, cookie } = carriedBy(
      await app.inject({ url: '/login', headers: { 'sec-fetch-mode': 'cors' } })
    )
    t.ok(header, "Sec-Fetch-Mode alone is what Node's fetch sends")
    t.equal(header, cookie)
  }
)

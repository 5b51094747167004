import type { IncomingHttpHeaders } from 'node:http'

import type { FastifyServerOptions } from 'fastify'
import { chromium } from 'playwright-core'
import t from 'tap'

import { certificate } from '../helpers/certificate.ts'
import { chromiumPath, skipChromium } from '../helpers/chromium.ts'
import { Jar, type Context } from '../helpers/jar.ts'
import { listen, serve } from '../helpers/serve.ts'
import { call, embed, form, link, takeForms, type Act } from './foreign.ts'
import { chromiumArguments } from './shop.ts'

if (skipChromium !== false) {
  t.plan(0, skipChromium)
  process.exit()
}

const browser = await chromium.launch({
  executablePath: chromiumPath as string,
  // The last of two equal arguments counts.
  args: [...chromiumArguments, '--host-resolver-rules=MAP *.example 127.0.0.1'],
  timeout: 120_000
})
t.teardown(() => browser.close())

const tls = certificate()

/** Set-Cookie lines, of which browsers keep some. */
const lines: readonly string[] = [
  'plain=1',
  'host=1; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=100',
  'wide=1; Domain=app.example; Path=/; SameSite=Lax',
  'dotted=1; Domain=.App.Example; Path=/',
  'foreign=1; Domain=foreign.example; Path=/',
  'suffix=1; Domain=example; Path=/',
  'below=1; Domain=a.www.app.example; Path=/',
  'none-open=1; SameSite=None; Path=/',
  'unknown=1; SameSite=Unknown; Secure; Path=/a',
  'parted=1; Partitioned; Secure; Path=/; SameSite=None',
  'parted-open=1; Partitioned; Path=/',
  'gone=1; Max-Age=0; Path=/',
  'gone-too=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/',
  'both=1; Max-Age=100; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/',
  'relative=1; Path=a/b',
  'deep=1; Path=/a/b/c',
  'twice=1; Path=/',
  'twice=2; Path=/',
  'twice=3; Path=/; Domain=www.app.example',
  'twice=4; Path=/a',
  '__Secure-a=1; Path=/',
  '__Secure-b=1; Secure; Path=/',
  '__Host-a=1; Secure; Path=/a',
  '__Host-b=1; Secure; Path=/; Domain=www.app.example',
  '__Host-c=1; Secure; Path=/',
  '__host-d=1; Path=/',
  '__Http-a=1; Secure; Path=/',
  '__Http-b=1; Secure; HttpOnly; Path=/a',
  '__Host-Http-a=1; Secure; Path=/',
  '__Host-Http-b=1; Secure; HttpOnly; Path=/a',
  '__Host-Http-c=1; Secure; HttpOnly; Path=/'
]

// For two minutes, Chromium sends a cookie without SameSite with foreign forms too.
function withSameSite(line: string): string {
  return /samesite/i.test(line) ? line : `${line}; SameSite=Lax`
}

const contexts: ReadonlyArray<readonly [what: string, context: Context, act: Act | undefined]> = [
  ['typed', {}, undefined],
  ['a link', {}, (page, origin) => link(page, origin)],
  ['a form', { method: 'POST' }, form('/page')],
  ['a frame', { destination: 'iframe' }, embed('iframe', '/page')],
  ['an image', { destination: 'image' }, embed('img', '/page')],
  ['a fetch', { destination: 'empty' }, call('/page', {})],
  [
    'a post by fetch',
    { destination: 'empty', mode: 'no-cors', method: 'POST' },
    call('/page', { mode: 'no-cors', method: 'POST' })
  ]
]

for (const from of ['foreign', 'same-site'] as const) {
  t.test(`the jar sends and keeps what Chromium does: ${from}`, async (t) => {
    const { app } = await serve(t, {}, { https: tls } as FastifyServerOptions)
    takeForms(app)
    let sent: IncomingHttpHeaders = {}
    let isSetting = true
    app.route({
      method: ['GET', 'POST'],
      url: '/page',
      config: { session: false },
      async handler({ headers }, reply) {
        sent = headers
        if (isSetting) reply.header('set-cookie', lines.map(withSameSite))
        return reply.type('text/html').send('<!doctype html><b>text</b>')
      }
    })
    app.get('/blank', { config: { session: false } }, async (_request, reply) =>
      reply.type('text/html').send('<!doctype html><title>blank</title>')
    )
    const port = await listen(app)
    const origin = `https://www.app.example:${port}`
    const hosts = { foreign: 'foreign', 'same-site': 'other.app' }
    const start = `https://${hosts[from]}.example:${port}/blank`
    for (const [what, context, act] of contexts) {
      const window = await browser.newContext({ ignoreHTTPSErrors: true })
      const page = await window.newPage()
      const jar = new Jar(app, Date)
      const cause = act === undefined ? context : { ...context, from: start }
      // The first request brings no cookies, the second what was kept of the first or of a visit.
      for (const round of ['first', 'second', 'after a visit'] as const) {
        isSetting = round !== 'second'
        if (round === 'after a visit') {
          await page.goto(`${origin}/page`)
          await jar.visit(`${origin}/page`)
        }
        const visit = async (): Promise<unknown> => {
          if (act === undefined) return page.goto(`${origin}/page`)
          await page.goto(start)
          return act(page, origin)
        }
        await visit()
        const byChromium = named(sent)
        await jar.visit(`${origin}/page`, cause)
        t.same(named(sent), byChromium, `${what}, ${round}`)
        const kept = (await window.cookies()).map(({ name, value, domain, path, partitionKey }) =>
          [name, value, domain, path, partitionKey !== undefined].join(' ')
        )
        t.same(
          jar.cookies
            .map(({ name, value, domain, isHostOnly, path, partition }) =>
              [name, value, (isHostOnly ? '' : '.') + domain, path, partition !== undefined].join(
                ' '
              )
            )
            .toSorted(),
          kept.toSorted(),
          `${what}, ${round}: kept`
        )
      }
      await window.close()
    }
  })
}

/** What tells an app where a request comes from; cookies in any order of the same path. */
function named(headers: IncomingHttpHeaders): Record<string, unknown> {
  return {
    cookie: headers.cookie?.split('; ').toSorted(),
    origin: headers.origin,
    site: headers['sec-fetch-site'],
    mode: headers['sec-fetch-mode'],
    destination: headers['sec-fetch-dest']
  }
}

import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'

import fc from 'fast-check'
import type { FastifyBaseLogger } from 'fastify'
import t from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { readPresentedId } from '../../lib/http/request.ts'
import { configure } from '../../lib/options.ts'
import { overEveryStore } from '../helpers/attack.ts'
import { begin, serve, stored } from '../helpers/serve.ts'

const unknownId = 'unknown-to-the-store-0001'
const secret = 'a-secret-of-forty-bytes-that-signs-ids-.'

/** Any single character that a header value may be made of, and some that it may not. */
const anyCharacter = fc.integer({ min: 0, max: 0x2ff }).map((code) => String.fromCharCode(code))
const idCharacter = fc.constantFrom(...Array.from('ABCXYZabcxyz0189-_'))

/** What someone may send for an id; `real` is one. */
function idLike(real: string): fc.Arbitrary<string> {
  return fc.oneof(
    fc.string({ unit: anyCharacter, maxLength: 200 }),
    fc.string({ unit: idCharacter, minLength: 15, maxLength: 140 }),
    fc
      .tuple(fc.nat(real.length), fc.nat(4), fc.string({ unit: anyCharacter, maxLength: 4 }))
      .map(([at, drop, put]) => real.slice(0, at) + put + real.slice(at + drop)),
    fc.constantFrom(
      real,
      `"${real}"`,
      `${real},${real}`,
      `${real}, ${unknownId}`,
      encodeURIComponent(`"${real}"`),
      `s:${real}`,
      `${real}.`,
      '__proto__',
      'constructor',
      unknownId,
      ` ${real}`,
      `${real}\0`,
      real.repeat(300)
    )
  )
}

/** Pieces of which a cookie header could be put together, put together anyhow. */
function cookieLike(real: string): fc.Arbitrary<string> {
  const piece = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        'session_id',
        '=',
        ';',
        '; ',
        real,
        `session_id=${real}`,
        `session_id=${unknownId}`
      )
    },
    {
      weight: 2,
      arbitrary: fc.constantFrom(
        ' ',
        '\t',
        '"',
        ',',
        'a',
        'a=b',
        'Session_Id',
        'session%5Fid',
        '__proto__',
        '%00',
        '\v',
        '\u00a0',
        'é',
        '\u007f',
        '$Path=/',
        '__Host-session_id'
      )
    },
    { weight: 1, arbitrary: fc.string({ unit: anyCharacter, maxLength: 30 }) }
  )
  return fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))
}

/**
 * What the cookies of our name are worth, told without the plugin (RFC 6265bis, 5.6: name and value
 * without the space around; 4.1.1: a value may be in quotes). Each value stands once.
 */
function cookieValues(header: string): string[] {
  const trim = (text: string): string => text.replaceAll(/^[ \t]+|[ \t]+$/g, '')
  const pairs = header
    .split(';')
    .filter((part) => part.includes('='))
    .map((part) => [
      trim(part.slice(0, part.indexOf('='))),
      trim(part.slice(part.indexOf('=') + 1))
    ])
  const ours = pairs.filter(([name]) => name === 'session_id').map(([, value = '']) => value)
  return [...new Set(ours.map((value) => value.replace(/^"(.*)"$/, '$1')))]
}

for (const options of [{}, { secret }] as const satisfies readonly SessionOptions[]) {
  overEveryStore(
    t,
    `P7, S2, S4, S7: whatever header and cookie hold, nothing but ${'secret' in options ? 'a rightly signed id' : 'an id'} reaches the store, and none is adopted or echoed`,
    async (t, serveOver) => {
      const { app, store } = await serveOver(options)
      const real = await begin(app, 'mine')
      const inputs = fc.record({
        header: fc.option(idLike(real), { nil: undefined, freq: 2 }),
        cookie: fc.option(cookieLike(real), { nil: undefined }),
        url: fc.constantFrom('/read', '/look-away', '/write/mine')
      })
      await fc.assert(
        fc.asyncProperty(inputs, async ({ header, cookie, url }) => {
          const isId = (value: string): boolean =>
            'secret' in options ? value === real : /^[A-Za-z0-9_-]{22,128}$/.test(value)
          const presented = header === undefined ? cookieValues(cookie ?? '') : [header]
          const ids = presented.filter(isId)
          store.calls.length = 0
          const reply = await app.inject({
            url,
            headers: {
              ...(header !== undefined && { 'x-session-id': header }),
              ...(cookie !== undefined && { cookie })
            }
          })
          if (reply.statusCode !== 200) throw new Error(`status ${reply.statusCode}`)
          const asked = store.calls.filter(({ verb }) => verb === 'get').map(({ key }) => key)
          const expected = ids.map((id) => app.sessions.publicIdOf(id.split('.', 1)[0] as string))
          if (asked.join() !== expected.join())
            throw new Error('the store was asked for something else')
          if (url === '/read' && reply.body !== (ids.includes(real) ? '{"a":"mine"}' : '{}'))
            throw new Error('another session was read')
          for (const candidate of presented.filter((value) => value !== real)) {
            if (
              candidate.length >= 22 &&
              JSON.stringify([reply.headers, reply.body]).includes(
                JSON.stringify(candidate).slice(1, -1)
              )
            )
              throw new Error('echoed')
            if (
              (await stored(app, candidate)) !== undefined &&
              candidate.split('.', 1)[0] !== real.split('.', 1)[0]
            )
              throw new Error('adopted')
          }
        }),
        { numRuns: 1500 }
      )
      t.same(await stored(app, real), { a: 'mine' })
    }
  )
}

t.test(
  'S4: raw bytes on a socket, in the header and in the cookie: the server answers, and goes on',
  async (t) => {
    const { app, log } = await serve(t)
    const real = await begin(app, 'mine')
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const ask = async (...lines: Buffer[]): Promise<string> => {
      const socket = connect(port, '127.0.0.1')
      const chunks: Buffer[] = []
      socket
        .on('data', (chunk) => {
          chunks.push(chunk)
        })
        .on('error', () => {})
      socket.end(
        Buffer.concat([
          Buffer.from('GET /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n'),
          ...lines,
          Buffer.from('\r\n')
        ])
      )
      await once(socket, 'close')
      return Buffer.concat(chunks).toString('latin1')
    }
    const line = (name: string, value: Uint8Array): Buffer =>
      Buffer.concat([Buffer.from(`${name}: `), value, Buffer.from('\r\n')])
    const bytes = fc.uint8Array({ maxLength: 100 })
    await fc.assert(
      fc.asyncProperty(bytes, bytes, async (header, cookie) => {
        const replies = [
          await ask(line('X-Session-ID', header)),
          await ask(line('Cookie', Buffer.concat([Buffer.from('session_id='), cookie]))),
          await ask(line('X-Session-ID', header), line('X-Session-ID', header))
        ]
        // Node itself refuses what no header may hold.
        return replies.every(
          (reply) => /^HTTP\/1\.1 (?:200|400) /.test(reply) && !reply.includes('mine')
        )
      }),
      { numRuns: 100 }
    )
    t.match(await ask(line('Cookie', Buffer.from(`session_id=${real}`))), '{"a":"mine"}')
    t.match(await ask(line('X-Session-ID', Buffer.from(real))), '{"a":"mine"}')
    t.match(
      await ask(line('X-Session-ID', Buffer.from(real)), line('X-Session-ID', Buffer.from(real))),
      '{}',
      'S5: two lines'
    )
    t.match(
      await ask(
        line('Cookie', Buffer.from(`session_id=${real}`)),
        line('Cookie', Buffer.from(`session_id=${real}`))
      ),
      '{"a":"mine"}',
      'S6: two Cookie lines of one value'
    )
    t.notOk(log.join('').includes(real))
  }
)

t.test(
  'S7: the work grows with the length of the header and no faster: 250 times 16 KB in well under a minute',
  async (t) => {
    const config = configure({}, () => '')
    const how = { log: { warn() {} } as unknown as FastifyBaseLogger, isUse: true }
    const size = 4_000_000
    const fill = (text: string): string => text.repeat(Math.ceil(size / text.length))
    const hostile = [
      ';',
      ' ',
      '\t',
      '=',
      ';=',
      '; ',
      'session_id',
      'session_id ',
      ';session_id',
      'session_id=;',
      ';session_id \t',
      'session_id;',
      'a=b;',
      ' ;\t',
      'session_id\t\t\t',
      '"',
      ',',
      '-',
      'x-session-id: '
    ]
    const started = process.cpuUsage()
    for (const text of hostile) {
      for (const cookie of [
        fill(text),
        `session_id=${fill(text)}`,
        `${fill(text)}; session_id=${unknownId}`
      ]) {
        const { id } = readPresentedId(config, { cookie, 'x-session-id': undefined }, how)
        t.ok(id === undefined || id === unknownId, text)
      }
      t.equal(readPresentedId(config, { 'x-session-id': fill(text) }, how).id, undefined, text)
    }
    // Something that took a step for each pair of characters would be at it for a day.
    t.ok(process.cpuUsage(started).user < 60_000_000)
  }
)

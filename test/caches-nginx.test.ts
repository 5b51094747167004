import { randomUUID } from 'node:crypto'
import type { OutgoingHttpHeaders } from 'node:http'
import { Readable } from 'node:stream'

import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'

import type { SessionOptions, Transport } from '../lib/index.ts'
import { nginx, nginxPath, type Ask, type Reply } from './helpers/nginx.ts'
import { serve } from './helpers/serve.ts'

if (nginxPath === undefined) {
  t.plan(0, 'there is no nginx: install it, or set NGINX_PATH')
  process.exit()
}

/** The ways in which an app answers, each with a page that it takes for public. */
const kinds: Record<
  string,
  (page: string, reply: FastifyReply, request: FastifyRequest) => unknown
> = {
  page: (page) => page,
  validated: (page, reply, { headers }) => {
    const etag = `"${page}"`
    reply.header('etag', etag)
    return headers['if-none-match'] === etag ? reply.code(304).send() : page
  },
  redirect: (page, reply) => reply.redirect(`/of/${page}`),
  stream: (page, reply) => reply.send(Readable.from([page.slice(0, 2), page.slice(2)])),
  response: (page) => new Response(page, { headers: { 'cache-control': 'public, max-age=60' } }),
  missing: (page, reply) => reply.code(404).send(page),
  error: (page) => {
    throw new Error(page)
  }
}

/** What a handler does with the session before it answers with the page of who is signed in. */
const dealings: Record<string, (request: FastifyRequest) => void | Promise<void>> = {
  reads: () => {},
  writes: ({ session }) => {
    session.a = randomUUID()
  },
  touches: ({ session }) => {
    session.touch()
  },
  'renews the id': ({ session }) => session.regenerate(['user'])
}

/** Or it has one page for everybody, and does not look at the session. */
const looksAway = 'looks away'

/** The app behind a shared cache. */
async function serveBehind(t: Test, directives: string, options: SessionOptions): Promise<Ask> {
  const { app } = await serve(t, options)
  app.get<{ Params: { user: string } }>('/begin/:user', async ({ session, params }) => {
    session.user = params.user
  })
  for (const [kind, answer] of Object.entries(kinds)) {
    for (const [dealing, deal] of Object.entries(dealings)) {
      app.get(pathOf(kind, dealing), async (request, reply) => {
        reply.header('cache-control', 'public, max-age=60')
        await deal(request)
        return answer(request.session.user ?? 'nobody', reply, request)
      })
    }
    app.get(pathOf(kind, looksAway), async (request, reply) => {
      reply.header('cache-control', 'public, max-age=60')
      return answer('everybody', reply, request)
    })
  }
  app.get('/asset', { config: { session: false } }, async (_request, reply) => {
    reply.header('cache-control', 'public, max-age=60')
    return 'asset'
  })
  return nginx(t, app, directives)
}

function pathOf(kind: string, dealing: string): string {
  return `/${kind}/${dealing.replaceAll(' ', '-')}`
}

/** One client of the cache, with its cookie or with the header. */
class Visitor {
  readonly name: string
  readonly #ask: Ask
  readonly #transport: Transport
  /** Who was given which id. */
  readonly #given: Map<string, Visitor>
  #id: string | undefined

  constructor(ask: Ask, given: Map<string, Visitor>, transport: Transport, name: string) {
    this.name = name
    this.#ask = ask
    this.#given = given
    this.#transport = transport
  }

  /** @returns the reply, and whether it brought an id that another was given before */
  async get(
    path: string,
    headers: OutgoingHttpHeaders = {}
  ): Promise<Reply & { readonly leaked: boolean }> {
    const browser = this.#transport === 'cookie'
    const reply = await this.#ask(path, {
      ...headers,
      ...(browser && { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' }),
      ...(this.#id !== undefined &&
        (browser ? { cookie: `session_id=${this.#id}` } : { 'x-session-id': this.#id }))
    })
    const { 'set-cookie': [cookie] = [], 'x-session-id': header } = reply.headers
    const ids = {
      cookie: /^session_id=([^;]+)/.exec(cookie ?? '')?.[1],
      header: header as string | undefined
    }
    let leaked = false
    for (const id of Object.values(ids)) {
      if (id === undefined) continue
      leaked ||= this.#given.has(id) && this.#given.get(id) !== this
      this.#given.set(id, this)
    }
    this.#id = ids[this.#transport] ?? this.#id
    return { ...reply, leaked }
  }
}

/** Shared caches as they are met. */
const caches = {
  'as nginx is': '',
  'that stores cookies, and what says that nothing was modified':
    'proxy_ignore_headers Set-Cookie; proxy_set_header If-None-Match $http_if_none_match;'
}

const setups: ReadonlyArray<[name: string, transport: Transport, options: SessionOptions]> = [
  ['browsers', 'cookie', {}],
  [
    'browsers, of an app without the header',
    'cookie',
    { sessionHeader: false, saveUninitialized: false }
  ],
  ['API clients', 'header', {}],
  ['API clients, of an app without the cookie', 'header', { sessionCookie: false }]
]

for (const [cache, directives] of Object.entries(caches)) {
  for (const [name, transport, options] of setups) {
    t.test(
      `S31, S32: a shared cache ${cache} gives nobody another's id or page: ${name}`,
      async (t) => {
        const ask = await serveBehind(t, directives, options)
        const given = new Map<string, Visitor>()
        const newcomer = (name = 'nobody'): Visitor => new Visitor(ask, given, transport, name)
        const [ada, bob] = [newcomer('ada'), newcomer('bob')]
        for (const visitor of [ada, bob]) await visitor.get(`/begin/${visitor.name}`)

        for (const dealing of [...Object.keys(dealings), looksAway]) {
          for (const kind of Object.keys(kinds)) {
            // Each asks first whether the page is still that of somebody else.
            for (const [visitor, etag] of [
              [newcomer(), '"ada"'],
              [newcomer(), '"ada"'],
              [ada, '"bob"'],
              [bob, '"ada"'],
              [ada, '"ada"'],
              [bob, '"bob"'],
              [newcomer(), '"nobody"']
            ] as const) {
              const { body, headers, leaked, status } = await visitor.get(pathOf(kind, dealing), {
                'if-none-match': etag
              })
              const page = headers.location ?? headers.etag ?? body
              const whose = dealing === looksAway ? 'everybody' : visitor.name
              if (leaked || !page.includes(whose))
                t.fail(
                  `${kind}, ${dealing}: ${visitor.name} got another's ${leaked ? 'id' : 'page'}`,
                  { status, headers, body }
                )
            }
          }
        }
        t.equal(given.size > 2, true, 'ids were given')
      }
    )
  }
}

t.test(
  'what may be shared is: an asset, a page that looks at no session; and to each its own page',
  async (t) => {
    const ask = await serveBehind(t, '', {})
    const given = new Map<string, Visitor>()
    const [ada, bob] = ['ada', 'bob'].map((name) => new Visitor(ask, given, 'cookie', name)) as [
      Visitor,
      Visitor
    ]
    for (const visitor of [ada, bob]) await visitor.get(`/begin/${visitor.name}`)
    const outcomes = async (path: string): Promise<unknown[]> => {
      const replies = []
      for (const visitor of [ada, bob, ada, bob])
        replies.push((await visitor.get(path)).headers['x-cache'])
      return replies
    }
    t.same(await outcomes('/asset'), ['MISS', 'HIT', 'HIT', 'HIT'])
    t.same(await outcomes(pathOf('page', looksAway)), ['MISS', 'HIT', 'HIT', 'HIT'])
    t.same(await outcomes(pathOf('page', 'reads')), ['MISS', 'MISS', 'HIT', 'HIT'])
    t.same(await outcomes(pathOf('page', 'writes')), ['MISS', 'MISS', 'MISS', 'MISS'])
  }
)

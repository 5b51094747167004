import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

import { TestBrowser } from '../lib/testing/index.ts'
import { importExample } from './helpers/example.ts'

t.test('a slow request undoes a logout on @fastify/session, and not on this', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['examples/race.js'])
  t.same(stdout.split('\n'), [
    '@fastify/session   logged out, then a slow request finished. The old cookie reads: ada',
    'fastify-holdfast   logged out, then a slow request finished. The old cookie reads: nobody',
    ''
  ])
})

type Name = 'peer' | 'holdfast'
interface State {
  readonly user?: string
  readonly basket: Record<'apple' | 'pear' | 'plum' | 'fig', number>
}

const { build } = await importExample<{
  readonly build: (options: Partial<Record<Name, object>>) => Promise<FastifyInstance>
}>('versus/app.js')

/** A visitor of one of the two shops. */
interface Visitor {
  readonly post: (path: string) => Promise<void>
  readonly state: () => Promise<State>
  /** What the shop shows to who has a copy of the cookies of the slow request. */
  readonly again: () => Promise<State>
  /** Sends a request that ends after what is done meanwhile. */
  readonly slowly: (method: 'GET' | 'POST', path: string, meanwhile: string) => Promise<void>
}

async function visit(t: Test, name: Name, options: object): Promise<Visitor> {
  const app = await build({ [name]: options })
  t.teardown(() => app.close())
  const browser = new TestBrowser(app)
  const post = async (path: string): Promise<void> => {
    const { statusCode } = await browser.inject(`/${name}/${path}`, { method: 'POST' })
    t.equal(statusCode, 200, path)
  }
  const state = async (): Promise<State> => (await browser.inject(`/${name}/state`)).json()
  const again = async (): Promise<State> =>
    (await app.inject({ method: 'POST', url: `/again/one/${name}` })).json()
  t.equal((await app.inject({ method: 'POST', url: `/again/one/${name}` })).statusCode, 404)
  return {
    post,
    state,
    again,
    async slowly(method, path, meanwhile) {
      const reply = browser.send(`/${name}/${path}?slow=one`, { method })
      await app.inject('/slow/one')
      t.same(await again(), await state(), 'the copy of the cookies works')
      await post(meanwhile)
      await app.inject({ method: 'POST', url: '/slow/one' })
      t.equal(browser.receive(await reply).statusCode, 200, path)
    }
  }
}

const shops: readonly {
  readonly name: Name
  readonly options: object
  /** Who is signed in when the cookie of before the logout is sent. */
  readonly afterLogout: string | undefined
  readonly plums: number
  readonly afterLatePage: string | undefined
  readonly afterLateChange: string | undefined
}[] = [
  {
    name: 'peer',
    options: {},
    afterLogout: 'Ada',
    plums: 0,
    afterLatePage: undefined,
    afterLateChange: undefined
  },
  {
    name: 'peer',
    options: { rolling: false },
    afterLogout: 'Ada',
    plums: 0,
    afterLatePage: 'Ada',
    afterLateChange: undefined
  },
  {
    name: 'holdfast',
    options: {},
    afterLogout: undefined,
    plums: 1,
    afterLatePage: 'Ada',
    afterLateChange: 'Ada'
  }
]

for (const { name, options, afterLogout, plums, afterLatePage, afterLateChange } of shops) {
  const shop = `${name} ${JSON.stringify(options)}`

  t.test(`what is said of a logout under a slow request holds: ${shop}`, async (t) => {
    const ada = await visit(t, name, options)
    await ada.post('login')
    t.equal((await ada.state()).user, 'Ada')
    await ada.slowly('POST', 'basket/fig', 'logout')
    t.equal((await ada.again()).user, afterLogout, 'by a copy of the cookie')
    t.equal((await ada.state()).user, afterLogout, 'in her own browser')
  })

  t.test(`what is said of two tabs that fill one basket holds: ${shop}`, async (t) => {
    const visitor = await visit(t, name, options)
    await visitor.post('basket/apple')
    await visitor.slowly('POST', 'basket/pear', 'basket/plum')
    t.same((await visitor.state()).basket, { apple: 1, pear: 1, plum: plums, fig: 0 })
  })

  t.test(`what is said of a late page after the login holds: ${shop}`, async (t) => {
    const ada = await visit(t, name, options)
    await ada.post('basket/apple')
    await ada.slowly('GET', '', 'login')
    const { user, basket } = await ada.state()
    t.equal(user, afterLatePage)
    t.equal(basket.apple, 1)
  })

  t.test(`what is said of a late page that changes the session holds: ${shop}`, async (t) => {
    const ada = await visit(t, name, options)
    await ada.post('basket/apple')
    await ada.slowly('POST', 'basket/pear', 'login')
    t.equal((await ada.state()).user, afterLateChange)
  })
}

t.test('a slow request whose client has gone waits no longer', async (t) => {
  const app = await build({})
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
  })
  const goesOn = new Promise<void>((resolve) => {
    app.addHook('onSend', async ({ url }) => {
      if (url === '/holdfast/?slow=one') resolve()
    })
  })
  const origin = await app.listen({ port: 0 })
  const controller = new AbortController()
  const reply = fetch(`${origin}/holdfast/?slow=one`, { signal: controller.signal })
  await fetch(`${origin}/slow/one`)
  controller.abort()
  await t.rejects(reply)
  await goesOn
})

t.test('npm start names the command of the demonstration, which serves it', async (t) => {
  t.match(readFileSync('examples/app.js', 'utf8'), 'npm run demo`)')
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    readonly scripts: Record<string, string>
  }
  const [, path] = /^node (\S+)$/.exec(scripts['demo'] as string) as unknown as [string, string]
  const child = spawn(process.execPath, [path], {
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(async () => {
    child.kill()
    await once(child, 'close')
  })
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
  const reply = await fetch(/http:\S+/.exec(line)?.[0] as string)
  t.match(await reply.text(), '<title>Two shops, three races</title>')
  t.equal(
    reply.headers.get('content-security-policy'),
    "default-src 'self'; form-action 'self'; frame-ancestors 'self'"
  )
})

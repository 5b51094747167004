import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type OutgoingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'

import type { SessionOptions } from '../../lib/index.ts'
import { chromiumPath, skipChromium } from '../helpers/chromium.ts'
import {
  chromiumArguments,
  listening,
  open,
  putIn,
  shows,
  signIn,
  signOut,
  submit
} from './shop.ts'

if (skipChromium !== false) {
  t.plan(0, skipChromium)
  process.exit()
}

const browser = await chromium.launch({
  executablePath: chromiumPath as string,
  args: [...chromiumArguments],
  timeout: 120_000
})
t.teardown(() => browser.close())

/** Takes a picture for the README, if it is asked for by SCREENSHOTS=docs. */
async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env['SCREENSHOTS']
  if (folder === undefined) return
  const { width = 0, height = 0 } = (await page.locator('main').boundingBox()) ?? {}
  const clip = { x: 0, y: 0, width: width + 56, height: height + 108 }
  await page.screenshot({ path: join(folder, `${name}.png`), clip })
}

/** Another site, of whoever it may be, that shows one page. */
async function otherSite(
  t: Test,
  body: string,
  headers: OutgoingHttpHeaders = {}
): Promise<number> {
  const server = createServer((_request, reply) => {
    reply.writeHead(200, { 'content-type': 'text/html', ...headers }).end(body)
  })
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

t.test(
  'S11: signing in renews the id and keeps the basket; who knew the old id is left with nothing',
  async (t) => {
    const shop = await open(t, browser)
    const page = await shop.tab()
    t.equal(await shop.id(), undefined, 'who only looks around gets no session')
    await putIn(page, 'Cherries', 'Lemon', 'Lemon', 'Fig')
    await shows(page, 'lemon', 2)
    const before = await shop.id()
    t.type(before, 'string')
    await signIn(page)
    await shows(page, 'lemon', 2)
    const after = await shop.id()
    t.type(after, 'string')
    t.not(after, before)
    t.same(await shop.stored(after), { user: 'Ada', cart: { cherry: 1, lemon: 2, fig: 1 } })
    t.equal(await shop.stored(before), undefined)
    await picture(page, 'shop')

    await shop.context.addCookies([{ name: 'shop', value: before as string, url: shop.origin }])
    await page.goto(shop.origin)
    t.equal(await page.isVisible('text="Sign in"'), true)
    t.equal(await page.textContent('.basket > p'), 'Nothing in it yet.')
  }
)

t.test('what a visitor types is shown as text', async (t) => {
  const page = await (await open(t, browser)).tab()
  const typed = '</textarea><img src=x onerror="document.title=1">'
  await page.fill('#note', typed)
  await submit(page, 'text="Save the note"')
  await signIn(page, '<img src=x>')
  t.equal(await page.textContent('#visitor b'), '<img src=x>')
  t.equal(await page.inputValue('#note'), typed)
  t.equal(await page.locator('img').count(), 0)
})

/**
 * Everything that a script of the page gets to see of cookies and replies while it does all that
 * there is to do.
 */
async function seenByScript(page: Page): Promise<{ cookies: string; headers: string }> {
  return page.evaluate(async () => {
    const seen = { cookies: document.cookie, headers: '' }
    const body = new URLSearchParams({ user: 'Ada', password: 'orchard', note: 'by the gate' })
    for (const [method, url] of [
      ['GET', '/'],
      ['POST', '/note'],
      ['POST', '/cart/fig/add'],
      ['POST', '/login'],
      ['GET', '/'],
      ['POST', '/cart/fig/add'],
      ['GET', '/nowhere']
    ] as const) {
      const reply = await fetch(url, method === 'POST' ? { method, body } : { method })
      seen.headers += JSON.stringify([...reply.headers])
      seen.cookies += document.cookie
    }
    document.cookie = 'shop=planted; path=/'
    return seen
  })
}

const anId = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/
const readable: ReadonlyArray<[name: string, session: SessionOptions]> = [
  ['the shop as it is', {}],
  ['the header being on', { sessionHeader: 'X-Session-ID', touchAfter: 0, saveUninitialized: true }]
]

for (const [name, session] of readable) {
  t.test(
    `S10: no script can read the id of a cookie session, nor replace it: ${name}`,
    async (t) => {
      const shop = await open(t, browser, { session })
      const page = await shop.tab()
      await putIn(page, 'Fig')
      const seen = await seenByScript(page)
      t.match(seen.headers, 'text/html', 'the headers were read')
      t.notMatch(seen.headers, anId)
      t.notMatch(seen.cookies, 'shop=')
      t.match(await shop.id(), anId)
      await page.reload()
      t.match(
        await shop.stored(await shop.id()),
        { user: 'Ada', cart: { fig: 3 } },
        'what the script planted is not there'
      )
    }
  )
}

t.test('S10: an id that scripts may read is found so', async (t) => {
  const shop = await open(t, browser, {
    session: { sessionHeader: 'X-Session-ID', mirror: true, cookie: { httpOnly: false } }
  })
  const page = await shop.tab()
  await putIn(page, 'Fig')
  const seen = await seenByScript(page)
  t.match(seen.headers, anId)
  t.match(seen.cookies, anId)
})

t.test('P3, P4: tabs that put things in the basket at once lose nothing', async (t) => {
  const shop = await open(t, browser)
  const [one, two, three] = [await shop.tab(), await shop.tab(), await shop.tab()] as const
  await putIn(one, 'Apple')
  // Each has the session in hand as it was before any of them changes it.
  const held = Array.from({ length: 3 }, () => shop.gate.hold('get', 'after'))
  const replies = [one, two, three].map((page) =>
    page.waitForResponse((reply) => reply.request().method() === 'POST')
  )
  await one.press('article [aria-label="Add Apple"]', 'Enter')
  await two.press('article [aria-label="Add Apple"]', 'Enter')
  await three.fill('#note', 'by the gate')
  await three.press('text="Save the note"', 'Enter')
  await Promise.all(held.map(({ reached }) => reached))
  for (const stop of held) stop.release()
  for (const reply of await Promise.all(replies)) t.equal(reply.status(), 303)
  t.same(await shop.stored(await shop.id()), { cart: { apple: 3 }, note: 'by the gate' })
})

/** Requests of a script, and where in the server they stand while the other tab goes on. */
const slow: ReadonlyArray<{
  does: string
  url: string
  body?: Record<string, string>
  when: 'before' | 'after'
}> = [
  { does: 'read, and refresh their cookie', url: '/', when: 'after' },
  { does: 'assign', url: '/note', body: { note: 'by the gate' }, when: 'after' },
  { does: 'update', url: '/cart/fig/add', body: {}, when: 'after' },
  {
    does: 'sign in themselves, keeping the basket',
    url: '/login',
    body: { user: 'Eve', password: 'orchard' },
    when: 'after'
  },
  { does: 'read, and have yet to look for their session', url: '/', when: 'before' }
]

for (const { does, url, body, when } of slow) {
  t.test(
    `P1, P2: a late reply neither undoes a logout nor replaces the cookie of the next login: requests that ${does}`,
    async (t) => {
      // Whoever may refresh the cookie, or begin a session, does.
      const shop = await open(t, browser, { session: { touchAfter: 0, saveUninitialized: true } })
      const [one, two] = [await shop.tab(), await shop.tab()] as const
      await putIn(one, 'Fig')
      await signIn(one)
      const dead = await shop.id()
      await Promise.all([listening(two), two.reload()])
      await shows(two, 'fig', 1)

      const held = [shop.gate.hold('get', when), shop.gate.hold('get', when)] as const
      const late = [1, 2].map((number) =>
        one.evaluate(
          async ({ url, body }) => {
            // The reply itself, and not where it leads.
            const init: RequestInit = {
              redirect: 'manual',
              ...(body && { method: 'POST', body: new URLSearchParams(body) })
            }
            return (await fetch(url, init)).type
            // The browser lets a second load of one address wait for the first.
          },
          { url: `${url}?${number}`, body }
        )
      )
      await Promise.all(held.map(({ reached }) => reached))
      const expected = body === undefined ? 'basic' : 'opaqueredirect'

      await signOut(two)
      const signedOut = await shop.id()
      t.not(signedOut, dead)
      held[0].release()
      t.equal(await Promise.race(late), expected)
      t.equal(await shop.id(), signedOut)

      await signIn(two, 'Grace')
      const current = await shop.id()
      held[1].release()
      t.same(await Promise.all(late), [expected, expected])
      t.equal(await shop.id(), current)

      t.equal(await shop.stored(dead), undefined)
      t.same(await shop.stored(current), { user: 'Grace' })
      await one.reload()
      t.match(await one.textContent('#visitor'), 'Signed in as Grace')
    }
  )
}

const agents = {
  laptop: 'Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0',
  phone:
    'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) ' +
    'Chrome/143.0.0.0 Mobile Safari/537.36',
  tablet:
    'Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) ' +
    'Version/26.0 Mobile/15E148 Safari/604.1'
}
const minute = 60_000

/** Opens the list of devices, and returns their names. */
async function devices(page: Page): Promise<string[]> {
  await page.press('text="Your devices"', 'Enter')
  await page.waitForSelector('.devices')
  return page.locator('.devices li b').allTextContents()
}

/** Presses a button of a form that leads to another page, and waits for that. */
async function go(page: Page, button: string): Promise<void> {
  const loaded = page.waitForEvent('load')
  await page.press(button, 'Enter')
  await loaded
}

async function changePassword(page: Page, password: string, next: string): Promise<void> {
  await page.fill('[action="/password"] [name=password]', password)
  await page.fill('[name=next]', next)
  await go(page, 'text="Change it"')
}

t.test(
  'P11: three browsers of one user: each is listed, one ends another, a new password ends the others',
  async (t) => {
    const shop = await open(t, browser)
    const { clock } = shop
    clock.advance(9 * 60 * minute)
    const laptop = await shop.signedIn(agents.laptop)
    clock.advance(17 * minute)
    const phone = await shop.signedIn(agents.phone)
    clock.advance(8 * minute)
    const tablet = await shop.signedIn(agents.tablet)
    clock.advance(3 * minute)
    await phone.reload()
    clock.advance(6 * minute)
    const isSignedIn = async (page: Page): Promise<boolean> => {
      await page.reload()
      return page.isVisible('text="Sign out"')
    }

    t.same(await devices(laptop), ['Firefox on Linux', 'Chrome on Android', 'Safari on iPad'])
    t.same(await laptop.locator('.devices li:has(em) b').allTextContents(), ['Firefox on Linux'])
    t.same(await laptop.locator('li:nth-child(2) time').allTextContents(), [
      '1 Jan 2030, 09:17',
      '1 Jan 2030, 09:28'
    ])
    await picture(laptop, 'devices')

    const phoneAt = 'li:has-text("Android") button'
    await go(laptop, phoneAt)
    t.match(await laptop.textContent('.ask'), 'Your password, please', 'she signed in long ago')
    t.equal(await isSignedIn(phone), true)
    await laptop.fill('.ask [name=password]', 'wrong')
    await go(laptop, 'text="Go on"')
    t.match(await laptop.textContent('.ask'), 'That is not your password.')
    await laptop.fill('.ask [name=password]', 'orchard')
    await go(laptop, 'text="Go on"')
    await go(laptop, phoneAt)
    t.same(await devices(laptop), ['Firefox on Linux', 'Safari on iPad'])
    t.equal(await isSignedIn(phone), false)
    await signIn(phone)

    await devices(tablet)
    await changePassword(tablet, 'wrong', 'a new orchard')
    t.match(await tablet.textContent('.note'), 'That is not your password.')
    t.equal(await isSignedIn(laptop), true)
    await devices(tablet)
    await changePassword(tablet, 'orchard', 'a new orchard')
    t.match(await tablet.textContent('.note'), 'Your password is changed.')
    t.same(await devices(tablet), ['Safari on iPad'])
    for (const page of [laptop, phone]) {
      await page.goto(shop.origin)
      t.equal(await isSignedIn(page), false)
    }
    await laptop.fill('[name=user]', 'Ada')
    await laptop.fill('[name=password]', 'orchard')
    await go(laptop, 'text="Sign in"')
    t.match(await laptop.textContent('#visitor'), 'That is not the password.')
    await signIn(laptop, 'Ada', 'a new orchard')

    await devices(tablet)
    await go(tablet, 'text="Sign out everywhere else"')
    t.same(await devices(tablet), ['Safari on iPad'])
    t.equal(await isSignedIn(laptop), false)
  }
)

t.test(
  'P12: signed out in one window, the other says so; and so does another device',
  async (t) => {
    const shop = await open(t, browser)
    const [one, two] = [await shop.tab(), await shop.tab()] as const
    await putIn(one, 'Fig')
    await signIn(one)
    await Promise.all([listening(two), two.reload()])
    await shows(two, 'fig', 1)
    const said = 'text="You were signed out."'
    await signOut(one)
    await two.waitForSelector(said)
    t.equal(await two.textContent('.basket > p'), 'Nothing in it yet.')
    t.equal(await one.isVisible(said), false, 'it is no news to who did it')

    await signIn(two)
    const phone = await shop.signedIn(agents.phone)
    await devices(phone)
    await devices(two)
    await changePassword(two, 'orchard', 'a new orchard')
    await phone.waitForSelector(said)
    t.match(await two.textContent('#visitor'), 'Signed in as Ada', 'with another id')
    await signOut(two)
  }
)

t.test(
  'S45, P11: a login with the old password that the new one overtakes signs nobody in',
  async (t) => {
    const shop = await open(t, browser)
    const page = await shop.tab()
    const owner = await shop.signedIn(agents.laptop)
    const held = shop.gate.hold('create', 'before')
    await page.fill('[name=user]', 'Ada')
    await page.fill('[name=password]', 'orchard')
    const replied = page.waitForResponse((reply) => reply.request().method() === 'POST')
    await page.press('text="Sign in"', 'Enter', { noWaitAfter: true })
    await held.reached
    await devices(owner)
    await changePassword(owner, 'orchard', 'a new orchard')
    held.release()
    // It pauses before it tries again.
    const ticking = setInterval(() => {
      shop.clock.advance(1)
    }, 5)
    t.equal((await replied).status(), 303, 'to the page, where nobody is signed in')
    clearInterval(ticking)
    await page.waitForSelector('text="Sign in"')
    t.equal(await shop.id(), undefined)
    t.same(await devices(owner), ['Firefox on Linux'])
  }
)

t.test('nobody ends the session of somebody else', async (t) => {
  const shop = await open(t, browser)
  const ada = await shop.signedIn(agents.laptop)
  const eve = await shop.tab()
  await signIn(eve, 'Eve')
  const [found] = (await shop.app.sessions.list('Ada')).sessions
  const status = await eve.evaluate(async (publicId = '') => {
    const body = new URLSearchParams({ publicId })
    return (await fetch('/devices/end', { method: 'POST', body })).status
  }, found?.publicId)
  t.equal(status, 200)
  await ada.reload()
  t.match(await ada.textContent('#visitor'), 'Signed in as Ada')
})

t.test(
  'another site can link to the shop, but what its forms send comes without the cookie, and is refused',
  async (t) => {
    const shop = await open(t, browser)
    const page = await shop.tab()
    await putIn(page, 'Fig')
    const id = await shop.id()
    const port = await otherSite(
      t,
      `<a href="${shop.origin}">shop</a> <form method="post" action="${shop.origin}/cart/fig/add"><button>win</button></form>`
    )
    const cookie = `shop=${id}`

    // 127.0.0.1 is another site than localhost; another port of localhost is the same site, and
    // another origin.
    for (const [host, carried] of [
      ['127.0.0.1', undefined],
      ['localhost', cookie]
    ] as const) {
      await page.goto(`http://${host}:${port}`)
      const reply = page.waitForResponse((response) => response.request().method() === 'POST')
      await page.press('button', 'Enter')
      t.equal((await reply).status(), 403)
      const sent = (await (await reply).request().allHeaders())['cookie']
      t.equal(sent, carried, host)
      t.same(await shop.stored(id), { cart: { fig: 1 } })
      t.equal(await shop.id(), id)

      await page.goto(`http://${host}:${port}`)
      await page.press('a', 'Enter')
      await shows(page, 'fig', 1)
    }
  }
)

/** A key and a certificate for localhost, signed by nobody else. */
function selfSigned(): { cert: Buffer; key: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-'))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
      '-keyout',
      key,
      '-out',
      cert
    ],
    { stdio: 'ignore' }
  )
  const pair = { cert: readFileSync(cert), key: readFileSync(key) }
  rmSync(folder, { recursive: true })
  return pair
}

t.test(
  'over HTTPS the cookie is a __Host- cookie, which a reply over http cannot set',
  async (t) => {
    const shop = await open(t, browser, { https: selfSigned() })
    const page = await shop.tab()
    await putIn(page, 'Fig')
    await signIn(page)
    await shows(page, 'fig', 1)
    const cookies = await shop.context.cookies(shop.origin)
    t.match(cookies, [
      {
        name: '__Host-shop',
        value: anId,
        domain: 'localhost',
        path: '/',
        httpOnly: true,
        secure: true,
        sameSite: 'Lax'
      }
    ])
    t.equal(cookies.length, 1)

    const port = await otherSite(t, 'planted', {
      'set-cookie': ['__Host-shop=planted; Path=/', 'planted=yes; Path=/']
    })
    await page.goto(`http://localhost:${port}`)
    await page.goto(shop.origin)
    await page.waitForSelector('text="Ada"')
    t.same((await shop.context.cookies(shop.origin)).map(({ name }) => name).toSorted(), [
      '__Host-shop',
      'planted'
    ])
    await signOut(page)
    t.equal(await shop.id(), undefined)
  }
)

t.test('one command opens the shop', async (t) => {
  const child = spawn(process.execPath, ['examples/shop/server.js'], {
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(async () => {
    child.kill()
    await once(child, 'close')
  })
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
  const page = await (await browser.newContext()).newPage()
  await page.goto(/http:\S+/.exec(line)?.[0] as string)
  t.equal(await page.title(), 'The Orchard')
})

// The main path of the shop in Firefox; shop.test.ts has much more, in Chromium. Playwright cannot
// drive a Firefox that it did not build, so this speaks WebDriver BiDi itself.
import type { AddressInfo } from 'node:net'

import t, { type Test } from 'tap'

import { MemoryStore } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { Gate } from '../races/gate.ts'
import { firefoxPath, startFirefox, type Cookie, type Tab } from './firefox.ts'
import { build } from './shop.ts'

if (firefoxPath === undefined) {
  t.plan(0, 'there is no Firefox: install it, or set FIREFOX_PATH')
  process.exit()
}

const newTab = await startFirefox(t)
const clock = new TestClock()
const gate = new Gate(new MemoryStore({ clock }))
const app = await build({ session: { clock, store: gate } })
t.teardown(async () => {
  // Firefox keeps its connections.
  app.server.closeAllConnections()
  await app.close()
})
await app.listen({ port: 0, host: '127.0.0.1' })
const origin = `http://localhost:${(app.server.address() as AddressInfo).port}`

async function sessionCookie(tab: Tab): Promise<Cookie | undefined> {
  return (await tab.cookies()).find(({ name }) => name === 'shop')
}

/** What is stored of the session that a cookie names. */
async function stored(cookie: Cookie | undefined): Promise<unknown> {
  const found = await app.sessions.get(app.sessions.publicIdOf(cookie?.value.value ?? ''))
  return found && { user: found.subject, ...found.data }
}

async function press(tab: Tab, selector: string): Promise<void> {
  await tab.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`)
}

async function putInFig(t: Test, tab: Tab, count: number): Promise<void> {
  await press(tab, 'article [aria-label="Add Fig"]')
  await tab.until(`document.querySelector('#count-fig')?.textContent === '${count}'`)
  t.pass(`figs: ${count}`)
}

async function signIn(tab: Tab, user: string): Promise<void> {
  await tab.evaluate(`document.querySelector('[name=user]').value = '${user}'`)
  await tab.evaluate(`document.querySelector('[name=password]').value = 'orchard'`)
  await press(tab, '[action="/login"] button')
  await tab.until(`document.querySelector('[action="/logout"]')`)
}

t.test(
  'P1, P2, S10, S11: in Firefox, a basket and a sign-in under a new id; a late reply neither undoes ' +
    'the logout nor replaces the cookie of the next login',
  async (t) => {
    const [one, two] = [await newTab(), await newTab()] as const
    await one.goto(origin)
    t.equal(await sessionCookie(one), undefined, 'who only looks around gets no session')

    await putInFig(t, one, 1)
    await putInFig(t, one, 2)
    const guest = await sessionCookie(one)
    t.match(guest, { httpOnly: true, sameSite: 'lax' })
    t.equal(await one.evaluate('document.cookie'), '', 'no script reads it')

    await signIn(one, 'Ada')
    const ada = await sessionCookie(one)
    t.not(ada?.value.value, guest?.value.value)
    t.equal(await stored(guest), undefined, 'who knows the old id is left with nothing')
    t.same(await stored(ada), { user: 'Ada', cart: { fig: 2 } })

    // Here neither tab asks for anything by itself: what is held is the request below.
    await one.until('document.hidden || events?.readyState === EventSource.OPEN')
    await one.goto(`${origin}/style.css`)
    await two.goto(`${origin}/style.css`)
    const held = gate.hold('get', 'after')
    const late = two.evaluate(
      `fetch('/cart/fig/add', { method: 'POST', redirect: 'manual' }).then(({ type }) => type)`
    )
    await held.reached
    await one.goto(origin)
    await press(one, '[action="/logout"] button')
    await one.until(`document.querySelector('[action="/login"]')`)
    await signIn(one, 'Grace')
    const grace = await sessionCookie(one)
    held.release()
    t.equal(await late, 'opaqueredirect')
    t.equal((await sessionCookie(two))?.value.value, grace?.value.value)
    t.equal(await stored(ada), undefined)
    t.same(await stored(grace), { user: 'Grace' })
  }
)

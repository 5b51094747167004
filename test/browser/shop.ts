import type { AddressInfo } from 'node:net'

import type { FastifyInstance } from 'fastify'
import type { Browser, BrowserContext, Page, Response } from 'playwright-core'
import type { Test } from 'tap'

import { MemoryStore, type SessionOptions } from '../../lib/index.ts'
import { TestClock } from '../../lib/testing/index.ts'
import { importExample } from '../helpers/example.ts'
import { Gate } from '../races/gate.ts'

interface BuildOptions {
  readonly https?: { readonly cert: Buffer; readonly key: Buffer }
  readonly session?: SessionOptions
}

const { build } = await importExample<{
  readonly build: (options: BuildOptions) => Promise<FastifyInstance>
}>('shop/shop.js')
export { build }

export const chromiumArguments: readonly string[] = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--host-resolver-rules=MAP localhost 127.0.0.1'
]

/** The shop of the examples, open, and a browser window that belongs to nobody yet. */
export interface Shop {
  readonly app: FastifyInstance
  readonly clock: TestClock
  /** Stops requests at the calls of the store. */
  readonly gate: Gate
  readonly origin: string
  readonly context: BrowserContext
  /** A new tab of the window, with the shop in it. */
  tab(): Promise<Page>
  /** A tab of another browser, with cookies of its own, in which Ada is signed in. */
  signedIn(userAgent: string): Promise<Page>
  /** The value of the session cookie that the window holds. */
  id(): Promise<string | undefined>
  /** What the session of an id holds, and as `user` who is signed in; undefined if there is none. */
  stored(id: string | undefined): Promise<unknown>
}

export async function open(
  t: Test,
  browser: Browser,
  { https, session }: BuildOptions = {}
): Promise<Shop> {
  const clock = new TestClock()
  const gate = new Gate(new MemoryStore({ clock }))
  const app = await build({ ...(https && { https }), session: { clock, store: gate, ...session } })
  const contexts: BrowserContext[] = []
  t.teardown(async () => {
    // First: its idle connections would keep the server open.
    await Promise.all(contexts.map((each) => each.close()))
    await app.close()
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const origin = `${https === undefined ? 'http' : 'https'}://localhost:${(app.server.address() as AddressInfo).port}`
  const newContext = async (userAgent?: string): Promise<BrowserContext> => {
    const context = await browser.newContext({
      ignoreHTTPSErrors: true,
      viewport: { width: 1080, height: 616 },
      ...(userAgent !== undefined && { userAgent })
    })
    context.setDefaultTimeout(60_000)
    contexts.push(context)
    return context
  }
  const tabOf = async (context: BrowserContext): Promise<Page> => {
    const page = await context.newPage()
    await page.goto(origin)
    return page
  }
  const context = await newContext()
  return {
    app,
    clock,
    gate,
    origin,
    context,
    tab: () => tabOf(context),
    async signedIn(userAgent) {
      const page = await tabOf(await newContext(userAgent))
      await signIn(page)
      return page
    },
    async id() {
      return (await context.cookies(origin)).find(({ name }) => /^(?:__Host-)?shop$/.test(name))
        ?.value
    },
    async stored(id = '') {
      const found = await app.sessions.get(app.sessions.publicIdOf(id))
      if (found === undefined) return undefined
      const { data, subject } = found
      return { ...data, ...(subject !== undefined && { user: subject }) }
    }
  }
}

// Buttons are pressed by key: before a click Playwright waits for frames, which a tab in the
// background has few of.

export async function signIn(page: Page, user = 'Ada', password = 'orchard'): Promise<void> {
  const listens = listening(page)
  await page.fill('[name=user]', user)
  await page.fill('[name=password]', password)
  await page.press('text="Sign in"', 'Enter')
  await page.waitForSelector('text="Sign out"')
  await listens
}

/** Waits until the page of somebody who is signed in hears when the session ends. */
export async function listening(page: Page): Promise<void> {
  await page.waitForResponse((response) => isStream(response))
}

function isStream(response: Response): boolean {
  return response.request().resourceType() === 'eventsource'
}

export async function signOut(page: Page): Promise<void> {
  await page.press('text="Sign out"', 'Enter')
  await page.waitForSelector('text="Sign in"')
}

/** Presses a button of a form that is sent in place, and waits for the page that comes of it. */
export async function submit(page: Page, button: string): Promise<void> {
  const reply = page.waitForResponse(
    (response) => response.request().method() === 'GET' && !isStream(response)
  )
  await page.press(button, 'Enter')
  await (await reply).finished()
}

export async function putIn(page: Page, ...fruits: readonly string[]): Promise<void> {
  for (const fruit of fruits) await submit(page, `article [aria-label="Add ${fruit}"]`)
}

/** Waits until the page shows so many of a fruit. */
export async function shows(page: Page, fruit: string, count: number): Promise<void> {
  await page.waitForSelector(`#count-${fruit}:text-is("${count}")`)
}

import { join } from 'node:path'

import type { FastifyInstance } from 'fastify'
import { chromium, type BrowserContextOptions, type Page } from 'playwright-core'
import t, { type Test } from 'tap'

import { importExample } from '../helpers/example.ts'
import { listen } from '../helpers/serve.ts'
import { chromiumPath, skipChromium } from '../helpers/chromium.ts'
import { chromiumArguments } from './shop.ts'

if (skipChromium !== false) {
  t.plan(0, skipChromium)
  process.exit()
}

const { build } = await importExample<{ readonly build: () => Promise<FastifyInstance> }>(
  'versus/app.js'
)

const browser = await chromium.launch({
  executablePath: chromiumPath as string,
  args: [...chromiumArguments],
  timeout: 120_000
})
t.teardown(() => browser.close())

interface Demo {
  readonly page: Page
  /** What the page could not do, such as what its policy forbids. */
  readonly errors: readonly string[]
}

async function open(t: Test, options: BrowserContextOptions = {}): Promise<Demo> {
  const app = await build()
  // The steps wait for the eye alone: without motion they do not.
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options })
  context.setDefaultTimeout(60_000)
  t.teardown(async () => {
    await context.close()
    await app.close()
  })
  const page = await context.newPage()
  const errors: string[] = []
  page.on('pageerror', ({ message }) => errors.push(message))
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text())
  })
  await page.goto(`http://localhost:${await listen(app)}`)
  return { page, errors }
}

/** Presses the button of a race, and returns the steps of each shop and what it comes to. */
async function run(page: Page, race: string): Promise<{ steps: string[][]; verdicts: string[] }> {
  await page.press(`#${race} button`, 'Enter')
  const panes = page.locator(`#${race} [data-pane]`)
  await page.waitForFunction(
    (race) =>
      document.querySelectorAll(`#${race} [role=status]:not(:empty)`).length === 2 &&
      document.querySelector('[aria-disabled]') === null,
    race
  )
  return {
    steps: await Promise.all(
      [0, 1].map((index) => panes.nth(index).locator('li').allTextContents())
    ),
    // A screen reader is told of which shop it is.
    verdicts: (await panes.locator('[role=status]').allTextContents()).map((verdict, index) =>
      verdict.replace(
        index === 0 ? /^@fastify\/session 11\.[\d.]+: / : /^fastify-holdfast [\w.-]+: /,
        ''
      )
    )
  }
}

/** What each comes to: on @fastify/session, and on this. */
const races = [
  {
    race: 'logout',
    verdicts: ["The old cookie still opens Ada's account.", 'The old cookie opens nothing.'],
    windows: ['Signed in as Ada', 'Nobody is signed in']
  },
  {
    race: 'tabs',
    verdicts: ['The plum is lost.', 'All three fruits are in the basket.'],
    windows: ['Nobody is signed in', 'Nobody is signed in']
  },
  {
    race: 'late',
    verdicts: ['Ada is signed out by the late page.', 'Ada is still signed in.'],
    windows: ['Nobody is signed in', 'Signed in as Ada']
  }
]

t.test('each button shows what becomes of its race in both shops', async (t) => {
  const { page, errors } = await open(t, { viewport: { width: 860, height: 1240 } })
  // The first once more: a race leaves nothing behind that changes another.
  for (const { race, verdicts, windows } of [...races, ...races.slice(0, 1)]) {
    const result = await run(page, race)
    t.same(result.verdicts, verdicts, race)
    t.equal(result.steps[0]?.length, 5)
    t.same(result.steps[0], result.steps[1], 'the same was done in both')
    const shown = ['peer', 'holdfast'].map((shop) =>
      page.frameLocator(`#${shop}`).locator('#visitor').textContent()
    )
    t.same(await Promise.all(shown), windows, 'what the window of each shop shows')
  }
  t.same(errors, [])

  const folder = process.env['SCREENSHOTS']
  if (folder === undefined) return
  await page.evaluate(() => {
    document.querySelector<HTMLElement>(':focus')?.blur()
    for (const part of document.querySelectorAll('header, footer')) part.remove()
  })
  await page.locator('body').screenshot({ path: join(folder, 'versus.png') })
})

t.test('the shops of the demonstration are shops: a visitor uses them by hand', async (t) => {
  const { page, errors } = await open(t)
  for (const shop of ['peer', 'holdfast']) {
    const frame = page.frameLocator(`#${shop}`)
    await frame.locator('[aria-label="Add Fig"]').press('Enter')
    await frame.locator('#fig', { hasText: '1' }).waitFor()
    await frame.locator('text="Sign in as Ada"').press('Enter')
    await frame.locator('text="Sign out"').waitFor()
    t.equal(await frame.locator('#fig').textContent(), '1')
    await frame.locator('text="Sign out"').press('Enter')
    await frame.locator('text="Sign in as Ada"').waitFor()
    t.equal(await frame.locator('#fig').textContent(), '0')
  }
  t.same(errors, [])
})

t.test('on a telephone the page is no wider than the screen', async (t) => {
  const { page } = await open(t, { viewport: { width: 320, height: 640 }, colorScheme: 'dark' })
  await run(page, 'logout')
  const isWide = (): boolean => document.documentElement.scrollWidth > innerWidth
  t.notOk(await page.evaluate(isWide))
  for (const frame of page.frames().slice(1)) t.notOk(await frame.evaluate(isWide), frame.url())
})

t.test('a race that cannot be run says so', async (t) => {
  const { page } = await open(t)
  let count = 0
  await page.route('**/holdfast/logout', async (route) => {
    // The first is that of the visitor before.
    await (count++ === 0 ? route.continue() : route.fulfill({ status: 503 }))
  })
  const { verdicts } = await run(page, 'logout')
  t.same(verdicts, [
    "The old cookie still opens Ada's account.",
    'The race could not be run to its end. /holdfast/logout replied with 503.'
  ])
  await page.unroute('**/holdfast/logout')
  t.same((await run(page, 'tabs')).verdicts[1], 'All three fruits are in the basket.')
})

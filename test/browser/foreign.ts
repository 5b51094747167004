import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'

/** What a page does to the app, which is at the origin. */
export type Act = (page: Page, origin: string) => Promise<unknown>

/** Posts a form. */
export function form(path: string): Act {
  return async (page, origin) => {
    const reply = page.waitForResponse((response) => response.request().method() === 'POST')
    await page.evaluate((action) => {
      const made = document.body.appendChild(document.createElement('form'))
      Object.assign(made, { action, method: 'post' }).submit()
    }, origin + path)
    await (await reply).finished()
    await page.waitForLoadState()
  }
}

/** Follows a link, to a page that has a `b`. */
export const link: Act = async (page, origin) => {
  await page.evaluate((href) => {
    Object.assign(document.createElement('a'), { href }).click()
  }, `${origin}/page`)
  await page.waitForSelector('b')
}

/** Frames a page, or embeds an image. */
export function embed(kind: 'iframe' | 'img', path: string): Act {
  return (page, origin) =>
    page.evaluate(
      ([kind, src]) =>
        new Promise((resolve) => {
          const made = document.createElement(kind as string)
          made.addEventListener('load', resolve)
          made.addEventListener('error', resolve)
          document.body.append(Object.assign(made, { src }))
        }),
      [kind, origin + path]
    )
}

/** Fetches with cookies. */
export function call(path: string, init: RequestInit): Act {
  return (page, origin) =>
    page.evaluate(
      ([url, init]) =>
        fetch(url as string, init as RequestInit).then(
          () => {},
          () => {}
        ),
      [origin + path, { credentials: 'include', ...init }]
    )
}

/** Has an app take forms, whose fields nobody reads. */
export function takeForms(app: FastifyInstance): void {
  const type = 'application/x-www-form-urlencoded'
  app.addContentTypeParser(type, { parseAs: 'string' }, (_request, _body, done) => done(null))
}

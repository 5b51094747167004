import { expect, test } from '@jest/globals'
import { TestBrowser } from 'fastify-holdfast/testing'

import { build } from './app'

test('a user signs in and out', async () => {
  const app = await build()
  await app.init()
  const browser = new TestBrowser(app.getHttpAdapter().getInstance())
  await browser.inject({ method: 'POST', url: '/login' })
  expect((await browser.inject('/me')).json()).toEqual({ user: 'ada' })
  await browser.inject({ method: 'POST', url: '/logout' })
  expect((await browser.inject('/me')).statusCode).toBe(401)
  await app.close()
})

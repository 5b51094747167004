import { existsSync } from 'node:fs'

/** Where Chromium is; undefined if there is none. */
export const chromiumPath: string | undefined = [
  process.env['CHROMIUM_PATH'] ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome'
].find((path) => existsSync(path))

/** Why tests that need Chromium can't run; false where they can. */
export const skipChromium: string | false =
  chromiumPath === undefined && 'there is no Chromium: install it, or set CHROMIUM_PATH'

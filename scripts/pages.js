// Takes the programs out of the Markdown pages, a folder for each page, so that each page is
// compiled by itself; the tests run them. A block ```ts file=server.ts becomes that file of its
// page.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { readPages } from '../.build/test/helpers/pages.js'

rmSync('.pages', { recursive: true, force: true })
for (const { folder, blocks } of readPages()) {
  const programs = blocks.filter(({ language }) => language === 'ts')
  if (programs.length === 0) continue
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    join(folder, 'tsconfig.json'),
    '{ "extends": "../../tsconfig.pages.json", "include": ["*.ts"], "exclude": [] }\n'
  )
  for (const { file, text } of programs) writeFileSync(join(folder, file), text)
}

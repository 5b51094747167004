// Takes the programs out of the Markdown pages, a folder for each page, so that each page is
// compiled by itself; the tests run them. A block ```ts file=server.ts becomes that file of its
// page, also in folders: ```ts file=plugins/session.ts.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { readPages } from '../.build/test/helpers/pages.js'

rmSync('.pages', { recursive: true, force: true })
for (const { folder, blocks } of readPages()) {
  const programs = blocks.filter(({ language }) => language === 'ts')
  if (programs.length === 0) continue
  mkdirSync(folder, { recursive: true })
  // Where a page has decorators, as Nest does, it is compiled as Nest compiles.
  const compilerOptions = programs.some(({ text }) => /^ *@[A-Z]\w*\(/m.test(text))
    ? { experimentalDecorators: true, emitDecoratorMetadata: true }
    : {}
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: '../../tsconfig.pages.json',
      compilerOptions,
      include: ['**/*.ts'],
      exclude: []
    })
  )
  for (const { file, text } of programs) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
}

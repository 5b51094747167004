// Makes of lib one module for each entry, and one of what they share: that is imported in half the
// time.
import { readFileSync } from 'node:fs'
import { build } from 'rolldown'

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'))
const targets = Object.values(exports).flatMap((entry) => entry.default ?? [])

await build({
  input: Object.fromEntries(
    targets.map((target) => [
      target.replace(/^\.\/dist\/|\.js$/g, ''),
      target.replace('./dist/', '').replace(/\.js$/, '.ts')
    ])
  ),
  platform: 'node',
  external: /^[^./]/,
  logLevel: 'warn',
  output: {
    dir: 'dist',
    chunkFileNames: 'lib/[name].js',
    codeSplitting: { groups: [{ name: 'shared', minShareCount: 2 }] },
    comments: false,
    minify: false
  }
})

// Takes out of dist what no user can reach: the declarations of internals.
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'))
const reached = new Set()

function reach(file) {
  if (reached.has(file)) return
  reached.add(file)
  for (const [, target] of readFileSync(file, 'utf8').matchAll(
    /\b(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g
  )) {
    // In a declaration, './x.ts' stands for the declaration of x.
    reach(
      join(
        dirname(file),
        file.endsWith('.d.ts') ? target.replace(/(?<!\.d)\.ts$/, '.d.ts') : target
      )
    )
  }
}

for (const entry of Object.values(exports)) {
  for (const file of Object.values(entry)) if (typeof entry === 'object') reach(normalize(file))
}
for (const file of readdirSync('dist', { recursive: true, withFileTypes: true })) {
  const path = join(file.parentPath, file.name)
  if (file.isFile() && !reached.has(path)) rmSync(path)
}

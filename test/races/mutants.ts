import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

/** How something is taken out: one place in one compiled file. */
export interface Mutant {
  readonly file: string
  readonly take: RegExp
  readonly put: string
}

type Store = 'memory' | 'redis'

/** What the stores hold together. */
const inStores: Readonly<Record<Store, Readonly<Record<string, Mutant>>>> = {
  memory: {
    'the version check': {
      file: 'stores/memory.js', take: /if \(!isOfVersion\(found\.packed, expectedVersion\)\)\s+return false;/, put: ''
    },
    'the existence check': {
      file: 'stores/memory.js',
      take: /(update\(key, record, expectedVersion\) \{\s+const found = this\.#find\(key\);\s+if \(found === undefined\)\s+)return false;/,
      put: '$1return this.create(key, record);'
    }
  },
  redis: {
    'the version check': {
      file: 'stores/redis.js', take: /if version ~= expected then return 0 end/, put: 'if not version then return 0 end'
    },
    'the existence check': {
      file: 'stores/redis.js',
      take: /if version ~= expected then return 0 end/,
      put: 'if version and version ~= expected then return 0 end\ncreatedAt = createdAt or string.format("%.0f", redis.call("TIME")[1] * 1000)'
    }
  }
}

/** What lib is held together by over any store. */
const inLib: Readonly<Record<string, Mutant>> = {
  'the claim in regenerate': {
    file: 'manager.js',
    take: /const removed = work\.mayBeStored \? yield\* this\.#remove\(operation, work, regenerated\) : undefined;/,
    put: 'const removed = (yield* this.#remove(operation, work, regenerated)) ?? record;'
  },
  'the liveness check before a cookie is refreshed': {
    file: 'manager.js', take: /if \(liveUntil !== undefined\)/, put: 'if (true)'
  },
  'the merge': {
    file: 'merge.js', take: /\.\.\.theirs \}/, put: '...mine }'
  },
  'the recognition of one\'s own write': {
    file: 'writer.js', take: /includesWrite\(found\.version, attempt\.record\.version\)/, put: 'false'
  }
}

/** What lib is held together by, with a store, and how it is taken out. */
export function mutantsOver(store: Store): [name: string, mutant: Mutant][] {
  return Object.entries({ ...inStores[store], ...inLib })
}

const built = fileURLToPath(new URL('../../', import.meta.url))

/** A copy of what was compiled, beside it, where it finds the packages that it imports. It goes with the test. */
export function copyBuilt(t: Test, parts: readonly string[]): string {
  const folder = mkdtempSync(`${built}mutant-`)
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  for (const part of parts) cpSync(`${built}${part}`, `${folder}/${part}`, { recursive: true })
  return folder
}

/** Takes something out of a copy. */
export function plant(t: Test, folder: string, { file, take, put }: Mutant): void {
  const path = `${folder}/lib/${file}`
  const code = readFileSync(path, 'utf8')
  t.equal(code.match(new RegExp(take, 'g'))?.length, 1, 'it is there to be taken out')
  writeFileSync(path, code.replace(take, put))
}

import type { Serializer } from '../types/options.ts'

/** The default. JSON would drop a function or a symbol without a word; at the top level that is an error. */
export const jsonSerializer: Serializer = Object.freeze({
  stringify(data: Record<string, unknown>): string {
    for (const key of Object.keys(data)) {
      const type = typeof data[key]
      if (type === 'function' || type === 'symbol') throw new TypeError(`JSON has no ${type}s`)
    }
    return JSON.stringify(data)
  },
  parse: JSON.parse
})

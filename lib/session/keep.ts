import { SessionError } from '../errors.ts'
import type { Data } from './merge.ts'

/** What of a session goes on under its new id. */
export interface Keep {
  readonly keys: 'all' | readonly string[]
  /** Whether the creation and the lifetime of its own go along. */
  readonly lifetime: boolean
}

/** Reads what `regenerate()` was given. @throws HOLDFAST_VALUE_INVALID */
export function readKeep(keys: unknown = [], options: unknown = {}): Keep {
  const { keepLifetime = false, ...rest } = Object(options) as Record<string, unknown>
  if (
    (keys !== 'all' && !Array.isArray(keys)) ||
    Object(options) !== options ||
    typeof keepLifetime !== 'boolean' ||
    Object.keys(rest).length > 0
  ) {
    throw new SessionError('HOLDFAST_VALUE_INVALID', {
      detail: "the keys that go along are an array or 'all'; the option is { keepLifetime: true }"
    })
  }
  return { keys, lifetime: keepLifetime }
}

/** What goes along where a session that has not moved yet is to move further. */
export function keepBoth(first: Keep, second: Keep): Keep {
  return {
    keys:
      first.keys === 'all' || second.keys === 'all'
        ? ([first.keys, second.keys].find((keys) => keys !== 'all') ?? 'all')
        : first.keys.filter((key) => second.keys.includes(key)),
    lifetime: first.lifetime && second.lifetime
  }
}

export const keepNothing: Keep = Object.freeze({ keys: [], lifetime: false })

/** Whether no data goes along. */
export function keepsNothing({ keys }: Keep): boolean {
  return keys.length === 0
}

/** Returns the data that goes along. */
export function pick(data: Data, { keys }: Keep): Data {
  if (keys === 'all') return data
  return Object.fromEntries(
    keys.filter((key) => Object.hasOwn(data, key)).map((key) => [key, data[key]])
  )
}

import assert from 'node:assert/strict'

import { systemClock } from '../clock.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

export const hour: number = 3_600_000
export const day: number = 24 * hour

/** A key like those of the plugin: a digest in base64url. */
export const key = 'q1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyBg'
export const otherKey = 'Bg1x-_ZkT8bYw0dP3mVn5rJh7uGf2sLc4oEa6iQtXyq'

/** Makes 20 values. */
export function many<T>(make: (index: number) => T): T[] {
  return Array.from({ length: 20 }, (_, index) => make(index))
}

/** Returns an entry that must not be a trace. */
export function recordOf(
  entry: SessionRecord | SessionTrace | true | undefined
): SessionRecord | undefined {
  assert.ok(entry !== true, 'expected a record, got what the store cannot read')
  assert.equal(entry?.successor, undefined, 'expected a record, got a trace')
  return entry
}

/** Changes every value of a record or a trace, unless it is frozen. */
export function spoil(entry: SessionRecord | SessionTrace | true | undefined): void {
  for (const [name, value] of Object.entries({
    data: 'spoilt',
    version: 'spoilt',
    createdAt: 0,
    expiresAt: 0,
    maxAge: 1,
    successor: 'spoilt'
  })) {
    // An assignment to a frozen object would throw.
    if (typeof entry === 'object') Reflect.set(entry, name, value)
  }
}

export function preview(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

/** Waits in real time, and not a millisecond less. */
export async function elapse(milliseconds: number): Promise<void> {
  const end = systemClock.now() + milliseconds
  // A timer may fire early by the clock: it starts from when the event loop last read the time.
  for (let left = milliseconds; left > 0; left = end - systemClock.now()) {
    await new Promise<void>((resolve) => {
      systemClock.setTimeout(resolve, left)
    })
  }
}

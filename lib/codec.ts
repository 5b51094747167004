import { SessionError } from './errors.ts'
import type { Data } from './merge.ts'
import type { Serializer } from '../types/options.ts'

/** Between data and the text that a store keeps; no data is the empty text, whatever the serializer makes of it. */
export class Codec {
  readonly #serializer: Serializer
  readonly #maxBytes: number

  constructor(serializer: Serializer, maxBytes: number) {
    this.#serializer = serializer
    this.#maxBytes = maxBytes
  }

  /** @throws HOLDFAST_DATA_UNSERIALIZABLE */
  stringify(data: Data): string {
    return Object.keys(data).length === 0 ? '' : this.#serialize(data)
  }

  /** Refuses what is too large to be written. What was stored under a higher limit can still be read and ended. @throws HOLDFAST_DATA_TOO_LARGE */
  assertFits(text: string): void {
    // A text of n UTF-16 units has at most 3 n bytes: most texts need not be counted.
    if (text.length * 3 > this.#maxBytes && Buffer.byteLength(text) > this.#maxBytes) throw new SessionError('HOLDFAST_DATA_TOO_LARGE')
  }

  /** New data each time. @throws HOLDFAST_DATA_UNDECODABLE */
  parse(text: string): Data {
    if (text === '') return {}
    let data: unknown
    try {
      data = this.#serializer.parse(text)
    } catch {
      // Its message would quote the data.
    }
    if (typeof data !== 'object' || data === null || Array.isArray(data)) throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    return data as Data
  }

  /** Whether two values are equal once serialised; what cannot be is equal to nothing but itself. */
  readonly same = (one: unknown, other: unknown): boolean => {
    if (one === other) return true
    try {
      return this.#serialize({ value: one }) === this.#serialize({ value: other })
    } catch {
      return false
    }
  }

  #serialize(data: Data): string {
    let text: unknown
    try {
      text = this.#serializer.stringify(data)
    } catch {
      // Its message may quote the data.
    }
    if (typeof text !== 'string') throw new SessionError('HOLDFAST_DATA_UNSERIALIZABLE')
    return text
  }
}

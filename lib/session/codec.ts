import { SessionError } from '../errors.ts'
import type { Data } from './merge.ts'
import type { Serializer } from '../../types/options.ts'

/**
 * Turns data into the text that a store keeps, and back. No data is the empty text, whatever the
 * serializer makes of it.
 */
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

  /**
   * Refuses a text that is too large to be written. A record that was stored under a higher limit
   * can still be read and ended.
   *
   * @throws HOLDFAST_DATA_TOO_LARGE
   */
  assertFits(text: string): void {
    // A text of n UTF-16 units has at most 3 n bytes: most texts need not be counted.
    if (text.length * 3 > this.#maxBytes && Buffer.byteLength(text) > this.#maxBytes)
      throw new SessionError('HOLDFAST_DATA_TOO_LARGE')
  }

  /** Returns new data each time, without a prototype. @throws HOLDFAST_DATA_UNDECODABLE */
  parse(text: string): Data {
    if (text === '') return Object.create(null) as Data
    let data: unknown
    try {
      data = this.#serializer.parse(text)
    } catch {
      // Its message would quote the data.
    }
    if (typeof data !== 'object' || data === null || Array.isArray(data))
      throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    return Object.getPrototypeOf(data) === null ? (data as Data) : { __proto__: null, ...data }
  }

  /** Whether two values serialise to the same text. One that cannot equals only itself. */
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

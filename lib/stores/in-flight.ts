import { optionError } from '../errors.ts'

/** What bounds the calls of a store to its server: the default of the option `maxPending`. */
const mostPending = 1000

/**
 * Bounds the calls that wait for a server. While it does not answer they would pile up without end, in memory and in
 * line: beyond the bound a call fails at once.
 */
export class InFlight {
  readonly #max: number
  #count = 0

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(maxPending: number = mostPending) {
    if (!Number.isSafeInteger(maxPending) || maxPending < 1) throw optionError('maxPending', 'a positive integer')
    this.#max = maxPending
  }

  async call<T>(call: () => Promise<T>): Promise<T> {
    if (this.#count >= this.#max) throw new Error(`${this.#max} calls wait for the store's server, and this one did not join them`)
    this.#count += 1
    try {
      return await call()
    } finally {
      this.#count -= 1
    }
  }
}

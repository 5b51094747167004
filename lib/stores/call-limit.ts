import { optionError } from '../errors.ts'

/** The default of the option `maxPending`. */
const defaultMaxPending = 1000

/**
 * Limits the calls that wait for a server at the same time. While the server does not respond,
 * waiting calls would pile up without end, so a call beyond the limit fails at once.
 */
export class CallLimit {
  readonly #max: number
  #pending = 0

  /** @throws HOLDFAST_OPTION_INVALID `maxPending` is not a positive integer */
  constructor(maxPending: number = defaultMaxPending) {
    if (!Number.isSafeInteger(maxPending) || maxPending < 1)
      throw optionError('maxPending', 'a positive integer')
    this.#max = maxPending
  }

  /** Makes the call and returns its result, or rejects if too many calls are pending. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#pending >= this.#max)
      throw new Error(
        `${this.#max} calls wait for the store's server, and this one did not join them`
      )
    this.#pending += 1
    try {
      return await call()
    } finally {
      this.#pending -= 1
    }
  }
}

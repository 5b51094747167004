import { check } from '../errors.ts'
import { refuseStoreOptions } from '../unknown-options.ts'

/**
 * Refuses what a store would not read: no object, or an option that it does not have.
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function checkStoreOptions(options: unknown, names: readonly string[]): void {
  check(
    typeof options === 'object' && options !== null,
    'what the store is made with',
    `an object of its options: ${names.join(', ')}`
  )
  refuseStoreOptions(options as object, names)
}

/** The user's keys and values. */
export type Data = Record<string, unknown>

/**
 * Merges one request's changes with what others stored meanwhile: three-way, by top-level key. What
 * changed from `base` to `mine` is laid over `theirs`. A delete on either side wins, so that a
 * request that changed something in `session.user` does not undo its deletion.
 *
 * @param same whether two values are equal once serialised
 */
export function merge(
  base: Data,
  mine: Data,
  theirs: Data,
  same: (one: unknown, other: unknown) => boolean
): Data {
  const merged: Data = { __proto__: null, ...theirs } // mutant: merge
  for (const key of Object.keys(base)) {
    if (!Object.hasOwn(mine, key)) delete merged[key]
  }
  for (const key of Object.keys(mine)) {
    const known = Object.hasOwn(base, key)
    const changed = !known || !same(base[key], mine[key])
    const deletedByThem = known && !Object.hasOwn(theirs, key)
    if (changed && !deletedByThem) merged[key] = mine[key]
  }
  return merged
}

import { mintToken } from './identifier.ts'

/**
 * The version of a record is the list of the writes that made it: the token of its creation, then those of the
 * latest writes, newest first. So a writer that lost an answer can tell from the record it reads whether its write
 * is among them, is not and never will be, or can't be known any more; and an id that was adopted anew is
 * told from its former life.
 */
const separator = '.'
const remembered = 8

/** The version of a record that is created now. */
export function firstVersion(): string {
  return mintToken()
}

/** A version to follow `version`, unlike any other. */
export function nextVersion(version: string): string {
  const birth = version.split(separator, 1)[0]
  const writes = version.slice(birth.length)
  const kept = countOf(writes) < remembered ? writes : writes.slice(0, writes.lastIndexOf(separator))
  return birth + separator + mintToken() + kept
}

function countOf(writes: string): number {
  let count = 0
  for (let at = writes.indexOf(separator); at !== -1; at = writes.indexOf(separator, at + 1)) count += 1
  return count
}

/** Whether both are versions of one record, created once. */
export function sameLife(one: string, other: string): boolean {
  return one.split(separator, 1)[0] === other.split(separator, 1)[0]
}

/** Whether the write that made `write` is among those of `version`. */
export function includesWrite(version: string, write: string): boolean {
  const [birth, ...writes] = version.split(separator)
  const [itsBirth, itsToken] = write.split(separator, 2)
  return birth === itsBirth && (itsToken === undefined || writes.includes(itsToken))
}

/** Whether `version` remembers every write since `earlier`, so that one that is not among them was never made. */
export function remembersSince(version: string, earlier: string): boolean {
  const [, ...writes] = version.split(separator)
  const [, latest] = earlier.split(separator, 2)
  return latest === undefined ? writes.length < remembered : writes.includes(latest)
}

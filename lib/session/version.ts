import { randomFillSync } from 'node:crypto'

/**
 * The version of a record lists the writes that made it: the token of its creation, then the tokens
 * of the latest writes, newest first. A writer that lost an answer reads from it whether its write
 * took effect, did not and never will, or cannot be known any more. The creation's token tells an
 * id that was adopted again from its former life.
 */
const separator = '.'
const remembered = 8

/**
 * Makes the version of a write.
 *
 * @param version that of the record it replaces, if there is one
 * @param lineage what the first version begins with. Default: a new token
 */
export function versionAfter(
  version: string | undefined,
  isNoted: boolean,
  lineage?: string
): string {
  return version === undefined ? firstVersion(isNoted, lineage) : nextVersion(version)
}

/**
 * Makes the version of a record that is created now.
 *
 * @param isNoted whether the record has notes of its cookie. RedisStore of version 0.1.0 takes them
 *   for the end of the version, and needs a token before them.
 */
export function firstVersion(isNoted = false, birth: string = mintToken()): string {
  return isNoted ? nextVersion(birth) : birth
}

/** Makes a version to follow `version`, unlike any other. */
export function nextVersion(version: string): string {
  const from = version.indexOf(separator)
  if (from === -1) return version + separator + mintToken()
  return version.slice(0, from) + separator + mintToken() + version.slice(from, lastKept(version))
}

/** Returns where the tokens end that the next version keeps. */
function lastKept(version: string): number {
  let at = -1
  for (let count = 0; count < remembered; count += 1) {
    at = version.indexOf(separator, at + 1)
    if (at === -1) return version.length
  }
  return at
}

/** Whether both are versions of one record: of one creation. */
export function sameLife(one: string, other: string): boolean {
  return one.split(separator, 1)[0] === other.split(separator, 1)[0]
}

/** Whether `version` includes the latest write of `write`. */
export function includesWrite(version: string, write: string): boolean {
  const [birth, ...writes] = version.split(separator)
  const [itsBirth, itsToken] = write.split(separator, 2)
  return birth === itsBirth && (itsToken === undefined || writes.includes(itsToken))
}

/**
 * Whether `version` lists every write since `earlier`. Then a write that is not listed did not take
 * effect.
 */
export function remembersSince(version: string, earlier: string): boolean {
  const [, ...writes] = version.split(separator)
  const [, latest] = earlier.split(separator, 2)
  return latest === undefined ? writes.length < remembered : writes.includes(latest)
}

/** Bytes of a token: 48 bits are enough for the writes of one session to differ. */
const tokenBytes = 6
const tokenLength = 8
const pool = Buffer.alloc(tokenBytes * 128)
let tokens = ''
let used = 0

/**
 * Makes the token of a write. The system's generator is asked for many at a time, and each is used
 * once.
 */
export function mintToken(): string {
  if (used === tokens.length) {
    tokens = randomFillSync(pool).toString('base64url')
    used = 0
  }
  used += tokenLength
  return tokens.slice(used - tokenLength, used)
}

/** Characters of the text that stands for a subject in keys and ids: 96 bits in base64url. */
export const tagLength: number = 16

const dot = 0x2e

/** Returns the subject that a key of a store belongs to. Undefined: to none. */
export function subjectOf(key: string): string | undefined {
  return key.charCodeAt(tagLength) === dot ? key.slice(0, tagLength) : undefined
}

/** Returns what the versions of a session have in common under all of its ids. */
export function lineageOf(version: string): string {
  const end = version.indexOf('.')
  return end === -1 ? version : version.slice(0, end)
}

/**
 * Returns what a session is called in lists and logs: the key, or the handle of one that is signed
 * in, which it keeps when its id changes.
 */
export function handleOf(key: string, version: string): string {
  const subject = subjectOf(key)
  return subject === undefined ? key : `${subject}.${lineageOf(version)}`
}

import { tagLength } from '../subject-key.ts'

/** Whether a text has the form of a key. */
export function isKey(text: string): boolean {
  return typeof text === 'string' && /^(?:[\w-]{16}\.)?[\w-]{43}$/.test(text)
}

/** Returns what a handle is made of. Undefined: it is none. */
export function readHandle(
  text: string
): { readonly subject: string; readonly lineage: string } | undefined {
  const isHandle = typeof text === 'string' && /^[\w-]{16}\.[\w-]{8}$/.test(text)
  return isHandle
    ? { subject: text.slice(0, tagLength), lineage: text.slice(tagLength + 1) }
    : undefined
}

import { sealMembers } from './members.ts'
import type { Data } from './merge.ts'
import { reserved } from './session.ts'

/** What a draft inherits: the reserved names, which read as undefined and can't be set. */
const draftMembers = sealMembers({}, [...reserved])

/** Makes a draft of data: a key that it does not have, and that is reserved, can't be set. */
export function draftOf(data: Data): Data {
  return Object.setPrototypeOf(data, draftMembers) as Data
}

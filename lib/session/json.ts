import { arrayMembers } from './members.ts'
import type { Serializer } from '../../types/options.ts'

/**
 * The default serializer. It refuses what JSON would drop or change. In what it parses, objects
 * have no prototype, and arrays one of their own: no name leads from them to what others share.
 */
export const jsonSerializer: Serializer = Object.freeze({
  stringify(data: Record<string, unknown>): string {
    // Before the look at the values, which would not come to the end of a circle.
    const text = JSON.stringify(data)
    return isPlain(data) ? text : JSON.stringify(data, refuseLoss)
  },
  parse(text: string): Record<string, unknown> {
    const data = JSON.parse(text) as Record<string, unknown>
    if (isObject(data)) detach(data)
    return data
  }
})

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

// Every request that looks at its session runs both. Loops by index, and setting a prototype after
// the object was walked, take half the time.

/** Takes the common prototypes from data that was parsed, at any depth. */
function detach(data: object): void {
  const found = [data]
  for (let index = 0; index < found.length; index += 1) {
    const value = found[index]
    if (Array.isArray(value)) {
      for (let at = 0; at < value.length; at += 1) note(value[at], found)
      Object.setPrototypeOf(value, arrayMembers)
    } else {
      const items = value as Record<string, unknown>
      const keys = Object.keys(items)
      for (let at = 0; at < keys.length; at += 1) note(items[keys[at]], found)
      Object.setPrototypeOf(value, null)
    }
  }
}

/** Puts an object with those that are yet to be looked at. */
function note(value: unknown, found: object[]): void {
  if (isObject(value)) found.push(value)
}

/** Whether data has only what JSON keeps as it is, at any depth: most has. */
function isPlain(data: object): boolean {
  const found = [data]
  for (let index = 0; index < found.length; index += 1) {
    const value = found[index]
    if (Array.isArray(value)) {
      for (let at = 0; at < value.length; at += 1) {
        if (value[at] === undefined || !mayKeep(value[at], found)) return false
      }
    } else {
      const prototype: unknown = Object.getPrototypeOf(value)
      if (prototype !== null && prototype !== Object.prototype) return false
      const items = value as Record<string, unknown>
      const keys = Object.keys(items)
      for (let at = 0; at < keys.length; at += 1) {
        if (!mayKeep(items[keys[at]], found)) return false
      }
    }
  }
  return true
}

/** Whether a value is kept as it is. An object is put with those that are yet to be looked at. */
function mayKeep(value: unknown, found: object[]): boolean {
  if (!isObject(value)) return value === undefined || isJson(value)
  found.push(value)
  return true
}

/** Whether a value that is no object is one of JSON's. */
function isJson(value: unknown): boolean {
  return (
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    value === null ||
    (typeof value === 'number' && Number.isFinite(value))
  )
}

/** Lets JSON have a value whose data it keeps. A replacer of `JSON.stringify()`. */
function refuseLoss(this: unknown, key: string, value: unknown): unknown {
  const held = (this as Record<string, unknown>)[key]
  if (!isKept(held, value) || (value === undefined && Array.isArray(this))) {
    throw new TypeError('JSON would drop or change a value')
  }
  return value
}

/** Whether JSON keeps the data of a value. @param value what its `toJSON()` made of it, if any */
function isKept(held: unknown, value: unknown): boolean {
  if (value === undefined || value === null) return held === value
  if (!isObject(value)) return isJson(value)
  return !ArrayBuffer.isView(held) && (Array.isArray(value) || showsData(value))
}

/** Whether an object has its data in properties: it is plain, or of a class of the app's. */
function showsData(value: object): boolean {
  if (Object.prototype.toString.call(value) !== '[object Object]') return false
  if (Object.keys(value).length > 0) return true
  // Of a class, it may have all of its data in private fields.
  const prototype = Object.getPrototypeOf(value) as object | null
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

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

/** Takes the common prototypes from data that was parsed, at any depth. */
function detach(data: object): void {
  const found = [data]
  for (const value of found) {
    if (Array.isArray(value)) {
      for (const item of value) if (isObject(item)) found.push(item)
      Object.setPrototypeOf(value, arrayMembers)
    } else {
      Object.setPrototypeOf(value, null)
      const items = value as Record<string, unknown>
      for (const key in items) if (isObject(items[key])) found.push(items[key])
    }
  }
}

/** Whether data has only what JSON keeps as it is, at any depth: most has. */
function isPlain(data: object): boolean {
  const found = [data]
  for (const value of found) {
    if (Array.isArray(value)) {
      for (const item of value) if (item === undefined || !mayKeep(item, found)) return false
    } else {
      const prototype: unknown = Object.getPrototypeOf(value)
      if (prototype !== null && prototype !== Object.prototype) return false
      const items = value as Record<string, unknown>
      for (const key in items) if (!mayKeep(items[key], found)) return false
    }
  }
  return true
}

/** Whether a value is kept as it is. An object is put with those that are yet to be looked at. */
function mayKeep(value: unknown, found: object[]): boolean {
  if (isObject(value)) {
    found.push(value)
    return true
  }
  return value === undefined || isJson(value)
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

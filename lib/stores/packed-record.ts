import { readMaxAge, writeMaxAge } from './max-age.ts'
import { subjectOf } from '../subject-key.ts'
import type { SessionRecord, SessionTrace } from '../../types/store.ts'

// A packed record is one string: `expiresAt createdAt maxAge;notes versionLength version data`. It
// takes a third of the memory of an object. The expiry stands first because it is read most often.
// A packed trace is `expiresAt > successorLength successor version`.
//
// V8 keeps a string in one byte for each character, or all of it in two. A packed record is in two
// only if a character needs them, and then it ends in a mark that does: so the last character tells
// how much memory the record takes.

const wideMark = '\u{ffff}'
const hasWide = /[^\0-\xff]/

/** Where records are put together, as long as the longest of them. */
let scratch = Buffer.allocUnsafeSlow(4096)

/**
 * Packs a record. Makes a flat string; concatenation would make a tree of strings that keeps all of
 * its parts in memory.
 */
export function pack(record: SessionRecord, expiresAt: number): string {
  const { data, version, createdAt, notes } = record
  const settings = writeMaxAge(record) + (notes === undefined ? '' : `;${notes}`)
  const head = `${expiresAt} ${createdAt} ${settings} ${version.length} ${version} `
  // `test()` looks at no character of a string that has one byte for each.
  return hasWide.test(head) || hasWide.test(data)
    ? [head, data, wideMark].join('')
    : narrow(head, data)
}

/**
 * Joins two texts, with one byte for each character. What was cut from a text that needed two, as
 * by `trim()` of a wide space, still has two.
 */
function narrow(head: string, data: string): string {
  const length = head.length + data.length
  if (scratch.length < length) scratch = Buffer.allocUnsafeSlow(length)
  scratch.write(data, scratch.write(head, 'latin1'), 'latin1')
  return scratch.toString('latin1', 0, length)
}

/** Packs a trace. */
export function packTrace({ expiresAt, successor, version }: SessionTrace): string {
  const packed = [expiresAt, '>', successor.length, successor, version].join(' ')
  return hasWide.test(packed) ? packed + wideMark : packed
}

/** Returns whether what is packed is a trace. */
export function isTrace(packed: string): boolean {
  return packed.startsWith('> ', packed.indexOf(' ') + 1)
}

/** Unpacks a record or a trace. */
export function unpack(packed: string): SessionRecord | SessionTrace {
  return isTrace(packed) ? unpackTrace(packed) : unpackRecord(packed)
}

function unpackTrace(packed: string): SessionTrace {
  const lengthFrom = packed.indexOf(' ') + 3
  const successorFrom = packed.indexOf(' ', lengthFrom) + 1
  const successorTo = successorFrom + numberAt(packed, lengthFrom)
  return {
    successor: packed.slice(successorFrom, successorTo),
    version: packed.slice(successorTo + 1, isWide(packed) ? -1 : undefined),
    expiresAt: expiryOf(packed)
  }
}

function unpackRecord(packed: string): SessionRecord {
  const createdFrom = packed.indexOf(' ') + 1
  const settingsFrom = packed.indexOf(' ', createdFrom) + 1
  const lengthFrom = packed.indexOf(' ', settingsFrom) + 1
  const versionFrom = packed.indexOf(' ', lengthFrom) + 1
  const versionTo = versionFrom + numberAt(packed, lengthFrom)
  const settings = packed.slice(settingsFrom, lengthFrom - 1)
  const notesFrom = settings.indexOf(';') + 1
  const idle = idleIn(notesFrom === 0 ? settings : settings.slice(0, notesFrom - 1))
  const record: { -readonly [Key in keyof SessionRecord]: SessionRecord[Key] } = {
    data: packed.slice(versionTo + 1, isWide(packed) ? -1 : undefined),
    version: packed.slice(versionFrom, versionTo),
    createdAt: numberAt(packed, createdFrom),
    expiresAt: expiryOf(packed)
  }
  // Without a spread, which takes as long as all the rest.
  if (idle.maxAge !== undefined) record.maxAge = idle.maxAge
  if (idle.defaultMaxAge !== undefined) record.defaultMaxAge = idle.defaultMaxAge
  if (notesFrom > 0) record.notes = settings.slice(notesFrom)
  return record
}

type Idle = Pick<SessionRecord, 'maxAge' | 'defaultMaxAge'>

/** The idle timeout that was read last: most records of a store have the same. */
let last: { readonly text: string; readonly idle: Idle } = { text: '', idle: {} }

function idleIn(text: string): Idle {
  if (text !== last.text) last = { text, idle: readMaxAge(text) ?? {} }
  return last.idle
}

/** Returns the milliseconds of the idle timeout of a packed record. Infinity: it has none. */
export function packedIdle(packed: string): number {
  const from = packed.indexOf(' ', packed.indexOf(' ') + 1) + 1
  const seconds = Number.parseFloat(packed.slice(from, packed.indexOf(' ', from)))
  return Number.isNaN(seconds) ? Infinity : seconds * 1000
}

/** Returns the number that begins there. Most have digits alone, which are soon read. */
function numberAt(packed: string, from: number): number {
  let value = 0
  let at = from
  let digit = packed.charCodeAt(at) - zero
  while (digit >= 0 && digit <= 9) {
    value = value * 10 + digit
    digit = packed.charCodeAt((at += 1)) - zero
  }
  // With more digits, the number may be rounded more than once.
  const isWhole = at > from && at - from <= mostDigits && digit === space - zero
  return isWhole ? value : Number.parseFloat(packed.slice(from, packed.indexOf(' ', from)))
}

const mostDigits = 15
const zero = 0x30
const space = 0x20

/** Returns whether what is packed is a record of this version. */
export function isOfVersion(packed: string, version: string): boolean {
  if (isTrace(packed)) return false
  const settingsFrom = packed.indexOf(' ', packed.indexOf(' ') + 1) + 1
  const lengthFrom = packed.indexOf(' ', settingsFrom) + 1
  const from = packed.indexOf(' ', lengthFrom) + 1
  return numberAt(packed, lengthFrom) === version.length && packed.startsWith(version, from)
}

/** Returns the version of a packed record. */
export function versionOf(packed: string): string {
  const settingsFrom = packed.indexOf(' ', packed.indexOf(' ') + 1) + 1
  const lengthFrom = packed.indexOf(' ', settingsFrom) + 1
  const from = packed.indexOf(' ', lengthFrom) + 1
  return packed.slice(from, from + numberAt(packed, lengthFrom))
}

/** Returns when a packed record or trace expires, in epoch milliseconds. */
export function expiryOf(packed: string): number {
  return numberAt(packed, 0)
}

/** Returns whether what is packed has expired at `now`; it has at the very millisecond. */
export function hasExpired(packed: string, now: number): boolean {
  return now >= expiryOf(packed)
}

/** Returns a packed record with another expiry. */
export function withExpiry(packed: string, expiresAt: number): string {
  return [expiresAt, packed.slice(packed.indexOf(' ') + 1)].join(' ')
}

/**
 * The most bytes that a `Map` takes for one of its entries: 28 for each place in its table, and a
 * table shrinks once fewer than a quarter of its places are taken.
 */
export const entryMemory: number = 4 * 28

/** Bytes that a session of a subject takes at most as it is listed: with the list, if alone there. */
const listedMemory = 256

/** Returns the bytes of memory that a packed record takes in a `Map`, with its key. */
export function memoryOf(key: string, packed: string): number {
  const listed = subjectOf(key) === undefined ? 0 : listedMemory
  return listed + entryMemory + textMemory(key.length, hasWide.test(key)) + packedMemory(packed)
}

/** Returns the bytes of memory that a packed record takes by itself. */
export function packedMemory(packed: string): number {
  return textMemory(packed.length, isWide(packed))
}

function isWide(packed: string): boolean {
  return packed.charCodeAt(packed.length - 1) > 0xff
}

/** A string of V8 has 16 bytes beside its characters, and fills whole words of 8. */
function textMemory(length: number, hasTwoBytes: boolean): number {
  return 8 * Math.ceil((16 + (hasTwoBytes ? 2 : 1) * length) / 8)
}

import { isTimeout, SessionError } from '../errors.ts'
import type { Batch } from './batch.ts'
import type { StoreClient } from './store-client.ts'
import { isTrace } from './trace.ts'
import { includesWrite, remembersSince, sameLife } from './version.ts'
import { isPromise } from './waiting.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from '../../types/store.ts'

/** What a store may have under a key. */
type Entry = SessionRecord | SessionTrace | undefined

/** What the store made of an attempt. Lost: it failed, and the attempt may have taken effect. */
export type Answer = 'written' | 'refused' | { readonly lostTo: unknown }

/** An attempt that is under way, and the record that it is to replace. */
interface Sent {
  readonly record: SessionRecord
  readonly theirs: SessionRecord | undefined
  readonly answer: MaybePromise<Answer>
}

/**
 * Sends a batch until it is known what became of it, and settles it. Returns the record that was
 * written; undefined if none was, or that is not known.
 *
 * @param first an attempt that is under way
 * @param known what this process wrote last
 */
export async function carryOut(
  key: string,
  batch: Batch,
  first: Sent | undefined,
  known?: SessionRecord
): Promise<SessionRecord | undefined> {
  const { store } = batch
  const tryOn = (theirs: Entry): Sent | undefined => {
    if (isTrace(theirs)) return undefined
    const record = batch.prepare(theirs)
    return record && { record, theirs, answer: send(batch, key, record, theirs) }
  }
  let mayExist = false
  let isLost = false
  let losses = 0
  try {
    let entry: Entry = known && batch.isOf(known) ? known : undefined
    if (first === undefined) entry ??= await store.get(key)
    let sent = first ?? tryOn(entry)
    for (let tries = 1; sent !== undefined; tries += 1) {
      const { record, theirs } = sent
      const answer = await sent.answer
      if (answer === 'written') break
      if (answer !== 'refused') {
        isLost = true
        mayExist ||= theirs === undefined && !isRefusal(answer.lostTo)
        losses += 1
        // One failure is forgiven: the record shows whether the attempt took effect.
        if (losses > 1 || isFinal(answer.lostTo)) throw answer.lostTo
      }
      if (tries > 1 && theirs !== undefined) await store.pause(tries)
      entry = await store.get(key)
      if (isIncluded(record, entry)) break // mutant: recognition
      const isNowhere = entry === undefined && theirs === undefined // mutant: lost id
      if (isNowhere && answer !== 'refused') {
        batch.loseId(answer.lostTo)
        return undefined
      }
      if (!isTrace(entry) && entry?.version === theirs?.version) {
        sent = { record, theirs, answer: send(batch, key, record, theirs) }
      } else {
        if (isLost && forgets(entry, theirs)) throw new SessionError('HOLDFAST_OUTCOME_UNKNOWN')
        sent = tryOn(entry)
        isLost = false
      }
    }
    const hasMoved = isTrace(entry)
    if (hasMoved && sent === undefined) batch.refuse()
    else batch.finish(sent?.record, hasMoved)
    return hasMoved ? undefined : sent?.record
  } catch (error) {
    batch.fail(error, mayExist)
    return undefined
  }
}

/** Whether both are of one record, and it no longer shows every write in between. */
function forgets(now: Entry, before: SessionRecord | undefined): boolean {
  if (now === undefined || before === undefined) return false
  return sameLife(now.version, before.version) && !remembersSince(now.version, before.version)
}

/** Whether a write is among those that made what is stored. */
function isIncluded(record: SessionRecord, stored: Entry): boolean {
  return stored !== undefined && includesWrite(stored.version, record.version)
}

/** Whether there is no point in trying again. */
function isFinal(error: unknown): boolean {
  return isTimeout(error) || isRefusal(error)
}

/** Whether a sign-in was refused: there is no record. */
export function isRefusal(error: unknown): boolean {
  return error instanceof SessionError && refusals.has(error.code)
}

const refusals: ReadonlySet<string> = new Set([
  'HOLDFAST_SIGN_IN_ENDED',
  'HOLDFAST_SESSIONS_FULL',
  'HOLDFAST_SUBJECTS_UNSUPPORTED'
])

/** By what records are created and replaced. */
interface Sender {
  readonly store: StoreClient
  create(key: string, record: SessionRecord): MaybePromise<boolean>
}

/** Sends an attempt. @param replaced undefined: the record is created */
export function send(
  by: Sender,
  key: string,
  record: SessionRecord,
  replaced: SessionRecord | undefined
): MaybePromise<Answer> {
  return ask(() =>
    replaced === undefined ? by.create(key, record) : by.store.update(key, record, replaced.version)
  )
}

/** Makes a call that the store accepts or refuses. */
export function ask(call: () => MaybePromise<boolean>): MaybePromise<Answer> {
  try {
    const isWritten = call()
    if (isPromise(isWritten)) return isWritten.then(answerOf, lost)
    return answerOf(isWritten)
  } catch (error) {
    return lost(error)
  }
}

function answerOf(isWritten: boolean): Answer {
  return isWritten ? 'written' : 'refused'
}

function lost(error: unknown): Answer {
  return { lostTo: error }
}

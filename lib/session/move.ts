import { isTimeout } from '../errors.ts'
import { merge } from './merge.ts'
import { assertInTime } from './admission.ts'
import type { WriteResult, Written } from './batch.ts'
import { readHandle } from './handle.ts'
import { pick } from './keep.ts'
import { arrive, giveUp, gone, removeSuccessor, type Move, type MoveTools } from './move-outcome.ts'
import type { Departure } from './moving.ts'
import { prepareRecord, type Attempt, type Write } from './prepare-record.ts'
import { ask, type Answer } from './send.ts'
import { isTrace, traceLife } from './trace.ts'
import { readDeparture } from './unread.ts'
import { sameLife } from './version.ts'
import { andThen } from './waiting.ts'
import type { MaybePromise, SessionRecord, SessionTrace } from '../../types/store.ts'

/**
 * Moves a session: creates its successor, and turns the record that it departs from into a trace of
 * that. With the trace the old id dies: before it nothing has happened, and after it everything is
 * there. A store that can do both does so in one step. Over any other the successor comes first.
 *
 * @returns what the successor holds. Gone: the session ended or moved meanwhile
 */
export function move<Result>(
  tools: MoveTools,
  departure: Departure,
  write: Write<Result>
): MaybePromise<WriteResult<Result>> {
  const { config, store, writer } = tools
  const { record } = departure
  if (record === undefined) {
    return readDeparture(tools, departure, write).then((found) =>
      'kind' in found ? found : move(tools, found.departure, found.write)
    )
  }
  const moving = { ...tools, departure, write, isStored: true }
  const isSame = write.identity.lineage === readHandle(departure.handle)?.lineage
  if (isSame && store.canMove(departure.publicId)) {
    const attempt = prepareRecord(config, write, undefined)
    const successor = { kind: 'written', ...attempt, hasMoved: false } as const
    return leave({ ...moving, isStored: false }, successor, record)
  }
  return andThen(writer.write(store, write), (result) =>
    result.kind === 'written' ? leave(moving, result, record) : result
  )
}

/** Takes the step by which the old id dies. */
function leave<Result>(
  moving: Move<Result>,
  successor: Written<Result>,
  record: SessionRecord
): MaybePromise<WriteResult<Result>> {
  return andThen(step(moving, successor, record), (answer) =>
    answer === 'written' ? arrive(moving, successor) : leaveAgain(moving, successor, record, answer)
  )
}

/** @param left the record that is to be replaced by the trace */
function step<Result>(
  { config, store, departure, write, isStored }: Move<Result>,
  { record }: Written<Result>,
  { version }: SessionRecord
): MaybePromise<Answer> {
  const { publicId: successor } = write.identity
  const trace = { successor, version, expiresAt: config.clock.now() + traceLife }
  const retire = (): MaybePromise<boolean> => store.retire(departure.publicId, trace) // mutant: retire
  const { signIn } = write
  if (signIn !== undefined && !isStored) assertInTime(config, signIn)
  const go = (): MaybePromise<boolean> =>
    store.move(departure.publicId, record, trace, signIn?.stamp) // mutant: stamp of a move
  return ask(() => (isStored ? retire() : go()))
}

/** Reads what became of the first try, and tries again until the outcome is known. */
async function leaveAgain<Result>(
  moving: Move<Result>,
  first: Written<Result>,
  base: SessionRecord,
  firstAnswer: Answer
): Promise<WriteResult<Result>> {
  const { store, departure, write, isStored } = moving
  let successor = first
  let left = base
  let answer = firstAnswer
  let losses = 0
  for (let tries = 1; answer !== 'written'; tries += 1) {
    // If it fails once more, nobody knows: to remove the successor might be a logout.
    if (answer !== 'refused' && (++losses > 1 || isTimeout(answer.lostTo))) {
      throw answer.lostTo // mutant: unknown
    }
    if (tries > 1) await store.pause(tries)
    const entry = await store.get(departure.publicId)
    const hasCaughtUp = left !== base
    if (isTrace(entry)) return meetTrace({ ...moving, hasCaughtUp }, successor, entry)
    if (entry === undefined || !sameLife(entry.version, base.version)) {
      return giveUp(moving, successor) // mutant: give up
    }
    if (entry.version !== left.version) {
      const next = await orRemove(moving, () => catchUp(moving, successor, entry)) // mutant: catch up
      const { version } = successor.record
      if (isStored && !(await store.update(write.identity.publicId, next.record, version))) {
        return gone
      }
      successor = { ...successor, ...next }
      left = entry
    } else if (!isStored && answer === 'refused') {
      return { kind: 'id-taken' }
    }
    answer = await step(moving, successor, left)
  }
  return arrive(moving, successor)
}

/** Lays what the request has changed over what has been stored meanwhile. */
function catchUp<Result>(
  { config, departure, write, isStored }: Move<Result>,
  { record }: Written<Result>,
  theirs: SessionRecord
): Attempt<Result> {
  const { codec } = config
  const { same } = codec
  const stored = isStored ? record : undefined
  if (departure.isUnseen) return prepareRecord(config, { ...write, base: stored }, stored)
  const base = codec.parse((departure.record as SessionRecord).data)
  const mine = codec.parse(departure.mine)
  const fresh = pick(merge(base, mine, codec.parse(theirs.data), same), departure.keep)
  const data = merge(pick(mine, departure.keep), codec.parse(write.text), fresh, same)
  const isOwn = !departure.keep.lifetime || write.maxAge !== departure.record?.maxAge
  const maxAge = isOwn ? write.maxAge : theirs.maxAge
  const text = codec.stringify(data)
  return prepareRecord(config, { ...write, base: stored, text, maxAge }, stored)
}

/** Finds where the session went on: by this move, or by another. */
async function meetTrace<Result>(
  moving: Move<Result>,
  successor: Written<Result>,
  trace: SessionTrace
): Promise<WriteResult<Result>> {
  const { store, write } = moving
  if (trace.successor !== write.identity.publicId) return giveUp(moving, successor, trace)
  const entry = await store.get(trace.successor)
  // By now another request may have ended the successor.
  if (entry === undefined) return gone
  // This request may have moved the session before, without learning of it, with less in it.
  if (!sameLife(entry.version, successor.record.version)) return giveUp(moving, successor, trace)
  return arrive(moving, { ...successor, hasMoved: isTrace(entry) })
}

/** Does what may fail because of what is to be stored: then there is no successor. */
async function orRemove<Result>(
  moving: Move<Result>,
  attempt: () => Attempt<Result>
): Promise<Attempt<Result>> {
  try {
    return attempt()
  } catch (error) {
    await removeSuccessor(moving)
    throw error
  }
}

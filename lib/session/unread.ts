import type { WriteResult } from './batch.ts'
import { find } from './find.ts'
import { pick } from './keep.ts'
import { merge } from './merge.ts'
import { arrive, giveUp, gone, type MoveTools } from './move-outcome.ts'
import type { Departure } from './moving.ts'
import type { Write } from './prepare-record.ts'
import { isTrace } from './trace.ts'

/**
 * Finds out what there is of a session that departs, and of which this request has read no record.
 *
 * @returns how it moves then, or what has become of it
 */
export async function readDeparture<Result>(
  tools: MoveTools,
  departure: Departure,
  write: Write<Result>
): Promise<WriteResult<Result> | { departure: Departure; write: Write<Result> }> {
  const { config, store, writer } = tools
  const { codec } = config
  const entry = await find(store, departure.publicId)
  if (entry === undefined && departure.isUnseen) return gone
  if (entry !== undefined && entry !== 'unreadable' && !isTrace(entry)) {
    if (departure.isUnseen) return { departure: { ...departure, record: entry }, write }
    const { keep } = departure
    const mine = codec.parse(departure.mine)
    const all = merge({}, mine, codec.parse(entry.data), codec.same)
    const kept = merge(pick(mine, keep), codec.parse(write.text), pick(all, keep), codec.same)
    const found = { ...departure, record: entry, mine: codec.stringify(all) }
    return { departure: found, write: { ...write, text: codec.stringify(kept) } }
  }
  const moving = { ...tools, departure, write, isStored: false }
  if (isTrace(entry)) return giveUp(moving, undefined, entry)
  const result = await writer.write(store, write)
  if (result.kind !== 'written' || entry === undefined) return result
  // It has no version to replace, and so no trace is left.
  const removed = await store.delete(departure.publicId)
  const left = { ...moving, isStored: true }
  if (isTrace(removed)) return giveUp(left, result, removed)
  return removed === undefined && !store.isRetried ? giveUp(left, result) : arrive(left, result)
}

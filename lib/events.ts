import { channel } from 'node:diagnostics_channel'

import type { SessionEvents } from '../types/events.ts'

/**
 * A channel. A message is made only if the channel has subscribers, so publishers ask first.
 */
interface Topic<Message> {
  readonly hasSubscribers: boolean
  publish(message: Message): void
}

function topic<Name extends keyof SessionEvents>(name: Name): Topic<SessionEvents[Name]> {
  return channel(`fastify-holdfast:${name}`)
}

export const created: Topic<SessionEvents['created']> = topic('created')
export const committed: Topic<SessionEvents['committed']> = topic('committed')
export const merged: Topic<SessionEvents['merged']> = topic('merged')
export const gone: Topic<SessionEvents['gone']> = topic('gone')
export const rejected: Topic<SessionEvents['rejected']> = topic('rejected')
export const regenerated: Topic<SessionEvents['regenerated']> = topic('regenerated')
export const destroyed: Topic<SessionEvents['destroyed']> = topic('destroyed')
export const expired: Topic<SessionEvents['expired']> = topic('expired')
export const evicted: Topic<SessionEvents['evicted']> = topic('evicted')
export const fault: Topic<SessionEvents['fault']> = topic('fault')

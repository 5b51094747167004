import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'

import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'

import type { SessionError, SessionEvents, SessionStore } from '../../lib/index.ts'
import type { Device, Scene } from './subjects.ts'
import type { Over } from './attack.ts'
import type { WatchedStore } from './stores.ts'
import { settle, signal as promised } from './waiting.ts'

/** A request that is under way, and the signal of its session. */
export interface Open {
  readonly signal: AbortSignal
  /** Lets it end. */
  readonly close: () => Promise<LightMyRequestResponse>
}

/** Begins a request that asks for the signal, and stays open. */
export async function open(
  { visit }: Pick<Scene, 'visit'>,
  device: Device,
  first: Parameters<Scene['visit']>[1] = () => {}
): Promise<Open> {
  const [asked, answer] = promised<AbortSignal>()
  const [closed, close] = promised()
  const reply = visit(device, async (session) => {
    await first(session)
    answer(session.signal)
    await closed
  })
  return {
    signal: await asked,
    async close() {
      close()
      return reply
    }
  }
}

/** Adds `/wait`, whose requests never end, and returns the signals that they ask for. */
export function addWait(app: FastifyInstance): readonly AbortSignal[] {
  const signals: AbortSignal[] = []
  app.get('/wait', async ({ session }, reply) => {
    signals.push(session.signal)
    reply.hijack()
  })
  return signals
}

/** Waits for the end. */
export async function ended(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}

/** Lets time pass second by second, so that what is due at each happens at it. */
export async function pass({ advance }: Over, seconds: number): Promise<void> {
  for (let count = 0; count < seconds; count += 1) {
    await advance(1000)
    await settle()
  }
}

/** Returns how a session has ended. Undefined: it has not. */
export function endOf({ aborted, reason }: AbortSignal): string | undefined {
  return aborted ? (reason as SessionError).code : undefined
}

/** Notes the faults of stores from now on. */
export function faultsOf(t: Test): ReadonlyArray<SessionEvents['fault']> {
  const faults: Array<SessionEvents['fault']> = []
  const note = (message: unknown): void => {
    faults.push(message as SessionEvents['fault'])
  }
  subscribe('fastify-holdfast:fault', note)
  t.teardown(() => unsubscribe('fastify-holdfast:fault', note))
  return faults
}

/** A store that tells nothing of its ends. */
export function silent(inner: SessionStore): SessionStore {
  const { subjects } = inner
  return {
    get: (key) => inner.get(key),
    create: (...given) => inner.create(...given),
    update: (...given) => inner.update(...given),
    touch: (...given) => inner.touch(...given),
    delete: (key) => inner.delete(key),
    retire: (...given) => inner.retire(...given),
    ...(subjects === undefined ? {} : { subjects })
  }
}

/** Has something happen between what the next call of a verb does and its answer. */
export function between(store: WatchedStore, verb: string, happens: () => Promise<unknown>): void {
  const { intercept } = store
  store.intercept = (call, pass) => {
    const answer = intercept(call, pass)
    if (call.verb !== verb) return answer
    store.intercept = intercept
    return (async () => {
      const settled = await answer
      await happens()
      return settled
    })() as typeof answer
  }
}

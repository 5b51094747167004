import { keyScript, lookScript, type Script } from './redis-scripts.ts'
import type { RedisClient } from './redis-client.ts'
import { RedisSubscription } from './redis-subscription.ts'
import { noticeOf, unreadable } from './notice.ts'
import type { Clock } from '../../types/clock.ts'
import type { EndNotice, SessionFeed, SessionLook } from '../../types/feed.ts'

/** What a RedisStore does for its feed. */
interface Tools {
  readonly client: RedisClient
  /** The client that the app has for subscriptions. Undefined: one is made. */
  readonly subscriber: RedisClient | undefined
  readonly prefix: string
  readonly clock: Clock
  readonly keysFor: (key: string) => string[]
  readonly run: (script: Script, keys: string[]) => Promise<unknown>
}

/** How many calls for a look are under way at once, where the keys are on several nodes. */
const atOnce = 20

/**
 * Tells of ends by one subscription. What ends a session publishes that in the same script, so that
 * there is neither without the other.
 */
export class RedisFeed implements SessionFeed {
  readonly #tools: Tools
  /** Whether the server has refused keys of several nodes. */
  #isOnSeveral = false

  constructor(tools: Tools) {
    this.#tools = tools
  }

  listen(listener: (notice: EndNotice) => void): () => void {
    const { client, subscriber, clock, prefix, run } = this.#tools
    const subscription = new RedisSubscription({
      client,
      subscriber,
      clock,
      channel: async () => `${String(await run(keyScript, [prefix]))}ends`,
      hear: (message) => listener(message === undefined ? {} : noticeOf(message))
    })
    return () => subscription.stop()
  }

  async look(keys: readonly string[]): Promise<Array<SessionLook | undefined>> {
    const now = this.#tools.clock.now()
    const looks = await this.#lookAt(keys)
    return looks.map((look) => lookOf(look, now))
  }

  /** Looks at all in one call; on a cluster, where they are on several nodes, in one for each. */
  async #lookAt(keys: readonly string[]): Promise<readonly unknown[]> {
    const pairs = keys.map((key) => {
      const [own, list] = this.#tools.keysFor(key)
      return [own, list ?? own]
    })
    const run = async (some: readonly string[]): Promise<readonly unknown[]> =>
      (await this.#tools.run(lookScript, [...some])) as readonly unknown[]
    if (!this.#isOnSeveral) {
      try {
        return await run(pairs.flat())
      } catch (error) {
        if (!String(error).includes('CROSSSLOT')) throw error
        this.#isOnSeveral = true
      }
    }
    const looks: unknown[] = []
    for (let from = 0; from < pairs.length; from += atOnce) {
      looks.push(...(await Promise.all(pairs.slice(from, from + atOnce).map(run))).flat(1))
    }
    return looks
  }
}

function lookOf(reply: unknown, now: number): SessionLook | undefined {
  if (!Array.isArray(reply)) return undefined
  const [head, left] = reply.map(String)
  const [, successor, replaced] = /^> (\S+) (\S+)/.exec(head) ?? []
  const [, createdAt, version] = /^([\d.]+) \S* ([^ ;]+)/.exec(head) ?? []
  // What is not ours has another form, or no expiry.
  if (Number(left) < 0) return unreadable
  if (successor !== undefined) return { successor, version: replaced }
  if (createdAt === undefined || version === undefined) return unreadable
  return { version, createdAt: Number(createdAt), expiresAt: now + Number(left) }
}

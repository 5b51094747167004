import type { RedisClient } from './redis-client.ts'
import type { Clock, Timer } from '../../types/clock.ts'

type Listener = (...given: string[]) => void

/** What clients of both kinds have for subscriptions. Some wait to be connected. */
interface Subscriber {
  on(event: string, listener: Listener): unknown
  off(event: string, listener: Listener): unknown
  subscribe(channel: string, listener?: Listener): Promise<unknown>
  unsubscribe(channel: string, listener?: Listener): Promise<unknown>
  /** Of ioredis: `wait` where it connects late, `ready` once it has. */
  readonly status?: string
  /** Of node-redis: whether it is connected, or about to be. */
  readonly isOpen?: boolean
  connect(): Promise<unknown>
  destroy?(): unknown
  disconnect(): unknown
}

/** What a subscription is made with. */
interface Settings {
  readonly client: RedisClient
  /** The client that the app has for subscriptions. Undefined: one is made. */
  readonly subscriber: RedisClient | undefined
  readonly clock: Clock
  readonly channel: () => Promise<string>
  /** Called for each message, and without one for what may have been lost. */
  readonly hear: (message: string | undefined) => void
}

/** Milliseconds before a subscription that has failed is tried again. */
const pause = 1000

/** A subscription to one channel, which begins again whenever it is lost, until it is stopped. */
export class RedisSubscription {
  readonly #settings: Settings
  readonly #isOwn: boolean
  readonly #receive: Listener = (message) => this.#settings.hear(message)
  readonly #receiveOf: Listener = (channel, message) => {
    if (channel === this.#channel) this.#settings.hear(message)
  }
  readonly #becomeReady: Listener = () => {
    // Once more: what was sent in between is lost. node-redis subscribes again by itself.
    if (this.#isNode && this.#isSubscribed) this.#settings.hear(undefined)
    else if (!this.#isNode) void this.#begin()
  }
  readonly #becomeOver: Listener = () => this.#tryAgain()
  #by: Subscriber | undefined
  #isNode = false
  #channel: string | undefined
  #isSubscribed = false
  #isStopped = false
  #timer: Timer | undefined

  constructor(settings: Settings) {
    this.#settings = settings
    this.#isOwn = settings.subscriber === undefined
    void this.#begin()
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.close()
    this.#leave()
  }

  async #begin(): Promise<void> {
    let by: Subscriber | undefined
    try {
      by = this.#by ??= this.#make()
      // A client of another kind cannot subscribe.
      if (by !== undefined) await this.#connect(by)
    } catch {
      if (this.#by === by && !this.#isStopped) this.#tryAgain()
    }
    // Stopped as it connected, it would stay.
    if (this.#isStopped && this.#isOwn && by !== undefined) end(by)
  }

  async #connect(by: Subscriber): Promise<void> {
    if (this.#isOwn && by.isOpen === false) await by.connect()
    // One of ioredis that subscribes before it is ready loses its connection.
    if (by.status === 'wait') await by.connect()
    if (by.status === undefined || by.status === 'ready') await this.#subscribe(by)
  }

  async #subscribe(by: Subscriber): Promise<void> {
    this.#channel ??= await this.#settings.channel()
    if (this.#by !== by) return
    await by.subscribe(this.#channel, ...(this.#isNode ? [this.#receive] : []))
    this.#isSubscribed = true
    this.#settings.hear(undefined)
  }

  #make(): Subscriber | undefined {
    const { client, subscriber } = this.#settings
    const by = (subscriber as Subscriber | undefined) ?? duplicateOf(client)
    if (by === undefined) return undefined
    this.#isNode = 'evalSha' in by
    by.on('ready', this.#becomeReady)
    if (!this.#isNode) by.on('message', this.#receiveOf)
    if (this.#isOwn) {
      by.on('error', () => {
        // One of node-redis that has given up. Without a listener its error would end the process.
        if (this.#by === by && by.isOpen === false) this.#tryAgain()
      })
      by.on('end', this.#becomeOver)
    }
    return by
  }

  /** Begins again in a while. A client that has given up is replaced, if it is the store's own. */
  #tryAgain(): void {
    if (this.#isOwn) this.#leave()
    this.#timer?.close()
    this.#timer = this.#settings.clock.setTimeout(() => void this.#begin(), pause)
    this.#timer.unref()
  }

  #leave(): void {
    const by = this.#by
    this.#by = undefined
    this.#isSubscribed = false
    if (by === undefined) return
    by.off('ready', this.#becomeReady)
    by.off('message', this.#receiveOf)
    by.off('end', this.#becomeOver)
    if (this.#isOwn) end(by)
    // One of ioredis may be shared: what it is subscribed to is for all.
    else if (this.#isNode && this.#channel !== undefined)
      by.unsubscribe(this.#channel, this.#receive).catch(() => {})
  }
}

/** Ends a client. One that has ended may throw, which is as good. */
function end(by: Subscriber): void {
  try {
    if (by.isOpen === undefined) by.disconnect()
    else by.destroy?.()
  } catch {}
}

/** Returns another client like this one. Undefined: it is of a kind that cannot subscribe. */
function duplicateOf(client: RedisClient): Subscriber | undefined {
  const { duplicate, nodes } = client as {
    readonly duplicate?: (options?: object) => Partial<Subscriber>
    readonly nodes?: unknown
  }
  // One of ioredis that subscribes again by itself ends the process if it fails at that. Those of
  // clusters do not.
  const isPlain = 'evalsha' in client && nodes === undefined
  const made = duplicate?.call(client, ...(isPlain ? [{ autoResubscribe: false }] : []))
  return typeof made?.subscribe === 'function' ? (made as Subscriber) : undefined
}

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

/**
 * Stands between a client and a server on loopback: counts round trips, loses answers, and lets
 * nothing pass.
 */
export class Proxy {
  /**
   * How often a client has waited for the server: turns of the conversation, however many commands
   * each held.
   */
  roundTrips = 0
  #target: number
  readonly #server: Server
  readonly #pairs = new Set<{ readonly client: Socket; readonly server: Socket }>()
  #lost: (() => void) | undefined

  constructor(target: number) {
    this.#target = target
    this.#server = createServer((client) => {
      this.#relay(client)
    })
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  /**
   * The next answer of the server is thrown away, and the connection with it. Settles when that has
   * happened.
   */
  loseNextAnswer(): Promise<void> {
    return new Promise((resolve) => {
      this.#lost = resolve
    })
  }

  /** Nothing passes any more in either direction, and nobody is told. */
  freeze(): void {
    for (const { client, server } of this.#pairs) {
      client.pause()
      server.pause()
    }
  }

  thaw(): void {
    for (const { client, server } of this.#pairs) {
      client.resume()
      server.resume()
    }
  }

  /** Leads those who connect from now on to another port, and cuts every connection. */
  lead(target: number): void {
    this.#target = target
    this.cut()
  }

  /** Cuts every connection. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.destroy()
      server.destroy()
    }
  }

  async close(): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #relay(client: Socket): void {
    const server = connect(this.#target, '127.0.0.1')
    const pair = { client, server }
    this.#pairs.add(pair)
    let asking = false
    client.on('data', (chunk) => {
      if (!asking) this.roundTrips += 1
      asking = true
      server.write(chunk)
    })
    server.on('data', (chunk) => {
      asking = false
      const lost = this.#lost
      if (lost === undefined) {
        client.write(chunk)
        return
      }
      this.#lost = undefined
      client.destroy()
      lost()
    })
    for (const [one, other] of [
      [client, server],
      [server, client]
    ]) {
      one.setNoDelay(true)
      one.on('error', () => {})
      one.on('close', () => {
        other.destroy()
        this.#pairs.delete(pair)
      })
    }
  }
}

/** Starts a proxy before a port of this machine; it ends with the test. */
export async function startProxy(t: Test, target: number): Promise<Proxy> {
  const proxy = await new Proxy(target).listen()
  t.teardown(() => proxy.close())
  return proxy
}

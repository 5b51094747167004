// The client of the soak, in a process of its own: visitors do what visitors do, in an order drawn
// at random, as fast as the server answers. Each reply is held to what its visitor wrote last.
import { once } from 'node:events'
import { connect } from 'node:net'
import { createHistogram, performance } from 'node:perf_hooks'

import { follow } from './contenders.js'

/**
 * Of a hundred requests, how many are which. Who comes newly takes the place of another visitor.
 * There are as many logins: so it stays one half that is signed in. `counts`: what the reply says
 * that the visitor's counter is, by what it was.
 */
const mix = [
  { kind: 'read', path: '/read', share: 70, counts: (n) => n },
  { kind: 'write', path: '/write', share: 15, counts: (n) => n + 1 },
  { kind: 'not looked at', path: '/ignore', share: 5 },
  { kind: 'new visitor', path: '/write', share: 5, fresh: true, counts: () => 1 },
  { kind: 'login', path: '/sign-in', share: 5, counts: () => 1 }
]
const [newcomer, login] = mix.slice(-2)

function drawn() {
  let left = Math.random() * 100
  return mix.find(({ share }) => (left -= share) < 0) ?? mix[0]
}

/** A kept connection, and the visitors who use it, one at a time. */
class Connection {
  #socket
  #received = ''
  #waiting
  visitors = []

  async open(port) {
    this.#socket = connect(port, '127.0.0.1').setNoDelay(true).setEncoding('latin1')
    await once(this.#socket, 'connect')
    this.#socket.on('data', (chunk) => {
      this.#received += chunk
      const [head, body] = this.#received.split('\r\n\r\n')
      if (body === undefined) return
      if (body.length < Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? NaN)) return
      this.#received = ''
      this.#waiting.resolve({ head, body })
    })
    const fail = (error) => this.#waiting?.reject(error ?? new Error('a connection was closed'))
    this.#socket.on('error', fail).on('close', () => fail())
    return this
  }

  ask(path, headers) {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n${lines.join('')}\r\n`)
    })
  }
}

let fresh
let connections = []

/** Sends a request of a visitor. Returns what is wrong with its reply; undefined if nothing is. */
async function visit(connection, at, { path, fresh: isFresh, counts }) {
  const { visitors } = connection
  if (isFresh) visitors[at] = { headers: fresh, n: 0 }
  const visitor = visitors[at]
  const { head, body } = await connection.ask(path, visitor.headers)
  const status = head.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length)
  const n = counts?.(visitor.n) ?? visitor.n
  if (status === '200' && (counts === undefined || JSON.parse(body).n === n)) {
    const cookies = [...head.matchAll(/\r\nset-cookie: ([^\r]*)/gi)].map(([, cookie]) => cookie)
    visitors[at] = { headers: follow(visitor.headers, { 'set-cookie': cookies }), n }
    return
  }
  visitors[at] = { headers: fresh, n: 0 }
  return `${path}, n is to be ${n}: ${status} ${body}`
}

const acts = {
  /** Opens so many connections, each with so many visitors, every other one signed in. */
  async open({ port, count, visitors, headers }) {
    fresh = headers
    connections = await Promise.all(
      Array.from({ length: count }, () => new Connection().open(port))
    )
    const errors = []
    const fill = async (connection) => {
      for (let at = 0; at < visitors; at += 1) {
        errors.push(await visit(connection, at, newcomer))
        if (at % 2 === 1) errors.push(await visit(connection, at, login))
      }
    }
    await Promise.all(connections.map(fill))
    const error = errors.find((each) => each !== undefined)
    if (error !== undefined) throw new Error(error)
  },
  /** Answers requests and latencies in ms by kind, and what was wrong with replies. */
  async run({ seconds }) {
    const seen = new Map(mix.map(({ kind }) => [kind, createHistogram()]))
    const errors = []
    const end = performance.now() + seconds * 1000
    const converse = async (connection) => {
      for (let began = performance.now(); began < end; began = performance.now()) {
        const what = drawn()
        const at = Math.floor(Math.random() * connection.visitors.length)
        const error = await visit(connection, at, what)
        if (error !== undefined) errors.push(error)
        seen.get(what.kind).record(Math.max(1, Math.round((performance.now() - began) * 1000)))
      }
    }
    await Promise.all(connections.map(converse))
    return {
      errors: { count: errors.length, first: errors[0] },
      kinds: [...seen].map(([kind, histogram]) => ({
        kind,
        count: histogram.count,
        p50: histogram.percentile(50) / 1000,
        p99: histogram.percentile(99) / 1000
      }))
    }
  }
}

process.on('message', async ({ id, ask, ...details }) => {
  try {
    process.send({ id, answer: await acts[ask](details) })
  } catch (error) {
    process.send({ id, error: error.stack })
  }
})
process.send({ ready: true })

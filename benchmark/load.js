// The client, in a process of its own: sends prepared requests over kept connections, one at a time
// on each, as fast as the server answers.
import { connect } from 'node:net'
import { performance } from 'node:perf_hooks'

import { follow as followed } from './contenders.js'

const end = '\r\n\r\n'

/**
 * Sends `total` requests in all; visitors take turns. Answers requests per second, and latencies in
 * milliseconds. `awake`: the client never sleeps. Whom a write has to wake, and what that costs,
 * would else be for the machine's load to say.
 */
async function run({ port, path, visitors, connections, total, follow = false, awake = false }) {
  const latencies = []
  let left = total
  let bad = 0
  const requestOf = (headers) =>
    `GET ${path} HTTP/1.1\r\nhost: localhost\r\n${Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('')}\r\n`
  const requests = visitors.map(requestOf)

  /** One connection has every so-and-so-many-th visitor to itself. */
  const converse = (first) =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1').setNoDelay(true).setEncoding('latin1')
      let at = first % visitors.length
      let received = ''
      let began = 0
      const next = () => {
        if (left === 0) return socket.end()
        left -= 1
        at = at + connections < requests.length ? at + connections : first % visitors.length
        began = performance.now()
        socket.write(requests[at])
      }
      socket.on('connect', next)
      socket.on('data', (chunk) => {
        received += chunk
        const headTo = received.indexOf(end)
        if (headTo === -1) return
        const bodyLength = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1] ?? NaN)
        if (received.length < headTo + end.length + bodyLength) return
        latencies.push(performance.now() - began)
        if (!received.startsWith('HTTP/1.1 200')) bad += 1
        if (follow) {
          const one = (pattern) => pattern.exec(received)?.[1]
          visitors[at] = followed(visitors[at], {
            'set-cookie': one(/\r\nset-cookie: ([^\r]*)/i),
            'x-session-id': one(/\r\nx-session-id: ([^\r]*)/i)
          })
          requests[at] = requestOf(visitors[at])
        }
        received = ''
        next()
      })
      socket.on('error', reject)
      socket.on('close', resolve)
    })

  let spinning = awake
    ? setImmediate(function spin() {
        spinning = setImmediate(spin)
      })
    : undefined
  const began = performance.now()
  await Promise.all(Array.from({ length: connections }, (_, index) => converse(index)))
  const seconds = (performance.now() - began) / 1000
  clearImmediate(spinning)
  if (bad > 0 || latencies.length !== total)
    throw new Error(
      `${path}: of ${total} requests ${latencies.length} were answered, ${bad} of them badly`
    )
  const sorted = Float64Array.from(latencies).toSorted()
  return {
    perSecond: total / seconds,
    p50: sorted[Math.floor(total * 0.5)],
    p99: sorted[Math.floor(total * 0.99)],
    ...(follow && { visitors })
  }
}

process.on('message', async ({ id, ...details }) => {
  try {
    process.send({ id, answer: await run(details) })
  } catch (error) {
    process.send({ id, error: error.stack })
  }
})
process.send({ ready: true })

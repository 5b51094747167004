// Stands before Redis, in a process of its own: holds every request back for so long, and counts
// how often the client waited.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

const [target] = process.argv.slice(2)
let delay = 0
let roundTrips = 0

const proxy = createServer((client) => {
  const server = connect(Number(target), '127.0.0.1').setNoDelay(true)
  client.setNoDelay(true)
  let asking = false
  client.on('data', (chunk) => {
    if (!asking) roundTrips += 1
    asking = true
    if (delay === 0) server.write(chunk)
    else
      setTimeout(() => {
        server.write(chunk)
      }, delay)
  })
  server.on('data', (chunk) => {
    asking = false
    client.write(chunk)
  })
  for (const [one, other] of [
    [client, server],
    [server, client]
  ])
    one
      .on('error', () => {})
      .on('close', () => {
        other.destroy()
      })
}).listen(0, '127.0.0.1')
await once(proxy, 'listening')

const asks = {
  port: () => proxy.address().port,
  delay({ milliseconds }) {
    delay = milliseconds
  },
  roundTrips: () => roundTrips
}
process.on('message', ({ id, ask, ...details }) => {
  process.send({ id, answer: asks[ask](details) })
})
process.on('disconnect', () => {
  process.exit()
})
process.send({ ready: true })

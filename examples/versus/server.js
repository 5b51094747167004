// Serves the demonstration on http://localhost:3000.
import { build } from './app.js'

const app = await build()
await app.listen({ port: Number(process.env.PORT ?? 3000) })
console.log(
  `Two shops, side by side, are open at http://localhost:${app.server.address().port}

Left @fastify/session, right fastify-holdfast: press a button, and see what becomes of each.`
)

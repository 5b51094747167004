// Serves the shop on http://localhost:3000, or with TLS_CERT and TLS_KEY (paths of PEM files) on
// https://localhost:3000.
import { readFileSync } from 'node:fs'

import { build } from './shop.js'

const { PORT, TLS_CERT, TLS_KEY } = process.env
const https =
  TLS_CERT && TLS_KEY ? { cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) } : undefined

const app = await build({ https })
await app.listen({ port: Number(PORT ?? 3000) })
console.log(
  `The shop is open at ${https ? 'https' : 'http'}://localhost:${app.server.address().port}`
)

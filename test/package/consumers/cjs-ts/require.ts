import holdfast = require('fastify-holdfast')
import Fastify = require('fastify')

const app = Fastify()
void app.register(holdfast, { store: new holdfast.MemoryStore() })
void app.register(holdfast.sessionPlugin, { sessionName: 'admin' })
// @ts-expect-error: no such option
void app.register(holdfast, { max_age: 1 })

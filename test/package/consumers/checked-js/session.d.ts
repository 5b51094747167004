import 'fastify-holdfast'

declare module 'fastify-holdfast' {
  interface SessionData {
    visits?: number
  }
}

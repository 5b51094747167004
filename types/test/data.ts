import 'fastify-holdfast'

declare module 'fastify-holdfast' {
  interface SessionData {
    user?: string
    cart?: string[]
    readonly began: number
    // Reserved: refused where they are used.
    cookie?: string
    get?: string
  }

  interface NamedSessions {
    admin: { operator?: string, update?: number }
  }
}

import 'fastify-holdfast'

declare module 'fastify-holdfast' {
  interface SessionData {
    user?: string
    cart?: string[]
    readonly began: number
    // Reserved: refused where they are used.
    cookie?: string
    get?: string
    // Not what JSON reads back: refused where they are used.
    since?: Date
    seen?: Set<string>
    // Said honestly, or kept by a serializer.
    until?: Date | string
    loose?: any
    prices?: Map<string, number>
  }

  interface SerializerKeeps {
    map: Map<string, number>
  }

  interface NamedSessions {
    admin: { operator?: string; update?: number }
  }
}

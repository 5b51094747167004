import 'fastify-holdfast'

declare class Money {
  readonly amount: number
  format(): string
}

interface Tree {
  readonly left?: Tree
  readonly right?: Tree
}

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
    owner?: { name: string; since: Date }
    orders?: { total: Money }[]
    calls?: { back(): void }
    // Said honestly, or kept by a serializer.
    until?: Date | string
    loose?: any
    prices?: Map<string, number>
    tags?: { name: string; at: Date | string; of?: unknown }[]
    tree?: Tree
    key?: string & { readonly brand: 'key' }
  }

  interface SerializerKeeps {
    map: Map<string, number>
  }

  interface NamedSessions {
    admin: { operator?: string; update?: number }
  }
}

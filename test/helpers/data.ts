import '../../lib/index.ts'

declare module '../../lib/index.ts' {
  interface SessionData {
    visits?: number
    user?: string
    cart?: string[]
    flash?: Record<string, string[]>
    a?: unknown
    b?: unknown
    c?: unknown
    n?: number
    passport?: string
    returnTo?: string
    messages?: string[]
    state?: string
    _csrf?: string
  }
  interface NamedSessions {
    admin: SessionData
  }
}

// Nothing in this project imports the package, so nothing tells the compiler where it is.
declare module 'fastify-holdfast' {
  interface SessionData {
    cart?: string[]
  }
}

export {}

import { register } from 'node:module'

// The examples name the package: here that is the code under test, not what was built last.
const lib = new URL('../../lib/index.js', import.meta.url).href
register(
  `data:text/javascript,${encodeURIComponent(`
  export const resolve = (name, context, next) => next(name === 'fastify-holdfast' ? '${lib}' : name, context)
`)}`
)

/** Imports a module of the examples. */
export async function importExample<Module>(path: string): Promise<Module> {
  return (await import(new URL(`../../../examples/${path}`, import.meta.url).href)) as Module
}

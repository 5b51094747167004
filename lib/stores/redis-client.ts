import { optionError } from '../errors.ts'

/** A client of node-redis (`redis` 5 and 6): a single client, a pool, a sentinel or a cluster. */
export interface NodeRedisClient {
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/**
 * A client of ioredis 5 and 6 or iovalkey: a single client or a cluster. `app.redis` of
 * `@fastify/redis` is one.
 */
export interface IoredisClient {
  eval(script: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>
  evalsha(sha: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>
}

export type RedisClient = NodeRedisClient | IoredisClient

/** Has the server run a script. */
export type Evaluate = (
  by: 'sha' | 'text',
  script: string,
  keys: string[],
  args: string[]
) => Promise<unknown>

/** @throws HOLDFAST_OPTION_INVALID */
export function evaluatorOf(client: RedisClient): Evaluate {
  if (typeof client === 'object' && client !== null) {
    if ('evalSha' in client) {
      // node-redis 6 starts a timer for each command that waits to be sent, which costs more than
      // the command itself. The store needs none: the option storeTimeout limits the wait.
      const { withCommandOptions } = client as {
        withCommandOptions?: (options: { timeout: number }) => NodeRedisClient
      }
      const untimed = withCommandOptions?.call(client, { timeout: 0 }) ?? client
      return (by, text, keys, args) =>
        untimed[by === 'sha' ? 'evalSha' : 'eval'](text, { keys, arguments: args })
    }
    if ('evalsha' in client) {
      return (by, text, keys, args) =>
        client[by === 'sha' ? 'evalsha' : 'eval'](text, keys.length, ...keys, ...args)
    }
  }
  throw optionError('client', 'a client of redis (node-redis), ioredis or iovalkey')
}

import type { FastifyBaseLogger } from 'fastify'

const cure =
  'Set the option store: to one that all processes share, such as RedisStore or PostgresStore; or ' +
  'to new MemoryStore(), which says that this is meant, and ends this warning.'

/**
 * Warns of a registration without the option `store` where its sessions would soon be missed: in
 * production, and in a worker of a cluster.
 */
export async function warnOfMemoryStore(
  log: FastifyBaseLogger,
  sessionName: string
): Promise<void> {
  // Loading it takes a millisecond, which an app that gives a store need not wait for.
  const { default: cluster } = await import('node:cluster')
  if (cluster.isWorker) {
    log.warn(
      { sessionName },
      `Sessions are kept in the memory of this worker, and no other worker knows them. ${cure}`
    )
  } else if (process.env['NODE_ENV'] === 'production') {
    log.warn(
      { sessionName },
      `Sessions are kept in the memory of this process, and end when it ends. ${cure}`
    )
  }
}

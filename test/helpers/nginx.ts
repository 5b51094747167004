import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Where nginx is; undefined if there is none. */
export const nginxPath: string | undefined = [
  process.env['NGINX_PATH'] ?? '',
  '/usr/sbin/nginx',
  '/usr/local/sbin/nginx'
].find((path) => existsSync(path))

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Sends a GET request. */
export type Ask = (path: string, headers?: OutgoingHttpHeaders) => Promise<Reply>

/**
 * Puts nginx before an app, as a cache that all its visitors share. No port is taken: both listen
 * on sockets of one folder.
 */
export async function nginx(t: Test, app: FastifyInstance, directives = ''): Promise<Ask> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-'))
  const socketPath = join(folder, 'nginx.sock')
  await app.listen({ path: join(folder, 'app.sock') })
  writeFileSync(
    join(folder, 'nginx.conf'),
    `
    daemon off;
    master_process off;
    pid ${folder}/pid;
    error_log stderr error;
    events {}
    http {
      access_log off;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
      proxy_cache_path ${folder}/cache keys_zone=shared:1m;
      server {
        listen unix:${socketPath};
        location / {
          proxy_pass http://unix:${folder}/app.sock;
          proxy_http_version 1.1;
          proxy_cache shared;
          ${directives}
          add_header X-Cache $upstream_cache_status always;
        }
      }
    }`
  )
  const server = spawn(
    nginxPath as string,
    ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')],
    { stdio: ['ignore', 'ignore', 'inherit'] }
  )
  const ended = once(server, 'close')
  t.teardown(async () => {
    server.kill()
    await ended
    rmSync(folder, { recursive: true })
  })

  const ask: Ask = async (path, headers = {}) => {
    const sent = request({ socketPath, path, headers, agent: false }).end()
    const [reply] = await once(sent, 'response')
    return { status: reply.statusCode, headers: reply.headers, body: await text(reply) }
  }
  for (;;) {
    try {
      await ask('/')
      return ask
    } catch (error) {
      if (server.exitCode !== null) throw error
    }
  }
}

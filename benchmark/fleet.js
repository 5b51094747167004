// The processes that take part: started, asked, ended.
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { createClient } from 'redis'

import { contenders, follow } from './contenders.js'

/** A child that answers messages. */
export class Child {
  #process
  #waiting = new Map()
  #last = 0

  constructor(file, args = [], { execArgv = [], execPath = process.execPath } = {}) {
    this.#process = fork(new URL(file, import.meta.url), args, {
      execArgv,
      execPath,
      env: { ...process.env, NODE_ENV: 'production' },
      serialization: 'advanced'
    })
    this.#process.on('message', ({ id, answer, error }) => {
      const { resolve, reject } = this.#waiting.get(id) ?? {}
      this.#waiting.delete(id)
      if (error === undefined) resolve?.(answer)
      else reject(new Error(error))
    })
    this.#process.on('exit', (code) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`${file} ${args[0]} ended with ${code}`))
    })
    this.ready = new Promise((resolve, reject) => {
      this.#waiting.set(undefined, { resolve, reject })
    })
  }

  ask(ask, details) {
    return this.send({ ask, ...details })
  }

  send(message) {
    const id = (this.#last += 1)
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#process.send({ ...message, id })
    })
  }

  /** Lets it end by itself, so that it writes what it was told to write at its end. */
  async close() {
    const gone = once(this.#process, 'exit')
    await this.ask('close')
    await gone
  }

  async end() {
    if (this.#process.exitCode !== null) return
    this.#waiting.clear()
    this.#process.kill()
    await once(this.#process, 'exit')
  }
}

/** One contender in a process of its own, found to do what it claims before it is measured. */
export class Contender extends Child {
  constructor(name, { redisUrl, options, nodeOptions, node } = {}) {
    super('server.js', [name, JSON.stringify({ redisUrl, options })], {
      execArgv: nodeOptions,
      execPath: node
    })
    this.name = name
    this.traits = contenders[name]
  }

  async open({ verified = true } = {}) {
    await this.ready
    this.port = await this.ask('listen')
    if (verified) await this.verify()
    return this
  }

  /** A visit over a socket. */
  async visit(path, headers) {
    const response = await get(this.port, path, headers)
    if (response.status !== 200)
      throw new Error(`${this.name}: ${path} gave ${response.status}: ${response.body}`)
    return {
      ...response,
      json: JSON.parse(response.body),
      headers: follow(headers, response.headers)
    }
  }

  /** Who comes for the first time: a browser, or a client that speaks the header. */
  get newcomer() {
    return this.traits.by === 'header'
      ? { 'x-session-id': 'new' }
      : { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }
  }

  async verify() {
    const check = (holds, what) => {
      if (!holds) throw new Error(`${this.name} is not measured: ${what}`)
    }
    if (this.traits.sessions === false) {
      const { headers } = await this.visit('/read', this.newcomer)
      check(
        (headers.cookie !== undefined) === this.name.startsWith('floor'),
        'a cookie is set by the floor alone'
      )
      return
    }
    const first = await this.visit('/write', this.newcomer)
    const other = await this.visit('/write', this.newcomer)
    check(first.json.n === 1 && other.json.n === 1, "a visitor begins with another's data")
    const read = await this.visit('/read', first.headers)
    check(read.json.n === 1, 'a write is not seen by the next request')
    const second = await this.visit('/write', read.headers)
    check(second.json.n === 2, 'a second write does not build on the first')
    const ignored = await this.visit('/ignore', second.headers)
    check(
      (await this.visit('/read', ignored.headers)).json.n === 2,
      'a session is lost by a request that does not look at it'
    )
    const login = await this.visit('/login', ignored.headers)
    check(
      JSON.stringify(login.headers) !== JSON.stringify(ignored.headers),
      'a login does not change the id'
    )
    check(
      (await this.visit('/read', login.headers)).json.n === null,
      'a login does not drop the data'
    )
    check(
      this.traits.clientSide === true ||
        (await this.visit('/read', ignored.headers)).json.n === null,
      'the id of before the login is alive'
    )
    check(
      (await this.visit('/read', other.headers)).json.n === 1,
      'a login touches another visitor'
    )
  }

  /** Visitors who have been there, with data of so many bytes. */
  async visitors(count, bytes) {
    const visitors = []
    for (let index = 0; index < count; index += 1)
      visitors.push((await this.visit(`/seed/${bytes}`, this.newcomer)).headers)
    return visitors
  }
}

/** Opens contenders side by side; `work` has them by name, and they end with it. */
export async function withContenders(names, settings, work) {
  const servers = names.map((name) => new Contender(name, settings))
  try {
    await Promise.all(servers.map((server) => server.open()))
    return await work(servers)
  } finally {
    await Promise.all(servers.map((server) => server.end()))
  }
}

/** The client's process. */
export class Load extends Child {
  constructor() {
    super('load.js')
  }

  /**
   * A sample: what the load saw, and the microseconds of CPU that the server spent on each request.
   */
  async sample(server, details) {
    const before = await server.ask('cpu')
    const seen = await this.send({ port: server.port, awake: true, ...details })
    const after = await server.ask('cpu')
    return {
      ...seen,
      cpu: (after.user + after.system - before.user - before.system) / details.total
    }
  }
}

export class Proxy extends Child {
  constructor(target) {
    super('proxy.js', [String(target)])
  }
}

/**
 * A Redis of the benchmark's own, which keeps nothing on disk; undefined where none is installed.
 */
export async function startRedis() {
  const { REDIS_SERVER: named } = process.env
  for (const binary of named === undefined ? ['redis-server', 'valkey-server'] : [named]) {
    const redis = await start(binary)
    if (redis !== undefined) return redis
  }
}

async function start(binary) {
  const port = await freePort()
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  const server = spawn(
    binary,
    [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'no'
    ],
    { stdio: 'ignore' }
  )
  const gone = new Promise((resolve) => {
    server.on('error', resolve).on('exit', resolve)
  })
  const client = createClient({
    url: `redis://127.0.0.1:${port}`,
    socket: { reconnectStrategy: 20 }
  })
  client.on('error', () => {})
  const up = await Promise.race([client.connect().then(() => true), gone.then(() => false)])
  const close = async () => {
    client.destroy()
    server.kill()
    await gone
    rmSync(folder, { recursive: true, force: true })
  }
  if (up) return { port, client, close }
  await close()
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function get(port, path, headers) {
  const { request } = await import('node:http')
  const sent = request({ port, host: '127.0.0.1', path, headers, agent: false }).end()
  const [response] = await once(sent, 'response')
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  return { status: response.statusCode, headers: response.headers, body }
}

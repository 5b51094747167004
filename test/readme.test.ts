import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

const readme = readFileSync('README.md', 'utf8')
const transcripts = [...readme.matchAll(/^```console\n(.*?)^```$/gms)].map(([, text]) => text)

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, 'localhost')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function bash(script: string, cwd: string): Promise<string> {
  const child = spawn('bash', ['-c', script], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => { output += chunk })
  await once(child, 'close')
  return output
}

/** Types the commands of a transcript into one shell against a server, and gives back the transcript that results. */
async function replay(transcript: string, port: number): Promise<string> {
  const commands = transcript.split('\n').filter((line) => line.startsWith('$ ')).map((line) => line.slice(2))
  const script = commands.map((command) => {
    // An assignment must take place in this shell; what a command prints may lack its last line end.
    const isAssignment = /^[A-Z]+=/.test(command)
    return `printf '$ %s\\n' ${quote(command)}\n${isAssignment ? command : `${command} | sed '$a\\'`}`
  })
  const output = await bash(script.join('\n').replaceAll('localhost:3000', `localhost:${port}`), mkdtempSync(join(tmpdir(), 'holdfast-')))
  return output.replaceAll(`localhost:${port}`, 'localhost:3000')
}

function quote(text: string): string {
  return `'${text.replaceAll('\'', '\'\\\'\'')}'`
}

/** Ids differ from run to run; within a run, the same id must stand where the page has the same. */
function withNumberedIds(text: string): string {
  const ids: string[] = []
  return text.replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => {
    if (!ids.includes(id)) ids.push(id)
    return `<id ${ids.indexOf(id) + 1}>`
  })
}

async function serve(program: string, port: number): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, [program], { env: { ...process.env, PORT: String(port) }, stdio: ['ignore', 'ignore', 'inherit'] })
  for (;;) {
    try {
      await fetch(`http://localhost:${port}/`)
      break
    } catch {
      if (child.exitCode !== null) throw new Error(`${program} ended`)
    }
  }
  return async () => {
    child.kill()
    await once(child, 'close')
  }
}

t.test('what the page shows of the app that npm start serves, typed in, gives what the page shows', async (t) => {
  t.match(JSON.parse(readFileSync('package.json', 'utf8')), { scripts: { start: 'node examples/app.js' } })
  const port = await freePort()
  t.teardown(await serve('examples/app.js', port))
  for (const transcript of transcripts.slice(0, 2)) {
    t.equal(withNumberedIds(await replay(transcript, port)), withNumberedIds(transcript))
  }
})

t.test('the reference example, as the page has it, behaves as the page shows', async (t) => {
  const port = await freePort()
  const code = readFileSync('.build/readme/example-1.js', 'utf8')
  t.match(code, 'listen({ port: 3000 })')
  const program = '.build/readme/reference.js'
  writeFileSync(program, code.replace('listen({ port: 3000 })', `listen({ port: ${port} })`))
  t.teardown(await serve(program, port))
  const transcript = transcripts[2]
  t.equal(withNumberedIds(await replay(transcript, port)), withNumberedIds(transcript))
})

/** The names in the first column of a table of the page. */
function rows(heading: string): string[] {
  const table = readme.slice(readme.indexOf(heading)).split('\n\n')[0]
  return table.split('\n').slice(2).flatMap((row) => [...(row.split('|')[1]).matchAll(/`(\w+)/g)].map(([, name]) => name))
}

/** The names of the properties of an interface. */
function names(source: string, from: string): string[] {
  const text = readFileSync(source, 'utf8')
  const body = text.slice(text.indexOf(from)).split('\n}')[0]
  return [...new Set([...body.matchAll(/^ {2}(?:readonly |get |set )?(\w+)[?:(<]/gm)].map(([, name]) => name))]
}

t.test('the page has every option and every member, and no other', async (t) => {
  t.same(rows('| option | default'), names('types/options.ts', 'export interface SessionOptions'))
  t.same(rows('| member of `request.session`'), names('types/session.ts', 'export interface SessionMembers'))
  const codes = [...readFileSync('lib/errors.ts', 'utf8').matchAll(/^ {2}(HOLDFAST_\w+): \[(\d+)/gm)].map(([, code]) => code)
  t.same(rows('| code | status').toSorted(), codes.toSorted())
})

t.test('each promise of the page is in the name of a test in each file that it points to', async (t) => {
  const promises = [...readme.matchAll(/^\| (P\d+) \|.*$/gm)].map(([row, name]) => ({ name: name, files: [...row.matchAll(/\]\((test\/[^)]+)\)/g)].map(([, file]) => file) }))
  t.same(promises.map(({ name }) => name), Array.from({ length: 10 }, (_, index) => `P${index + 1}`))
  for (const { name, files } of promises) {
    for (const file of files) t.match(readFileSync(file, 'utf8'), new RegExp(`test\\(['\`].*\\b${name}\\b`), `${name} in ${file}`)
  }
})

t.test('every link of the page to a file or to a heading leads somewhere', async (t) => {
  const headings = new Set([...readme.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => `#${(heading).toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-')}`))
  for (const [, target] of readme.matchAll(/\]\(([^)]+)\)/g)) {
    if (target?.startsWith('https:') === true) continue
    t.ok(target?.startsWith('#') === true ? headings.has(target) : existsSync(target), target)
  }
})

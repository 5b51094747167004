// The package, installed from its tarball into a folder of its own, beside what users have.
import { execFile } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

import { folder, tarball } from './packed.ts'

export { folder }

const execute = promisify(execFile)

cpSync('test/package/consumers', folder, { recursive: true })
const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
  readonly dependencies: Readonly<Record<string, string>>
}
writeFileSync(
  join(folder, 'package.json'),
  JSON.stringify({
    ...manifest,
    dependencies: { ...manifest.dependencies, 'fastify-holdfast': `file:${basename(tarball)}` }
  })
)
await execute(
  'npm',
  ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'],
  { cwd: folder }
)

/**
 * Runs a program in the folder of a project, and returns what it printed; fails with all of that,
 * if it fails.
 */
export async function run(project: string, program: string, ...args: string[]): Promise<string> {
  try {
    const { stdout, stderr } = await execute(program, args, { cwd: join(folder, project) })
    if (stderr !== '') throw Object.assign(new Error(`${program} complained`), { stdout, stderr })
    return stdout
  } catch (error) {
    const {
      message,
      stdout = '',
      stderr = ''
    } = error as Error & { stdout?: string; stderr?: string }
    throw new Error(`${message}\n${stdout}\n${stderr}`, { cause: error })
  }
}

/** The names that each entry exports. */
export const exported: Readonly<Record<string, readonly string[]>> = JSON.parse(
  await run('cjs-js', process.execPath, 'subpaths.js')
) as Record<string, string[]>

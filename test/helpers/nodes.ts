import { execFileSync } from 'node:child_process'

/** The major versions of Node.js that the package is tested on. */
export const majors: readonly number[] = [20, 22, 24, 26]

/** This process's own. */
export const ownMajor = Number.parseInt(process.versions.node, 10)

/**
 * The executable of a major version: this process's own, or what the npm package `node` brings,
 * which is installed once.
 */
export function nodeOf(major: number): string {
  if (major === ownMajor) return process.execPath
  const path = runtimeOf('node', String(major))
  const version = versionOf(path)
  if (!version.startsWith(`v${major}.`)) throw new Error(`asked for Node ${major}, got ${version}`)
  return path
}

/** The executable that a version of the npm package `node`, `bun` or `deno` brings. */
export function runtimeOf(name: string, version: string): string {
  return execFileSync('npx', ['-y', '-p', `${name}@${version}`, '-c', `command -v ${name}`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  }).trim()
}

export function versionOf(node: string): string {
  return execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
}

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
  const path = execFileSync('npx', ['-y', '-p', `node@${major}`, '-c', 'command -v node'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  }).trim()
  const version = versionOf(path)
  if (!version.startsWith(`v${major}.`)) throw new Error(`asked for Node ${major}, got ${version}`)
  return path
}

export function versionOf(node: string): string {
  return execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
}

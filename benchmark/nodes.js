// The versions of Node.js that the contenders run on.
import { execFileSync } from 'node:child_process'

/** The current LTS: every contender runs on it. */
export const current = 24

/** The oldest that holdfast runs on; some peers do not. */
export const oldest = 20

/**
 * The executable of a major version: this process's own, or what the npm package `node` brings,
 * which is installed once.
 */
export function nodeOf(major) {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath
  const path = execFileSync('npx', ['-y', '-p', `node@${major}`, '-c', 'command -v node'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  }).trim()
  const version = versionOf(path)
  if (!version.startsWith(`${major}.`)) throw new Error(`asked for Node ${major}, got ${version}`)
  return path
}

export function versionOf(node) {
  return execFileSync(node, ['--version'], { encoding: 'utf8' }).trim().slice(1)
}

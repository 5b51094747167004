// The tarball of a release, packed as the workflow does, in a folder that ends with the tests.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Stands for the repository of a release. */
export const repository = 'example/fastify-holdfast'

/** Where the tests of the package install it. */
export const folder: string = mkdtempSync(join(tmpdir(), 'holdfast-package-'))
process.once('exit', () => {
  rmSync(folder, { recursive: true, force: true })
})

/** What `npm publish` is given: the folder that scripts/stage.js makes. */
export const staged: string = join(folder, 'staged')
await execute(process.execPath, ['scripts/stage.js', staged], {
  env: { ...process.env, GITHUB_REPOSITORY: repository }
})

interface Packed {
  readonly filename: string
  readonly unpackedSize: number
  readonly files: ReadonlyArray<{ readonly path: string; readonly size: number }>
}

const [result] = JSON.parse(
  (await execute('npm', ['pack', '--json', '--pack-destination', folder], { cwd: staged })).stdout
) as [Packed]

/** What npm says of the tarball. */
export const packed: Packed = result
export const tarball: string = join(folder, basename(result.filename))

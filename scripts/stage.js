// Makes the folder that is published: `node scripts/stage.js .release`, in the workflow of a
// release, or with GITHUB_REPOSITORY=owner/name. It has the files of the package. Its package.json
// names the repository, and the links of its pages lead there, to the files at the tag of this
// version: npm shows the README alone, and the documentation is not in the package.
import { execFileSync } from 'node:child_process'
import { cpSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [folder] = process.argv.slice(2)
const { GITHUB_REPOSITORY: repository = '' } = process.env

/** Code, in which nothing is a link. */
const code = /(^```.*?^```$|`[^`\n]*`)/gms

if (folder === undefined)
  fail('This folder is not what is published: "node scripts/stage.js .release" makes that')
else if (!/^[\w-]+\/[\w.-]+$/.test(repository))
  fail(
    `GITHUB_REPOSITORY is ${JSON.stringify(repository)}: set it to the public repository, as in ` +
      'owner/name. npm links to it, and so do the pages of the package'
  )
else stage(folder, `https://github.com/${repository}`)

function stage(folder, home) {
  rmSync(folder, { recursive: true, force: true })
  const manifest = JSON.parse(readFileSync('package.json', 'utf8'))
  const [{ files }] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore']
    })
  )
  for (const { path } of files) {
    cpSync(path, join(folder, path))
    if (!path.endsWith('.md')) continue
    writeFileSync(
      join(folder, path),
      withLinksTo(home, `v${manifest.version}`, readFileSync(path, 'utf8'))
    )
  }
  // What only a clone can run or needs is left out.
  const { scripts: _, devDependencies: __, ...published } = manifest
  const { name, version, description, keywords, license, ...others } = published
  const filledIn = {
    ...{ name, version, description, keywords },
    homepage: `${home}#readme`,
    bugs: { url: `${home}/issues` },
    repository: { type: 'git', url: `git+${home}.git` },
    ...{ license, ...others }
  }
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(filledIn, null, 2)}\n`)
}

/** Makes the relative links of a page at the top of the repository absolute. */
function withLinksTo(home, tag, text) {
  return text
    .split(code)
    .map((part, index) =>
      index % 2 === 1
        ? part
        : part.replaceAll(/\]\((?!https:|#)([^)#]+)/g, (_, path) => {
            // An image has an address of its own, as it is and not as a page shows it.
            const found = statSync(path, { throwIfNoEntry: false })
            if (found === undefined) throw new Error(`A page links to ${path}, which is not there`)
            const kind = found.isDirectory() ? 'tree' : 'blob'
            return `](${home}/${/\.(?:png|svg)$/.test(path) ? 'raw' : kind}/${tag}/${path}`
          })
    )
    .join('')
}

function fail(message) {
  console.error(message)
  process.exitCode = 1
}

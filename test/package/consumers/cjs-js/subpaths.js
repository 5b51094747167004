'use strict'

// Every way into the package, by import() and by require(): one copy of everything.
const assert = require('node:assert/strict')

async function main() {
  const found = {}
  for (const subpath of Object.keys(require('fastify-holdfast/package.json').exports)) {
    if (subpath.endsWith('.json')) continue
    const name = `fastify-holdfast${subpath.slice(1)}`
    const required = require(name)
    const { 'module.exports': whole = required, ...imported } = await import(name)
    assert.equal(required, whole)
    for (const [key, value] of Object.entries(imported))
      assert.equal(required[key], value, `${name}: ${key}`)
    found[name] = Object.keys(imported).filter((key) => key !== 'default')
  }
  console.log(JSON.stringify(found))
}

main()

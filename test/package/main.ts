// The tests of the package, on Node's own test runner, in one run. What they wait for comes first: the
// runner ends when all tests that it knows of have, however many are still to come.
import './installed.ts'
import './bench.ts'
import './nest.ts'
import './release.ts'
import './runtimes.ts'
import './tarball.ts'

// Question: what a request costs the server, over sockets.
import { onMemory } from './contenders.js'
import { digits, ratio, summary } from './measure.js'
import { current, nodeOf, oldest, versionOf } from './nodes.js'
import {
  allCells,
  cpu,
  cpuTables,
  finderOf,
  kinds,
  mapped,
  requests,
  seenTable,
  small,
  smallCells
} from './requests.js'

/** Those that are measured on the oldest version too: what others need is newer. */
const onOldest = [
  'floor',
  'the least',
  'holdfast',
  '@fastify/session',
  '@fastify/secure-session',
  'express-session'
]

/** What a kind of request is to cost at most, by the least session there can be. */
const goals = [
  ['not looked at', 1.08],
  ['read', 1.1],
  ['write', 1.2],
  ['new visitor', 1.15],
  ['login', 1.4]
]

const peers = ['@fastify/session', '@fastify/secure-session', 'iron-session', 'express-session']

export async function overSockets(scale) {
  const { measured, json } = await requests({
    names: onMemory(),
    cells: allCells,
    scale
  })
  const node = nodeOf(oldest)
  const before = await requests({
    names: onOldest,
    cells: smallCells,
    scale,
    node
  })
  const small01 = measured.filter(({ bytes }) => bytes === small)
  const ofKind = finderOf(measured)
  const ofJson = finderOf(json)
  return {
    title: 'A request, over sockets',
    about: [
      "Server and client are processes of their own; a hundred visitors take turns on 8 connections, which are kept for a sample, so that holdfast has the digests of their ids among the last 1,024 (*To read a signed id* has thousands of visitors); the memory store, and otherwise the default options, by which @fastify/session and express-session store or touch the session at each request, and holdfast touches it once a minute; µs of CPU that the server's process spent per request, its garbage collector included. " +
        "The client never sleeps: what it costs to wake one is for the machine's load to say. " +
        'Each process has answered 20,000 requests of a kind with 0.1 KB before one counts, for an app is warm most of the time; fewer where a request takes many times as long, and with more data, for which the code is the same. ' +
        'Compare the rows of one column: between two columns the machine may have changed its pace, and "Fastify, bare" does the same work in all of them. ' +
        '`NODE_ENV` is `production`, and nobody has a logger but "holdfast, logger", which writes nothing: with one, holdfast notes what a handler changes too late to be stored, to warn of it. ' +
        '"holdfast, header" has its id in the header, "holdfast, secret" signs it. "Touching every time" and "not rolling" are there for a fair pair each. ' +
        `On Node.js ${current}; those that run on Node.js ${oldest} too have a table for that (${versionOf(node)}).`,
      '',
      ...kinds.map(({ kind, about }) => `- **${kind}**: ${about}`)
    ],
    tables: [
      ...cpuTables(measured),
      seenTable(
        `The same on Node.js ${oldest}, 0.1 KB of data`,
        before.measured,
        (sample) => sample.cpu
      ),
      seenTable('Requests per second, with 0.1 KB', small01, ({ perSecond }) => perSecond),
      seenTable('Latency in ms, median (8 at once, 0.1 KB)', small01, ({ p50 }) => p50),
      seenTable('Latency in ms, 99th percentile (8 at once, 0.1 KB)', small01, ({ p99 }) => p99)
    ],
    figures: [
      ...goals.map(([kind, atMost]) => overLeast(ofKind(kind), kind, atMost)),
      ...kinds.map(({ kind }) => aheadOfPeers(ofKind(kind), kind)),
      ...kinds.slice(1, 4).map(({ kind }) => aheadOfPeers(ofKind(kind, 1000), `1 KB, ${kind}`)),
      ...[11_000, 60_000].flatMap((bytes) => [
        withinFloor(ofKind('not looked at', bytes), bytes),
        overJson(ofKind('write', bytes), ofJson('json', bytes).holdfast, bytes)
      ])
    ],
    quoted: kinds.map(({ kind }) => ({
      what: `memory, ${kind}`,
      cells: mapped(ofKind(kind), (samples) => digits(summary(cpu(samples)).median))
    })),
    chart: {
      title: 'Server CPU per request, µs (sockets, memory store, 0.1 KB)',
      groups: ['not looked at', 'read', 'write'].map((kind) => ({
        name: kind,
        bars: Object.entries(ofKind(kind)).map(([name, samples]) => ({
          name,
          ...summary(cpu(samples))
        }))
      }))
    }
  }
}

function overLeast({ holdfast, floor, 'the least': least }, kind, atMost) {
  return {
    what: `server CPU, ${kind}, by that of the least`,
    value: ratio(cpu(holdfast), cpu(least)),
    unit: '×',
    atMost,
    note: `by the floor's: ${digits(ratio(cpu(holdfast), cpu(floor)).median)}`
  }
}

/** The cheapest peer is the one with the lowest median; the note has the next one too. */
function aheadOfPeers(samples, kind) {
  const median = (name) => summary(cpu(samples[name])).median
  const [cheapest, next] = peers.toSorted((one, other) => median(one) - median(other))
  // The peers sign or encrypt in any case.
  const toPeer = (name) => ratio(cpu(samples['holdfast, secret']), cpu(samples[name]))
  return {
    what: `server CPU with a secret, ${kind}, by that of the cheapest peer`,
    value: toPeer(cheapest),
    unit: '×',
    atMost: 1,
    note: `${cheapest}; by the next, ${next}: ${digits(toPeer(next).median)}`
  }
}

/** Holds the median to the upper quartile of the floor: below it, the two are hard to tell apart. */
function withinFloor({ holdfast, floor, 'the least': least }, bytes) {
  const { high } = summary(cpu(floor))
  return {
    what: `server CPU, ${bytes / 1000} KB, not looked at, by the floor's upper quartile`,
    value: mapped(summary(cpu(holdfast)), (each) => each / high),
    unit: '×',
    atMost: 1,
    note: `by the floor's, which sets a cookie each time, round by round: ${digits(ratio(cpu(holdfast), cpu(floor)).median)}; by that of the least, which sets none: ${digits(ratio(cpu(holdfast), cpu(least)).median)}`
  }
}

function overJson({ holdfast, floor, 'the least': least }, json, bytes) {
  const byJson = (samples) =>
    summary(samples.map((sample, round) => sample.cpu / (floor[round].cpu + json[round].cpu)))
  return {
    what: `server CPU, ${bytes / 1000} KB, a write of one key, by the floor, one JSON.parse and one JSON.stringify`,
    value: byJson(holdfast),
    unit: '×',
    atMost: 1.15,
    note: `the least session there can be: ${digits(byJson(least).median)}`
  }
}

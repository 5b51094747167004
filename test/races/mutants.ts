import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

/**
 * How something is taken out: the line of a source file that ends in the comment `mutant:` and the
 * marker gives way to another. It is done to a copy of what was compiled.
 */
export interface Mutant {
  readonly file: string
  readonly marker: string
  /** What the compiled line becomes. */
  readonly put: string
}

type Store = 'memory' | 'redis'
const scripts = 'stores/redis-scripts.js'
const subjects = 'stores/memory-subjects.js'
const tiers = 'stores/tiers.js'

/** What the stores hold together. */
const inStores: Readonly<Record<Store, Readonly<Record<string, Mutant>>>> = {
  memory: {
    'the version check': { file: 'stores/memory.js', marker: 'version check', put: ';' },
    'the existence check': {
      file: 'stores/memory.js',
      marker: 'existence check',
      put: 'return this.create(key, record);'
    },
    'the trace, after an end by the old id': {
      file: 'stores/memory.js',
      marker: 'trace stays',
      put: ';'
    }
  },
  redis: {
    'the version check': {
      file: scripts,
      marker: 'version check',
      put: 'if not version then return 0 end'
    },
    'the existence check': {
      file: scripts,
      marker: 'version check',
      put: [
        'if version and version ~= expected then return 0 end',
        'createdAt = createdAt or string.format("%.0f", redis.call("TIME")[1] * 1000)'
      ].join('\n')
    },
    'the trace, after an end by the old id': {
      file: scripts,
      marker: 'trace stays',
      put: "if isTrace then redis.call('DEL', KEYS[1]) return { value, left } end"
    }
  }
}

/** What lib is held together by over any store. */
const inLib: Readonly<Record<string, Mutant>> = {
  'the way along a trace': {
    file: 'session/end.js',
    marker: 'follow',
    put: 'next = undefined;'
  },
  'the liveness check before a cookie is refreshed': {
    file: 'session/touch.js',
    marker: 'liveness check',
    put: 'const isLive = true; liveUntil ??= state.expiresAt;'
  },
  'the merge': {
    file: 'session/merge.js',
    marker: 'merge',
    put: 'const merged = { __proto__: null, ...mine };'
  },
  'the check that the session has not ended': {
    file: 'session/batch.js',
    marker: 'life',
    put: 'const isStored = true;'
  },
  "the recognition of one's own write": {
    file: 'session/send.js',
    marker: 'recognition',
    put: ';'
  },
  'a trace': {
    file: 'session/move.js',
    marker: 'retire',
    put: 'const retire = async () => (await store.delete(departure.publicId)) !== undefined;'
  },
  'the version check of a move': {
    file: 'session/move.js',
    marker: 'retire',
    put: `
      const retire = async () => {
        const now = await store.get(departure.publicId);
        if (now === undefined || isTrace(now)) return false;
        return store.retire(departure.publicId, { ...trace, version: now.version });
      };`
  },
  'the order of a move: the successor first': {
    file: 'session/store-changes.js',
    marker: 'order',
    put: `
      const { departure } = state.moving;
      if (departure?.record !== undefined && !state.hasLeft) {
        state.hasLeft = true;
        const { publicId: successor } = state.identity;
        const expiresAt = tools.config.clock.now() + 600_000;
        const trace = { successor, version: departure.record.version, expiresAt };
        const retired = tools.store.retire(departure.publicId, trace);
        return andThen(retired, () => storeChanges(tools, state, changes));
      }`
  },
  'the merge of what was written beside a move': {
    file: 'session/move.js',
    marker: 'catch up',
    put: 'const next = successor;'
  },
  'the refusal of a move whose session has ended': {
    file: 'session/move.js',
    marker: 'give up',
    put: 'return arrive(moving, successor);'
  },
  'the removal of a successor to which nothing moves': {
    file: 'session/move-outcome.js',
    marker: 'clean up',
    put: ''
  },
  'the successor of a move of unknown outcome': {
    file: 'session/move.js',
    marker: 'unknown',
    put: 'await removeSuccessor(moving); throw answer.lostTo;'
  },
  'the new id after a creation that may come late': {
    file: 'session/send.js',
    marker: 'lost id',
    put: 'const isNowhere = false;'
  },
  'the distance between an old id and what became of its session': {
    file: 'session/load.js',
    marker: 'late',
    put: `
      return andThen(store.get(record.successor), (next) => {
        if (next === undefined || isTrace(next)) {
          state.meetTrace(record);
        } else {
          const get = () => record.successor;
          Object.defineProperty(state.identity, 'publicId', { get });
          state.load(next);
        }
        return session;
      });`
  }
}

/** What lib is held together by, with a store, and how it is taken out. */
export function mutantsOver(store: Store): [name: string, mutant: Mutant][] {
  return Object.entries({ ...inStores[store], ...inLib })
}

/** What the stores hold the sessions of a subject together with. */
const inSubjectStores: typeof inStores = {
  memory: {
    'the look at the list': { file: subjects, marker: 'listed', put: 'return true;' },
    'the check of the stamp': { file: subjects, marker: 'stamp', put: ';' },
    'the check that none was added': { file: subjects, marker: 'additions', put: ';' },
    'the new stamp of an end of all': {
      file: subjects,
      marker: 'new stamp',
      put: 'const roll = new Roll(Number(this.stamp(subject)), version);'
    },
    'the trace of a step-up': { file: tiers, marker: 'trace of a move', put: ';' }
  },
  redis: {
    'the look at the list': {
      file: scripts,
      marker: 'listed',
      put: 'return true'
    },
    'the check of the stamp': { file: scripts, marker: 'stamp', put: '' },
    'the check that none was added': { file: scripts, marker: 'additions', put: '' },
    'the new stamp of an end of all': {
      file: scripts,
      marker: 'new stamp',
      put: [
        "local stamp = redis.call('HGET', KEYS[1], '*') redis.call('UNLINK', KEYS[1])",
        "if stamp then redis.call('HSET', KEYS[1], '*', stamp)",
        'else mintStamp(KEYS[1], token) end'
      ].join('\n')
    }
  }
}

/** What lib holds them together with over any store. */
const inSubjects: Readonly<Record<string, Mutant>> = {
  'the order of a sign-in: the stamp before the check': {
    file: 'session/sign-in.js',
    marker: 'stamp first',
    put: `
      if (verify !== undefined && !(await isRight(verify))) return false;
      const stamp = await run(async (store) => store.subjects.stamp(tag));
      return run(async () => {
        const login = { subject, authenticatedAt: config.clock.now(), info: noted };
        regenerateSession(state, config, kept);
        const lineage = lineageFor(state.moving, tag);
        belongTo(state, config, login, { lineage, signIn: { stamp, begunAt, by: 'signIn' } });
        tools.leaveBehind();
        return true;
      });`
  },
  'the lineage by which an end of the others spares a session': {
    file: 'session/subject-sessions.js',
    marker: 'spare',
    put: `const isSpared = await withStore(config, async ({ subjects: store }) => {
      if (spared === undefined) return store.endAll(tag);
      const key = await store.find(tag, spared.lineage);
      const isListed = await store.endAll(tag, spared.lineage);
      if ((await store.find(tag, spared.lineage)) === key) return isListed;
      return !(await store.endOne(tag, spared.lineage));
    }`
  },
  'the stamp under which a session of the same subject signs in': {
    file: 'session/move.js',
    marker: 'stamp of a move',
    put: 'store.move(departure.publicId, record, trace);'
  },
  'the count in the step that adds one': {
    file: 'session/admission.js',
    marker: 'count',
    put: 'const answer = await store.subjects.create(key, record, { stamp, instead });'
  },
  'the new lineage after a creation that may come late': {
    file: 'session/store-changes.js',
    marker: 'lineage',
    put: 'state.identity.replaceTaken(undefined);'
  }
}

/** What holds the sessions of a subject together, and how it is taken out. */
export function subjectMutantsOver(store: Store): [name: string, mutant: Mutant][] {
  return Object.entries({ ...inSubjectStores[store], ...inSubjects })
}

const built = fileURLToPath(new URL('../../', import.meta.url))

/**
 * A copy of what was compiled, beside it, where it finds the packages that it imports. It goes with
 * the test.
 */
export function copyBuilt(t: Test, parts: readonly string[]): string {
  const folder = mkdtempSync(`${built}mutant-`)
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  for (const part of parts) cpSync(`${built}${part}`, `${folder}/${part}`, { recursive: true })
  return folder
}

/** Takes something out of a copy. */
export function plant(t: Test, folder: string, { file, marker, put }: Mutant): void {
  const path = `${folder}/lib/${file}`
  const lines = readFileSync(path, 'utf8').split('\n')
  const marked = lines.filter((line) => line.endsWith(` mutant: ${marker}`))
  t.equal(marked.length, 1, 'it is there to be taken out')
  writeFileSync(path, lines.map((line) => (line === marked[0] ? put : line)).join('\n'))
}

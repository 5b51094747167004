import { hash } from 'node:crypto'

/** A Lua script, which the server runs as one atomic step, and the SHA-1 by which it is cached. */
export interface Script {
  readonly sha: string
  readonly text: string
}

function script(text: string): Script {
  return { sha: hash('sha1', text), text }
}

// KEYS[1] is that of a session. A record is one string, `createdAt maxAge version;notes data`; it
// expires with its key. Expiries are sent and returned as durations, so that an app's clock is
// never compared with the server's. A trace is one string too, `> successor version`, in which
// version 0.1.0 finds no record.
//
// If the session belongs to a subject, KEYS[2] lists the live ones of it, in the same slot: a hash
// with the digest of each one's id by its lineage, the stamp under `*`, and under `#` a number that no list of
// the subject had before. It lives as long as any of the sessions.

// What is no text is read as an empty one: it is there, and it is neither a record nor a trace.
const readEntry = `
local value, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if not value then return false end
if type(value) ~= 'string' then value = '' end
`

/** Whether a record is listed, if it belongs to a subject. */
const isListed = `
local function isListed(version)
  if not KEYS[2] then return true end
  local digest = redis.call('HGET', KEYS[2], string.match(version, '^[^.]*'))
  return digest == string.sub(KEYS[1], -43)
end
`

/** Has the list live as long as the session. */
const keepList = `
local function keepList(life)
  if KEYS[2] and redis.call('PTTL', KEYS[2]) < tonumber(life) then
    redis.call('PEXPIRE', KEYS[2], life)
  end
end
`
/**
 * Tells of an end, or of a move, on the channel of the prefix. Where a user of the server may not
 * publish, the session ends all the same.
 */
const tell = `
local function tell(what, trace)
  local prefix, name
  if KEYS[2] then
    prefix, name = string.sub(KEYS[2], 1, -19), string.sub(KEYS[2], -17, -2)
    if what == 'd' or what == 'm' then name = name .. string.sub(KEYS[1], -44) end
  else
    prefix, name = string.sub(KEYS[1], 1, -44), string.sub(KEYS[1], -43)
  end
  if trace then name = name .. ' ' .. string.match(trace, '^> (%S+)') end
  redis.pcall('PUBLISH', prefix .. 'ends', what .. name)
end
`
/** The same of a list, which is the only key of a script. */
const tellOfList = `
local function tell(what, rest)
  local prefix, name = string.sub(KEYS[1], 1, -19), string.sub(KEYS[1], -17, -2)
  redis.pcall('PUBLISH', prefix .. 'ends', what .. name .. (rest or ''))
end
`
const versionOf = `string.match(value, '^[%d.]+ %S* ([^ ;]+)[ ;]')`

// The commonest of all: a function would cost more.
export const getScript: Script = script(`${readEntry}
if KEYS[2] then
  local lineage = string.match(value, '^[%d.]+ %S* ([^ ;.]+)')
  local isListed = not lineage
    or redis.call('HGET', KEYS[2], lineage) == string.sub(KEYS[1], -43) -- mutant: listed
  if not isListed then return false end
end
return { value, left }`)

export const deleteScript: Script = script(`${isListed}${tell}${readEntry}
local isTrace = left >= 0 and string.match(value, '^> %S+ %S+$')
if isTrace then return { value, left } end -- mutant: trace stays
local version = KEYS[2] and ${versionOf}
local isLive = not version or isListed(version)
redis.call('DEL', KEYS[1])
if not isLive then return false end
if version then redis.call('HDEL', KEYS[2], string.match(version, '^[^.]*')) end
tell('d')
return { value, left }`)

// The keys of several sessions: after each comes that of its list, or once more its own. What is no
// text is there, and reads as an empty one.
export const lookScript: Script = script(`
local found = {}
for index = 1, #KEYS, 2 do
  local key, list = KEYS[index], KEYS[index + 1]
  local head, left = redis.pcall('GETRANGE', key, 0, 160), redis.call('PTTL', key)
  if type(head) ~= 'string' then head = '' end
  local lineage = list ~= key and string.match(head, '^[%d.]+ %S* ([^ ;.]+)')
  local isListed = not lineage or redis.call('HGET', list, lineage) == string.sub(key, -43)
  found[#found + 1] = left ~= -2 and isListed and { head, left } or false
end
return found
`)

export const createScript: Script = script(`
local life, value = unpack(ARGV)
return redis.call('SET', KEYS[1], value, 'NX', 'PX', life) and 1 or 0
`)

// Reads no more of the record than it needs to compare the version. A trace has none.
const readVersion = `
local createdAt, maxAge, version = string.match(
  redis.call('GETRANGE', KEYS[1], 0, #expected + 40), '^([%d.]+) (%S*) ([^ ;]+)[ ;]'
)
`
export const updateScript: Script = script(`${isListed}${keepList}
local life, expected, head, data = unpack(ARGV)${readVersion}
if version ~= expected or not isListed(version) then return 0 end -- mutant: version check
local idle = tonumber(string.match(head, '^%S*'))
local isShorter = idle and idle < (tonumber(maxAge) or math.huge)
life = math.max(1, life, isShorter and 1 or redis.call('PTTL', KEYS[1]))
redis.call('SET', KEYS[1], createdAt .. ' ' .. head .. data, 'PX', life)
keepList(life)
return 1
`)

const leaveTrace = `
local function leaveTrace(life, trace)
  if tonumber(life) > 0 then
    redis.call('SET', KEYS[1], trace, 'PX', life)
  else
    redis.call('DEL', KEYS[1])
  end
end
`

export const retireScript: Script = script(`${isListed}${tell}${leaveTrace}
local life, expected, trace = unpack(ARGV)${readVersion}
if version ~= expected or not isListed(version) then return 0 end
if KEYS[2] then redis.call('HDEL', KEYS[2], string.match(version, '^[^.]*')) end
leaveTrace(life, trace)
tell('m', trace)
return 1
`)

export const touchScript: Script = script(`${isListed}${keepList}
local head = redis.call('GETRANGE', KEYS[1], 0, 80)
local maxAge, version = string.match(head, '^[%d.]+ (%S*) ([^ ;.]+)')
local life, left = tonumber(ARGV[1]), redis.call('PTTL', KEYS[1])
if not maxAge or left < 0 or not isListed(version) then return false end
life = math.min(life, (tonumber(maxAge) or life) * 1000)
if life <= left then return left end
redis.call('PEXPIRE', KEYS[1], life)
keepList(life)
return life
`)

// Those below work on the list alone, or on both. KEYS[1] is the list where there is no session.

/** Milliseconds that a stamp is kept: for longer than anybody takes to sign in. */
const stampLife = 3600 * 1000

/** Makes a stamp as no subject had before: also if a list was lost. */
const mintStamp = `
local function mintStamp(list, token)
  local time = redis.call('TIME')
  redis.call('HSET', list, '*', token .. time[1] .. '.' .. time[2])
end
`

export const stampScript: Script = script(`${mintStamp}
local stamp = redis.call('HGET', KEYS[1], '*')
if not stamp then
  mintStamp(KEYS[1], ARGV[1])
  stamp = redis.call('HGET', KEYS[1], '*')
end
if redis.call('PTTL', KEYS[1]) < ${stampLife} then redis.call('PEXPIRE', KEYS[1], ${stampLife}) end
return stamp
`)

export const listScript: Script = script(`
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 100)
local stamp, version = redis.call('HGET', KEYS[1], '*'), redis.call('HGET', KEYS[1], '#')
return { stamp or '', version or '', page[1], page[2] }
`)

export const findScript: Script = script(`return redis.call('HGET', KEYS[1], ARGV[1])`)

export const enterScript: Script = script(`${keepList}${tell}
local life, value, lineage, stamp, version = unpack(ARGV)
if redis.call('HGET', KEYS[2], '*') ~= stamp then return 'refused' end -- mutant: stamp
local present = redis.call('HGET', KEYS[2], '#') or ''
if version ~= '?' and present ~= version then return 'refused' end -- mutant: additions
if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
for index = 6, #ARGV do redis.call('HDEL', KEYS[2], ARGV[index]) end
redis.call('SET', KEYS[1], value, 'PX', life)
redis.call('HSET', KEYS[2], lineage, string.sub(KEYS[1], -43))
keepList(life)
if #ARGV > 5 then tell('l') end
return redis.call('HINCRBY', KEYS[2], '#', 1)
`)

/** KEYS[3] is the new key of the session. */
export const moveScript: Script = script(`${isListed}${keepList}${tell}${leaveTrace}
local life, expected, trace, newLife, value, stamp = unpack(ARGV)${readVersion}
if stamp and redis.call('HGET', KEYS[2], '*') ~= stamp then return 0 end
if version ~= expected or not isListed(version) then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('SET', KEYS[3], value, 'PX', newLife)
redis.call('HSET', KEYS[2], string.match(version, '^[^.]*'), string.sub(KEYS[3], -43))
keepList(newLife)
leaveTrace(life, trace)
tell('m', trace)
return 1
`)

export const endAllScript: Script = script(`${mintStamp}${tellOfList}
local token, except = unpack(ARGV)
local digest = except ~= '' and redis.call('HGET', KEYS[1], except)
local left = redis.call('PTTL', KEYS[1])
redis.call('UNLINK', KEYS[1]) mintStamp(KEYS[1], token) -- mutant: new stamp
if digest then redis.call('HSET', KEYS[1], except, digest) end
redis.call('PEXPIRE', KEYS[1], math.max(${stampLife}, digest and left or 0))
tell('a')
return digest and 1 or 0
`)

/** Returns what the session was listed with. */
export const endOneScript: Script = script(`${tellOfList}
local digest = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
if digest then tell('d', '.' .. digest) end
return digest
`)

export const removeScript: Script = script(`return redis.call('UNLINK', KEYS[1])`)

export const sampleScript: Script = script(
  `return redis.call('HRANDFIELD', KEYS[1], ARGV[1], 'WITHVALUES')`
)

/** Takes off the list what is there no more: the other keys are those of sessions. */
export const strikeScript: Script = script(`
for index, lineage in ipairs(ARGV) do
  local key = KEYS[index + 1]
  local isListed = redis.call('HGET', KEYS[1], lineage) == string.sub(key, -43)
  if isListed and redis.call('EXISTS', key) == 0 then redis.call('HDEL', KEYS[1], lineage) end
end
`)

/** Returns a key as the server has it: a client may put something before each. */
export const keyScript: Script = script(`return KEYS[1]`)

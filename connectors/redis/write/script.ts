/** The script that writes rows, fence and checkpoint at once, and the form of its rows. */
import { createHash } from "node:crypto";
import type { ByteWriter } from "../../../src/core/bytes.ts";

export const VERSION_FIELD = "_millrace_version";
export const TIME_FIELD = "_millrace_commit_time";
/**
 * Position of the version's length byte in a packed row, counted from 1 as Lua does: after 12 bytes of headers, and the
 * field's name with its two lengths.
 */
const PACKED_VERSION_AT = 12 + VERSION_FIELD.length + 2 + 1;
/** The start of a row in the format json: the script finds the version there. */
export const JSON_HEAD = `{"${VERSION_FIELD}":`;

/** How long a tombstone lives: longer than a replay takes. */
const TOMBSTONE_SECONDS = 3600;

/** The action for one row; one byte each in the script's first argument. */
export const ACTION = {
  /** Row is a packed hash (packed-row.ts): store it. */
  putPacked: 0x72, // r
  /** The same, of a key that the log says is new. */
  putFresh: 0x66, // f
  /** Row [field, value, …], version first: write it as a hash. */
  putHash: 0x68, // h
  /** Row [version, text]: write it as a string. */
  putText: 0x73, // s
  /** Row [[field, value, …], [field, …], version?]: set the first, remove the second, where the row is there, and not below. */
  patchHash: 0x70, // p
  /** Row is a version: remove, and remember it. */
  remove: 0x64, // d
  /** Row is a version: remove what is there and not above it, and remember it. */
  removeHeld: 0x74, // t
  /** Row is a version: remove what is there and not above it. */
  sweep: 0x77, // w
} as const;

/** The script's answer for a row that it did not write. */
export const RESULT_INCOMPLETE = 1;
export const RESULT_WRONG_TYPE = 2;
/** Instead of the list of such rows: the fence did not match, and nothing was changed. */
export const RESULT_FENCED = -1;

/** Asks for a key's value: an error if another type is there. Any other, as of a command that the user may not call, ends the script. */
export const ASKED = `
local function asked(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err) end
  return reply
end
`;

/** The version in a tombstone. Another program's value is none; a removal overwrites it. */
export const BURIED = `
local function buriedAt(key)
  local version = asked('GET', key)
  return type(version) == 'string' and #version < 20 and string.match(version, '^%d+$')
end
`;

/**
 * One call for many rows: compare-and-set on the version, atomically with the fence and the checkpoint.
 *
 *   KEYS  the rows' keys, then as many keys of their tombstones, then the key with the fence (fence.ts)
 *   ARGV  1 actions, a byte per row
 *         2 rows as MessagePack: one array with the argument of each action
 *         3 the claim that must be stored           4 the position and the bond that must be stored
 *         5 "" or the position to store             6 the bond to store
 *         7 the format to store                     8 "" or the tables to store
 *
 * Versions have up to 19 digits, more than a Lua number can distinguish: they are compared as text, by length first.
 * The checkpoint is stored only if every row was written. Answers with a flat list of row ordinal and result.
 *
 * A put sets all fields and then counts them. If there are more than were set, the others are columns that became null,
 * and the hash is written again. That is rare, and avoids a DEL in the common case (measured: a fifth of the time).
 *
 * Each call checks once whether there are any tombstones. A key that is believed to be new is not looked up: RESTORE
 * refuses an existing key, and then the row takes the normal way.
 */
export const SCRIPT = `${ASKED}${BURIED}
local call, sub = redis.call, string.sub
local actions = ARGV[1]
local n = #actions
local held = call('HMGET', KEYS[2 * n + 1], 'claim', 'position', 'bond')
if held[1] ~= ARGV[3] or (held[2] or '') .. ' ' .. (held[3] or '') ~= ARGV[4] then return ${RESULT_FENCED} end

local function above(a, b) return #a > #b or (#a == #b and a > b) end

local function textVersion(key)
  local head = asked('GETRANGE', key, 0, 63)
  if type(head) == 'table' then return nil, true end
  return string.match(head, '^{"${VERSION_FIELD}":(%d+)'), false
end

local function hashVersion(key)
  local version = asked('HGET', key, '${VERSION_FIELD}')
  if type(version) == 'table' then return nil, true end
  return version or nil, false
end

local function stored(key, action)
  local version, other
  if action == 's' then
    version, other = textVersion(key)
    if other then version, other = hashVersion(key) if version then other = false else other = true end end
  else
    version, other = hashVersion(key)
    if other then version = textVersion(key) other = 'text' if not version then other = true end end
  end
  return version, other
end

local buried
local function deleted(i)
  if buried == nil then buried = call('EXISTS', unpack(KEYS, n + 1, 2 * n)) > 0 end
  return buried and buriedAt(KEYS[n + i])
end

local function packedVersion(row)
  return sub(row, ${PACKED_VERSION_AT + 1}, ${PACKED_VERSION_AT} + string.byte(row, ${PACKED_VERSION_AT}) - 128)
end

-- Lua's stack takes some 8,000 values; fields and values are in pairs.
local function each(command, key, list)
  for at = 1, #list, 4000 do call(command, key, unpack(list, at, math.min(at + 3999, #list))) end
end

local rows = n > 0 and cmsgpack.unpack(ARGV[2]) or {}
local left = {}
local function write(i, action, key, row)
  local grave = KEYS[n + i]
  local version, other = stored(key, action)
  local new = row
  if action == 'r' or action == 'f' then new = packedVersion(row)
  elseif action == 'h' then new = row[2] elseif action == 's' then new = row[1] elseif action == 'p' then new = row[1][2] end
  local older = version
  if not older and action ~= 't' and action ~= 'w' then older = deleted(i) end
  if older and above(older, new) then
    -- The row shows a later commit already.
  elseif other == true then
    if action ~= 't' and action ~= 'w' then left[#left + 1] = i left[#left + 1] = ${RESULT_WRONG_TYPE} end
  elseif action == 'r' or action == 'f' then
    call('RESTORE', key, '0', row, 'REPLACE')
  elseif action == 'h' then
    if other then redis.call('DEL', key) end
    each('HSET', key, row)
    if redis.call('HLEN', key) * 2 > #row then
      redis.call('DEL', key)
      each('HSET', key, row)
    end
  elseif action == 's' then
    redis.call('SET', key, row[2])
  elseif action == 'p' then
    if version and not other and not (row[3] and above(row[3], version)) then
      each('HSET', key, row[1])
      each('HDEL', key, row[2])
    else
      left[#left + 1] = i left[#left + 1] = ${RESULT_INCOMPLETE}
    end
  elseif action == 'd' then
    redis.call('DEL', key)
    redis.call('SET', grave, new, 'EX', ${TOMBSTONE_SECONDS})
    buried = true
  elseif version then
    redis.call('DEL', key)
    if action == 't' then
      redis.call('SET', grave, new, 'EX', ${TOMBSTONE_SECONDS})
      buried = true
    end
  end
end

for i = 1, n do
  local action, key, row = sub(actions, i, i), KEYS[i], rows[i]
  local done = action == 'f' and not deleted(i) and redis.pcall('RESTORE', key, '0', row)
  if not done or done.err then write(i, action, key, row) end
end
if ARGV[5] ~= '' and #left == 0 then
  redis.call('HSET', KEYS[2 * n + 1], 'position', ARGV[5], 'bond', ARGV[6], 'format', ARGV[7])
  if ARGV[8] ~= '' then redis.call('HSET', KEYS[2 * n + 1], 'tables', ARGV[8]) end
end
return left
`;

export const SCRIPT_SHA = createHash("sha1").update(SCRIPT).digest("hex");

// Of MessagePack the rows need three forms: text of up to 4 GB and arrays of known length.

const STR32 = 0xdb;
const ARRAY16 = 0xdc;
const ARRAY32 = 0xdd;
const TEXT_HEADER_BYTES = 5;

/** Leaves room for a text's header; `endText` fills it in, given the result. */
export function beginText(out: ByteWriter): number {
  out.reserve(TEXT_HEADER_BYTES);
  const at = out.length;
  out.bytes[at] = STR32;
  out.length = at + TEXT_HEADER_BYTES;
  return at;
}

export function endText(out: ByteWriter, at: number): void {
  writeUint32(out, at + 1, out.length - at - TEXT_HEADER_BYTES);
}

export function textBytes(text: string): Buffer {
  const bytes = Buffer.from(text);
  const header = Buffer.alloc(TEXT_HEADER_BYTES);
  header[0] = STR32;
  header.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

/** An array of fewer than 65,536 elements; `setArrayCount` may set the count later. */
export function beginArray(out: ByteWriter, count = 0): number {
  out.reserve(3);
  const at = out.length;
  out.bytes[at] = ARRAY16;
  out.length = at + 3;
  setArrayCount(out, at, count);
  return at;
}

export function setArrayCount(out: ByteWriter, at: number, count: number): void {
  out.bytes[at + 1] = count >>> 8;
  out.bytes[at + 2] = count;
}

/** The outermost array. */
export function beginRows(out: ByteWriter): void {
  out.reserve(5);
  out.bytes[out.length] = ARRAY32;
  out.length += 5;
}

export function endRows(out: ByteWriter, count: number): void {
  writeUint32(out, 1, count);
}

function writeUint32(out: ByteWriter, at: number, value: number): void {
  const to = out.bytes;
  to[at] = value >>> 24;
  to[at + 1] = value >>> 16;
  to[at + 2] = value >>> 8;
  to[at + 3] = value;
}

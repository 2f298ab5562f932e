/** Looks at the versions of keys that no batch of this life has written: rows and tombstones of an earlier one, or of other hands. */
import { type Commands, type Connection, textOf } from "./connection.ts";
import { slotOf } from "./slots.ts";
import { type Claim, FenceMismatch } from "./write/fence.ts";
import { keyPages, rowKeyPages, type RowKeys } from "./write/key-pages.ts";
import { ASKED, RESULT_FENCED, VERSION_FIELD } from "./write/script.ts";

/** The version of a row: a hash, or a text that begins with it. `head` is what a text begins with. */
const VERSION_OF = `${ASKED}
local function versionOf(key)
  local version, head = asked('HGET', key, '${VERSION_FIELD}'), nil
  if type(version) == 'table' then
    head = asked('GETRANGE', key, 0, 63)
    version = type(head) == 'string' and string.match(head, '^{"${VERSION_FIELD}":(%d+)')
  end
  return version, head
end
-- By length first: as script.ts compares them.
local function isAbove(version, other)
  return #version > #other or (#version == #other and version > other)
end
`;

/**
 * KEYS are rows' keys and the fence's, ARGV the claim that it must hold, and a version: removes rows with a higher
 * version or without one.
 */
const EXPEL = `${VERSION_OF}
if redis.call('HGET', KEYS[#KEYS], 'claim') ~= ARGV[1] then return ${RESULT_FENCED} end
for i = 1, #KEYS - 1 do
  local version = versionOf(KEYS[i])
  if not version or not string.match(version, '^%d+$') or isAbove(version, ARGV[2]) then redis.call('DEL', KEYS[i]) end
end
return 0
`;

/** Of rows and tombstones, which are a version and nothing else. */
const HIGHEST = `${VERSION_OF}
local highest = '0'
for i = 1, #KEYS do
  local version, head = versionOf(KEYS[i])
  version = version or (type(head) == 'string' and string.match(head, '^(%d+)$'))
  if version and string.match(version, '^%d+$') and isAbove(version, highest) then highest = version end
end
return highest
`;

/** When an operator has a sink filled again because somebody changed it by hand. */
export async function expel(
  connection: Connection,
  claim: Claim,
  rows: RowKeys,
  version: bigint,
  signal: AbortSignal,
): Promise<void> {
  for (const primary of connection.primaries()) {
    for await (const keys of rowKeyPages(primary, rows, signal)) {
      if (keys.length === 0) continue;
      // In a cluster one call can't have keys of several slots.
      if (connection.isCluster) {
        await claim.enter(keys.map((key) => slotOf(key)));
        await Promise.all(keys.map((key) => removeAbove(primary, [key], claim, version)));
      } else {
        await removeAbove(primary, keys, claim, version);
      }
    }
  }
}

async function removeAbove(primary: Commands, keys: readonly Buffer[], claim: Claim, version: bigint): Promise<void> {
  const all = [...keys, claim.beside(keys[0]!, "").key];
  const answer = await primary.command("eval", EXPEL, String(all.length), ...all, claim.name, String(version));
  if (answer === RESULT_FENCED) throw new FenceMismatch("another claim is stored");
}

export async function highestVersion(connection: Connection, prefix: string, signal: AbortSignal): Promise<bigint> {
  let highest = 0n;
  const note = (version: bigint): void => {
    if (version > highest) highest = version;
  };
  for (const primary of connection.primaries()) {
    for await (const keys of keyPages(primary, prefix, signal)) {
      // In a cluster one call can't have keys of several slots.
      const calls = connection.isCluster ? keys.map((key) => [key]) : [keys];
      for (const version of await Promise.all(calls.map((call) => highestOf(primary, call)))) note(version);
    }
  }
  return highest;
}

async function highestOf(primary: Commands, keys: readonly Buffer[]): Promise<bigint> {
  if (keys.length === 0) return 0n;
  return BigInt(textOf(await primary.command("eval", HIGHEST, String(keys.length), ...keys)) ?? "0");
}

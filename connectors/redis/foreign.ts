/** Looks at the versions of keys that no batch of this life has written: rows and tombstones of an earlier one, or of other hands. */
import { type Commands, type Connection, textOf } from "./connection.ts";
import { slotOf, type TombstoneKeys } from "./keys.ts";
import { type Claim, FenceMismatch } from "./write/fence.ts";
import { keyPages, KeyStarts, rowKeyPages, type RowKeys } from "./write/key-pages.ts";
import { ASKED, BURIED, RESULT_FENCED, VERSION_FIELD } from "./write/script.ts";

/** The version of a row (a hash, or a text that begins with it), or of a tombstone, whose keys begin with `graves`. */
const VERSION_OF = `${ASKED}${BURIED}
local function versionOf(key, graves)
  if string.sub(key, 1, #graves) == graves then return buriedAt(key), true end
  local version = asked('HGET', key, '${VERSION_FIELD}')
  if type(version) == 'table' then
    local head = asked('GETRANGE', key, 0, 63)
    version = type(head) == 'string' and string.match(head, '^{"${VERSION_FIELD}":(%d+)')
  end
  return version and string.match(version, '^%d+$'), false
end
-- By length first: as script.ts compares them.
local function isAbove(version, other)
  return #version > #other or (#version == #other and version > other)
end
`;

/**
 * KEYS are those of rows or tombstones and the fence's, ARGV the start of tombstones, the claim that the fence must hold, and a
 * version: removes what has a higher version, and rows without one.
 */
const EXPEL = `${VERSION_OF}
if redis.call('HGET', KEYS[#KEYS], 'claim') ~= ARGV[2] then return ${RESULT_FENCED} end
for i = 1, #KEYS - 1 do
  local version, isTombstone = versionOf(KEYS[i], ARGV[1])
  if version and isAbove(version, ARGV[3]) or not version and not isTombstone then redis.call('DEL', KEYS[i]) end
end
return 0
`;

const HIGHEST = `${VERSION_OF}
local highest = '0'
for i = 1, #KEYS do
  local version = versionOf(KEYS[i], ARGV[1])
  if version and isAbove(version, highest) then highest = version end
end
return highest
`;

interface Expelling {
  readonly claim: Claim;
  readonly tombstones: TombstoneKeys;
  readonly version: bigint;
}

/**
 * When an operator has a sink filled again because somebody changed it by hand. A tombstone that stays would hide the rows
 * that are read under its key.
 */
export async function expel(
  connection: Connection,
  tables: readonly RowKeys[],
  expelling: Expelling,
  signal: AbortSignal,
): Promise<void> {
  const { tombstones } = expelling;
  const starts = new KeyStarts(tables);
  for (const primary of connection.primaries()) {
    for (const rows of tables) {
      for await (const keys of rowKeyPages(primary, rows, signal)) {
        await removeAbove(connection, primary, keys, expelling);
      }
    }
    for await (const page of keyPages(primary, tombstones.start, signal)) {
      const keys = page.filter((key) => {
        const row = tombstones.rowOf(key);
        return row !== null && starts.has(row);
      });
      await removeAbove(connection, primary, keys, expelling);
    }
  }
}

async function removeAbove(
  connection: Connection,
  primary: Commands,
  keys: readonly Buffer[],
  { claim, tombstones, version }: Expelling,
): Promise<void> {
  const remove = async (some: readonly Buffer[]): Promise<void> => {
    const all = [...some, claim.beside(some[0]!, "").key];
    const args = [tombstones.start, claim.name, String(version)];
    const answer = await primary.command("eval", EXPEL, String(all.length), ...all, ...args);
    if (answer === RESULT_FENCED) throw new FenceMismatch("another claim is stored");
  };
  if (keys.length === 0) return;
  if (!connection.isCluster) return remove(keys);
  // In a cluster one call can't have keys of several slots.
  await claim.enter(keys.map((key) => slotOf(key)));
  await Promise.all(keys.map((key) => remove([key])));
}

/** Of the rows under the prefix that count, and of their tombstones. */
export async function highestVersion(
  connection: Connection,
  prefix: string,
  { tombstones, isCounted }: { readonly tombstones: TombstoneKeys; readonly isCounted: (row: Buffer) => boolean },
  signal: AbortSignal,
): Promise<bigint> {
  let highest = 0n;
  const note = (version: bigint): void => {
    if (version > highest) highest = version;
  };
  for (const primary of connection.primaries()) {
    for await (const page of keyPages(primary, prefix, signal)) {
      const keys = page.filter((key) => isCounted(tombstones.rowOf(key) ?? key));
      // In a cluster one call can't have keys of several slots.
      const calls = connection.isCluster ? keys.map((key) => [key]) : [keys];
      for (const version of await Promise.all(calls.map((call) => highestOf(primary, call, tombstones)))) note(version);
    }
  }
  return highest;
}

async function highestOf(primary: Commands, keys: readonly Buffer[], { start }: TombstoneKeys): Promise<bigint> {
  if (keys.length === 0) return 0n;
  return BigInt(textOf(await primary.command("eval", HIGHEST, String(keys.length), ...keys, start)) ?? "0");
}

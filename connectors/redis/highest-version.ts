/** Finds the highest version under the prefix: old rows and tombstones may be left there. */
import { type Commands, type Connection, textOf } from "./connection.ts";
import { keyPages } from "./write/key-pages.ts";
import { VERSION_FIELD } from "./write/script.ts";

/** The version of a row (hash or text) or a tombstone. Compares versions as script.ts does. */
const HIGHEST = `
local highest = '0'
for i = 1, #KEYS do
  local version = redis.pcall('HGET', KEYS[i], '${VERSION_FIELD}')
  if type(version) == 'table' then
    local head = redis.pcall('GETRANGE', KEYS[i], 0, 63)
    version = type(head) == 'string' and (string.match(head, '^{"${VERSION_FIELD}":(%d+)') or string.match(head, '^(%d+)$'))
  end
  if version and string.match(version, '^%d+$') and (#version > #highest or (#version == #highest and version > highest)) then
    highest = version
  end
end
return highest
`;

export async function highestVersion(connection: Connection, prefix: string, signal: AbortSignal): Promise<bigint> {
  let highest = 0n;
  const note = (version: bigint): void => {
    if (version > highest) highest = version;
  };
  for (const primary of connection.primaries()) {
    for await (const keys of keyPages(primary, prefix, signal)) {
      // In a cluster one call can't have keys of several slots.
      const calls = connection.isCluster ? keys.map((key) => [key]) : [keys];
      for (const version of await Promise.all(calls.map((call) => ask(primary, call)))) note(version);
    }
  }
  return highest;
}

async function ask(primary: Commands, keys: readonly Buffer[]): Promise<bigint> {
  if (keys.length === 0) return 0n;
  return BigInt(textOf(await primary.command("eval", HIGHEST, String(keys.length), ...keys)) ?? "0");
}

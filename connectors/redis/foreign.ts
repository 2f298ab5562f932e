/**
 * Removes keys that no step can have written, when an operator has a sink filled again because somebody changed it by
 * hand.
 */
import type { Commands, Connection } from "./connection.ts";
import { rowKeyPages, type RowKeys } from "./write/removal.ts";
import { VERSION_FIELD } from "./write/script.ts";

/**
 * KEYS are rows' keys, ARGV[1] a version: removes rows with a higher version or without one. Compares versions as
 * script.ts does.
 */
const EXPEL = `
local bound = ARGV[1]
for i = 1, #KEYS do
  local version = redis.pcall('HGET', KEYS[i], '${VERSION_FIELD}')
  if type(version) == 'table' then
    local head = redis.pcall('GETRANGE', KEYS[i], 0, 63)
    version = type(head) == 'string' and string.match(head, '^{"${VERSION_FIELD}":(%d+)')
  end
  if not version or not string.match(version, '^%d+$') or #version > #bound or (#version == #bound and version > bound) then
    redis.call('DEL', KEYS[i])
  end
end
return redis.status_reply('OK')
`;

export async function expel(
  connection: Connection,
  rows: RowKeys,
  version: bigint,
  signal: AbortSignal,
): Promise<void> {
  for (const primary of connection.primaries()) {
    for await (const keys of rowKeyPages(primary, rows, signal)) {
      // In a cluster one call can't have keys of several slots.
      if (connection.isCluster) await Promise.all(keys.map((key) => run(primary, [key], version)));
      else await run(primary, keys, version);
    }
  }
}

async function run(primary: Commands, keys: readonly Buffer[], version: bigint): Promise<void> {
  if (keys.length > 0) await primary.command("eval", EXPEL, String(keys.length), ...keys, String(version));
}

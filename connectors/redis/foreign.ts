/**
 * Removes keys that no batch can have written, when an operator has a sink filled again because somebody changed it by
 * hand.
 */
import type { Commands, Connection } from "./connection.ts";
import { slotOf } from "./slots.ts";
import { type Claim, FenceMismatch } from "./write/fence.ts";
import { rowKeyPages, type RowKeys } from "./write/removal.ts";
import { RESULT_FENCED, VERSION_FIELD } from "./write/script.ts";

/**
 * KEYS are rows' keys and the fence's, ARGV the claim that it must hold, and a version: removes rows with a higher
 * version or without one. Compares versions as script.ts does.
 */
const EXPEL = `
if redis.call('HGET', KEYS[#KEYS], 'claim') ~= ARGV[1] then return ${RESULT_FENCED} end
local bound = ARGV[2]
for i = 1, #KEYS - 1 do
  local version = redis.pcall('HGET', KEYS[i], '${VERSION_FIELD}')
  if type(version) == 'table' then
    local head = redis.pcall('GETRANGE', KEYS[i], 0, 63)
    version = type(head) == 'string' and string.match(head, '^{"${VERSION_FIELD}":(%d+)')
  end
  if not version or not string.match(version, '^%d+$') or #version > #bound or (#version == #bound and version > bound) then
    redis.call('DEL', KEYS[i])
  end
end
return 0
`;

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
        await Promise.all(keys.map((key) => run(primary, [key], claim, version)));
      } else {
        await run(primary, keys, claim, version);
      }
    }
  }
}

async function run(primary: Commands, keys: readonly Buffer[], claim: Claim, version: bigint): Promise<void> {
  const all = [...keys, claim.beside(keys[0]!, "").key];
  const answer = await primary.command("eval", EXPEL, String(all.length), ...all, claim.name, String(version));
  if (answer === RESULT_FENCED) throw new FenceMismatch("another claim is stored");
}

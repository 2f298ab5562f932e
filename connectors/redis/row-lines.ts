/**
 * Has the server read each row that is a hash as one text (core/targets/sized-line): one reply per row instead of two
 * per field.
 */
import type { EqualRows, RowsInOrder } from "../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { sizedLine } from "../../src/core/targets/sized-line.ts";
import { type Connection, listOf, type Reply, textOf } from "./connection.ts";
import { TIME_FIELD, VERSION_FIELD } from "./write/script.ts";

/** A call ends at whichever limit comes first: the server does nothing else meanwhile. */
const ROWS_PER_CALL = 100;
const CHARACTERS_PER_CALL = 256 * 1024;
const CALLS_IN_FLIGHT = 4;

/**
 *   KEYS  the rows' keys
 *   ARGV  1 the highest allowed version     then the columns, the fields of version and time
 *
 * Answers with one text per row; nothing for a row that does not exist, is not a hash, has no version or a too high one,
 * or has further fields. Compares versions as text, by length first: see script.ts.
 */
const READ_LINES = `
local max, n = ARGV[1], #ARGV - 1
local lines = {}
for i, key in ipairs(KEYS) do
  lines[i] = false
  local values = redis.pcall('HMGET', key, unpack(ARGV, 2))
  local version = not values.err and values[n - 1]
  if version and string.find(version, '^%d+$') and (#version < #max or (#version == #max and version <= max)) then
    local parts, found = {}, 0
    for f = 1, n do
      local value = values[f]
      if value then found = found + 1 end
      if f < n - 1 then parts[f] = value and (#value .. ':' .. value) or '~' end
    end
    if redis.call('HLEN', key) == found then lines[i] = table.concat(parts) end
  end
end
return lines
`;

export async function equalRows(
  connection: Connection,
  keyStart: string,
  { columns }: TableVersion,
  { ids, cells, versionMax }: RowsInOrder,
  signal: AbortSignal,
): Promise<EqualRows> {
  let byteCount = 0;
  const isEqual = new Uint8Array(ids.length);
  const fields = [...columns.map(({ name }) => name), VERSION_FIELD, TIME_FIELD];
  const inFlight: Promise<void>[] = [];
  const read = async (from: number, expected: readonly string[]): Promise<void> => {
    const keys = expected.map((_, i) => `${keyStart}${ids[from + i]!}`);
    const reply: Reply = await connection.command(
      "eval",
      READ_LINES,
      String(keys.length),
      ...keys,
      String(versionMax),
      ...fields,
    );
    listOf(reply)?.forEach((line, i) => {
      if (Buffer.isBuffer(line)) byteCount += line.length;
      if (textOf(line) === expected[i]) isEqual[from + i] = 1;
    });
  };
  try {
    for (let from = 0; from < ids.length;) {
      const expected: string[] = [];
      let characters = 0;
      while (
        from + expected.length < ids.length &&
        expected.length < ROWS_PER_CALL &&
        characters < CHARACTERS_PER_CALL
      ) {
        const line = sizedLine(cells(from + expected.length));
        expected.push(line);
        characters += line.length;
      }
      if (inFlight.length >= CALLS_IN_FLIGHT) await inFlight.shift();
      signal.throwIfAborted();
      const call = read(from, expected);
      // Awaited below; until then the handler marks a failure as handled.
      call.catch(() => {});
      inFlight.push(call);
      from += expected.length;
    }
    while (inFlight.length > 0) await inFlight.shift();
  } finally {
    await Promise.allSettled(inFlight);
  }
  return { isEqual, byteCount };
}

/** Whether the server accepts rows in its own form, and up to which size. */
import { type Commands, type Connection, listOf, textOf } from "../connection.ts";
import { replyCode } from "../errors.ts";
import { PACKED_FIELDS_MAX, PACKED_TEXT_BYTES_MAX, type Packing } from "./packed-row.ts";

const FIELDS = "hash-max-listpack-entries";
const BYTES = "hash-max-listpack-value";
/** Clients that listen for changes of hashes expect their events; RESTORE sends another event. */
const EVENTS = "notify-keyspace-events";

/**
 * Null if rows must be written by HSET: the server is too old, does not let us read its settings or use RESTORE, or
 * notifies clients of changes. `existing` is an existing key.
 */
export async function findPacking(connection: Connection, existing: Buffer): Promise<Packing | null> {
  if (!(await mayRestore(connection, existing))) return null;
  let fieldCountMax = PACKED_FIELDS_MAX;
  let valueBytesMax = PACKED_TEXT_BYTES_MAX;
  for (const primary of connection.primaries()) {
    const settings = await settingsOf(primary);
    if (settings === null || settings.get(EVENTS) !== "") return null;
    fieldCountMax = Math.min(fieldCountMax, Number(settings.get(FIELDS) ?? 0));
    valueBytesMax = Math.min(valueBytesMax, Number(settings.get(BYTES) ?? 0));
  }
  return { fieldCountMax, valueBytesMax };
}

/** Asks with an existing key, which is not overwritten, so nothing changes. */
async function mayRestore(connection: Commands, existing: Buffer): Promise<boolean> {
  try {
    await connection.command("restore", existing, "0", "");
    return false;
  } catch (error) {
    if (error instanceof Error && replyCode(error.message) === "BUSYKEY") return true;
    if (isRefusal(error)) return false;
    throw error;
  }
}

async function settingsOf(primary: Commands): Promise<Map<string, string> | null> {
  const settings = new Map<string, string>();
  try {
    for (const name of [FIELDS, BYTES, EVENTS]) {
      const [, value] = listOf(await primary.command("config", "get", name)) ?? [];
      const text = textOf(value);
      if (text !== null) settings.set(name, text);
    }
  } catch (error) {
    if (isRefusal(error)) return null;
    throw error;
  }
  return settings;
}

/** The server answered with an error: the command is unknown, renamed or not allowed. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === "ReplyError";
}

import type { StateAddress } from "../core/contracts/connector.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import { diskRooms, type Room } from "../core/disk-room.ts";
import { stateError } from "./errors.ts";
import { openSqlite, type SqliteOptions } from "./sqlite/open.ts";

const SQLITE = "sqlite:";

/**
 * Opens the store at `sqlite:PATH` or `postgres://…`, by its URL alone if that has the password. Creates and upgrades it,
 * unless it is opened for reading only.
 */
export async function openState(at: StateAddress | string, options: SqliteOptions = {}): Promise<StateStore> {
  const address: StateAddress = typeof at === "string" ? { url: at } : at;
  const { url } = address;
  if (/^postgres(ql)?:\/\//.test(url)) {
    const { openPostgres } = await import("./postgres/store.ts");
    return await openPostgres(address, options);
  }
  const path = url.slice(SQLITE.length);
  if (!url.startsWith(SQLITE) || path === "")
    throw stateError("MR1201", `the state store must be sqlite:PATH or postgres://…; this is "${schemeOf(url)}"`);
  return openSqlite(path, options);
}

/** Of the disk that has it; a database does not tell. */
export function roomsOfState({ url }: StateAddress): readonly Room[] {
  return url.startsWith(SQLITE) ? diskRooms(url.slice(SQLITE.length)) : [];
}

/** Only the scheme: the rest may hold a password. */
function schemeOf(url: string): string {
  const colon = url.indexOf(":");
  return colon < 0 ? "a path without a scheme" : `${url.slice(0, colon)}:…`;
}

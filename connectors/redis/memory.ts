/** What the server says of its memory: whether it removes rows to save some, and how much is left. */
import { count, digits } from "../../src/core/figures.ts";
import type { Room } from "../../src/core/disk-room.ts";
import { serverAt } from "../../src/core/system-errors.ts";
import { type Commands, type Connection, permitted, settingOf, textOf } from "./connection.ts";
import { classify, replyCode } from "./errors.ts";

/** With less than this part of `maxmemory` it is nearly full. */
const LOW_SHARE = 0.1;

interface ServerMemory {
  /** Null: not known. */
  readonly usedBytes: number | null;
  /** Null: no limit, or not known. */
  readonly maxBytes: number | null;
  /** Null: not known. */
  readonly policy: string | null;
  readonly evictedCount: number | null;
}

/** By CONFIG GET or by INFO, as far as the user may ask. */
export async function memoryOf(server: Commands): Promise<ServerMemory> {
  const info = await infoOf(server);
  const told = async (setting: string, field: string) => (await settingOf(server, setting)) ?? info?.get(field) ?? null;
  const maxBytes = Number((await told("maxmemory", "maxmemory")) ?? 0);
  return {
    usedBytes: numberIn(info?.get("used_memory")),
    maxBytes: maxBytes === 0 ? null : maxBytes,
    policy: await told("maxmemory-policy", "maxmemory_policy"),
    evictedCount: numberIn(info?.get("evicted_keys")),
  };
}

/** Null: it has no limit, or makes room by itself, of which `evictionIn` tells. */
export function roomIn({ usedBytes, maxBytes, policy }: ServerMemory, server: string): Room | null {
  if (usedBytes === null || maxBytes === null || policy?.startsWith("allkeys-") === true) return null;
  const lowBytes = maxBytes * LOW_SHARE;
  return { where: `maxmemory of ${server}`, freeBytes: Math.max(0, maxBytes - usedBytes), lowBytes };
}

/** Null: the server removes no rows. What expires are only tombstones, which a `volatile-` policy may remove earlier. */
export function evictionIn({
  policy,
  maxBytes,
  evictedCount,
}: ServerMemory): { readonly what: string; readonly fix: string } | null {
  if (policy?.startsWith("allkeys-") !== true || maxBytes === null) return null;
  const so = evictedCount === null ? "" : `; it has evicted ${count(evictedCount, "key")} since it was started`;
  return {
    what: `maxmemory-policy is ${policy}: at ${digits(maxBytes)} bytes the server evicts rows without a word, and the sink's progress key${so}`,
    fix: "CONFIG SET maxmemory-policy noeviction (or a volatile-* one), with a maxmemory for which the tables are small enough; then millrace reconcile --repair",
  };
}

/** By the code of its error, what the server says of that: of a disk Redis tells only the folder. */
const FACTS: Readonly<Record<string, (primary: Commands) => Promise<string | null>>> = {
  OOM: memoryText,
  MISCONF: folderText,
  READONLY: primaryText,
};

/** An error of a server that takes no writes, with what it says of that. */
export async function withFacts(connection: Connection, error: unknown, server: string): Promise<unknown> {
  const factOf = FACTS[error instanceof Error ? replyCode(error.message) : ""];
  if (factOf === undefined) return error;
  const told = await Promise.all(connection.primaries().map(factOf)).catch(() => []);
  const known = classify(error, undefined, server);
  const facts = told.filter((text) => text !== null).join(", ");
  return facts === "" ? known : known.with({ message: `${known.message}: ${facts}` });
}

async function memoryText(primary: Commands): Promise<string | null> {
  const { usedBytes, maxBytes } = await memoryOf(primary);
  if (maxBytes === null) return null;
  const used = usedBytes === null ? "" : `, and ${digits(usedBytes)} are used`;
  return `maxmemory is ${digits(maxBytes)} bytes${used}`;
}

async function folderText(primary: Commands): Promise<string | null> {
  const folder = await settingOf(primary, "dir");
  return folder === null ? null : `its dir is ${folder}, whose free bytes Redis does not tell`;
}

/** Whom a replica follows. */
async function primaryText(server: Commands): Promise<string | null> {
  const info = await infoOf(server);
  const [host, port] = [info?.get("master_host"), info?.get("master_port")];
  return host === undefined || port === undefined ? null : `its primary is ${serverAt(host, Number(port))}`;
}

/** Null if the user may not ask. */
export async function infoOf(server: Commands): Promise<ReadonlyMap<string, string> | null> {
  const reply = await permitted(server.command("info"));
  if (reply === null) return null;
  return new Map(
    [...(textOf(reply) ?? "").matchAll(/^([a-z_]+):(.*?)\r?$/gm)].map(([, name, value]) => [name!, value!]),
  );
}

function numberIn(text: string | undefined): number | null {
  return text === undefined || !/^\d+$/.test(text) ? null : Number(text);
}

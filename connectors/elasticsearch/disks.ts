/** How much room the disks of the data nodes have, and with how little the engine moves shards away and then blocks writes. */
import * as z from "zod";
import { lowBytesOf, type Room } from "../../src/core/disk-room.ts";
import { fieldOf, parsed, type SearchClient } from "./http.ts";

const DISKS = z.object({
  nodes: z.record(
    z.string(),
    z.object({
      name: z.string(),
      fs: z.object({
        data: z.array(z.object({ path: z.string(), total_in_bytes: z.number(), available_in_bytes: z.number() })),
      }),
    }),
  ),
});
const DISKS_ASKED = ["path", "total_in_bytes", "available_in_bytes"].map((field) => `nodes.*.fs.data.${field}`);
const UNITS = ["b", "kb", "mb", "gb", "tb", "pb"];

/** Empty: it does not tell, or this user may not ask. */
export async function diskRoomsOf(client: SearchClient, signal: AbortSignal): Promise<readonly Room[]> {
  const query = { filter_path: ["nodes.*.name", ...DISKS_ASKED].join(",") };
  const { status, body } = await client.look({ method: "GET", path: "/_nodes/stats/fs", query }, signal);
  const found = status === 200 ? DISKS.safeParse(parsed(body)) : undefined;
  if (found?.success !== true) return [];
  const asked = { include_defaults: "true", filter_path: "*.cluster.routing.allocation.disk" };
  const settings = await client.look({ method: "GET", path: "/_cluster/settings", query: asked }, signal);
  const lowOf = highWatermark(parsed(settings.body));
  return Object.values(found.data.nodes).flatMap(({ name, fs }) =>
    fs.data.map(({ path, total_in_bytes: total, available_in_bytes: freeBytes }) => {
      return { where: `${path} of node ${name}`, freeBytes, lowBytes: lowOf(total) };
    }),
  );
}

/** From a disk's size to the bytes below which the engine moves shards away, by the cluster's settings. */
export function highWatermark(settings: unknown): (total: number) => number {
  const scopes = ["transient", "persistent", "defaults"].map((scope) =>
    ["cluster", "routing", "allocation", "disk"].reduce(fieldOf, fieldOf(settings, scope)),
  );
  const set = (read: (disk: unknown) => unknown): string | null => {
    const text = scopes.map(read).find((value) => typeof value === "string");
    return typeof text === "string" ? text : null;
  };
  if (set((disk) => fieldOf(disk, "threshold_enabled")) === "false") return lowBytesOf;
  const mark = set((disk) => fieldOf(fieldOf(disk, "watermark"), "high"));
  const room = set((disk) => fieldOf(fieldOf(disk, "watermark"), "high.max_headroom"));
  if (mark === null) return lowBytesOf;
  const bytesMax = room === null ? null : bytesIn(room);
  return (total) => Math.min(leftAt(mark, total) ?? lowBytesOf(total), bytesMax ?? Infinity);
}

/** Of a mark as a part that is used, `90%` or `0.9`, or as bytes that are free. */
function leftAt(mark: string, total: number): number | null {
  const [, digits, sign] = /^([0-9.]+)(%?)$/.exec(mark) ?? [];
  if (digits === undefined) return bytesIn(mark);
  return total * (1 - Number(digits) / (sign === "%" ? 100 : 1));
}

/** Null: it is no number of bytes, or -1, which is no limit. */
function bytesIn(text: string): number | null {
  const [, digits, unit] = /^([0-9.]+)([kmgtp]?b)$/.exec(text.toLowerCase()) ?? [];
  return digits === undefined || unit === undefined ? null : Number(digits) * 1024 ** UNITS.indexOf(unit);
}

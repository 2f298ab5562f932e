/** The note of a table's shape (core/targets/base-rows) as a target without columns of its own stores it. */
import * as z from "zod";
import { parsePosition, rowVersion } from "../../src/core/model/position.ts";

export const STORED_SHAPE = z.object({
  relation: z.number(),
  key: z.array(z.tuple([z.string(), z.number()])),
  columns: z.array(z.tuple([z.string(), z.number(), z.string().regex(/^\d+$/)])),
});

/** Rows of a shape that begins after a checkpoint have this version or a higher one. `position`: "" for none. */
export function versionSince(position: string): bigint {
  if (position === "") return 0n;
  const { epoch, commit } = parsePosition(position);
  return rowVersion(epoch, commit);
}

import type { Finding } from "../../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import type { LakeSettings } from "./engine.ts";
import { Lake } from "./lake.ts";
import { shownCatalog } from "./place.ts";

/** Loads the extensions and, if the lake exists, attaches it; creates nothing. */
export async function checkLake(
  options: LakeSettings & { readonly name: string },
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `ducklake.lake.${options.name}`;
  const place = shownCatalog(options.place);
  try {
    const lake = await Lake.acquireExisting(options);
    if (lake === null) return [{ id, level: "ok", what: `the lake ${place} will be made`, fix: null }];
    await lake.release();
    return [{ id, level: "ok", what: `the lake ${place} can be opened`, fix: null }];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}

import type { Finding, TableName } from "../../../src/core/contracts/connector.ts";
import { atServer, findMillraceError } from "../../../src/core/errors.ts";
import { failed, ok } from "../../kit/findings.ts";
import { targetFindings } from "../check.ts";
import { Lake } from "./lake.ts";
import { shownCatalog } from "./place.ts";
import type { LakeSinkOptions } from "./sink.ts";

/** Loads the extensions and, if the lake exists, attaches it and looks at the targets; creates nothing. */
export async function checkLake(
  options: LakeSinkOptions,
  signal: AbortSignal,
  tables: readonly TableName[] = [],
): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `ducklake.lake.${options.name}`;
  const place = shownCatalog(options.place);
  try {
    const lake = await Lake.acquireExisting(options);
    if (lake === null) return [ok(id, `the lake ${place} will be made`)];
    return [
      ok(id, `the lake ${place} can be opened`),
      ...(await targetFindings(lake, { ...options, form: { ...options.form, isLake: true } }, tables)),
    ];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [failed(id, atServer(known, place))];
  }
}

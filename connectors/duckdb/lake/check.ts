import type { CheckedTable, Finding } from "../../../src/core/contracts/connector.ts";
import { atServer, findMillraceError } from "../../../src/core/errors.ts";
import { failed, ok } from "../../kit/findings.ts";
import { targetFindings } from "../check.ts";
import { Lake } from "./lake.ts";
import { NO_TLS_KEYS, tlsOptions } from "../../../src/tls/options.ts";
import { isEncrypted } from "./bucket.ts";
import { type LakePlace, shownCatalog } from "./place.ts";
import type { LakeSinkOptions } from "./sink.ts";

/** Loads the extensions and, if the lake exists, attaches it and looks at the targets; creates nothing. */
export async function checkLake(
  options: LakeSinkOptions,
  signal: AbortSignal,
  tables: readonly CheckedTable[] = [],
): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `ducklake.lake.${options.name}`;
  const place = shownCatalog(options.place);
  try {
    const lake = await Lake.acquireExisting(options);
    if (lake === null) return [ok(id, `the lake ${place} will be made`)];
    return [
      ok(id, `the lake ${place} can be opened`),
      ...(await rulesOf(options.place, signal)),
      ...(await targetFindings(lake, { ...options, form: { ...options.form, isLake: true } }, tables, signal)),
    ];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [failed(id, atServer(known, place))];
  }
}

async function rulesOf({ bucket: settings }: LakePlace, signal: AbortSignal): Promise<readonly Finding[]> {
  if (settings === null) return [];
  const { bucketClient } = await import("../../kit/bucket-client.ts");
  const { bucketRules } = await import("../../kit/bucket-rules.ts");
  const { ca, endpoint } = settings;
  const agent = ca === undefined ? undefined : tlsOptions({ ...NO_TLS_KEYS, ca }, isEncrypted(endpoint));
  const client = bucketClient(settings, agent);
  const { bucket, prefix } = settings;
  const lost = "the lake loses them for good, and can't be read any more where they were";
  try {
    return await bucketRules(client, { id: "ducklake.bucket", bucket, prefix, lost }, signal);
  } finally {
    client.destroy();
  }
}

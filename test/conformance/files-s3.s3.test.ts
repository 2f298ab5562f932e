/**
 * The promises of a sink of files, where they lie in a bucket.
 *
 * @module-tag long
 */
import { definition, factory } from "../../connectors/files/config.ts";
import { FilesReader } from "../support/warehouses/files-reader.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { emptyBucket, freshBucket, mirrorBucket } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { rowsOfStream, type SinkTarget, sinkConformance, type StreamEntry } from "./sink.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";

sinkConformance({
  name: "files, in S3",
  target: async () => await bucketTarget(),
  landed: documentLanding,
  room: /^\//,
  transactional: true,
  isStream: true,
});

async function bucketTarget(): Promise<SinkTarget> {
  const bucket = await freshBucket();
  const path = `s3://${bucket.bucket}/changes`;
  const options = definition.parse({ path, format: "ndjson", roll: { rows: 1 }, s3: bucket.options });
  const readStream = async (tables: readonly TableVersion[]): Promise<readonly StreamEntry[]> => {
    using folder = temporaryFolder();
    await mirrorBucket(bucket, folder.path);
    return await new FilesReader(folder.file("changes")).stream(tables);
  };
  return {
    makeSink: () => factory.create({ name: "bronze", daemon: "shop", folder: "/", options }, quietLog),
    readRows: async (table) => rowsOfStream(await readStream([table]), table),
    readStream,
    wipe: () => emptyBucket(bucket),
    [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose](),
  };
}

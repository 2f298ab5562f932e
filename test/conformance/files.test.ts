import { definition, factory } from "../../connectors/files/config.ts";
import { FilesReader } from "../support/warehouses/files-reader.ts";
import { parquetLanding } from "../support/warehouses/files-landing.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { rowsOfStream, type SinkTarget, sinkConformance } from "./sink.ts";

for (const format of ["ndjson", "parquet"] as const) {
  sinkConformance({
    name: `files, ${format}`,
    target: async () => folderTarget(format),
    landed: format === "ndjson" ? documentLanding : parquetLanding,
    room: /^\//,
    transactional: true,
    isStream: true,
  });
}

function folderTarget(format: "ndjson" | "parquet"): SinkTarget {
  const folder = temporaryFolder();
  // Each batch becomes files at once.
  const options = definition.parse({ path: "changes", format, roll: { rows: 1 } });
  const reader = new FilesReader(folder.file("changes"));
  return {
    makeSink: () => factory.create({ name: "bronze", daemon: "shop", folder: folder.path, options }, quietLog),
    readRows: async (table) => rowsOfStream(await reader.stream([table]), table),
    readStream: (tables) => reader.stream(tables),
    wipe: () => reader.wipe(),
    [Symbol.asyncDispose]: async () => folder[Symbol.dispose](),
  };
}

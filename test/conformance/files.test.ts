import { definition, factory } from "../../connectors/files/config.ts";
import { FilesReader } from "../support/warehouses/files-reader.ts";
import { parquetLanding } from "../support/warehouses/files-landing.ts";
import { tableVersion } from "../support/model/blocks.ts";
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
    refusal: () => ({
      table: tableVersion({
        table: "halves",
        columns: [
          ["id", "int4"],
          ["v", "text"],
        ],
        key: ["id"],
      }),
      good: (i) => [`${i}`, "é"],
      // Half of a pair of surrogates, as a column of MySQL in `ucs2` can have.
      bad: (i) => [`${i}`, Uint8Array.of(0x61, 0xed, 0xa0, 0x80)],
    }),
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

/** The sink of docs/connectors.md: what a newcomer copies keeps the promises of every sink. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { definition, factory } from "../../examples/connector/config.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { fieldsOf, plainOf, readJson, spelledJson } from "../support/model/json-text.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { type SinkTarget, sinkConformance, type TargetRow } from "./sink.ts";

sinkConformance({
  name: "example: a JSON file",
  keepsAnyBytes: true,
  target: async () => fileTarget(),
  landed: documentLanding,
  transactional: true,
});

function fileTarget(): SinkTarget {
  const folder = temporaryFolder();
  const path = folder.file("rows.ndjson");
  const options = definition.parse({ path: "rows.ndjson" });
  return {
    makeSink: () => factory.create({ name: "file", daemon: "shop", folder: folder.path, options }, quietLog),
    readRows: async (table) => readRows(path, table),
    wipe: async () => rmSync(path, { force: true }),
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
    },
  };
}

/** By other means than the sink's own. */
function readRows(path: string, table: TableVersion): readonly TargetRow[] {
  const lines = existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n") : [];
  return lines
    .map((line) => fieldsOf(readJson(line)))
    .filter((line) => line.get("table") === table.id && line.has("row"))
    .map((line) => {
      const row = fieldsOf(line.get("row"));
      const cells = table.columns.map(({ name }) => row.get(name) ?? null);
      return {
        version: BigInt(plainOf(line.get("version"))),
        cells: cells.map((cell) => (cell === null ? null : spelledJson(cell))),
      };
    });
}

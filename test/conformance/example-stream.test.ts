/** The stream of docs/connectors.md: what a newcomer copies keeps the promises of every stream. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { definition, factory } from "../../examples/stream/config.ts";
import { fieldsOf, plainOf, readJson, spelledJson } from "../support/model/json-text.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { rowsOfStream, type SinkTarget, sinkConformance, type StreamEntry } from "./sink.ts";

sinkConformance({
  name: "example: a file of changes",
  target: async () => fileTarget(),
  landed: documentLanding,
  transactional: true,
  isStream: true,
  keepsAnyBytes: true,
});

function fileTarget(): SinkTarget {
  const folder = temporaryFolder();
  const path = folder.file("changes.ndjson");
  const options = definition.parse({ path: "changes.ndjson" });
  return {
    makeSink: () => factory.create({ name: "file", daemon: "shop", folder: folder.path, options }, quietLog),
    readRows: async (table) => rowsOfStream(readStream(path, [table]), table),
    readStream: async (tables) => readStream(path, tables),
    wipe: async () => rmSync(path, { force: true }),
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
    },
  };
}

/** By other means than the sink's own. */
function readStream(path: string, tables: readonly TableVersion[]): readonly StreamEntry[] {
  const lines = existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n") : [];
  const last = lines.findLastIndex((line) => line.startsWith('{"position"'));
  return lines.slice(0, last + 1).flatMap((text): readonly StreamEntry[] => {
    const line = fieldsOf(readJson(text));
    const number = (name: string) => BigInt(plainOf(line.get(name)));
    if (line.has("end")) return [{ kind: "end", version: number("end") }];
    if (line.has("truncate"))
      return [{ kind: "truncate", table: plainOf(line.get("truncate")), version: number("version") }];
    if (line.has("sweep")) return [{ kind: "sweep", table: plainOf(line.get("sweep")), below: number("below") }];
    if (!line.has("table")) return [];
    const table = tables.find(({ id }) => id === plainOf(line.get("table")));
    if (table === undefined) return [];
    const op = plainOf(line.get("op"));
    const row = fieldsOf(line.get("row"));
    const shown = op === "d" ? (table.key ?? []) : table.columns.keys();
    const cells = [...shown].map((c) => {
      const cell = row.get(table.columns[c]!.name);
      return cell == null ? cell : spelledJson(cell);
    });
    return [{ kind: "change", table: table.id, op, version: number("version"), index: Number(number("index")), cells }];
  });
}

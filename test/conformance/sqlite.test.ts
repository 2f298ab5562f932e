import { keptIn } from "../support/warehouses/duckdb-target.ts";
import { SQLITE_FORMS, sqliteLanding, sqliteRefusal, sqliteTarget } from "../support/warehouses/sqlite-target.ts";
import { sinkConformance } from "./sink.ts";

for (const form of SQLITE_FORMS) {
  sinkConformance({
    name: ["sqlite", keptIn(form)].join(" ").trim(),
    form,
    target: async () => sqliteTarget(form),
    landed: sqliteLanding,
    room: /^\//,
    transactional: true,
    namesMeet: true,
    refusal: sqliteRefusal,
  });
}

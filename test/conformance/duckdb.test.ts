import { landed } from "../support/warehouses/duckdb-landing.ts";
import { duckdbTarget, FORMS, keptIn, refusal } from "../support/warehouses/duckdb-target.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { SAME_IN_EACH_FORM, sinkConformance } from "./sink.ts";

// After a process that died: another connection, and the same rows.
sinkConformance({
  name: "duckdb in a process of its own",
  target: async () => duckdbTarget(undefined, { died: true }),
  landed,
  room: /^\//,
  transactional: true,
  ...(isLongForm() ? {} : { only: ["values", "rows", "fence"] }),
  heavy: ["values", "rows"],
  refusal,
});

for (const form of FORMS) {
  sinkConformance({
    name: ["duckdb", keptIn(form)].join(" ").trim(),
    form,
    // All forms of them are in `sqlite.test.ts`, which is fast: of the forms only what is written differs in DuckDB.
    heavy: form === DEFAULT_FORM ? [] : SAME_IN_EACH_FORM,
    target: async () => duckdbTarget(form),
    landed,
    room: /^\//,
    transactional: true,
    refusal,
  });
}

import { landed } from "../support/warehouses/duckdb-landing.ts";
import { duckdbTarget, FORMS, keptIn, refusal } from "../support/warehouses/duckdb-target.ts";
import { sinkConformance } from "./sink.ts";

for (const form of FORMS) {
  sinkConformance({
    name: ["duckdb", keptIn(form)].join(" ").trim(),
    form,
    target: async () => duckdbTarget(form),
    landed,
    transactional: true,
    refusal,
  });
}

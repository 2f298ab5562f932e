import { DEFAULT_FORM, type TargetForm } from "../../connectors/duckdb/tables/form.ts";
import { tableVersion } from "../support/blocks.ts";
import { landed } from "../support/duckdb-landing.ts";
import { duckdbTarget, keptIn } from "../support/duckdb-target.ts";
import { sinkConformance } from "./sink.ts";

const SOFT: TargetForm = { deletes: "soft", mode: "mirror" };
const HISTORY: TargetForm = { deletes: "hard", mode: "history" };

const documents = tableVersion({
  table: "documents",
  columns: [
    ["id", "int4"],
    ["body", "json"],
  ],
  key: ["id"],
});

for (const form of [DEFAULT_FORM, SOFT, HISTORY]) {
  sinkConformance({
    name: ["duckdb", keptIn(form)].join(" ").trim(),
    form,
    target: async () => duckdbTarget(form),
    landed,
    transactional: true,
    refusal: () => ({
      table: documents,
      good: (i) => [`${i}`, `{"n": ${i}}`],
      bad: (i) => [`${i}`, '{"a secret": '],
    }),
  });
}

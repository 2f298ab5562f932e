import { DEFAULT_FORM, type TargetForm } from "../../connectors/duckdb/tables/form.ts";
import { tableVersion } from "../support/blocks.ts";
import { landed } from "../support/duckdb-landing.ts";
import { keptIn } from "../support/duckdb-target.ts";
import { lakeTarget } from "../support/ducklake-target.ts";
import { isLongForm } from "../support/service-suffixes.ts";
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

/** The long form of a run has all of them. */
const KINDS = isLongForm()
  ? (["sqlite", "duckdb"] as const).flatMap((kind) => [DEFAULT_FORM, SOFT, HISTORY].map((form) => ({ kind, form })))
  : [{ kind: "sqlite", form: DEFAULT_FORM } as const];

for (const { kind, form } of KINDS) {
  sinkConformance({
    name: ["ducklake", kind, keptIn(form)].join(" ").trim(),
    form,
    target: async () => lakeTarget(kind, form),
    landed,
    transactional: true,
    // The code is that of the DuckDB sink.
    skipsShapes: !isLongForm(),
    refusal: () => ({
      table: documents,
      good: (i) => [`${i}`, `{"n": ${i}}`],
      bad: (i) => [`${i}`, '{"a secret": '],
    }),
  });
}

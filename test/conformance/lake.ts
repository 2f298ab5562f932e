/** The suite over a lake. A commit takes tens of milliseconds: the ordinary form of a run leaves parts of it out. */
import type { CatalogKind } from "../../connectors/duckdb/lake/place.ts";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/duckdb/tables/form.ts";
import { tableVersion } from "../support/blocks.ts";
import { landed } from "../support/duckdb-landing.ts";
import { keptIn } from "../support/duckdb-target.ts";
import { lakeTarget } from "../support/ducklake-target.ts";
import { isLongForm } from "../support/service-suffixes.ts";
import { type Part, sinkConformance } from "./sink.ts";

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

/** `parts`: what the ordinary form runs, of a mirror. */
export function lakeConformance(kind: CatalogKind, parts: readonly Part[]): void {
  const forms = isLongForm() ? [DEFAULT_FORM, SOFT, HISTORY] : [DEFAULT_FORM];
  for (const form of forms) {
    sinkConformance({
      name: ["ducklake", kind, keptIn(form)].join(" ").trim(),
      form,
      target: () => lakeTarget(kind, form),
      landed,
      transactional: true,
      ...(isLongForm() ? {} : { only: parts }),
      refusal: () => ({
        table: documents,
        good: (i) => [`${i}`, `{"n": ${i}}`],
        bad: (i) => [`${i}`, '{"a secret": '],
      }),
    });
  }
}

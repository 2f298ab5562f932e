/** The suite over a lake. A commit takes tens of milliseconds: the ordinary form of a run leaves parts of it out. */
import type { CatalogKind } from "../../connectors/duckdb/lake/place.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { FORMS, keptIn, refusal } from "../support/warehouses/duckdb-target.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";
import type { FreshBucket } from "../support/run/services.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { type Part, sinkConformance } from "./sink.ts";

/** `parts`: what the ordinary form runs, of a mirror. `bucket`: makes one for the data files. */
export function lakeConformance(kind: CatalogKind, parts: readonly Part[], bucket?: () => Promise<FreshBucket>): void {
  for (const [i, form] of FORMS.entries()) {
    sinkConformance({
      name: ["ducklake", kind, bucket === undefined ? "" : "in S3", keptIn(form)]
        .filter((part) => part !== "")
        .join(" "),
      form,
      target: async () => await lakeTarget(kind, form, await bucket?.()),
      landed,
      room: /^\//,
      transactional: true,
      ...(isLongForm() ? {} : { only: i === 0 ? parts : ["values"] }),
      // What is left out of a mirror is the same code as in a DuckDB file, which has it in `duckdb.test.ts`.
      heavy: i === 0 ? ["binary cells", "progress", "tables", "tenants"] : ["values"],
      refusal,
    });
  }
}

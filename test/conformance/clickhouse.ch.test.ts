import { afterAll, beforeAll, describe } from "vitest";
import type { RunningService } from "../../scripts/services/service.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { landed } from "../support/warehouses/clickhouse-values.ts";
import { ownClickhouse } from "../support/run/services.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { historyTests } from "./sink-history.ts";
import { softTests } from "./sink-soft.ts";
import { type KeptForm, sinkConformance, type SinkHarness } from "./sink.ts";

const FORMS: readonly KeptForm[] = [
  { deletes: "hard", mode: "mirror" },
  { deletes: "soft", mode: "mirror" },
  { deletes: "hard", mode: "history" },
];

/** Tests here take whatever database they like, and drop all of them. */
let server: RunningService;

beforeAll(async () => {
  server = await ownClickhouse();
});

afterAll(() => server[Symbol.asyncDispose]());

for (const form of FORMS) {
  const kept = form.mode === "history" ? "history" : form.deletes === "soft" ? "soft" : "";
  const harness: SinkHarness = {
    name: ["clickhouse", kept].join(" ").trim(),
    form,
    target: () => clickhouseTarget(form, server.url, true),
    landed: (column, text) => landed(column, text),
    room: /^\//,
    transactional: false,
    keepsAnyBytes: true,
    heavy: ["names", "tables", "tenants", "shapes", "compacted changes"],
  };
  // The forms share nearly all code: what is the same in each is tested in one, in the long form in all.
  if (kept === "" || isLongForm()) sinkConformance(harness);
  else
    describe(`sink ${harness.name}`, () => {
      if (kept === "soft") softTests(harness, form);
      else historyTests(harness);
    });
}

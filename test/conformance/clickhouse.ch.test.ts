import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningService } from "../../scripts/services/service.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { askClickhouse, landed } from "../support/warehouses/clickhouse-values.ts";
import { ownClickhouse } from "../support/run/services.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { historyTests } from "./sink-history.ts";
import { users } from "./sink-rows.ts";
import { hiding, softTests, sweep } from "./sink-soft.ts";
import { type KeptForm, sinkConformance, type SinkHarness } from "./sink.ts";
import { put, Stage } from "./stage.ts";

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
  if (form.mode === "mirror")
    test(`${harness.name}: what rules hide later is gone from rows that later ones replaced`, async () => {
      await using stage = await Stage.of(harness, users);
      await stage.write(users, 10n, [put(["1", "plain1", "note1"]), put(["2", "plain2", "note2"])]);
      await stage.write(users, 20n, [put(["1", "plain3", "note3"])]);
      const masked = hiding(2, { hides: "one", masks: { name: "redact" } });
      await stage.restart(masked);
      await stage.write(masked, 40n, [put(["1", "[redacted]", "note3"])]);
      await sweep(stage, masked, 40n, 41n);
      await stage.expectRows(masked, [["1", "[redacted]", "note3"]]);
      const rows = await askClickhouse(server.url, "SELECT id, name FROM public.users");
      expect(JSON.stringify(rows)).toContain("[redacted]");
      expect(JSON.stringify(rows)).not.toContain("plain");
    });
  // The forms share nearly all code: what is the same in each is tested in one, in the long form in all.
  if (kept === "" || isLongForm()) sinkConformance(harness);
  else
    describe(`sink ${harness.name}`, () => {
      if (kept === "soft") softTests(harness, form);
      else historyTests(harness);
    });
}

import { afterAll, beforeAll } from "vitest";
import type { RunningService } from "../../scripts/services/service.ts";
import { clickhouseTarget, landed } from "../support/clickhouse-target.ts";
import { ownClickhouse } from "../support/services.ts";
import { type KeptForm, sinkConformance } from "./sink.ts";

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
  const kept = form.mode === "history" ? " history" : form.deletes === "soft" ? " soft" : "";
  sinkConformance({
    name: `clickhouse${kept}`,
    form,
    target: () => clickhouseTarget(form, server.url),
    landed,
    transactional: false,
  });
}

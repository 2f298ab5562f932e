/** Documents without a list of columns follow the columns of their tables. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { Catalog } from "../../src/core/contracts/catalog.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { watchColumns } from "../../src/daemon/documents.ts";
import type { WantedDocument } from "../../src/documents/document.ts";
import { resolveDocuments } from "../../src/documents/resolve.ts";
import { tableVersion } from "../support/model/blocks.ts";

const NEVER = new AbortController().signal;

test.each(["retryable", "blocked"] as const)("they are looked at again after a failure that is %s", async (kind) => {
  const before = tableVersion({ table: "orders", columns: { id: "int8" } });
  const after = tableVersion({ table: "orders", columns: { id: "int8", note: "text" } });
  const wanted: WantedDocument = {
    name: "orders",
    where: null,
    root: {
      place: "root",
      from: "public.orders",
      columns: null,
      rename: {},
      relations: [],
      transform: null,
    },
  };
  const { documents } = resolveDocuments([wanted], {
    tables: [before],
    refused: [],
    foreignKeys: null,
    equalities: null,
  });
  let lookCount = 0;
  const tables = async () => {
    if (++lookCount === 1) throw new MillraceError({ code: "MR3213", kind, message: "the server's disk is full" });
    return { tables: [after], refused: [] };
  };
  const watching = watchColumns(
    { documents: [wanted] },
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    { catalog: { tables } as unknown as Catalog },
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of them
    {
      clock: { ...systemClock, sleep: async () => undefined },
      tables: { gate: { tables: [after] }, lackedBy: () => ({ read: new Set(), all: new Set() }) },
      documents: { lives: [] },
      nest: { resolvedFrom: [before], documents, tableIds: [before.id] },
      logger: SILENT,
    } as unknown as Parameters<typeof watchColumns>[2],
    NEVER,
  );
  await expect(watching).rejects.toMatchObject({ reason: "moved" });
  expect(lookCount).toBe(2);
});

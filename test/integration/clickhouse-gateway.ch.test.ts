/** ClickHouse behind a proxy that answers in its place. */
import { expect, test } from "vitest";
import { checkpointAt, patch, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { httpGateway, type Reply } from "../support/network/http-gateway.ts";
import { clickhouseUrl } from "../support/run/services.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";

const FOREIGN: readonly Reply[] = [
  { status: 200, headers: { "content-type": "text/html" }, body: "<html>Welcome</html>" },
  { status: 200, headers: {}, body: "" },
  { status: 200, headers: { "content-type": "application/json" }, body: '{"data":[]}' },
];

const STATEMENTS_MAX = 40;
const notes = tableVersion({ table: "notes", columns: { id: "int8", body: "text" } });

test.for(["mirror", "history"] as const)(
  "what something else answers with 200, to whichever statement of a %s, is not done",
  async (mode) => {
    const met = new Set<string>();
    let answers = false;
    await using gateway = await httpGateway(clickhouseUrl(), async ({ path, body, pass }) => {
      const query = new URL(path, "http://gateway").searchParams.get("query") ?? body.toString("latin1");
      const kind = query.slice(0, 40);
      if (!answers || met.has(kind)) return await pass();
      met.add(kind);
      return FOREIGN[met.size % FOREIGN.length]!;
    });
    await using target = await clickhouseTarget({ deletes: "hard", mode }, gateway.url);
    answers = true;
    const failed: string[] = [];
    const batches = [[put(["1", "a"])], [patch(["1", UNCHANGED]), put(["2", "b"])]];
    /** As the runtime does: what fails is done again from the opening on. */
    for (let lease = 1, isDone = false; !isDone; lease++) {
      const sink = await target.makeSink();
      try {
        const held = await sink.open(lease, timeout());
        const first = held === null ? 0 : Number(held.position.commit - 10n);
        await sink.prepare([notes], timeout());
        for (const [i, rows] of [...batches.entries()].slice(first)) {
          const at = 10n + BigInt(i);
          const checkpoint = checkpointAt(at + 1n, { [notes.id]: "rules" });
          await sink.apply({ ...rowsBatch(at, [notes, rows]), checkpoint }, new Reports(), timeout());
        }
        await sink.verify(timeout());
        expect(await sink.presence!.missing([notes], timeout())).toEqual([]);
        isDone = true;
      } catch (error) {
        const { code, kind } = findMillraceError(error) ?? {};
        if (code === undefined || failed.push(`${code} ${kind}`) > STATEMENTS_MAX) throw error;
      } finally {
        await sink.close();
      }
    }
    answers = false;
    // What only tidies up may fail.
    expect(met.size - failed.length).toBeLessThan(3);
    expect(failed.length).toBeGreaterThan(10);
    expect(new Set(failed)).toEqual(new Set(["MR2001 retryable"]));
    const rows = await target.query("SELECT id, body FROM public.notes FINAL ORDER BY id, _millrace_version");
    const expected =
      mode === "mirror"
        ? [
            ["1", "a"],
            ["2", "b"],
          ]
        : [
            ["1", "a"],
            ["1", "a"],
            ["2", "b"],
          ];
    expect(rows).toEqual(expected);
  },
);

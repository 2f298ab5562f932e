/** Freshness of a search index: a search finds the row, not only a look-up by its id. */
import { expect, test } from "vitest";
import type { FreshAnswer } from "../../../src/core/contracts/orders.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";

const COMMITS = 12;

test("no answer comes before a search finds the row, however seldom the index refreshes by itself", async () => {
  await using pipeline = await RunningPipeline.start("create table notes (id int primary key, note text)", {
    kinds: ["elasticsearch"],
    configure: (config) => ({
      ...config,
      sinks: { search: { ...config.sinks["elasticsearch"], refreshInterval: "-1" } },
    }),
  });
  const found = async (note: string): Promise<number> => {
    const path = `${elasticsearchUrl()}/${pipeline.sinks.indexPrefix}public.notes/_count?q=note:${note}`;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the engine's answer
    return ((await (await fetch(path)).json()) as { count: number }).count;
  };
  await Promise.all(
    Array.from({ length: COMMITS }, async (_, id) => {
      await pipeline.run(`insert into notes values (${id}, 'note${id}')`);
      const { rows } = await pipeline.source.query<{ token: string }>("select pg_current_wal_insert_lsn() as token");
      const query = new URLSearchParams({ at: rows[0]!.token, sink: "search", timeout: "60s" });
      const answer = await pipeline.installation.ask<FreshAnswer>("GET", `/api/v1/fresh?${query.toString()}`);
      expect({ ...answer, found: await found(`note${id}`) }).toMatchObject({ reached: true, found: 1 });
    }),
  );
});

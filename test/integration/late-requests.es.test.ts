/** A request that the search sink gave up reaches the engine after what the sink has written since. */
import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  failure,
  patch,
  checkpointAt,
  put,
  remove,
  Reports,
  rowsBatch,
  timeout,
  UNCHANGED,
} from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { httpGateway, lateGateway, type LateRequest } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { eventually } from "../support/run/waiting.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { freshIndexPrefix, searchEngines } from "../support/run/services.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });
/** The same table, whose `name` no mapping of the first index takes. */
const numbered = tableVersion({ table: "users", columns: { id: "int8", name: "int4" }, version: 2 });

const isBulk = (what: string): boolean => what.startsWith("POST /_bulk");
const isDeletion = (what: string): boolean => isBulk(what) && what.includes('{"delete":');

describe.each(searchEngines())("late requests to $name", ({ url }) => {
  async function scene() {
    const indices = freshIndexPrefix(url());
    const gateway = await lateGateway(url());
    const sinks: Sink[] = [];
    const { prefix } = indices;
    const opened = async (lease: number): Promise<Sink> => {
      const options = definition.parse({ url: gateway.url, prefix, replicas: 0 });
      const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
      sinks.push(sink);
      await sink.open(lease, timeout());
      return sink;
    };
    return {
      prefix,
      gateway,
      opened,
      async rows(table: TableVersion = users): Promise<string[]> {
        const found = await readDocuments(url(), prefix, table);
        return found.map(({ cells }) => cells.join(" ").replaceAll('"', "")).toSorted();
      },
      async indices(): Promise<string[]> {
        const { text } = await searchCall(url(), "GET", `/_cat/indices/${prefix}*?h=index&expand_wildcards=all`);
        return text.split("\n").filter(Boolean).toSorted();
      },
      async [Symbol.asyncDispose]() {
        for (const sink of sinks) await sink.close();
        await gateway[Symbol.asyncDispose]();
        await indices[Symbol.asyncDispose]();
      },
    };
  }

  const apply = (sink: Sink, batch: Batch): Promise<void> => sink.apply(batch, new Reports(), timeout());

  /** The sink gives the batch up, and applies it again. */
  async function givenUp(sink: Sink, batch: Batch, late: LateRequest): Promise<void> {
    expect((await failure(apply(sink, batch))).kind).toBe("retryable");
    await late.lost;
    await apply(sink, batch);
  }

  test("a TRUNCATE of the transaction that filled the table again removes none of its rows", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a"]), put(["2", "b"])]]));
    const late = at.gateway.lose(isDeletion);
    const version = rowVersion(1, 20n);
    await givenUp(sink, { kind: "truncate", table: users, version, checkpoint: checkpointAt(20n) }, late);
    await apply(sink, rowsBatch(20n, [users, [put(["1", "A"]), put(["2", "B"])]]));
    await late.deliver();
    expect(await at.rows()).toEqual(["1 A", "2 B"]);
  });

  test("of two batches of a transaction the first does not come back", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    const late = at.gateway.lose(isBulk);
    await givenUp(sink, rowsBatch(10n, [users, [put(["1", "first"]), put(["2", "first"])]]), late);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "second"]), remove(["2", null])]]));
    await late.deliver();
    expect(await at.rows()).toEqual(["1 second"]);
  });

  test("rows that were deleted before a type changed do not come back in the next index", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    const late = at.gateway.lose(isBulk);
    await givenUp(sink, rowsBatch(10n, [users, [put(["1", "7"]), put(["2", "8"])]]), late);
    await apply(sink, rowsBatch(20n, [users, [remove(["1", null])]]));
    await sink.prepare([numbered], timeout());
    await apply(sink, rowsBatch(30n, [numbered, [put(["2", "8"])]]));
    await apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(31n, { "public.users": "rules" }) });
    await late.deliver();
    expect(await at.rows(numbered)).toEqual(["2 8"]);
    expect(await at.indices()).toEqual([`${at.prefix}millrace-progress`, `${at.prefix}public.users-000002`]);
  });

  test("rows whose deletion the engine has forgotten do not come back", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    const settings = JSON.stringify({ "index.gc_deletes": "1ms" });
    await searchCall(url(), "PUT", `/${at.prefix}public.users/_settings`, settings);
    const late = at.gateway.lose(isBulk);
    await givenUp(sink, rowsBatch(10n, [users, [put(["1", "a"])]]), late);
    await apply(sink, rowsBatch(20n, [users, [remove(["1", null])]]));
    await apply(sink, rowsBatch(30n, [users, [put(["2", "b"])]]));
    await searchCall(url(), "POST", `/${at.prefix}public.users/_refresh`);
    await late.deliver();
    expect(await at.rows()).toEqual(["2 b"]);
  });

  test("what a process sent before another took its sink over does not come after it", async () => {
    await using at = await scene();
    const first = await at.opened(1);
    await first.prepare([users], timeout());
    await apply(first, rowsBatch(10n, [users, [put(["1", "a"]), put(["2", "b"])]]));
    const late = at.gateway.lose(isBulk);
    await failure(apply(first, rowsBatch(20n, [users, [put(["1", "first"]), put(["2", "first"])]])));
    await late.lost;
    const second = await at.opened(2);
    await second.prepare([users], timeout());
    await apply(second, rowsBatch(20n, [users, [put(["1", "second"]), remove(["2", null])]]));
    await late.deliver();
    expect(await at.rows()).toEqual(["1 second"]);
    // The first one, which only slept, writes nothing either.
    expect((await failure(apply(first, rowsBatch(20n, [users, [put(["1", "first"])]])))).code).toBe("MR3109");
    await apply(second, rowsBatch(30n, [users, [put(["3", "c"])]]));
    expect(await at.rows()).toEqual(["1 second", "3 c"]);
  });

  test("a deletion that comes after its index is gone makes no other one", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a"])]]));
    const late = at.gateway.lose(isDeletion);
    await failure(apply(sink, rowsBatch(20n, [users, [remove(["1", null])]])));
    await searchCall(url(), "DELETE", `/${at.prefix}public.users-000001`);
    await late.deliver();
    expect(await at.indices()).toEqual([`${at.prefix}millrace-progress`]);
    // Nor does one that comes in time.
    const lost = await failure(apply(sink, rowsBatch(20n, [users, [remove(["1", null])]])));
    expect([lost.code, lost.kind]).toEqual(["MR3110", "reopen"]);
    expect(await at.indices()).toEqual([`${at.prefix}millrace-progress`]);
  });

  test("an index that was made since is not dropped by a request for the one before it", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(20n, [users, [put(["1", "foreign"])]]));
    const late = at.gateway.lose((what) => what.startsWith("DELETE /"));
    await failure(sink.rows!.expel([users], rowVersion(1, 10n), timeout()));
    await late.lost;
    await sink.rows!.expel([users], rowVersion(1, 10n), timeout());
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(30n, [users, [put(["1", "a"])]]));
    await late.deliver();
    expect(await at.rows()).toEqual(["1 a"]);
    await sink.verify(timeout());
  });

  test("nor is the next one, of which nothing was recorded", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "7"])]]));
    const isRecord = (what: string): boolean => what.includes("millrace-progress/_bulk");
    const unrecorded = at.gateway.lose(isRecord);
    await failure(sink.prepare([numbered], timeout()));
    await unrecorded.lost;
    const late = at.gateway.lose((what) => what.startsWith("DELETE /"));
    await failure(sink.prepare([numbered], timeout()));
    await late.lost;
    const before = at.gateway.lose((what) => what.startsWith("PUT /") && what.includes("users-"));
    await failure(sink.prepare([numbered], timeout()));
    await before.lost;
    await sink.prepare([numbered], timeout());
    await apply(sink, rowsBatch(20n, [numbered, [put(["1", "7"])]]));
    await late.deliver();
    await before.deliver();
    await sink.verify(timeout());
    await apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(31n, { "public.users": "rules" }) });
    expect(await at.rows(numbered)).toEqual(["1 7"]);
    await sink.verify(timeout());
    await sink.prepare([users], timeout());
  });

  test("after a teardown nothing that comes late is written", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a"])]]));
    const late = at.gateway.lose(isBulk);
    await failure(apply(sink, rowsBatch(20n, [users, [patch(["1", UNCHANGED]), put(["2", "b"])]])));
    await sink.forget(timeout());
    await late.deliver();
    expect(await at.rows()).toEqual(["1 a"]);
    const { text } = await searchCall(url(), "GET", `/${at.prefix}public.users-000001/_alias`);
    expect(text).not.toContain("WRITE");
  });

  test("the sink waits until the engine has ended what another process had sent", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    // Nobody can hold this shard, so the engine keeps the request for as long as it says.
    const body = JSON.stringify({ settings: { "index.routing.allocation.require._name": "nobody" } });
    await searchCall(url(), "PUT", `/${at.prefix}held?timeout=0s`, body);
    const running = fetch(`${url()}/${at.prefix}held/_doc/1?timeout=2s`, {
      method: "PUT",
      headers: { "content-type": "application/json", "x-opaque-id": `millrace ${at.prefix}/shop/search before` },
      body: "{}",
    }).then(async (answer) => ({ at: performance.now(), text: await answer.text() }));
    await eventually(async () => {
      const { text } = await searchCall(url(), "GET", "/_tasks?actions=indices:*&group_by=none");
      return text.includes(`millrace ${at.prefix}/shop/search before`);
    });
    await sink.close();
    const second = await at.opened(2);
    await second.prepare([users], timeout());
    await apply(second, rowsBatch(10n, [users, [put(["1", "a"])]]));
    const writtenAt = performance.now();
    expect((await running).at).toBeLessThan(writtenAt);
  });

  test("an index that an earlier request makes meanwhile is the sink's own", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    let before: (() => Promise<unknown>) | null = null;
    let madeCount = 0;
    await using gateway = await httpGateway(url(), async ({ method, path, pass }) => {
      if (method !== "PUT" || !path.includes("users-000001")) return await pass();
      // The first gets no answer; it is carried out between the second one's look and the second one.
      if (++madeCount === 1) {
        before = pass;
        return "lost";
      }
      await before?.();
      return await pass();
    });
    const options = definition.parse({ url: gateway.url, prefix, replicas: 0 });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(1, timeout());
    expect((await failure(sink.prepare([users], timeout()))).kind).toBe("retryable");
    expect((await failure(sink.prepare([users], timeout()))).kind).toBe("retryable");
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a"])]]));
    expect((await readDocuments(url(), prefix, users)).map(({ cells }) => cells.join(" "))).toEqual(['1 "a"']);
    await sink.close();
  });

  test("an index that has forgotten deleted documents once does not go on forgetting them", async () => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a"]), put(["2", "b"])]]));
    await apply(sink, rowsBatch(20n, [users, [remove(["1", null])]]));
    const late = at.gateway.lose((what) => what.includes("/_settings") && what.includes('"0s"'));
    await failure(sink.rows!.expel([users], rowVersion(1, 30n), timeout()));
    await late.lost;
    await sink.rows!.expel([users], rowVersion(1, 30n), timeout());
    expect((await late.deliver()).status).toBe(404);
    const { text } = await searchCall(url(), "GET", `/${at.prefix}public.users*/_settings?flat_settings=true`);
    expect(text).toContain('"index.gc_deletes":"1h"');
  });

  test("an index forgets documents that were deleted just now, too, and is not created again", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const deleted = `/${prefix}public.users-000001/_doc/just-now?version_type=external_gte&version=`;
    let at = 0n;
    await using gateway = await httpGateway(url(), async ({ path, body, pass }) => {
      if (path.endsWith("/_settings") && body.includes('"0s"')) await searchCall(url(), "DELETE", `${deleted}${at}`);
      return await pass();
    });
    const options = definition.parse({ url: gateway.url, prefix, replicas: 0 });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
    for (at = 10n; at < 60n; at += 10n) {
      await apply(sink, rowsBatch(at, [users, [remove(["1", null])]]));
      await sink.rows!.expel([users], rowVersion(1, 100n), timeout());
      await sink.verify(timeout());
    }
    const { text } = await searchCall(url(), "GET", `/_cat/indices/${prefix}public*?h=index&expand_wildcards=all`);
    expect(text.trim()).toBe(`${prefix}public.users-000001`);
    await sink.close();
  });

  test("behind a proxy that drops the mark of requests it writes nothing", async () => {
    await using indices = freshIndexPrefix(url());
    await using gateway = await httpGateway(url(), async ({ headers, pass }) => {
      const { "x-opaque-id": _, ...others } = headers;
      return await pass({ headers: others });
    });
    const options = definition.parse({ url: gateway.url, prefix: indices.prefix, replicas: 0 });
    const make = () => factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    const first = await make();
    await first.open(1, timeout());
    await first.prepare([users], timeout());
    await first.close();
    const sink = await make();
    await sink.open(2, timeout());
    await sink.prepare([users], timeout());
    const refused = await failure(apply(sink, rowsBatch(10n, [users, [put(["1", "a"])]])));
    expect(refused).toMatchObject({ code: "MR2005", kind: "blocked" });
    await sink.close();
  });
});

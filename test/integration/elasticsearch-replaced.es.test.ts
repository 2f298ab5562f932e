/**
 * Indices that somebody restores, clones, copies or puts in each other's place: the table is read again, or what is wrong is
 * told.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshIndexPrefix, searchEngines } from "../support/run/services.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });

type Call = (method: string, path: string, body?: object) => Promise<string>;
type Copy = (call: Call, from: string, to: string) => Promise<void>;
const SEARCHED = z.object({
  hits: z.object({ hits: z.array(z.object({ _id: z.string(), _source: z.looseObject({}) })) }),
});
type Change = (
  call: Call,
  names: { readonly index: string; readonly alias: string; readonly snapshot: string },
) => Promise<void>;

/** With its mapping; aliases stay. */
const cloned: Copy = async (call, from, to) => {
  await call("PUT", `/${from}/_settings`, { "index.blocks.write": true });
  await call("PUT", `/${from}/_clone/${to}?wait_for_active_shards=1`, { settings: { "index.blocks.write": null } });
  await call("PUT", `/${from}/_settings`, { "index.blocks.write": null });
};

/** As reindexing leaves it: documents alone. */
const copied: Copy = async (call, from, to) => {
  await call("POST", `/${from}/_refresh`);
  const found = SEARCHED.parse(JSON.parse(await call("GET", `/${from}/_search`)));
  for (const { _id: id, _source: source } of found.hits.hits)
    await call("PUT", `/${to}/_doc/${id}?refresh=true`, source);
};

const CHANGES: readonly (readonly [what: string, told: "read again" | "MR3106", change: Change])[] = [
  [
    "restored from a snapshot after it was dropped",
    "read again",
    async (call, { index, snapshot }) => {
      await call("DELETE", `/${index}`);
      await call("POST", `${snapshot}/_restore?wait_for_completion=true`, {
        indices: index,
        include_global_state: false,
      });
    },
  ],
  [
    "restored over its closed self",
    "read again",
    async (call, { index, snapshot }) => {
      await call("POST", `/${index}/_close`);
      await call("POST", `${snapshot}/_restore?wait_for_completion=true`, {
        indices: index,
        include_global_state: false,
      });
    },
  ],
  [
    "restored under another name, to which its alias moved",
    "read again",
    async (call, { index, alias, snapshot }) => {
      const of = { indices: index, include_global_state: false, include_aliases: false };
      await call("POST", `${snapshot}/_restore?wait_for_completion=true`, {
        ...of,
        rename_pattern: "(.+)-000001",
        rename_replacement: "$1-000007",
      });
      const actions = [
        { remove: { index, alias } },
        { add: { index: index.replace("000001", "000007"), alias, is_write_index: true } },
      ];
      await call("POST", "/_aliases", { actions });
    },
  ],
  [
    "a clone under the same name",
    "read again",
    async (call, { index, alias }) => {
      await cloned(call, index, `${index}-copy`);
      await call("DELETE", `/${index}`);
      await cloned(call, `${index}-copy`, index);
      await call("POST", "/_aliases", { actions: [{ add: { index, alias, is_write_index: true } }] });
    },
  ],
  [
    "left for a clone, to which its alias moved",
    "read again",
    async (call, { index, alias }) => {
      await cloned(call, index, `${index}-copy`);
      const actions = [{ remove: { index, alias } }, { add: { index: `${index}-copy`, alias, is_write_index: true } }];
      await call("POST", "/_aliases", { actions });
    },
  ],
  [
    "reindexed by hand under the same name",
    "MR3106",
    async (call, { index, alias }) => {
      await copied(call, index, `${index}-copy`);
      await call("DELETE", `/${index}`);
      await call("PUT", `/${index}`, { aliases: { [alias]: {} } });
      await copied(call, `${index}-copy`, index);
    },
  ],
  [
    "left for a copy, to which its alias moved",
    "MR3106",
    async (call, { index, alias }) => {
      await copied(call, index, `${index}-copy`);
      const actions = [{ remove: { index, alias } }, { add: { index: `${index}-copy`, alias } }];
      await call("POST", "/_aliases", { actions });
    },
  ],
  [
    "left for a copy that has the alias's name",
    "MR3106",
    async (call, { index, alias }) => {
      await copied(call, index, `${index}-copy`);
      await call("POST", "/_aliases", { actions: [{ remove: { index, alias } }] });
      await copied(call, `${index}-copy`, alias);
    },
  ],
];

describe.each(searchEngines())("$name", ({ url }) => {
  const call: Call = async (method, path, body) => {
    const { status, text } = await searchCall(url(), method, path, body && JSON.stringify(body));
    expect({ text, isDone: status < 300 }).toEqual({ text, isDone: true });
    return text;
  };

  async function scene() {
    const indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const repository = `/_snapshot/${prefix}kept`;
    await call("PUT", repository, { type: "fs", settings: { location: `${prefix}kept` } });
    const options = definition.parse({ url: url(), prefix, replicas: 0 });
    const make = (): Promise<Sink> | Sink =>
      factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    return {
      prefix,
      make,
      names: { index: `${prefix}public.users-000001`, alias: `${prefix}public.users`, snapshot: `${repository}/one` },
      rows: async () => (await readDocuments(url(), prefix, users)).map(({ cells }) => cells.join(" ")).toSorted(),
      async [Symbol.asyncDispose]() {
        await searchCall(url(), "DELETE", repository);
        await indices[Symbol.asyncDispose]();
      },
    };
  }

  const write = async (sink: Sink, at: bigint, ...rows: readonly (readonly [string, string])[]): Promise<void> => {
    const batch = rowsBatch(at, [users, rows.map((row) => put([...row]))]);
    await sink.apply(
      { ...batch, checkpoint: checkpointAt(at + 1n, { [users.id]: "rules" }) },
      new Reports(),
      timeout(),
    );
  };

  for (const [what, told, change] of CHANGES)
    test.each(["up", "down"])(`an index that is ${what}, while the sink is %s`, async (state) => {
      await using at = await scene();
      let sink = await at.make();
      await sink.open(1, timeout());
      await sink.prepare([users], timeout());
      await write(sink, 10n, ["1", "old"], ["2", "old"]);
      const { index, snapshot } = at.names;
      await call("PUT", `${snapshot}?wait_for_completion=true`, { indices: index, include_global_state: false });
      await write(sink, 20n, ["1", "new"], ["3", "new"]);
      if (state === "down") await sink.close();
      await change(call, at.names);
      if (state === "up") {
        // A batch may still be written, or finds it.
        await write(sink, 30n, ["4", "beside"]).catch((error: unknown) =>
          expect(error).toMatchObject({ code: "MR3110", kind: "reopen" }),
        );
        expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3110", kind: "reopen" });
      } else {
        sink = await at.make();
      }
      const held = await sink.open(2, timeout());
      expect(Object.keys(held?.tables ?? {})).toEqual([]);
      expect(await sink.presence!.missing([users], timeout())).toEqual([users]);
      if (told === "MR3106") {
        expect(await failure(sink.prepare([users], timeout()))).toMatchObject({ code: "MR3106" });
      } else {
        await sink.prepare([users], timeout());
        await write(sink, 40n, ["1", "new"], ["2", "old"], ["3", "new"], ["4", "beside"]);
        expect(await at.rows()).toEqual(['1 "new"', '2 "old"', '3 "new"', '4 "beside"']);
        await sink.verify(timeout());
      }
      await sink.close();
    });
});

/**
 * Of a sink's work each request in turn is lost on its way, and comes after the next step, and once more at the end.
 * @module-tag long
 */
import { expect, test } from "vitest";
import * as clickhouse from "../../connectors/clickhouse/config.ts";
import * as elasticsearch from "../../connectors/elasticsearch/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { checkpointAt, patch, put, remove, Reports, rowsBatch, timeout, UNCHANGED } from "../conformance/stage.ts";
import { readDocuments } from "../support/caches/search-rows.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { type LateGateway, lateGateway } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { clickhouseUrl, freshColumns, freshIndexPrefix, searchEngines } from "../support/run/services.ts";
import { askClickhouse } from "../support/warehouses/clickhouse-values.ts";

const first = tableVersion({ table: "users", columns: { id: "int8", name: "text", note: "text" } });
/** No mapping or column of the first shape takes it. */
const numbered = tableVersion({ table: "users", columns: { id: "int8", name: "int4", note: "text" }, version: 2 });
const wide = tableVersion({
  table: "users",
  columns: { id: "int8", name: "int4", note: "text", more: "text" },
  version: 3,
});
const COMPLETE = { [first.id]: "rules" };

const STEPS: readonly (readonly [TableVersion, Batch])[] = [
  [first, rowsBatch(10n, [first, [put(["1", "7", "x"]), put(["2", "8", "x"]), put(["3", "9", "x"])]])],
  [first, { kind: "checkpoint", checkpoint: checkpointAt(12n, COMPLETE) }],
  [first, rowsBatch(20n, [first, [put(["1", "70", "y"]), remove(["2", null, null]), patch(["3", "90", UNCHANGED])]])],
  [numbered, rowsBatch(30n, [numbered, [put(["1", "70", "z"]), put(["3", "90", "x"]), put(["4", "5", "n"])]])],
  [numbered, { kind: "checkpoint", checkpoint: checkpointAt(32n, COMPLETE) }],
  [
    numbered,
    {
      kind: "truncate",
      table: numbered,
      version: rowVersion(1, 40n),
      checkpoint: checkpointAt(40n, COMPLETE, 1),
    },
  ],
  [numbered, rowsBatch(40n, [numbered, [put(["1", "1", "r"]), put(["5", "5", "r"])]])],
  [wide, rowsBatch(50n, [wide, [put(["1", "2", "r", "m"]), put(["6", "6", "r", "m"]), put(["7", "7", "r", "m"])]])],
  [
    wide,
    { kind: "sweep", sweeps: [{ table: wide, below: rowVersion(1, 50n) }], checkpoint: checkpointAt(52n, COMPLETE) },
  ],
  [wide, rowsBatch(60n, [wide, [remove(["6", null, null, null]), put(["7", "8", "q", "m"])]])],
];
const ROWS: readonly string[] = ["1 2 r m", "7 8 q m"];
const TRIES_MAX = 5;

interface Scene extends AsyncDisposable {
  readonly gateway: LateGateway;
  make(): Promise<Sink>;
  rows(): Promise<readonly string[]>;
}

/** Requests that change something, by method, path and body. */
type IsChange = (what: string) => boolean;

/** Null: there are not so many requests. */
async function withoutRequest(scene: Scene, number: number, isChange: IsChange, isNext: boolean) {
  let count = 0;
  let isLost = false;
  const late = scene.gateway.lose((what) => isChange(what) && count++ === number);
  void late.lost.then(() => (isLost = true));
  let lease = 1;
  let sink = await scene.make();
  let isOpen = false;
  const attempt = async ([table, batch]: (typeof STEPS)[number]): Promise<void> => {
    if (!isOpen) await sink.open(lease, timeout());
    isOpen = true;
    await sink.prepare([table], timeout());
    await sink.apply(batch, new Reports(), timeout());
  };
  let stepsSince = 0;
  try {
    for (const step of STEPS) {
      for (let tries = 1; ; tries++) {
        try {
          await attempt(step);
          break;
        } catch (error) {
          if (tries === TRIES_MAX) throw error;
          if (isNext && isLost && lease === 1) {
            await sink.close();
            sink = await scene.make();
            lease++;
            isOpen = false;
          } else if (findMillraceError(error)?.kind === "reopen") isOpen = false;
        }
      }
      if (isLost && ++stepsSince === 2) await late.deliver();
    }
    if (!isLost) return null;
    await late.deliver();
    await sink.verify(timeout());
    return await scene.rows();
  } finally {
    await sink.close();
  }
}

async function eachInTurn(scene: () => Promise<Scene>, isChange: IsChange, wanted = ROWS): Promise<void> {
  for (let number = 0; ; number++)
    for (const isNext of [false, true]) {
      await using at = await scene();
      const rows = await withoutRequest(at, number, isChange, isNext);
      if (rows === null) {
        expect(number).toBeGreaterThan(STEPS.length);
        return;
      }
      expect({ number, isNext, rows }).toEqual({ number, isNext, rows: wanted });
    }
}

test.each(searchEngines())("$name", async ({ url }) => {
  const asks = /^(?:GET|HEAD) |\/_(?:search|mget|count|refresh)\b/;
  await eachInTurn(
    async () => {
      const indices = freshIndexPrefix(url());
      const gateway = await lateGateway(url());
      const { prefix } = indices;
      const options = elasticsearch.definition.parse({ url: gateway.url, prefix, replicas: 0 });
      return {
        gateway,
        make: async () =>
          await elasticsearch.factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog),
        rows: async () =>
          (await readDocuments(url(), prefix, wide)).map(({ cells }) => cells.join(" ").replaceAll('"', "")).toSorted(),
        async [Symbol.asyncDispose]() {
          await gateway[Symbol.asyncDispose]();
          await indices[Symbol.asyncDispose]();
        },
      };
    },
    (what) => !asks.test(what.split("\n")[0] ?? ""),
  );
});

/** What is deleted stays, with its last values and a mark. */
const SOFT_ROWS = ["1 2 r m 0", "2 8 x  1", "3 90 x  1", "4 5 n  1", "5 5 r  1", "6 6 r m 1", "7 8 q m 0"];

test.for([
  ["hard", ROWS],
  ["soft", SOFT_ROWS],
] as const)("clickhouse, %s deletes", async ([deletes, rows]) => {
  const change = /^[^\n]*\n\s*(?:INSERT|ALTER|CREATE|DROP|TRUNCATE|EXCHANGE|RENAME|DELETE)\b/;
  await eachInTurn(
    async () => {
      const columns = freshColumns();
      const gateway = await lateGateway(clickhouseUrl());
      const { prefix } = columns;
      const options = clickhouse.definition.parse({ url: gateway.url, fsync: false, schema: prefix, deletes });
      const select =
        deletes === "soft"
          ? `SELECT id, name, note, more, _millrace_deleted FROM ${prefix}.users FINAL ORDER BY id`
          : `SELECT id, name, note, more FROM ${prefix}.users_current ORDER BY id`;
      return {
        gateway,
        make: async () =>
          await clickhouse.factory.create({ name: prefix, daemon: "shop", folder: "/", options }, quietLog),
        rows: async () => (await askClickhouse(clickhouseUrl(), select)).map((row) => row.join(" ")),
        async [Symbol.asyncDispose]() {
          await columns[Symbol.asyncDispose]();
          await gateway[Symbol.asyncDispose]();
        },
      };
    },
    (what) => change.test(what),
    rows,
  );
});

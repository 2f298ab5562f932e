/**
 * What a comparison of documents must not overlook: another order, bare values, what lies below a limit, what a function made. In
 * the sinks, and in the nest itself.
 * @module-tag heavy
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { searchCall } from "../../support/caches/search-rows.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";

const TABLES = `create table carts (id int primary key, note text, held timestamptz);
  create table lines (id int primary key, cart int references carts, grade int, price numeric(10,2), label text);
  insert into carts select g, 'cart ' || g, '2024-01-01' from generate_series(1, 12) g;
  insert into lines select g, 1 + g % 12, g % 5, g * 1.10, 'l' || g from generate_series(1, 72) g`;

const FUNCTIONS = `import type { Document } from "millrace/rules";
export const cart = (cart: Document): Document => {
  const lines = cart.lines as readonly { price: string }[];
  return { ...cart, total: lines.reduce((sum, { price }) => sum + Number(price), 0).toFixed(2) };
};
`;

interface Cart {
  readonly lines: readonly object[];
  readonly labels: readonly (string | null)[];
  readonly total: string;
}

/** By the cart's id: what is planted, and where it must be found. */
const PLANTED: Readonly<Record<number, readonly [(cart: Cart) => Partial<Cart>, string]>> = {
  1: [({ lines: [a, b, ...rest] }) => ({ lines: [b!, a!, ...rest] }), "lines[0].id"],
  2: [({ labels: [a, b, ...rest] }) => ({ labels: [b!, a!, ...rest] }), "labels[0]"],
  3: [({ lines }) => ({ lines: [...lines, lines[0]!] }), "lines[3]"],
  4: [() => ({ total: "0.01" }), "total"],
  5: [({ labels }) => ({ labels: labels.slice(0, -1) }), "labels[5]"],
  6: [({ labels }) => ({ labels: labels.with(2, null) }), "labels[2]"],
  7: [({ lines }) => ({ lines: lines.with(1, { ...lines[1], price: "1.1" }) }), "lines[1].price"],
  8: [() => ({ lines: [] }), "lines[0]"],
};

test("another order, bare values, rows below a limit, and results of functions", async () => {
  using folder = temporaryFolder();
  const file = folder.file("carts.ts");
  writeFileSync(file, FUNCTIONS);
  const rows = { from: "public.lines", many: true };
  await using pipeline = await RunningPipeline.start(TABLES, {
    kinds: ["redis", "elasticsearch", "postgres", "duckdb"],
    configure: (config) => ({
      ...config,
      documents: {
        carts: {
          from: "public.carts",
          columns: ["note"],
          with: {
            lines: { ...rows, columns: ["id", "price"], orderBy: ["-grade"], limit: 3 },
            labels: { ...rows, value: "label", orderBy: ["grade", "-id"] },
          },
          transform: { value: `${file}#cart`, fields: { total: "decimal(12,2)" } },
        },
      },
      sinks: Object.fromEntries(
        Object.entries(config.sinks).map(([name, sink]) => [
          name,
          { ...sink, documents: ["carts"], ...(name === "redis" ? { format: "json" } : {}) },
        ]),
      ),
    }),
  });
  const { installation, sinks, source } = pipeline;
  await pipeline.settled();
  const warehouse = sinks.target!;
  const { rows: made } = await warehouse.query<Cart & { id: number }>(
    "select id, lines, labels, total::text as total from documents.carts order by id",
  );
  const planted = made.flatMap((cart) => {
    const change = PLANTED[cart.id]?.[0](cart);
    return change === undefined ? [] : [{ id: cart.id, change }];
  });
  await pipeline.daemon.stop();
  using cache = pipeline.cache();
  for (const { id, change } of planted) {
    const key = `${sinks.keyPrefix}carts:${id}`;
    await cache.set(key, JSON.stringify({ ...JSON.parse((await cache.get(key)) ?? ""), ...change }));
    const path = `/${sinks.indexPrefix}carts/_update/${id}?refresh=true`;
    const { status, text } = await searchCall(elasticsearchUrl(), "POST", path, JSON.stringify({ doc: change }));
    expect({ id, status, text }).toMatchObject({ status: 200 });
  }
  const statements = planted.flatMap(({ id, change }) =>
    Object.entries(change).map(([column, value]) => {
      const literal = `'${typeof value === "string" ? value : JSON.stringify(value)}'`;
      return `update documents.carts set ${column} = ${literal} where id = ${id}`;
    }),
  );
  for (const sql of statements) await warehouse.query(sql);
  await runInFile(join(installation.folder, "warehouse.duckdb"), statements.join("; "));
  await pipeline.start();
  const wanted = Object.entries(PLANTED).map(([id, [, place]]) => `documents.carts ${id} different ${place}`);
  const { exitCode, found } = await reconcile(installation, "--repair", "--patience", "10s", "--tables", "documents.*");
  expect({ exitCode, drift: driftOf(found) }).toEqual({
    exitCode: 3,
    drift: {
      redis: wanted,
      // Written with a version of the index's own.
      elasticsearch: wanted.map((line) => `${line} _version`),
      postgres: wanted,
      duckdb: wanted,
    },
  });
  await pipeline.settled();
  expect(driftOf((await reconcile(installation)).found)).toEqual({});

  {
    using nest = new DatabaseSync(join(installation.folder, `.millrace/${source.name}-documents.db`));
    nest.exec(
      `update "public.lines" set grade = -1 where id = 12; update "public.lines" set label = label || '!' where id = 13`,
    );
  }
  const deep = await reconcile(installation, "--deep", "--tables", "documents.*");
  expect(driftOf(deep.found)["documents"]).toEqual([
    expect.stringMatching(/^documents\.carts 1 different .*labels\[/),
    expect.stringMatching(/^documents\.carts 2 different labels\[\d\]$/),
  ]);
});

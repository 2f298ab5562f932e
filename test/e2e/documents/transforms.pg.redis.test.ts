/** Documents that functions of the user's make: the same by copy, stream and comparison as the source's own SQL says. */
import { writeFileSync } from "node:fs";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { documentsInRedis, expectSame, SHOP_TABLES } from "../../support/documents/shop-documents.ts";
import { redisUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const CANARY = "Kanarienvogel";

const FUNCTIONS = `import type { Document } from "millrace/rules";

interface Item extends Document { readonly quantity: number }
interface Order extends Document { readonly status: string; readonly items: readonly Item[]; readonly tags: readonly string[] }

export function order(document: Order): Document | null {
  if (document.status === "hidden") return null;
  if (document.status === "broken") throw new TypeError("no " + JSON.stringify(document));
  const pieces = document.items.reduce((sum, { quantity }) => sum + quantity, 0);
  return { ...document, status: document.status.toUpperCase(), tags: document.tags.length, pieces };
}

export const item = (item: Item): Document | null => (item.quantity === 0 ? null : { ...item, heavy: item.quantity > 3 });
`;

const ROWS = `insert into customers select g, 'c' || g, null, null from generate_series(1, 5) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 5, case when g % 10 = 0 then 'hidden' else 'new' end, g * 1.5 from generate_series(1, 200) g;
  insert into order_items select o, l, 1 + (o + l) % 10, (o + l) % 6 from generate_series(1, 200) o, generate_series(1, 3) l;
  insert into order_tags select o, 1 + o % 6 from generate_series(1, 150) o;`;

const WANTED = `select jsonb_build_object('id', o.id, 'status', upper(o.status), 'amount', o.amount::text,
  'items', coalesce((select jsonb_agg(jsonb_build_object('line_no', i.line_no, 'quantity', i.quantity, 'heavy', i.quantity > 3)
    order by i.line_no) from order_items i where i.order_id = o.id and i.quantity <> 0), '[]'),
  'tags', (select count(*) from order_tags t where t.order_id = o.id),
  'pieces', (select coalesce(sum(i.quantity), 0) from order_items i where i.order_id = o.id)) as document
  from orders o where o.status <> 'hidden' order by o.id`;

test(
  "stream, copy and comparison have what the functions make; a failure is a dead letter until the file is corrected",
  { tags: "heavy" },
  async () => {
    using folder = temporaryFolder();
    const file = folder.file("documents.ts");
    writeFileSync(file, FUNCTIONS);
    const orders = {
      from: "public.orders",
      columns: ["status", "amount"],
      with: {
        items: {
          from: "public.order_items",
          many: true,
          columns: ["line_no", "quantity"],
          orderBy: ["line_no"],
          transform: `${file}#item`,
        },
        tags: { from: "public.tags", many: true, through: "public.order_tags", value: "name" },
      },
      transform: { value: `${file}#order`, fields: { pieces: "bigint", tags: "integer" }, budget: "20ms" },
    };
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        for (const sql of SHOP_TABLES) await source.query(sql);
        await source.query(ROWS);
      },
      {
        kinds: ["redis"],
        configure: (config) => ({
          ...config,
          documents: { orders },
          sinks: { redis: { ...config.sinks["redis"], documents: ["orders"], format: "json" } },
        }),
      },
    );
    const { installation, sinks } = pipeline;
    const redis = new Redis(redisUrl());
    await using _ = { [Symbol.asyncDispose]: async () => void (await redis.quit()) };
    const expectEqual = async (): Promise<void> => {
      await pipeline.settled();
      const { rows } = await pipeline.source.query<{ document: Record<string, unknown> }>(WANTED);
      expectSame(
        await documentsInRedis(redis, sinks.keyPrefix),
        rows.map(({ document }) => document),
      );
    };
    const drift = async () => driftOf((await reconcile(installation, "--deep")).found);
    await expectEqual();
    for (const sql of [
      "update order_items set quantity = 0 where line_no = 2",
      "update orders set status = 'hidden' where id between 21 and 25",
      "update orders set status = 'back' where id in (10, 20, 22)",
      "delete from order_tags where tag_id = 3; update order_items set quantity = 6 where order_id = 30",
      "update orders set id = id + 1000 where id between 95 and 101",
    ])
      await pipeline.run(sql);
    await expectEqual();
    expect(await drift()).toEqual({});

    const [key = ""] = await redis.keys(`${sinks.keyPrefix}orders:22`);
    await redis.set(key, '{"id":22}');
    expect(await drift()).toEqual({ redis: [expect.stringMatching(/^documents.orders 22 different /)] });
    await installation.command("reconcile", "--repair");
    await expectEqual();

    await pipeline.run(`update orders set status = 'broken' where id = 7; update customers set name = '${CANARY}'`);
    await pipeline.run("update orders set amount = 3 where id = 8");
    await eventually(async () => {
      const { stdout } = await installation.command("dlq", "list", "--json");
      expect(JSON.parse(stdout)).toMatchObject({
        letters: [
          {
            sink: "redis",
            code: "MR1036",
            cause: expect.stringMatching(/^documents\.orders: \S+#order threw a TypeError at \S*documents.ts:8:\d+$/),
          },
        ],
      });
      expect(stdout + pipeline.daemon.said).not.toContain(CANARY);
    });
    expect(await drift()).toEqual({});
    const broken = await installation.command("documents", "show", "orders", "7");
    expect(broken).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("threw a TypeError at") });
    const hidden = await installation.command("documents", "show", "orders", "21", "--json");
    expect(JSON.parse(hidden.stdout)).toMatchObject({
      document: null,
      reason: expect.stringMatching(/#order leaves it out$/),
      rows: [
        { path: [], table: "public.orders", key: ["21"], position: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) },
        { path: ["items"], table: "public.order_items", key: ["21", "1"], position: null },
        { path: ["items"], key: ["21", "2"], position: expect.stringMatching(/^[0-9A-F]+\//) },
        { path: ["items"], key: ["21", "3"] },
        { path: ["tags"], table: "public.order_tags", key: ["21", "4"] },
        { path: ["tags"], table: "public.tags", key: ["4"] },
      ],
    });
    const shown = await installation.command("documents", "show", "orders", "22", "--json");
    expect(JSON.parse(shown.stdout)).toMatchObject({ document: { id: 22, status: "BACK" }, reason: null });

    await pipeline.daemon.stop();
    writeFileSync(
      file,
      FUNCTIONS.replace(/throw new TypeError.*/, 'return { ...document, status: "MENDED", tags: 0, pieces: 0 };'),
    );
    const plan = await installation.command("documents", "plan", "--json");
    expect(JSON.parse(plan.stdout)).toMatchObject({ documents: [{ name: "orders", change: "changed", reads: [] }] });
    await pipeline.run("delete from order_items where order_id = 7; delete from order_tags where order_id = 7");
    await pipeline.start();
    await pipeline.run("update orders set status = 'mended' where id = 7");
    await expectEqual();
    await eventually(async () => {
      const { stdout } = await installation.command("dlq", "list", "--json");
      expect(JSON.parse(stdout)).toMatchObject({ letters: [] });
    });
    expect(await drift()).toEqual({});

    const { text } = installation;
    const line = text.slice(0, text.indexOf("documents.ts#order")).split("\n").length;
    for (const [to, what] of [
      ["none.ts#order", "there is no file"],
      ["documents.ts#none", "has no export none"],
      ["documents.yaml", "it is no name of a function"],
    ] as const) {
      installation.text = text.replace("documents.ts#order", to);
      const { exitCode, stdout, stderr } = await installation.command("check");
      expect(exitCode, stdout + stderr).not.toBe(0);
      expect(stdout + stderr).toContain(what);
      expect(stdout + stderr).toMatch(new RegExp(`:${line}:`));
    }
    installation.text = text;
  },
);

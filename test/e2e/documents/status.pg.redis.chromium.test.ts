/** How documents are seen and operated: status, metrics and page say how many wait; the verbs take their sinks and tables. */
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import * as z from "zod";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { axeFindings, DashboardBrowser, part } from "../../support/daemon/dashboard-browser.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import {
  documentsInRedis,
  expectSame,
  POSTGRES_DOCUMENTS,
  SHOP_TABLES,
  shopDocuments,
} from "../../support/documents/shop-documents.ts";
import { redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ACTS = "token-that-acts-0123456789abcdefg";
const ROWS = `insert into customers select g, 'c' || g, null, null from generate_series(1, 5) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 5, 'new', g * 1.5 from generate_series(1, 300) g;
  insert into order_items select o, l, 1 + (o + l) % 10, l from generate_series(1, 300) o, generate_series(1, 2) l;
  insert into order_tags select o, 1 + o % 6 from generate_series(1, 300) o;`;

const STATUS = z.object({
  documents: z.array(
    z.object({
      name: z.string(),
      isFilled: z.boolean(),
      waiting: z.number(),
      waitingSince: z.string().nullable(),
      lagSeconds: z.number().nullable(),
      sinks: z.array(z.string()),
    }),
  ),
});

test(
  "changed documents that wait are counted and dated; pause, resume, snapshot, reconcile and offsets take sinks of documents",
  { tags: "heavy" },
  async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const { orders } = z.object({ orders: z.record(z.string(), z.unknown()) }).parse(shopDocuments("public"));
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        for (const sql of SHOP_TABLES) await source.query(sql);
        await source.query(ROWS);
      },
      {
        kinds: ["redis", "sqlite"],
        configure: (config) => ({
          ...config,
          documents: { orders: { ...orders, where: "status <> 'secret'" } },
          sinks: {
            cache: { ...config.sinks["redis"], documents: ["orders"], format: "json" },
            tables: { ...config.sinks["sqlite"], tables: ["public.orders"] },
          },
          admin: { listen: `127.0.0.1:${port}`, tokens: [{ role: "operator", name: "carol", token: ACTS }] },
        }),
      },
    );
    const { installation, sinks } = pipeline;
    const redis = new Redis(redisUrl());
    await using _ = { [Symbol.asyncDispose]: async () => void (await redis.quit()) };
    const command = async (...args: readonly string[]): Promise<string> => {
      const { exitCode, stdout, stderr } = await installation.command(...args);
      expect({ args, exitCode, stderr }).toMatchObject({ exitCode: 0 });
      return stdout;
    };
    const expectEqual = async (): Promise<void> => {
      await pipeline.settled();
      const { rows } = await pipeline.source.query<{ document: Record<string, unknown> }>(POSTGRES_DOCUMENTS);
      const wanted = rows.map(({ document }) => document).filter(({ status }) => status !== "secret");
      expectSame(await documentsInRedis(redis, sinks.keyPrefix), wanted);
    };
    const documentOf = async () => STATUS.parse(await installation.status()).documents[0];
    await expectEqual();
    await eventually(async () => {
      expect(await documentOf()).toMatchObject({
        name: "orders",
        isFilled: true,
        waiting: 0,
        waitingSince: null,
        sinks: ["cache"],
      });
    });

    await command("pause", "--sink", "cache");
    const before = Date.now();
    await pipeline.run(
      "update products set title = 'other' where id = 3; update orders set status = 'secret' where id = 7",
    );
    const changed = await pipeline.source.query<{ count: string }>(
      "select count(*) from (select order_id from order_items where product_id = 3 union select 7) o",
    );
    await eventually(async () => {
      const shown = await documentOf();
      expect(shown?.waiting).toBe(Number(changed.rows[0]?.count));
      expect(Math.abs(Date.parse(shown?.waitingSince ?? "") - before)).toBeLessThan(10_000);
    });
    await eventually(async () => expect((await documentOf())?.lagSeconds).toBeGreaterThan(5));
    const metrics = await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${ACTS}` } })).text();
    expect(metrics).toMatch(
      new RegExp(`^millrace_documents_waiting\\{document="orders"\\} ${changed.rows[0]?.count}$`, "m"),
    );
    expect(metrics).toMatch(/^millrace_documents_waiting_seconds\{document="orders"\} \d/m);
    expect(metrics).toMatch(/^millrace_freshness_seconds\{sink="cache",table="documents.orders"\} \d/m);

    await using browser = await DashboardBrowser.connect(url);
    await using seen = await browser.open(ACTS, { viewport: { width: 1280, height: 1400 } });
    const row = part(seen.page, "documents").getByRole("row", { name: /^orders/ });
    await row.getByText("followed").waitFor({ timeout: 60_000 });
    expect(await row.textContent()).toMatch(new RegExp(`^orderscachefollowed.*${changed.rows[0]?.count}\\d+ s ago$`));
    expect(await axeFindings(seen.page)).toEqual([]);
    const picture = process.env["MILLRACE_TEST_PICTURE"];
    if (picture !== undefined) await seen.page.screenshot({ path: join(picture, "documents.png"), fullPage: true });

    const hidden = await installation.command("documents", "show", "orders", "7", "--json");
    expect(hidden.exitCode).toBe(1);
    expect(JSON.parse(hidden.stdout)).toMatchObject({
      document: null,
      reason: "`where` leaves it out: status <> 'secret'",
      waiting: true,
      rows: expect.arrayContaining([expect.objectContaining({ path: [], table: "public.orders", key: ["7"] })]),
    });
    const none = await installation.command("documents", "show", "orders", "999");
    expect(none.stdout).toContain("public.orders has no row with this key, or a rule of `tables` leaves it out");
    expect(none.exitCode).toBe(1);

    await command("resume", "--sink", "cache");
    await expectEqual();
    await eventually(async () => expect(await documentOf()).toMatchObject({ waiting: 0, waitingSince: null }));

    const [key = ""] = await redis.keys(`${sinks.keyPrefix}orders:9`);
    await redis.del(key);
    const drift = driftOf((await reconcile(installation, "--sink", "cache", "--tables", "documents.orders")).found);
    expect(drift).toEqual({ cache: ["documents.orders 9 missing"] });
    await command("snapshot", "start", "--sink", "cache", "--tables", "documents.orders");
    await eventually(expectEqual);
    await redis.del(key);
    await command("snapshot", "start", "--sink", "cache");
    await eventually(expectEqual);
    await redis.del(key);
    await command("snapshot", "start", "--tables", "documents.orders");
    await eventually(expectEqual);

    await command("pause", "--sink", "cache", "--tables", "documents.orders");
    await pipeline.run("update orders set status = 'later' where id = 12");
    await command("resume", "--sink", "cache", "--tables", "documents.orders");
    await eventually(expectEqual);
    expect(JSON.parse(await command("offsets", "show", "--json"))).toMatchObject({
      sinks: expect.arrayContaining([
        expect.objectContaining({ name: "cache", position: expect.stringMatching(/^\d+$/) }),
        expect.objectContaining({ name: "tables", position: expect.stringMatching(/^[0-9A-F]+\//) }),
      ]),
    });
    expect(await command("dlq", "list", "--sink", "cache")).toContain("no");
    expect(await command("status")).toContain("cache");
    expect(await command("status", "--tables")).toContain("documents.orders");
  },
);

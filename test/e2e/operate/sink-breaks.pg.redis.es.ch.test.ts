/**
 * What breaks at the servers of sinks while the daemon runs: `status` alone says of each which, where, since when and what
 * to do, and nothing else is blamed. Logins are in access/refused-logins.
 * @module-tag heavy
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { searchCall } from "../../support/caches/search-rows.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { COMMAND_EVERY_MS, expectWell, literally, TOLD_WITHIN_MS } from "../../support/daemon/told.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { tlsFront } from "../../support/network/tls-front.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshColumns,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  redisUrl,
} from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

test("certificates for another host, or expired, at every sink, and a search engine that blocks an index", async () => {
  await using good = await selfSigned(["localhost"]);
  await using foreign = await selfSigned(["elsewhere.example"]);
  await using expired = await selfSigned(["localhost"], Date.now() - 86_400_000);
  await using source = await freshDatabase();
  await using keys = freshKeyPrefix();
  await using indices = freshIndexPrefix();
  await using columns = freshColumns();
  await using search = await tlsFront(elasticsearchUrl(), good);
  await using cache = await tlsFront(redisUrl(), good);
  await using house = await tlsFront(clickhouseUrl(), good);
  const fronts = { search, cache, columns: house };
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  const ca = "./ca.pem";
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: {
      search: { kind: "elasticsearch", url: search.url, prefix: indices.prefix, replicas: 0, ca },
      cache: { kind: "redis", url: cache.url.replace("https", "rediss"), prefix: keys.prefix, ca },
      columns: { kind: "clickhouse", url: house.url, schema: columns.prefix, ca },
    },
  });
  const trusted = [good, foreign, expired].map(({ certificate }) => certificate);
  await writeFile(join(installation.folder, ca), trusted.join(""));
  installation.run();
  await expectWell(installation);

  const present = async (certificate: Certificate): Promise<void> => {
    for (const front of Object.values(fronts)) await front.present(certificate);
    await source.query("update item set n = n + 1");
  };
  const expectTold = async (sinks: Readonly<Record<string, readonly RegExp[]>>, about: RegExp): Promise<void> => {
    await eventually(
      async () => {
        const { stdout } = await installation.command("status");
        for (const [sink, parts] of Object.entries(sinks)) {
          const said = new RegExp(`! sink ${sink} does not take rows(?:.*\\n.*)`).exec(stdout)?.[0] ?? stdout;
          for (const part of [/for \d+ s/, /it waits for you, and goes on by itself once that is done/, ...parts])
            expect(said).toMatch(part);
        }
        expect(stdout).toMatch(about);
        expect(stdout.match(/^ {2}! /gm)).toHaveLength(Object.keys(sinks).length);
      },
      { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
    );
  };
  const everyTold = async (parts: readonly RegExp[]): Promise<void> =>
    await expectTold(
      Object.fromEntries(
        Object.entries(fronts).map(([sink, { url }]) => [sink, [/MR2003/, literally(new URL(url).host), ...parts]]),
      ),
      // None is attached, so the log is not read: that is no slowness of the stream's own.
      /^source: .*blocked by search, cache, columns/m,
    );

  await present(foreign);
  await everyTold([/for another name than the url's host/, /`serverName`/]);
  await present(expired);
  await everyTold([/has expired/, /Renew the certificate on the server/]);
  await present(good);
  await expectWell(installation);

  const block = async (value: true | null): Promise<void> => {
    const settings = JSON.stringify({ "index.blocks.read_only_allow_delete": value });
    await searchCall(elasticsearchUrl(), "PUT", `/${indices.prefix}public.item/_settings`, settings);
  };
  await block(true);
  await source.query("update item set n = n + 1");
  const index = new RegExp(
    `MR3310 .*the index ${indices.prefix}public\\.item\\S* is blocked: .*read-only-allow-delete`,
  );
  await expectTold(
    { search: [index, literally(new URL(search.url).host), /bytes free/, /read_only_allow_delete": null/] },
    /^source: /m,
  );
  await block(null);
  await expectWell(installation);
});

/**
 * What breaks at the servers of sinks while the daemon runs: all that a person on call looks at says of each which, where,
 * since when and what to do, and nothing else is blamed. Logins are in access/refused-logins.
 * @module-tag heavy
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { searchCall } from "../../support/caches/search-rows.ts";
import { ACT_UNREADY, OnCall, SLOW, UNREADY } from "../../support/daemon/on-call.ts";
import { expectExplained, literally } from "../../support/daemon/told.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
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

const SINCE = /for \d+ (?:s|min)|since/;

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
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: {
      search: { kind: "elasticsearch", url: search.url, prefix: indices.prefix, replicas: 0, ca },
      cache: { kind: "redis", url: cache.url.replace("https", "rediss"), prefix: keys.prefix, ca },
      columns: { kind: "clickhouse", url: house.url, schema: columns.prefix, ca },
    },
  });
  const { installation } = onCall;
  const trusted = [good, foreign, expired].map(({ certificate }) => certificate);
  await writeFile(join(installation.folder, ca), trusted.join(""));
  await onCall.begin();

  const present = async (certificate: Certificate): Promise<void> => {
    for (const front of Object.values(fronts)) await front.present(certificate);
    await source.query("update item set n = n + 1");
  };
  const waits = [/does not take rows/, SINCE, /it waits for you, and goes on by itself once that is done/];
  const everyTold = async (parts: readonly RegExp[]): Promise<void> => {
    const told = Object.entries(fronts).map(([sink, { url }]) => [
      sink,
      [/MR2003/, literally(new URL(url).host), ...waits, ...parts],
    ]);
    await onCall.expectListed(Object.fromEntries(told), { ...ACT_UNREADY, headline: "3 things need you" });
    // None is attached, so the log is not read: that is no slowness of the stream's own.
    const { stdout } = await installation.command("status");
    expect(stdout).toMatch(/^source: .*blocked by search, cache, columns/m);
  };

  await present(foreign);
  await everyTold([/for another name than the url's host/, /`serverName`/]);
  await present(expired);
  await everyTold([/has expired/, /Renew the certificate on the server/]);
  await present(good);
  await onCall.expectWell();

  const block = async (value: true | null): Promise<void> => {
    const settings = JSON.stringify({ "index.blocks.read_only_allow_delete": value });
    await searchCall(elasticsearchUrl(), "PUT", `/${indices.prefix}public.item/_settings`, settings);
  };
  await block(true);
  await source.query("update item set n = n + 1");
  const index = new RegExp(
    `MR3310 .*the index ${indices.prefix}public\\.item\\S* is blocked: .*read-only-allow-delete`,
  );
  await onCall.expectListed(
    { search: [...waits, index, literally(new URL(search.url).host), /bytes free/, /read_only_allow_delete": null/] },
    ACT_UNREADY,
  );
  await block(null);
  await onCall.expectWell();
});

test("servers that do not answer, by HTTP, not how busy they are; and at whose addresses nothing listens", async () => {
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  await using indices = freshIndexPrefix();
  await using columns = freshColumns();
  await using search = await tcpProxy(elasticsearchUrl());
  await using house = await tcpProxy(clickhouseUrl());
  await using warehouse = await tcpProxy(target.url);
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  const [searchAt, houseAt] = [search.url(elasticsearchUrl()), house.url(clickhouseUrl())];
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: {
      search: { kind: "elasticsearch", url: searchAt, prefix: indices.prefix, replicas: 0 },
      columns: { kind: "clickhouse", url: houseAt, schema: columns.prefix },
      warehouse: { kind: "postgres", url: warehouse.url(target.url) },
    },
  });
  await onCall.begin();
  for (const proxy of [search, house]) proxy.stall();
  await source.query("update item set n = 2");
  const told = ({ port }: { readonly port: number }): readonly RegExp[] => [
    /is slow, .*: its present write has had no answer for \d+ s/,
    new RegExp(`look whether .* works and is not overloaded \\(.*localhost:${port}\\), and at the firewall`),
  ];
  await onCall.expectListed({ search: told(search), columns: told(house) }, SLOW);
  for (const proxy of [search, house]) await proxy.resume();
  await onCall.expectWell();

  const away = { search, columns: house, warehouse };
  for (const proxy of Object.values(away)) {
    await proxy.refuse();
    proxy.cut();
  }
  await source.query("update item set n = 3");
  const gone = Object.entries(away).map(([sink, { host, port }]) => [
    sink,
    [
      /does not take rows/,
      /MR2001 .*ECONNREFUSED/,
      new RegExp(`Nothing listens at (?:localhost|${host}):${port}: start the server there`),
      SINCE,
      /it catches up by itself/,
    ],
  ]);
  await onCall.expectListed(Object.fromEntries(gone), UNREADY);
  await expectExplained(onCall.installation, "MR2001");
  for (const proxy of Object.values(away)) await proxy.resume();
  await onCall.expectWell();
});

test("a sink that came back while the source is away waits for the source: that is no fault of its own", async () => {
  await using source = await freshDatabase();
  await using keys = freshKeyPrefix();
  await using database = await tcpProxy(source.url);
  await using cache = await tcpProxy(redisUrl());
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: database.url(source.url), heartbeat: "500ms" },
    sinks: {
      cache: { kind: "redis", url: cache.url(redisUrl()), prefix: keys.prefix },
      replica: { kind: "sqlite", path: "./replica.sqlite" },
    },
  });
  const { installation } = onCall;
  const daemon = installation.run();
  await onCall.expectWell();
  await cache.refuse();
  cache.cut();
  await source.query("update item set n = 2");
  await eventually(async () => {
    const { sinks } = await installation.status();
    expect(sinks[0]).toMatchObject({ state: "retrying", error: { code: "MR2001" } });
  });
  await database.refuse();
  database.cut();
  await cache.resume();
  await eventually(
    async () => {
      const { conditions } = await installation.status();
      expect(conditions.map(({ kind, what }) => [kind, what.replace(/,.*/, "")])).toEqual([
        ["source.failing", "no connection to the source"],
        ["sink.failing", "sink cache waits for the source"],
      ]);
    },
    { withinMs: 60_000 },
  );
  await daemon.stop();
  const { conditions } = await installation.status();
  expect(conditions.map(({ kind }) => kind)).toEqual(["daemon.absent"]);
  await database.resume();
  installation.run();
  await onCall.expectWell();
});

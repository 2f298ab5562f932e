/** What a killed daemon has sent reaches its targets after the next daemon has written. */
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { lateGateway, type LateGateway } from "../../support/network/late-gateway.ts";
import { clickhouseUrl, elasticsearchUrl } from "../../support/run/services.ts";

/** Rows. */
const LOST = {
  elasticsearch: /^POST \/_bulk[^]*"v":"first"/,
  clickhouse: /INSERT INTO `test_\w+`\.`item` [^]*first/,
} as const;

test("the first batch of a transaction, from a killed daemon, does not come back after the next one has written all of it", async () => {
  await using elasticsearch = await lateGateway(elasticsearchUrl());
  await using clickhouse = await lateGateway(clickhouseUrl());
  const gateways: Readonly<Record<string, LateGateway>> = { elasticsearch, clickhouse };
  const through = (config: PipelineConfig): PipelineConfig => {
    const sinks = Object.entries(config.sinks).map(([name, sink]) => [
      name,
      { ...sink, url: gateways[name]!.url("http://localhost"), batch: { rows: 50 } },
    ]);
    return { ...config, sinks: Object.fromEntries(sinks) };
  };
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, v text);
     insert into item select i, 'before' from generate_series(1, 100) i`,
    { kinds: ["elasticsearch", "clickhouse"], configure: through },
  );
  await pipeline.settled();
  const late = Object.entries(LOST).map(([name, wanted]) => gateways[name]!.lose((what) => wanted.test(what)));
  // All of it has one version.
  await pipeline.run(
    `begin; insert into item select i, 'first' from generate_series(101, 300) i; update item set v = 'second' where id > 250;
     delete from item where id between 101 and 250; commit`,
  );
  await Promise.all(late.map(({ lost }) => lost));
  await pipeline.kill();
  await pipeline.start();
  await pipeline.settled();
  await pipeline.expectEqual(["item"]);
  for (const each of late) await each.deliver();
  await pipeline.expectEqual(["item"]);
  await pipeline.run("insert into item values (301, 'on')");
  await pipeline.expectEqual(["item"]);
  expect(pipeline.complaints()).toEqual([]);
});

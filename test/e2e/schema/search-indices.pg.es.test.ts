/**
 * What the configuration says of indices: settings, analyzers and mappings, changed while readers look on, through kills; what
 * does not fit is told before anything is written.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { searchEngines } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const FIRST = {
  settings: { number_of_replicas: 0, "index.refresh_interval": "2s" },
  analyzers: { folded: { type: "custom", tokenizer: "standard", filter: ["lowercase"] } },
  mappings: {
    properties: {
      title: { fields: { folded: { type: "text", analyzer: "folded" } } },
      place: { type: "geo_point" },
      day: { type: "date", format: "yyyy-MM-dd HH" },
      doc: { type: "object", properties: { size: { type: "integer" } } },
    },
  },
};

describe.each(searchEngines())("$name", (engine) => {
  test("an index is as the configuration says; a change fills the next one beside the stream, through kills", async () => {
    const url = engine.url();
    let plain: PipelineConfig | undefined;
    await using pipeline = await RunningPipeline.start(
      `create table things (id int primary key, title text, place text, day text, doc jsonb, n int);
     create table others (id int primary key, n int);
     insert into others select i, i from generate_series(1, 10) i;
     insert into things select i, 'Crème ' || i, '48.1,11.5', '2026-11-26 09', '{"size": 7}', 0 from generate_series(1, 300) i;
     insert into things values (1001, 'x', 'nowhere', 'never', '"none"', 0), (1002, null, null, null, null, 0)`,
      {
        kinds: ["elasticsearch"],
        search: url,
        configure: (config) => withIndex((plain = config), { "public.things": FIRST }),
      },
    );
    const prefix = String(Object(pipeline.sinks.config["elasticsearch"]).prefix);
    const alias = `/${encodeURIComponent(`${prefix}public.things`)}`;
    const ask = async (path: string, body?: object): Promise<unknown> =>
      JSON.parse(
        (await searchCall(url, body === undefined ? "GET" : "POST", `${alias}${path}`, JSON.stringify(body))).text,
      );
    const nameOf = async (): Promise<string> => Object.keys(Object(await ask("/_settings"))).join();
    const count = async (query: object): Promise<unknown> => {
      await ask("/_refresh", {});
      return Object(await ask("/_count", { query })).count;
    };
    const reconfigure = (index: object): void => pipeline.installation.configure(withIndex(plain!, index));

    // No object where the configuration wants one: a dead letter. Any other value is kept, though not indexed.
    await pipeline.settled();
    const letters = Object(JSON.parse((await pipeline.installation.command("dlq", "list", "--json")).stdout)).letters;
    expect(letters).toMatchObject([{ key: "1001" }]);
    await pipeline.run(`update things set doc = '{"size": "large"}' where id = 1001`);
    await pipeline.expectEqual(["things", "others"]);
    expect(await count({ match: { "title.folded": "CRÈME" } })).toBe(300);
    expect(await count({ range: { day: { gte: "2026-11-26 08" } } })).toBe(300);
    expect(await count({ geo_distance: { distance: "5km", place: "48.1,11.5" } })).toBe(300);
    expect(await count({ term: { "doc.size": 7 } })).toBe(300);
    expect(await nameOf()).toMatch(/-000001$/);

    // What a living index can change is changed there.
    await pipeline.daemon.stop();
    reconfigure({ "public.things": { ...FIRST, settings: { number_of_replicas: 0, refresh_interval: "3s" } } });
    await pipeline.start();
    await pipeline.run("update things set n = 1 where id = 1");
    await pipeline.expectEqual(["things"]);
    expect(await nameOf()).toMatch(/-000001$/);
    expect(JSON.stringify(await ask("/_settings?flat_settings=true"))).toContain('"index.refresh_interval":"3s"');

    // By hand: told, and left alone.
    await searchCall(url, "PUT", `${alias}/_settings`, '{"index.refresh_interval": "7s"}');
    const findings = async () =>
      Object(JSON.parse((await pipeline.installation.command("check", "--json")).stdout)).findings;
    expect(JSON.stringify(await findings())).toMatch(/refresh_interval: 7s instead of 3s/);

    // Another mapping: the next index, beside the old one.
    await pipeline.daemon.stop();
    const second = {
      ...FIRST,
      settings: { number_of_replicas: 0, number_of_shards: 2 },
      mappings: {
        properties: {
          ...FIRST.mappings.properties,
          title: { fields: { plain: { type: "text", analyzer: "simple" } } },
        },
      },
    };
    reconfigure({ "public.things": second });
    for (const failpoint of [
      "elasticsearch.index-made=kill",
      "elasticsearch.rows-written=kill",
      "elasticsearch.alias-moved=kill",
    ]) {
      pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: failpoint });
      await pipeline.run(
        "update things set n = n + 1 where id < 50; delete from things where id = 60; insert into things (id) values (60)",
      );
      await pipeline.killed(failpoint);
      // Readers see a whole index at every moment.
      expect(await count({ match_all: {} })).toBe(302);
    }
    await pipeline.start();
    await pipeline.expectEqual(["things", "others"]);
    await eventually(async () => expect(await nameOf()).not.toMatch(/-000001$/), { withinMs: 20_000 });
    expect(await count({ match: { "title.plain": "crème" } })).toBe(299);
    const left = Object.keys(
      Object(JSON.parse((await searchCall(url, "GET", `/${prefix}public.things-*?expand_wildcards=all`)).text)),
    );
    expect(left).toEqual([await nameOf()]);

    // What does not fit: by check, and at the start for its table alone.
    await pipeline.daemon.stop();
    const before = await nameOf();
    reconfigure({
      "public.things": {
        mappings: { properties: { nope: { type: "keyword" }, n: { type: "nested" }, title: { analyzer: "missing" } } },
      },
      "public.others": { settings: { "index.nope": 1 } },
      "public.absent": {},
    });
    const told = JSON.stringify(await findings());
    expect(told).toMatch(/mappings\.properties\.nope: no column has this name/);
    expect(told).toMatch(/mappings\.properties\.n\.type: nested can't take the column's values/);
    expect(told).toMatch(/public\.others: the engine refuses it: unknown setting \[index\.nope\]/);
    expect(told).toMatch(/public\.absent fits none/);
    reconfigure({ "public.things": { mappings: { properties: { nope: { type: "keyword" } } } } });
    await pipeline.start(false);
    await eventually(async () => expect(JSON.stringify(await pipeline.installation.status())).toMatch(/MR3316/), {
      withinMs: 60_000,
    });
    await pipeline.run("update others set n = n + 1");
    expect(await nameOf()).toBe(before);
    expect(await count({ match_all: {} })).toBe(302);
  });
});

function withIndex(config: PipelineConfig, index: object): PipelineConfig {
  return { ...config, sinks: { elasticsearch: { ...config.sinks["elasticsearch"], index } } };
}

/** The alert rules of deploy/: a real Prometheus scrapes a real daemon, is quiet while all is well, and fires. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import * as z from "zod";
import { freePort } from "../../scripts/services/port.ts";
import { prometheus, promtool } from "../../scripts/services/prometheus.ts";
import { RunningPipeline } from "../support/running-pipeline.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { eventually } from "../support/waiting.ts";

const RULES = readFileSync(join(import.meta.dirname, "../../deploy/prometheus/millrace.rules.yml"), "utf8");
const TOKEN = "token-that-looks-0123456789abcdef";

const LABELS = z.record(z.string(), z.string());
const SAMPLES = z.object({
  result: z.array(z.object({ metric: LABELS, value: z.tuple([z.number(), z.string()]) })),
});
const ALERTS = z.object({ alerts: z.array(z.object({ state: z.string(), labels: LABELS })) });

/** For each alert a series that must fire it, and one that must not. */
const SERIES: Readonly<Record<string, readonly [series: string, bad: number, good: number]>> = {
  MillraceDown: [`up{job="millrace"}`, 0, 1],
  MillraceSourceDown: ["millrace_source_up", 0, 1],
  MillraceSourceNeedsPerson: ["millrace_source_needs_person", 1, 0],
  MillraceSinkNeedsPerson: [`millrace_sink_needs_person{sink="w"}`, 1, 0],
  MillraceSinkPaused: [`millrace_sink_state{sink="w",state="paused"}`, 1, 0],
  MillraceSinkLag: [`millrace_sink_lag_seconds{sink="w"}`, 61, 59],
  MillraceTableStale: [`millrace_freshness_seconds{sink="w",table="t"}`, 301, 299],
  MillraceTableSuspended: [`millrace_table_suspended{sink="*",table="t"}`, 1, 0],
  MillraceTableUnreadable: [`millrace_table_unreadable{sink="w",table="t"}`, 1, 0],
  MillraceDeadLetters: [`millrace_dead_letters{sink="w"}`, 1, 0],
  MillraceRetentionTime: ["millrace_retention_seconds", 14_399, 14_401],
  MillraceRetentionBytes: ["millrace_slot_safe_bytes", 1_073_741_823, 1_073_741_825],
  MillraceDrift: [`millrace_reconcile_drift_rows{sink="w",table="t",kind="missing"}`, 1, 0],
  MillraceProofOld: [`millrace_proof_age_seconds{sink="w",table="t"}`, 172_801, 172_799],
  MillraceStateDown: ["millrace_state_up", 0, 1],
};

test("promtool: each rule fires over its bad value, and over no good one", async () => {
  using folder = temporaryFolder();
  const expr = `count by (alertname) (ALERTS{alertstate="firing"})`;
  const tests = Object.entries(SERIES).map(([alert, [series, bad]]) => ({
    interval: "1m",
    input_series: [{ series, values: `${bad}x100` }],
    promql_expr_test: [{ expr, eval_time: "90m", exp_samples: [{ labels: `{alertname="${alert}"}`, value: 1 }] }],
  }));
  const well = {
    interval: "1m",
    input_series: Object.values(SERIES).map(([series, , good]) => ({ series, values: `${good}x100` })),
    promql_expr_test: [{ expr, eval_time: "90m", exp_samples: [] }],
  };
  writeFileSync(join(folder.path, "rules.yml"), RULES);
  const document = { rule_files: ["rules.yml"], evaluation_interval: "1m", tests: [...tests, well] };
  writeFileSync(join(folder.path, "test.yml"), stringify(document));
  const named = [...RULES.matchAll(/- alert: (\S+)/g)].map(([, name = ""]) => name);
  expect(Object.keys(SERIES).toSorted()).toEqual(named.toSorted());
  expect(await promtool(["check", "rules", "rules.yml"], folder.path)).toContain(`${named.length} rules found`);
  expect(await promtool(["test", "rules", "test.yml"], folder.path)).toContain("SUCCESS");
});

test("a real Prometheus fires over what a real daemon meets, and is quiet before and afterwards", async () => {
  const port = await freePort();
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, n int); insert into item select g, g from generate_series(1, 50) g;
     create table quiet (id int primary key); insert into quiet values (1);
     create table locked (id int primary key); insert into locked values (1)`,
    {
      kinds: ["postgres", "redis"],
      configure: (config) => ({
        ...config,
        admin: { listen: `127.0.0.1:${port}`, tokens: [{ role: "viewer", token: TOKEN }] },
      }),
    },
  );
  await pipeline.settled();
  const scrape = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: ["rules.yml"],
    scrape_configs: [
      {
        job_name: "millrace",
        authorization: { credentials: TOKEN },
        static_configs: [{ targets: [`127.0.0.1:${port}`] }],
      },
    ],
  };
  // What promtool has shown for each rule's time, none waits for here.
  const hasty = RULES.replaceAll(/for: \S+/g, "for: 0s");
  await using server = await prometheus.start({
    own: true,
    files: { "prometheus.yml": stringify(scrape), "rules.yml": hasty },
  });
  const ask = async <T>(path: string, data: z.ZodType<T>): Promise<T> => {
    const answer = await fetch(`${server.url}/api/v1/${path}`, { signal: AbortSignal.timeout(10_000) });
    return z.object({ data }).parse(await answer.json()).data;
  };
  const query = async (expr: string) => (await ask(`query?query=${encodeURIComponent(expr)}`, SAMPLES)).result;
  const value = async (expr: string) => (await query(expr)).map(({ value: [, text] }) => Number(text));
  const firing = async () => {
    const { alerts } = await ask("alerts", ALERTS);
    const names = alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels["alertname"] ?? "");
    return [...new Set(names)].toSorted((a, b) => (a < b ? -1 : 1));
  };
  await eventually(async () => expect(await value("millrace_source_up")).toEqual([1]));
  await eventually(async () => expect(await value(`count_over_time(up{job="millrace"}[1m]) >= 5`)).toHaveLength(1));
  expect(await firing()).toEqual([]);

  const { source, installation, sinks } = pipeline;
  const target = sinks.target!;
  await target.query("update public.item set n = -1 where id = 7");
  expect((await installation.command("reconcile")).exitCode).toBe(3);
  await target.query("alter table public.item add constraint small check (n < 1000)");
  await pipeline.run("update item set n = 5000 where id = 2");
  await pipeline.settled();
  await source.query("alter table quiet drop constraint quiet_pkey");
  await using locker = await source.connect();
  await locker.query("begin; lock table locked in access exclusive mode");
  await pipeline.readAgain("public.locked");
  await installation.ask("POST", "/api/v1/pause", { sink: "redis" });
  await eventually(
    async () =>
      expect(await firing()).toEqual([
        "MillraceDeadLetters",
        "MillraceDrift",
        "MillraceSinkPaused",
        "MillraceTableSuspended",
        "MillraceTableUnreadable",
      ]),
    { withinMs: 90_000 },
  );
  expect(await query("millrace_table_suspended")).toMatchObject([{ metric: { table: "public.quiet", sink: "*" } }]);

  await locker.query("rollback");
  await installation.ask("POST", "/api/v1/resume", { sink: "redis" });
  await source.query("alter table quiet add primary key (id)");
  await target.query("alter table public.item drop constraint small");
  await pipeline.run("update item set n = 5 where id in (2, 7)");
  await pipeline.settled();
  expect((await installation.command("reconcile")).exitCode).toBe(0);
  await eventually(async () => expect(await firing()).toEqual([]), { withinMs: 60_000 });
  await pipeline.daemon.stop();
  await eventually(async () => expect(await firing()).toEqual(["MillraceDown"]));
});

/** The alert rules of deploy/: a real Prometheus scrapes a real daemon, is quiet while all is well, and fires. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { promtool } from "../../../scripts/services/servers/prometheus.ts";
import { ALERT_RULES, AlertWatch, scrapedDaemon } from "../../support/daemon/alert-watch.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const AGE = `millrace_proof_age_seconds{instance="i",sink="w",table="t"}`;

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
  MillraceProofOld: [AGE, 172_801, 172_799],
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
  // Where a daemon says how old a proof may be, that counts, and of it alone.
  const promised = (age: number, max: number, of: string, isOld: boolean) => ({
    interval: "1m",
    input_series: [
      { series: AGE, values: `${age}x100` },
      { series: `millrace_proof_max_age_seconds{instance="${of}"}`, values: `${max}x100` },
    ],
    promql_expr_test: [
      { expr, eval_time: "90m", exp_samples: isOld ? [{ labels: `{alertname="MillraceProofOld"}`, value: 1 }] : [] },
    ],
  });
  const ofAges = [
    promised(21_601, 21_600, "i", true),
    promised(21_599, 21_600, "i", false),
    promised(172_801, 604_800, "i", false),
    promised(21_601, 21_600, "another", false),
    promised(172_801, 604_800, "another", true),
  ];
  writeFileSync(join(folder.path, "rules.yml"), ALERT_RULES);
  const document = { rule_files: ["rules.yml"], evaluation_interval: "1m", tests: [...tests, well, ...ofAges] };
  writeFileSync(join(folder.path, "test.yml"), stringify(document));
  const named = [...ALERT_RULES.matchAll(/- alert: (\S+)/g)].map(([, name = ""]) => name);
  expect(Object.keys(SERIES).toSorted()).toEqual(named.toSorted());
  expect(await promtool(["check", "rules", "rules.yml"], folder.path)).toContain(`${named.length} rules found`);
  expect(await promtool(["test", "rules", "test.yml"], folder.path)).toContain("SUCCESS");
});

test(
  "a real Prometheus fires over what a real daemon meets, and is quiet before and afterwards",
  { tags: "heavy" },
  async () => {
    const daemon = await scrapedDaemon();
    await using pipeline = await RunningPipeline.start(
      `create table item (id int primary key, n int); insert into item select g, g from generate_series(1, 50) g;
     create table quiet (id int primary key); insert into quiet values (1);
     create table locked (id int primary key); insert into locked values (1)`,
      {
        kinds: ["postgres", "redis"],
        configure: (config) => ({ ...config, admin: daemon.admin }),
      },
    );
    await pipeline.settled();
    await using alerts = await AlertWatch.start(daemon);
    await alerts.quiet();

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
        expect(await alerts.firing()).toEqual([
          "MillraceDeadLetters",
          "MillraceDrift",
          "MillraceSinkPaused",
          "MillraceTableSuspended",
          "MillraceTableUnreadable",
        ]),
      { withinMs: 90_000 },
    );
    expect(await alerts.query("millrace_table_suspended")).toMatchObject([
      { metric: { table: "public.quiet", sink: "*" } },
    ]);

    await locker.query("rollback");
    await installation.ask("POST", "/api/v1/resume", { sink: "redis" });
    await source.query("alter table quiet add primary key (id)");
    await target.query("alter table public.item drop constraint small");
    await pipeline.run("update item set n = 5 where id in (2, 7)");
    await pipeline.settled();
    expect((await installation.command("reconcile")).exitCode).toBe(0);
    await alerts.quiet();
    await pipeline.daemon.stop();
    await eventually(async () => expect(await alerts.firing()).toEqual(["MillraceDown"]));
  },
);

/** What a sink needs from outside is taken away and given back: it waits for that, says so, and goes on by itself. */
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { redisUrl } from "../../support/run/services.ts";
import { change, PREPARE, sinkOf, TABLES } from "../../support/faults/sink-loss.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

interface Blocking {
  /** The sink's address for a user of its own. */
  readonly url: (pipeline: RunningPipeline) => Promise<string>;
  readonly take: (pipeline: RunningPipeline) => Promise<unknown>;
  readonly give: (pipeline: RunningPipeline) => Promise<unknown>;
  readonly code: string;
}

const user = (pipeline: RunningPipeline) => `sink_${pipeline.source.name}`;

function withUser(url: string, name: string, password: string): string {
  const own = new URL(url);
  own.username = name;
  own.password = password;
  return own.href;
}

async function acl(...words: string[]): Promise<void> {
  const client = new Redis(redisUrl());
  await client.call("acl", ...words);
  client.disconnect();
}

const blockings: Readonly<Record<"redis" | "postgres", Blocking>> = {
  redis: {
    url: async (pipeline) => {
      await acl("setuser", user(pipeline), "on", ">right", "~*", "+@all");
      return withUser(redisUrl(), user(pipeline), "right");
    },
    take: async (pipeline) => {
      await acl("setuser", user(pipeline), "resetpass", ">other");
      const client = new Redis(redisUrl());
      await client.call("client", "kill", "user", user(pipeline));
      client.disconnect();
    },
    give: async (pipeline) => await acl("setuser", user(pipeline), ">right"),
    code: "MR2002",
  },
  postgres: {
    url: async (pipeline) => {
      await pipeline.sinks.target!.query(`create role ${user(pipeline)} login superuser password 'right'`);
      return withUser(pipeline.sinks.target!.url, user(pipeline), "right");
    },
    take: async (pipeline) => {
      await pipeline.sinks.target!.query(`alter role ${user(pipeline)} nologin`);
      await pipeline.sinks.target!.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${user(pipeline)}'`,
      );
    },
    give: async (pipeline) => await pipeline.sinks.target!.query(`alter role ${user(pipeline)} login`),
    code: "MR2002",
  },
};

describe.each(["redis", "postgres"] as const)("%s", (kind) => {
  test("whose login is refused for a while goes on by itself", async ({ skip }) => {
    skip(!isLongForm() && kind !== "redis", "it is part of the long form");
    const other: SinkKind = kind === "postgres" ? "duckdb" : "postgres";
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [kind, other] });
    const { url, take, give, code } = blockings[kind];
    const { [kind]: own } = pipeline.sinks.config;
    await pipeline.daemon.stop();
    pipeline.installation.configure({
      name: pipeline.source.name,
      source: { kind: "postgres", url: pipeline.source.url, heartbeat: "500ms" },
      sinks: { ...pipeline.sinks.config, [kind]: { ...own, url: await url(pipeline) } },
    });
    await pipeline.start();
    await change(pipeline, "at first");
    await pipeline.settled();

    await take(pipeline);
    await eventually(
      async () => {
        await change(pipeline, "meanwhile");
        expect(await sinkOf(pipeline, kind)).toMatchObject({ state: "retrying", needsPerson: true, error: { code } });
      },
      { withinMs: 30_000, everyMs: 250 },
    );
    const status = await pipeline.installation.command("status");
    expect(status.stdout).toContain("it waits for you, and goes on by itself once that is done");
    expect(await sinkOf(pipeline, other)).toMatchObject({ state: "streaming" });

    await give(pipeline);
    await change(pipeline, "since it may again");
    await pipeline.expectEqual(TABLES);
    expect(await sinkOf(pipeline, kind)).toMatchObject({ state: "streaming", needsPerson: false, error: null });
    await pipeline.daemon.stop();
    if (kind === "postgres")
      await pipeline.sinks.target!.query(`drop owned by ${user(pipeline)}; drop role ${user(pipeline)}`);
    else await acl("deluser", user(pipeline));
  });
});

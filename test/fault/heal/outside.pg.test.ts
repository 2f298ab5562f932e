/** What depends on others (a password, a disk, a lock on the state) is waited for, and shown meanwhile; nobody starts anything again. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = "create table t (id int primary key, body text); insert into t values (1, 'a')";
/** Longer than a lease, and than SQLite waits for a lock. */
const LASTING_MS = 20_000;

async function filled(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"] });
  await pipeline.settled();
  return pipeline;
}

/** While something outside is wrong: what `status` says of it, and that the daemon is there to say it. */
async function shown(pipeline: RunningPipeline, isShown: (status: StatusDocument) => boolean): Promise<void> {
  await eventually(
    async () => {
      expect({ exited: pipeline.daemon.exited, said: pipeline.daemon.exited ? pipeline.daemon.said : "" }).toEqual({
        exited: false,
        said: "",
      });
      expect(isShown(await pipeline.installation.status())).toBe(true);
    },
    { withinMs: 40_000 },
  );
}

test.concurrent(
  "a state file that another process locks for longer than the lease is waited for",
  { tags: "long" },
  async () => {
    await using pipeline = await filled();
    const { folder, name } = pipeline.installation;
    const other = new DatabaseSync(join(folder, ".millrace", `${name}.db`));
    const lockedMs = performance.now();
    other.exec("BEGIN IMMEDIATE");
    try {
      await pipeline.run("insert into t values (2, 'b')");
      await shown(pipeline, ({ state }) => state.error?.code === "MR1209");
      await eventually(() => performance.now() - lockedMs > LASTING_MS, { withinMs: 2 * LASTING_MS });
      await shown(pipeline, ({ state }) => state.error?.code === "MR1209");
    } finally {
      other.exec("ROLLBACK");
      other.close();
    }
    await pipeline.expectEqual(["t"]);
    await shown(pipeline, ({ state }) => state.error === null);
  },
);

test.concurrent("a state that has no room is waited for", { tags: "long" }, async () => {
  await using pipeline = await filled();
  const limit = (bytes: string) => execFileSync("prlimit", [`--fsize=${bytes}`, "--pid", String(pipeline.daemon.pid)]);
  limit("1:unlimited");
  await pipeline.run("insert into t select g, 'b' from generate_series(2, 500) g");
  const beganMs = performance.now();
  await shown(pipeline, ({ state }) => state.error?.code === "MR1209");
  await eventually(() => performance.now() - beganMs > LASTING_MS, { withinMs: 2 * LASTING_MS });
  await shown(pipeline, ({ state }) => state.error?.code === "MR1209");
  const { stdout } = await pipeline.installation.command("status");
  expect(stdout).toContain("! the state can't be written, and nothing is acknowledged: MR1209 ");
  limit("unlimited:unlimited");
  await pipeline.expectEqual(["t"]);
});

/** A superuser of its own, dropped when the databases that know it are gone. */
async function loginRole(): Promise<{ readonly name: string } & AsyncDisposable> {
  const elsewhere = await freshDatabase();
  const name = `${elsewhere.name}_reader`;
  await elsewhere.query(`create role ${name} login superuser password 'secret'`);
  return {
    name,
    async [Symbol.asyncDispose]() {
      await elsewhere.query(`drop role ${name}`);
      await elsewhere[Symbol.asyncDispose]();
    },
  };
}

test.concurrent("a login that is refused is waited for, while it runs and at a start", async () => {
  await using role = await loginRole();
  const source = await freshDatabase();
  const url = new URL(source.url);
  url.username = role.name;
  url.password = "secret";
  const configure = <C extends { readonly source: object }>(config: C): C => ({
    ...config,
    source: { ...config.source, url: url.href },
  });
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"], source, configure });
  await pipeline.settled();
  const may = async (what: "login" | "nologin") => {
    await source.query(`alter role ${role.name} ${what}`);
    await source.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role.name}'`);
  };
  const isRefused = ({ source: { error, needsPerson } }: StatusDocument) => error?.code === "MR2002" && needsPerson;
  await may("nologin");
  await pipeline.run("insert into t values (2, 'b')");
  await shown(pipeline, isRefused);
  expect(await pipeline.installation.command("wait", "--timeout", "1s")).toMatchObject({
    exitCode: 5,
    stdout: expect.stringContaining("MR2002"),
  });
  await may("login");
  await pipeline.expectEqual(["t"]);

  await pipeline.daemon.stop();
  await may("nologin");
  pipeline.daemon = pipeline.installation.run();
  await shown(pipeline, isRefused);
  await pipeline.run("insert into t values (3, 'c')");
  await may("login");
  await pipeline.expectEqual(["t"]);
});

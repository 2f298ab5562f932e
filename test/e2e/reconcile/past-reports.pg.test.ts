/** What `status` and the metrics say of past comparisons, also by a daemon that did not make them. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const SUCCESS = /^millrace_reconcile_last_success_timestamp_seconds (\d+)/m;
const MISSING = /^millrace_reconcile_drift_rows\{table="public\.a",sink="postgres",kind="missing"\} (\d+)$/m;

test(
  "drift is shown until a comparison of everything has found none, and metrics outlive the daemon",
  { tags: "long" },
  async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    await using pipeline = await RunningPipeline.start(
      "create table a (id int primary key); create table b (id int primary key); insert into a values (1), (2)",
      { kinds: ["postgres"], configure: (config) => ({ ...config, admin: { listen } }) },
    );
    const metrics = async () => await (await fetch(`http://${listen}/metrics`)).text();
    const status = async () => (await pipeline.installation.command("status")).stdout;
    const wellAt = async () => Number(SUCCESS.exec(await metrics())?.[1] ?? 0);
    await pipeline.settled();
    expect((await reconcile(pipeline.installation, "--tables", "public.a")).exitCode).toBe(0);
    expect(await wellAt()).toBe(0);
    expect((await reconcile(pipeline.installation)).exitCode).toBe(0);
    const first = await wellAt();
    expect(first).toBeGreaterThan(1_700_000_000);
    expect(await status()).toContain("all is well");

    await pipeline.sinks.target!.query("delete from a where id = 2");
    expect((await reconcile(pipeline.installation, "--repair")).exitCode).toBe(3);
    for (const isAgain of [false, true]) {
      if (isAgain) await pipeline.restart();
      expect(await status()).toMatch(/! 1 row differed, 1 repaired in the comparison/);
      expect(await status()).not.toContain("all is well");
      expect(MISSING.exec(await metrics())?.[1]).toBe("1");
      expect(await wellAt()).toBe(first);
    }
    expect((await reconcile(pipeline.installation, "--tables", "public.a")).exitCode).toBe(0);
    expect(await status()).not.toContain("all is well");
    expect(MISSING.exec(await metrics())?.[1]).toBe("0");

    expect((await reconcile(pipeline.installation)).exitCode).toBe(0);
    await pipeline.restart();
    expect(await status()).toContain("all is well");
    expect(await wellAt()).toBeGreaterThanOrEqual(first);
    expect(MISSING.exec(await metrics())?.[1]).toBe("0");
  },
);

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

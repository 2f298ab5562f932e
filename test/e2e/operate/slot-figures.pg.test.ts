/** What the server tells of the slot is in `status` and in the metrics, and so are the parts of the latency. */
import { expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

test("positions, spilled transactions, old transactions and the parts of the latency", async () => {
  const port = await freePort();
  await using pipeline = await RunningPipeline.start(
    "create table item (id int primary key, body text); insert into item values (1, 'a')",
    { kinds: ["postgres"], configure: (config) => ({ ...config, admin: { listen: `127.0.0.1:${port}` } }) },
  );
  await pipeline.settled();
  const source = async () => (await pipeline.installation.status()).source;
  const value = async (line: RegExp): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return Number(line.exec(text)?.[1] ?? Number.NaN);
  };
  await eventually(async () => {
    const { log, acknowledged, spilledBytes } = await source();
    expect(log).toEqual({
      from: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
      confirmed: acknowledged,
      state: "reserved",
    });
    expect(spilledBytes).toBe(0);
  });
  expect(await value(/^millrace_slot_state\{state="reserved"\} (\S+)$/m)).toBe(1);

  // The stream's session takes the setting when it connects again.
  await pipeline.source.query(`alter database "${pipeline.source.name}" set logical_decoding_work_mem = '64kB'`);
  await pipeline.daemon.stop();
  await pipeline.start();
  await using open = await opened(pipeline);
  await pipeline.run("insert into item select g, repeat('x', 500) from generate_series(10, 3000) g");
  await pipeline.settled();
  await eventually(async () => {
    const { spilledTransactions, spilledBytes, oldestTransactionSeconds, unconfirmedBytes } = await source();
    expect(spilledTransactions).toBeGreaterThan(0);
    expect(spilledBytes).toBeGreaterThan(64 * 1024);
    expect(oldestTransactionSeconds).toBeGreaterThan(0);
    expect(unconfirmedBytes).toBeGreaterThanOrEqual(0);
  });
  expect(await value(/^millrace_slot_spilled_bytes (\S+)$/m)).toBeGreaterThan(64 * 1024);
  const sum = (part: string) =>
    value(new RegExp(`^millrace_latency_part_seconds_sum\\{sink="postgres",part="${part}"\\} (\\S+)$`, "m"));
  const whole = await value(/^millrace_commit_to_apply_seconds_sum\{sink="postgres"\} (\S+)$/m);
  const parts = (await sum("source")) + (await sum("internal")) + (await sum("sink"));
  expect(parts).toBeGreaterThan(0);
  expect(parts).toBeLessThanOrEqual(whole + 0.01);
  await open.query("rollback");
  await eventually(async () => (await source()).oldestTransactionSeconds === 0);
});

async function opened(pipeline: RunningPipeline) {
  const client = await pipeline.source.connect();
  await client.query("begin; insert into item values (2, 'open')");
  return {
    query: async (sql: string) => await client.query(sql),
    [Symbol.asyncDispose]: async () => await client.end(),
  };
}

/**
 * Whoever is to be woken is told what is not well, once, and when it is well again: over refusals and a SIGKILL.
 * @module-tag heavy
 */
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import type { Condition } from "../../../src/core/conditions/condition.ts";
import { type Listener, listener } from "../../support/network/listener.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const SECRET = `whsec_${Buffer.from("a secret of thirty-two bytes ....").toString("base64")}`;

interface Told {
  readonly event: string;
  readonly name: string;
  readonly began: readonly Condition[];
  readonly ended: readonly Condition[];
  readonly open: number;
}

/** What was said of letters and suspended tables, as whoever checks the signatures reads it, but for the refused attempt. */
function toldBy(listening: Listener): string[] {
  const verifier = new Webhook(SECRET);
  const told = listening.heard.slice(1).flatMap(({ text, signed }) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the message of the daemon, in its documented shape
    const { began, ended } = verifier.verify(text, signed) as Told;
    return [...began.map(({ id }) => `began ${id}`), ...ended.map(({ id }) => `ended ${id}`)];
  });
  // On a slow machine a start takes long enough to be told too.
  return told.filter((text) => /dead-letters|suspended/.test(text));
}

test("dead letters and a suspended table are told, each end too, and nothing twice", async () => {
  await using listening = await listener((number) => (number === 0 ? 503 : 204));
  await using pipeline = await RunningPipeline.start(
    "create table item (id int primary key, n int); insert into item values (1, 1); create table other (id int primary key)",
    {
      kinds: ["postgres"],
      configure: (config) => ({
        ...config,
        notify: { webhook: `${listening.url}/a-secret-place`, secret: SECRET, after: "0s" },
      }),
    },
  );
  await pipeline.settled();
  await pipeline.sinks.target!.query("alter table public.item add constraint small check (n < 1000)");
  await pipeline.run("insert into item values (2, 5000)");
  const letters = "sink.dead-letters sink=postgres";
  await eventually(() => expect(toldBy(listening)).toEqual([`began ${letters}`]));
  const [refused, taken] = listening.heard;
  // The same message again, not another one.
  expect(refused?.signed["webhook-id"]).toBe(taken?.signed["webhook-id"]);
  const newest = listening.heard.at(-1);
  expect(newest?.text).not.toMatch(/5000|a-secret-place/);
  expect(newest?.body).toMatchObject({ event: "conditions", name: pipeline.source.name, open: 1 });
  await pipeline.daemon.kill();
  await pipeline.start();
  await pipeline.run("alter table other drop constraint other_pkey; insert into other values (7)");
  const suspended = "table.suspended table=public.other";
  await eventually(() => expect(toldBy(listening)).toEqual([`began ${letters}`, `began ${suspended}`]));
  expect(await pipeline.installation.command("dlq", "discard", "--all", "--yes")).toMatchObject({ exitCode: 0 });
  await eventually(() => expect(toldBy(listening).at(-1)).toBe(`ended ${letters}`));
  expect(listening.heard.at(-1)?.body).toMatchObject({ open: 1 });
  await pipeline.daemon.stop();
  expect(listening.heard.at(-1)?.body).toMatchObject({ began: [{ id: "daemon.absent", level: "act" }], ended: [] });
  await pipeline.start();
  await eventually(() =>
    expect(listening.heard.map(({ body }) => body)).toContainEqual(
      expect.objectContaining({ ended: expect.arrayContaining([expect.objectContaining({ id: "daemon.absent" })]) }),
    ),
  );
  // A daemon that ends over an error says which.
  await pipeline.daemon.stop();
  await pipeline.run(`select pg_drop_replication_slot('millrace_${pipeline.source.name}')`);
  await pipeline.start(false);
  expect(await pipeline.daemon.ended).toMatchObject({ exitCode: 1 });
  const last = { id: "daemon.ended", level: "act", code: expect.stringMatching(/^MR/) };
  expect(listening.heard.at(-1)?.body).toMatchObject({ began: [last] });
});

test("a receiver that refuses is something to look at, and nothing else waits for it", async () => {
  await using listening = await listener(() => 401);
  await using pipeline = await RunningPipeline.start("create table item (id int primary key)", {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, notify: { webhook: listening.url, after: "0s", level: "watch" } }),
  });
  await pipeline.settled();
  expect(await pipeline.installation.command("pause", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  await eventually(async () => {
    const { stdout } = await pipeline.installation.command("status");
    expect(stdout).toMatch(/! the webhook could not be told what is not well: MR1158 .*401/);
  });
  expect(await pipeline.installation.command("resume")).toMatchObject({ exitCode: 0 });
  await pipeline.run("insert into item values (1)");
  await pipeline.expectEqual(["item"]);
});

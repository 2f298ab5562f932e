/**
 * MySQL and MariaDB behind a log in Kafka: the capturing daemon has no rules, and rules of the one behind it follow tables and
 * columns by the renames that the log has.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { type Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { expectFormerNamesHidden } from "../../support/mysql/former-names.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { RenamedTables } from "../../support/mysql/renamed-tables.ts";
import { kafkaBroker, mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** A daemon without rules that captures into a log. */
function captured(owned: AsyncDisposableStack, ran: (capture: Installation, daemon: Daemon) => void = () => {}) {
  const topics = owned.use(new KafkaTopics(kafkaBroker()));
  const { broker, prefix } = topics;
  return async (name: string, url: string): Promise<object> => {
    const sinks = { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } };
    const capture = new Installation({ name, source: { kind: "mysql", url, heartbeat: "500ms" }, sinks });
    const daemon = owned.use(capture).run();
    await daemon.streaming();
    ran(capture, daemon);
    return { kind: "kafka", brokers: [broker], prefix, from: name, heartbeat: "500ms" };
  };
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("rows under the names that tables and columns had", async () => {
    await using owned = new AsyncDisposableStack();
    await expectFormerNamesHidden(flavour, captured(owned));
  });

  test.each([
    ["while the daemon runs", false],
    ["while it does not", true],
  ])("what gets another name %s", async (_, isDown) => {
    await using owned = new AsyncDisposableStack();
    await using scene = await RenamedTables.start(flavour, isDown, captured(owned));
    await scene.expectSuspended({});
    await scene.run(
      "rename table users to swapping, users_next to users, swapping to users_next",
      `insert into users values (1, 'n@${CANARY}', '${SHOWN}', 'AT')`,
      `update users_next set mail = 'u@${CANARY}'`,
    );
    await scene.expectSuspended({ users_next: "MR1033" });
    await scene.run(
      "alter table users_next drop column country, rename to away",
      `update away set mail = '2@${CANARY}'`,
    );
    await scene.expectSuspended({ away: "MR1033" });
    await scene.run(
      "alter table letters change mail note varchar(80) after id, change note mail varchar(80) after note",
      `insert into letters (id, note, mail) values (2, 'm@${CANARY}', 'open')`,
    );
    await scene.expectSuspended({ away: "MR1033", letters: "MR1025" });
  });

  test("names that are exchanged in a part of the log that the capturing daemon has lost", async () => {
    await using owned = new AsyncDisposableStack();
    const run: { capture?: Installation; daemon?: Daemon } = {};
    const through = captured(owned, (capture, daemon) => Object.assign(run, { capture, daemon }));
    const form = "(id int primary key, mail varchar(80), note varchar(80))";
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table users ${form}`,
        `create table people ${form}`,
        `insert into users values (1, '${CANARY} a', 'x')`,
        `insert into people values (1, 'open', '${SHOWN}')`,
      ],
      { kinds: ["files", "duckdb"], rules: { users: { columns: { mail: { mask: "redact" } } }, people: {} }, through },
    );
    await pipeline.settled();
    await run.daemon!.stop();
    await pipeline.run(
      "rename table users to between_them, people to users, between_them to people",
      `insert into people values (2, '${CANARY} b', 'y')`,
    );
    const recovered = await run.capture!.command("recover", "--anyway", "--yes");
    expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
    await run.capture!.run().streaming();
    await eventually(async () => {
      const { tables } = await pipeline.installation.status();
      expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([
        [`${pipeline.source.name}.people`, "MR1033"],
      ]);
    });
    await pipeline.run(
      `insert into people values (3, '${CANARY} c', 'z')`,
      "insert into users values (9, 'm', 'mark 7f3a')",
    );
    await eventually(async () => expect((await placesWith("mark 7f3a", pipeline)).length).toBeGreaterThan(0));
    await expectHidden(pipeline);
  });
});

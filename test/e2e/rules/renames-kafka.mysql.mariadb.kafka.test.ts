/**
 * MySQL and MariaDB behind a log in Kafka: the capturing daemon has no rules, and rules of the one behind it follow tables and
 * columns by the renames that the log has.
 * @module-tag heavy
 */
import { describe, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { CANARY, SHOWN } from "../../support/daemon/canary.ts";
import { expectFormerNamesHidden } from "../../support/mysql/former-names.ts";
import { RenamedTables } from "../../support/mysql/renamed-tables.ts";
import { kafkaBroker, mysqlFlavours } from "../../support/run/services.ts";

/** A daemon without rules that captures into a log. */
function captured(owned: AsyncDisposableStack) {
  const topics = owned.use(new KafkaTopics(kafkaBroker()));
  const { broker, prefix } = topics;
  return async (name: string, url: string): Promise<object> => {
    const sinks = { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } };
    const capture = new Installation({ name, source: { kind: "mysql", url, heartbeat: "500ms" }, sinks });
    await owned.use(capture).run().streaming();
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
});

/** A log in Kafka behind logins, TLS and an authorizer, and the daemons that share its tables. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { GuardedKafka, KAFKA_PASSWORD } from "../support/kafka/guarded-kafka.ts";
import { printedAcls } from "../support/kafka/kafka-acls.ts";
import { SharedTables } from "../support/kafka/shared-tables.ts";

const MADE = `create table users (id int primary key, n int); insert into users select g, 0 from generate_series(1, 50) g;
  create table notes (id int primary key, n int); insert into notes select g, 0 from generate_series(1, 50) g`;
const TABLES = ["users", "notes"];

let guarded: GuardedKafka;

beforeAll(async () => {
  guarded = await GuardedKafka.start();
});

afterAll(async () => {
  await guarded?.[Symbol.asyncDispose]();
});

async function expectFollowed(shared: SharedTables): Promise<void> {
  await shared.spread(2);
  await shared.source.query("update users set n = 1 where id < 20; delete from notes where id = 20");
  await shared.expectEqual(TABLES);
}

test(
  "with a login and the ACLs that `grants` prints, which are those of `check`, the shares follow the log",
  { tags: "long" },
  async () => {
    await using shared = await SharedTables.start(MADE, {
      kinds: ["postgres"],
      shares: 2,
      broker: `127.0.0.1:${guarded.broker.port}`,
      source: {
        brokers: [`127.0.0.1:${guarded.port("login")}`],
        sasl: { mechanism: "PLAIN", username: "plain", password: KAFKA_PASSWORD },
      },
    });
    const { installation } = shared.through.applying;
    const checked = await installation.command("check", "--share", "1", "--json");
    const { findings }: { findings: readonly Finding[] } = JSON.parse(checked.stdout);
    const granted = await installation.command("grants", "--source", "--json");
    expect(granted, granted.stderr).toMatchObject({ exitCode: 0 });
    const { scripts }: { scripts: readonly { script: string }[] } = JSON.parse(granted.stdout);
    const acls = printedAcls(scripts[0]!.script);
    expect(acls).toEqual(printedAcls(findings.find(({ id }) => id === "kafka.acls")!.what));
    await guarded.admin.createAcls({ creations: [...acls] });
    await expectFollowed(shared);
    expect(shared.said() + checked.stdout + granted.stdout).not.toContain(KAFKA_PASSWORD);
  },
);

test("over TLS with a certificate of the client's, the shares follow the log", { tags: "long" }, async () => {
  const { own, client } = guarded;
  await using shared = await SharedTables.start(MADE, {
    kinds: ["postgres"],
    shares: 2,
    broker: `127.0.0.1:${guarded.broker.port}`,
    source: {
      brokers: [`localhost:${guarded.port("mutual")}`],
      tls: { ca: own.certificatePath, cert: client.certificatePath, certKey: client.keyPath },
    },
  });
  await expectFollowed(shared);
});

/** Kafka behind logins, TLS and an authorizer: what is taken, and what is said where it is not. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { type Acl, AclOperations, AclPermissionTypes, ResourcePatternTypes, ResourceTypes } from "@platformatic/kafka";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { definition, factory, type KafkaOptions } from "../../connectors/kafka/config.ts";
import type { Finding } from "../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import type { Certificate } from "../support/network/certificate.ts";
import { GuardedKafka, KAFKA_PASSWORD, type Listener } from "../support/kafka/guarded-kafka.ts";
import type { Checked } from "../support/postgres/administer.ts";
import { printedAcls } from "../support/kafka/kafka-acls.ts";
import { FORGETFUL } from "../support/faults/forgetful-cluster.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { eventually } from "../support/run/waiting.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { ThroughKafka } from "../support/kafka/through-kafka.ts";
import { item, note, origin, SinkScene } from "../support/kafka/kafka-scene.ts";

const PASSWORD = KAFKA_PASSWORD;
const users = tableVersion({ table: "users", columns: { id: "int8" } });

let guarded: GuardedKafka;
let broker: GuardedKafka["broker"];
let admin: GuardedKafka["admin"];
let own: Certificate;
let client: Certificate;
let stranger: Certificate;
const port = (listener: Listener): number => guarded.port(listener);

beforeAll(async () => {
  guarded = await GuardedKafka.start(FORGETFUL);
  ({ broker, admin, own, client, stranger } = guarded);
});

afterAll(async () => {
  await guarded?.[Symbol.asyncDispose]();
});

function contextOf(options: object) {
  const parsed: KafkaOptions = definition.parse({ topics: { partitions: 1 }, ...options });
  return { name: "stream", daemon: "shop", folder: guarded.folder, options: parsed, origin };
}

async function opened(options: object): Promise<void> {
  const sink = await factory.create(contextOf(options), quietLog);
  try {
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
  } finally {
    await sink.close();
  }
}

/** What a sink and `check` say of these options; no secret is in it. */
async function refused(
  options: object,
): Promise<{ readonly error: MillraceError; readonly found: readonly Finding[] }> {
  const error = await failure(opened(options));
  const found = await factory.check(contextOf(options), timeout(), [users]);
  expect(inspect({ error, found }, { depth: 10 })).not.toContain(PASSWORD);
  return { error, found };
}

describe("logins", () => {
  const login = (sasl: object): object => ({ brokers: [`127.0.0.1:${port("login")}`], prefix: "l-", sasl });

  test.each(["SCRAM-SHA-256", "SCRAM-SHA-512"])("%s is taken, and a wrong password refused", async (mechanism) => {
    await opened(login({ mechanism, username: "scrammed", password: PASSWORD }));
    const { error, found } = await refused(login({ mechanism, username: "scrammed", password: `${PASSWORD}!` }));
    expect(error).toMatchObject({ code: "MR2002", kind: "blocked" });
    expect(found).toMatchObject([{ id: "kafka.connect", level: "error", what: expect.stringContaining("MR2002") }]);
  });

  test("a password from a file is read for each connection, and one that can't be had is told", async () => {
    const file = join(guarded.folder, "password");
    const sasl = { mechanism: "SCRAM-SHA-256", username: "scrammed", passwordFile: file };
    await writeFile(file, `${PASSWORD}!\n`);
    const sink = await factory.create(contextOf(login(sasl)), quietLog);
    try {
      expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR2002", kind: "blocked" });
      await writeFile(file, `${PASSWORD}\n`);
      await sink.open(1, timeout());
      await sink.prepare([users], timeout());
    } finally {
      await sink.close();
    }
    await writeFile(file, "");
    const { error, found } = await refused(login(sasl));
    expect(error).toMatchObject({ code: "MR2901", kind: "blocked" });
    expect(found).toMatchObject([{ level: "error", what: expect.stringContaining("MR2901") }]);
    await opened(login({ ...sasl, passwordFile: undefined, passwordCommand: ["printf", PASSWORD] }));
    expect(definition.safeParse(login({ ...sasl, passwordFile: undefined })).error?.message).toContain(
      "expected `password`, `passwordCommand` or `passwordFile`",
    );
  });

  test("a session that the broker renews takes the password as it is by then", { tags: "heavy" }, async () => {
    const file = join(guarded.folder, "renewed");
    const sasl = { mechanism: "SCRAM-SHA-512", username: "scrammed", passwordFile: file };
    await writeFile(file, PASSWORD);
    const sink = await factory.create(contextOf({ ...login(sasl), prefix: "r-" }), quietLog);
    try {
      await sink.open(1, timeout());
      await sink.prepare([users], timeout());
      await guarded.setPassword("another-canary");
      // Nothing is written meanwhile.
      const refused = await eventually(async () => await failure(sink.verify(timeout())));
      expect(refused).toMatchObject({ code: "MR2002", kind: "blocked" });
      expect(inspect(refused, { depth: 10 })).not.toContain("canary");
      expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR2002", kind: "blocked" });
      await writeFile(file, "another-canary");
      await sink.open(1, timeout());
      await sink.prepare([users], timeout());
      await sink.verify(timeout());
    } finally {
      await sink.close();
      await guarded.setPassword(PASSWORD);
    }
  });

  test("behind a log, a session that the broker renews takes the password as it is by then", async () => {
    const file = join(guarded.folder, "followed");
    await writeFile(file, PASSWORD);
    await using through = await ThroughKafka.start(
      "create table users (id int primary key, n int); insert into users select g, 0 from generate_series(1, 50) g",
      {
        kinds: ["postgres"],
        broker: `127.0.0.1:${broker.port}`,
        source: {
          brokers: [`127.0.0.1:${port("login")}`],
          sasl: { mechanism: "SCRAM-SHA-512", username: "scrammed", passwordFile: file },
        },
      },
    );
    const { applying } = through;
    try {
      await applying.run("update users set n = 1 where id < 20; delete from users where id = 20");
      await applying.expectEqual(["users"]);
      await guarded.setPassword("another-canary");
      await eventually(async () =>
        expect((await applying.installation.status()).source).toMatchObject({
          needsPerson: true,
          error: { code: "MR2002", hint: expect.stringContaining("`passwordFile` is asked again") },
        }),
      );
      await writeFile(file, "another-canary");
      await applying.run("update users set n = 2 where id < 20");
      await applying.expectEqual(["users"]);
      expect(applying.daemon.said).not.toMatch(new RegExp(`${PASSWORD}|another-canary`));
    } finally {
      await guarded.setPassword(PASSWORD);
    }
  });

  test("PLAIN with a wrong password, no login where one is wanted, and one where none is taken", async () => {
    const wrong = await refused(login({ mechanism: "PLAIN", username: "plain", password: `${PASSWORD}!` }));
    expect(wrong.error).toMatchObject({ code: "MR2002", kind: "blocked" });
    const { error, found } = await refused({ brokers: [`127.0.0.1:${port("login")}`], prefix: "l-" });
    expect(error).toMatchObject({ code: "MR2002", kind: "blocked" });
    expect(found).toMatchObject([{ level: "error", what: expect.stringContaining("MR2002") }]);
    const sasl = { mechanism: "PLAIN", username: "plain", password: PASSWORD };
    const where = await refused({ brokers: [`127.0.0.1:${port("plain")}`], prefix: "l-", sasl });
    expect(where.error).toMatchObject({ code: "MR2002", kind: "blocked" });
  });
});

describe("TLS", () => {
  const over = (listener: Listener, tls: object | boolean, host = "localhost"): object => ({
    brokers: [`${host}:${port(listener)}`],
    prefix: "t-",
    tls,
  });

  test("an authority of one's own, a client certificate, and another name are taken", async () => {
    await opened(over("tls", { ca: own.certificatePath }));
    const files = { ca: own.certificatePath, cert: client.certificatePath, certKey: client.keyPath };
    await opened(over("mutual", files));
    await opened(over("named", { ca: own.certificatePath, serverName: "localhost" }, "127.0.0.1"));
  });

  test("what fails is said with its fix", async () => {
    const wrong: readonly (readonly [options: object, what: RegExp])[] = [
      [over("tls", true), /not signed by an authority that is trusted.*`tls.ca`/],
      [over("tls", { ca: stranger.certificatePath }), /not signed by an authority that is trusted.*`tls.ca`/],
      [over("named", { ca: own.certificatePath }, "127.0.0.1"), /another name.*`tls.serverName`/],
      [over("mutual", { ca: own.certificatePath }), /certificate.*`cert`/],
      [
        over("mutual", { ca: own.certificatePath, cert: stranger.certificatePath, certKey: stranger.keyPath }),
        /does not accept the client's certificate.*`cert`/,
      ],
      [over("plain", { ca: own.certificatePath }, "127.0.0.1"), /does not speak TLS on this port.*/],
      [over("tls", false), /speaks TLS alone on this port.*`tls: true`/],
    ];
    for (const [options, what] of wrong) {
      const { error, found } = await refused(options);
      expect({ what, code: error.code, said: `${error.message} -> ${error.hint}` }).toEqual({
        what,
        code: "MR2003",
        said: expect.stringMatching(what),
      });
      expect(found.map(({ what: said, fix }) => `${said} -> ${fix}`)).toEqual([expect.stringMatching(what)]);
    }
  });
});

describe("an authorizer", () => {
  const sasl = { mechanism: "PLAIN", username: "plain", password: PASSWORD };
  const options = (prefix: string): object => ({ brokers: [`127.0.0.1:${port("login")}`], prefix, sasl });

  async function aclsFor(prefix: string): Promise<readonly Acl[]> {
    const found = await factory.check(contextOf(options(prefix)), timeout(), [users]);
    return printedAcls(found.find(({ id }) => id === "kafka.acls")!.what);
  }

  test("with the ACLs that `check` prints a daemon runs", { tags: "heavy" }, async () => {
    await using pipeline = await RunningPipeline.start(
      "create table users (id int primary key, n int); insert into users select g, 0 from generate_series(1, 50) g",
      {
        kinds: ["kafka"],
        broker: `127.0.0.1:${broker.port}`,
        untilStreaming: false,
        configure: (config) => ({
          ...config,
          sinks: { kafka: { ...config.sinks["kafka"], brokers: [`127.0.0.1:${port("login")}`], sasl } },
        }),
      },
    );
    const { stdout } = await pipeline.installation.command("check", "--json");
    const { findings }: Checked = JSON.parse(stdout);
    await admin.createAcls({ creations: [...printedAcls(findings.find(({ id }) => id === "kafka.acls")!.what)] });
    await pipeline.daemon.streaming();
    await pipeline.run("update users set n = 1 where id < 20; delete from users where id = 20; truncate users");
    await pipeline.run("insert into users values (1, 1)");
    await pipeline.expectEqual(["users"]);
    await pipeline.restart();
    await pipeline.run("create table later (id int primary key); insert into later values (1)");
    await pipeline.expectEqual(["users", "later"]);
    // The right to one topic is taken away, and given back.
    const { source, installation, sinks } = pipeline;
    for (const operation of [AclOperations.WRITE, AclOperations.ALL]) {
      const denied = denialOf(`${sinks.topics!.prefix}${source.name}.public.users`, operation);
      const isSuspended = async (): Promise<void> => {
        await pipeline.run("update users set n = n + 1; update later set id = id + 1");
        expect((await installation.status()).tables.suspended).toMatchObject([
          { table: "public.users", error: { code: "MR1324", message: expect.stringContaining("MR2008") } },
        ]);
      };
      const othersFlow = async (): Promise<void> => {
        await eventually(isSuspended);
        await eventually(async () => {
          expect(await sinks.differences(source.url, installation.folder, ["later"])).toEqual([]);
        });
      };
      const allowed = async (): Promise<void> => {
        await admin.deleteAcls({ filters: [denied] });
        await eventually(async () => expect((await installation.status()).tables.suspended).toEqual([]), {
          withinMs: 60_000,
        });
        await pipeline.expectEqual(["users", "later"]);
      };
      await admin.createAcls({ creations: [denied] });
      await othersFlow();
      await pipeline.restart();
      await othersFlow();
      await allowed();
      // Before a start, which looks at the topics first.
      await pipeline.daemon.stop();
      await admin.createAcls({ creations: [denied] });
      await pipeline.start();
      await othersFlow();
      await allowed();
    }
    const log = await readFile(join(pipeline.installation.folder, "millrace.yaml"), "utf8");
    expect(log, "the only place of the password").toContain(PASSWORD);
    expect(pipeline.daemon.said + stdout).not.toContain(PASSWORD);
  });

  const LEFT = { committed: ["1"], aborted: [] };

  // A broker was away when a transaction ended, and its topic may not be looked at when the sink comes again.
  test.each([
    ["committed", "this process"],
    ["committed", "another process"],
    ["aborted", "this process"],
    ["aborted", "another process"],
  ] as const)("%s, not ended in a topic that is denied: %s ends it so when it may", async (ending, by) => {
    const login = { address: `127.0.0.1:${port("login")}`, sasl: { ...sasl, mechanism: "PLAIN" } } as const;
    await using stack = new AsyncDisposableStack();
    await admin.createAcls({ creations: [...everything] });
    stack.defer(async () => void (await admin.deleteAcls({ filters: [...everything] })));
    await using scene = await SinkScene.create(`127.0.0.1:${broker.port}`, login);
    const topic = scene.topic("public.note");
    await scene.sink.prepare([note], timeout());
    scene.forget("public.note");
    scene.weakness.aborts = ending === "aborted";
    const written = scene.write(note, 20n, "1");
    if (ending === "aborted") expect(await failure(written)).toMatchObject({ kind: "retryable" });
    else await written;
    const isDenied = async (wanted: boolean): Promise<void> => {
      await using cluster = await scene.settings.cluster.connect(timeout());
      await eventually(async () =>
        expect((await cluster.topics([topic], timeout())).get(topic) === "denied").toBe(wanted),
      );
    };
    const denied = denialOf(topic, AclOperations.ALL);
    await admin.createAcls({ creations: [denied] });
    await isDenied(true);
    await scene.restart();
    const refused = { code: "MR2008", kind: "blocked", table: note.id };
    expect(await failure(scene.sink.prepare([note], timeout()))).toMatchObject(refused);
    expect(await failure(scene.sink.missing([note], timeout()))).toMatchObject(refused);
    expect(await scene.sink.missing([item], timeout())).toEqual([]);
    await scene.sink.prepare([item], timeout());
    await scene.write(item, 30n, "2");
    await scene.sink.verify(timeout());
    // The last transaction ends in the other way.
    scene.weakness.aborts = ending === "committed";
    await scene.write(item, 40n, "3").catch(() => undefined);
    await scene.restart();
    await admin.deleteAcls({ filters: [denied] });
    await isDenied(false);
    if (by === "another process") await scene.restart();
    await scene.sink.prepare([item, note], timeout());
    expect(await scene.ids("public.note")).toEqual(LEFT[ending]);
    await scene.write(note, 50n, "2");
    expect(await scene.ids("public.note")).toEqual([...LEFT[ending], "2"]);
  });

  test("without DescribeConfigs the sink writes, and check warns", async () => {
    const of = { ...contextOf(options("dc-")), options: definition.parse({ ...options("dc-"), format: "debezium" }) };
    const acls = (await aclsFor("dc-")).filter(({ operation }) => operation !== AclOperations.DESCRIBE_CONFIGS);
    await admin.createAcls({ creations: acls });
    const sink = await factory.create(of, quietLog);
    try {
      await eventually(async () => await sink.open(1, timeout()));
      await sink.prepare([users], timeout());
    } finally {
      await sink.close();
    }
    const found = await factory.check(of, timeout(), [users]);
    const told = found.filter(({ level }) => level !== "ok");
    expect(told).toMatchObject([{ level: "warning", what: expect.stringContaining("may not look at the settings") }]);
  });

  test("without one of them the error names what lacks", async () => {
    const acls = await aclsFor("a-");
    const told = ["WRITE", "CREATE", "READ"].map((operation) => [operation, "a-shop."] as const);
    const names = new Map([...told, ["ID", "millrace/sink/a-/shop/stream"] as const]);
    for (const [lacking, about] of names) {
      const prefix = `a${lacking.toLowerCase()}-`;
      const all = (await aclsFor(prefix)).filter((acl) => !isOf(acl, lacking));
      await admin.createAcls({ creations: [...all] });
      const { error } = await refused(options(prefix));
      expect({ lacking, code: error.code, kind: error.kind, message: error.message }).toEqual({
        lacking,
        code: "MR2008",
        kind: "blocked",
        message: expect.stringMatching(
          `${about.replace("a-", prefix)}.*, to ${lacking === "ID" ? "DESCRIBE" : lacking}`,
        ),
      });
    }
    await admin.createAcls({ creations: [...acls] });
    await opened(options("a-"));
    for (const lacking of ["WRITE", "ID"]) {
      const taken = acls.filter((acl) => isOf(acl, lacking));
      await admin.deleteAcls({ filters: taken });
      await eventually(async () => {
        const found = await factory.check(contextOf(options("a-")), timeout(), []);
        const told = lacking === "ID" ? /an ACL of the transactional id/ : /an ACL of a topic: a-shop\..*, to WRITE/;
        expect(found.filter(({ level }) => level === "error").map(({ what }) => what)).toEqual([
          expect.stringMatching(told),
        ]);
      });
      await admin.createAcls({ creations: taken });
    }
  });
});

const OF_PLAIN = { principal: "User:plain", host: "*" } as const;

/** A right of the user `plain` to one topic is taken away. */
function denialOf(topic: string, operation: Acl["operation"]): Acl {
  return {
    ...OF_PLAIN,
    resourceType: ResourceTypes.TOPIC,
    resourceName: topic,
    resourcePatternType: ResourcePatternTypes.LITERAL,
    operation,
    permissionType: AclPermissionTypes.DENY,
  };
}

/** The user `plain` may do everything with topics and transactional ids that begin so. */
const everything: readonly Acl[] = [ResourceTypes.TOPIC, ResourceTypes.TRANSACTIONAL_ID].map((resourceType) => ({
  ...OF_PLAIN,
  resourceType,
  resourceName: "*",
  resourcePatternType: ResourcePatternTypes.LITERAL,
  operation: AclOperations.ALL,
  permissionType: AclPermissionTypes.ALLOW,
}));

const TRANSACTIONAL_ID = 5;
const NUMBERS: Readonly<Record<string, number>> = { READ: 3, WRITE: 4, CREATE: 5 };

function isOf({ resourceType, operation }: Acl, lacking: string): boolean {
  if (lacking === "ID") return resourceType === TRANSACTIONAL_ID;
  return resourceType !== TRANSACTIONAL_ID && operation === NUMBERS[lacking];
}

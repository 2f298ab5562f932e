/**
 * The logins of sinks, then that of the state, are changed at their servers while the daemon runs: all that a person on call
 * looks at says of each whose it is, where, since when, what happens meanwhile, and whether a restart is needed; and all go on
 * when the logins are put back.
 * @module-tag heavy
 */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { ACT_UNREADY, OnCall } from "../../support/daemon/on-call.ts";
import { expectExplained, literally } from "../../support/daemon/told.ts";
import { GuardedKafka } from "../../support/kafka/guarded-kafka.ts";
import { httpGateway, type Reply } from "../../support/network/http-gateway.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshBucket,
  freshColumns,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  ownPostgres,
  redisUrl,
} from "../../support/run/services.ts";

/** Where the password of one sink comes from. */
const VARIABLE = "MILLRACE_TEST_REFUSED_PASSWORD";
const PASSWORD = "canary-of-the-first";

/** As the servers themselves refuse. */
const SEARCH_REFUSES: Reply = {
  status: 401,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ error: { type: "security_exception", reason: "unable to authenticate" }, status: 401 }),
};
const CLICKHOUSE_REFUSES: Reply = {
  status: 403,
  headers: { "x-clickhouse-exception-code": "516" },
  body: "Code: 516. DB::Exception: millrace: Authentication failed. (AUTHENTICATION_FAILED) (version 26.7.1)",
};
const S3_REFUSES: Reply = {
  status: 403,
  headers: { "content-type": "application/xml" },
  body: "<Error><Code>InvalidAccessKeyId</Code><Message>as S3 says it</Message></Error>",
};

function as(text: string, name: string, password = PASSWORD): string {
  const url = new URL(text);
  url.username = name;
  url.password = password;
  return url.href;
}

test("each refused login of a sink, and of the state, is told with its place and its cure, and passes by itself", async () => {
  await using server = await ownPostgres({
    auth: ["host all writer,keeper,holder 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using source = await freshDatabase();
  await using target = await freshDatabase(server);
  await using catalogue = await freshDatabase(server);
  await using state = await freshDatabase(server);
  await using kafka = await GuardedKafka.start();
  await using keys = freshKeyPrefix();
  await using indices = freshIndexPrefix();
  await using columns = freshColumns();
  await using bucket = await freshBucket();
  const login = `Basic ${Buffer.from(`millrace:${PASSWORD}`).toString("base64")}`;
  let areTaken = true;
  /** Servers of the tests ask for no login: what stands before them does, and takes none after a change. */
  const guarded = async (url: string, logins: readonly string[], refusal: Reply) =>
    await httpGateway(url, async ({ headers: { authorization = "", ...headers }, pass }) =>
      areTaken && logins.includes(authorization) ? await pass({ headers }) : refusal,
    );
  await using search = await guarded(elasticsearchUrl(), [login, `ApiKey ${PASSWORD}`], SEARCH_REFUSES);
  await using house = await guarded(clickhouseUrl(), [login], CLICKHOUSE_REFUSES);
  await using s3 = await httpGateway(bucket.options.endpoint, async ({ pass }) =>
    areTaken ? await pass() : S3_REFUSES,
  );
  const user = `cache_${randomUUID().slice(0, 8)}`;
  const redis = new Redis(redisUrl());
  const broker = `127.0.0.1:${kafka.port("login")}`;
  const placeOf = (url: string): string => new URL(url).host;
  process.env[VARIABLE] = PASSWORD;
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    state: as(state.url, "holder").replace(PASSWORD, `\${${VARIABLE}}`),
    sinks: {
      cache: { kind: "redis", url: as(redisUrl(), user), prefix: keys.prefix },
      warehouse: { kind: "postgres", url: as(target.url, "writer").replace(PASSWORD, `\${${VARIABLE}}`) },
      search: { kind: "elasticsearch", url: as(search.url, "millrace"), prefix: indices.prefix, replicas: 0 },
      keyed: { kind: "elasticsearch", url: search.url, apiKey: PASSWORD, prefix: `${indices.prefix}k-`, replicas: 0 },
      columns: { kind: "clickhouse", url: as(house.url, "millrace"), schema: columns.prefix },
      lake: {
        kind: "ducklake",
        catalog: as(catalogue.url, "keeper"),
        data: "./lake",
        extensions: await duckdbExtensions(),
      },
      bucket: {
        kind: "files",
        path: `s3://${bucket.bucket}/changes`,
        s3: { ...bucket.options, endpoint: s3.url },
        roll: { rows: 400, age: "1s" },
      },
      topics: {
        kind: "kafka",
        brokers: [broker],
        sasl: { mechanism: "SCRAM-SHA-512", username: "scrammed", password: PASSWORD },
      },
    },
  });
  const { installation } = onCall;
  /** Present connections end too, as servers do not end them by themselves. */
  const change = async (password: string): Promise<void> => {
    areTaken = password === PASSWORD;
    for (const role of ["writer", "keeper"]) await target.query(`alter role ${role} password '${password}'`);
    await target.query("select pg_terminate_backend(pid) from pg_stat_activity where usename in ('writer', 'keeper')");
    await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "resetpass", `>${password}`);
    await redis.call("CLIENT", "KILL", "USER", user);
    await kafka.setPassword(password);
  };
  const restart = "A change in millrace.yaml needs a restart: the file is read at the start.";
  const common = [
    /does not take rows/,
    /MR2002 /,
    /for \d+ s|since/,
    /it waits for you, and goes on by itself once that is done/,
  ];
  const own: Readonly<Record<string, readonly RegExp[]>> = {
    cache: [
      literally(placeOf(redisUrl())),
      literally(`user "${user}"`),
      /redis:\/\/user:password@host/,
      /ACL SETUSER/,
      literally(restart),
    ],
    warehouse: [
      literally(placeOf(target.url)),
      /user "writer"/,
      literally(`After a change on this side a restart is needed: \`\${${VARIABLE}}\` is read at the start.`),
    ],
    search: [literally(placeOf(search.url)), /user "millrace"/, /user and password in `url`/, literally(restart)],
    keyed: [literally(placeOf(search.url)), /`apiKey`/, literally(restart)],
    columns: [
      literally(placeOf(house.url)),
      /user "millrace"/,
      /http:\/\/user:password@host/,
      /ALTER USER/,
      literally(restart),
    ],
    lake: [literally(placeOf(catalogue.url)), /user "keeper"/, /`catalog`/, literally(`. ${restart}`)],
    bucket: [literally(placeOf(s3.url)), /`s3.accessKeyId`/, literally(`. ${restart}`)],
    topics: [literally(broker), /user "scrammed"/, /Correct `sasl`/, literally(restart)],
  };
  const told = Object.fromEntries(Object.entries(own).map(([sink, parts]) => [sink, [...common, ...parts]]));
  try {
    await target.query(
      "create role writer superuser login; create role keeper superuser login; create role holder superuser login",
    );
    await target.query(`alter role holder password '${PASSWORD}'`);
    await change(PASSWORD);
    await onCall.begin();
    // None of them has anything to write.
    await change("canary-of-the-second");
    await onCall.expectListed(told, { ...ACT_UNREADY, headline: "8 things need you" });
    await expectExplained(installation, "MR2002");
    expect((await installation.command("status")).stdout + (await onCall.page.content())).not.toContain("canary");
    const { stdout: checked } = await installation.command("check");
    for (const [sink, name] of Object.entries({
      cache: user,
      warehouse: "writer",
      search: "millrace",
      columns: "millrace",
      lake: "keeper",
      topics: "scrammed",
    }))
      expect(checked).toMatch(new RegExp(`ERROR +${sink}: .*user "${name}"`));
    expect(checked).toContain(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`);
    await change(PASSWORD);
    await onCall.expectWell();

    await target.query("alter role holder password 'canary-of-the-second'");
    await target.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'holder'");
    await onCall.expectTold(
      [
        /the state can't be written, and nothing is acknowledged/i,
        literally(`MR1216 the state's Postgres server at ${server.host}:${server.port} refuses`),
        /password authentication failed for user "holder"/,
        /for \d+ s|since/,
        /`state`/,
        literally(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`),
      ],
      "MR1216",
      ACT_UNREADY,
    );
    expect((await installation.command("status")).stdout + (await onCall.page.content())).not.toContain("canary");
    await target.query(`alter role holder password '${PASSWORD}'`);
    await onCall.expectWell();
  } finally {
    delete process.env[VARIABLE];
    await redis.call("ACL", "DELUSER", user);
    redis.disconnect();
  }
});

test("a source that refuses the login at the first start, before the daemon can ask for the tables of its documents", async () => {
  await using server = await ownPostgres({
    auth: ["host all,replication reader 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using source = await freshDatabase(server);
  await source.query(`create role reader superuser login password 'canary-of-the-second';
    create table item (id int primary key, n int); insert into item values (1, 1)`);
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: as(source.url, "reader"), heartbeat: "500ms" },
    documents: { items: { from: "public.item" } },
    sinks: { replica: { kind: "sqlite", path: "./replica.sqlite", documents: ["items"] } },
  });
  onCall.installation.run();
  const told = async (): Promise<void> =>
    await onCall.expectTold(
      [
        /source/i,
        literally(`MR2002 the source refuses the login while connecting to ${server.host}:${server.port}`),
        /user "reader"/,
        /A change in millrace\.yaml needs a restart: the file is read at the start/,
      ],
      "MR2002",
      ACT_UNREADY,
    );
  await told();
  await onCall.lookAtPage();
  await told();
  await source.query(`alter role reader password '${PASSWORD}'`);
  await onCall.expectWell();
});

/**
 * The logins of sinks are changed at their servers while the daemon runs: `status` alone says of each which sink, where, since
 * when, what happens meanwhile, and whether a restart is needed; and all go on when the logins are put back. Kafka's are in
 * integration/kafka-login.
 * @module-tag heavy
 */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { COMMAND_EVERY_MS, expectWell, literally, TOLD_WITHIN_MS } from "../../support/daemon/told.ts";
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
import { eventually } from "../../support/run/waiting.ts";

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

test("each refused login of a sink is told with its place and its cure, and passes by itself", async () => {
  await using server = await ownPostgres({
    auth: ["host all writer,keeper 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using source = await freshDatabase();
  await using target = await freshDatabase(server);
  await using catalogue = await freshDatabase(server);
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
  const placeOf = (url: string): string => new URL(url).host;
  process.env[VARIABLE] = PASSWORD;
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
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
    },
  });
  /** Present connections end too, as servers do not end them by themselves. */
  const change = async (password: string): Promise<void> => {
    areTaken = password === PASSWORD;
    for (const role of ["writer", "keeper"]) await target.query(`alter role ${role} password '${password}'`);
    await target.query("select pg_terminate_backend(pid) from pg_stat_activity where usename in ('writer', 'keeper')");
    await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "resetpass", `>${password}`);
    await redis.call("CLIENT", "KILL", "USER", user);
  };
  const restart = "A change in millrace.yaml needs a restart: the file is read at the start.";
  const told: Readonly<Record<string, readonly RegExp[]>> = {
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
  };
  try {
    await target.query("create role writer superuser login; create role keeper superuser login");
    await change(PASSWORD);
    installation.run();
    await expectWell(installation);
    // None of them has anything to write.
    await change("canary-of-the-second");
    await eventually(
      async () => {
        const { stdout } = await installation.command("status");
        for (const [sink, parts] of Object.entries(told)) {
          const said = new RegExp(`! sink ${sink} does not take rows(?:.*\\n.*)`).exec(stdout)?.[0] ?? stdout;
          for (const part of [
            /MR2002 /,
            /for \d+ s/,
            /it waits for you, and goes on by itself once that is done/,
            ...parts,
          ])
            expect(said).toMatch(part);
        }
        expect(stdout).not.toContain("canary");
      },
      { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
    );
    const { stdout: checked } = await installation.command("check");
    for (const [sink, name] of Object.entries({
      cache: user,
      warehouse: "writer",
      search: "millrace",
      columns: "millrace",
      lake: "keeper",
    }))
      expect(checked).toMatch(new RegExp(`ERROR +${sink}: .*user "${name}"`));
    expect(checked).toContain(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`);
    await change(PASSWORD);
    await expectWell(installation);
  } finally {
    delete process.env[VARIABLE];
    await redis.call("ACL", "DELUSER", user);
    redis.disconnect();
  }
});

/** What the operating system says of a connection is the same to every connector: it may pass. */
import { expect, test } from "vitest";
import { classifyConnection } from "../../connectors/elasticsearch/errors.ts";
import { classify as ofClickhouse } from "../../connectors/clickhouse/errors.ts";
import { failureOf } from "../../src/postgres/failure.ts";
import { Logins } from "../../src/config/secrets/logins.ts";
import { classify as ofMysql, unconnected } from "../../connectors/mysql/source/errors.ts";
import { classify as ofPostgres } from "../../connectors/postgres/source/errors.ts";
import { sinkError } from "../../connectors/postgres/sink/errors.ts";
import { classify as ofRedis } from "../../connectors/redis/errors.ts";
import { daemonExitCodeOf } from "../../src/cli/exit-codes.ts";
import { MillraceError, withLogin } from "../../src/core/errors.ts";
import { classify as ofState } from "../../src/state/postgres/errors.ts";

const never = new AbortController().signal;
const CODES =
  "ECONNREFUSED ECONNRESET ETIMEDOUT EPIPE ENOTFOUND EAI_AGAIN EHOSTUNREACH ENETUNREACH ENETDOWN EHOSTDOWN EADDRNOTAVAIL EADDRINUSE EMFILE ENFILE ENOBUFS ENOMEM EPERM".split(
    " ",
  );
const CONNECTORS: readonly (readonly [string, (error: Error) => MillraceError])[] = [
  ["postgres source", (error) => ofPostgres(error, "connecting")],
  ["postgres sink", (error) => sinkError(error, "connecting")],
  ["mysql", (error) => ofMysql(error, "connecting")],
  ["redis", (error) => ofRedis(error, never, "r:6379")],
  ["elasticsearch", (error) => classifyConnection(error, never, "e:9200")],
  ["state on postgres", ofState],
];

test.each(CODES)("%s is tried again, and named", (code) => {
  const error = Object.assign(new Error(`connect ${code} 127.0.0.1:1`), { code, syscall: "connect" });
  const found = CONNECTORS.map(([name, classify]) => {
    const { kind, message } = classify(error);
    return [name, kind, message.includes(code)];
  });
  expect(found).toEqual(CONNECTORS.map(([name]) => [name, "retryable", true]));
});

test.each([
  ["ECONNREFUSED", /Nothing listens at h:1: start the server there, or correct `url`/],
  ["ENOTFOUND", /name in h:1 is not known/],
  ["ETIMEDOUT", /h:1 gave no answer/],
  ["ECONNRESET", /h:1, or a proxy .*, ended the connection/],
  ["EMFILE", /no file handles left: raise the limit of open files \(ulimit -n is (?:\d+|unlimited);/],
])("%s has one cause and its way out, and names the server", (code, hint) => {
  const error = Object.assign(new Error(`connect ${code}`), { code, syscall: "connect" });
  const found = [
    ofRedis(error, never, "h:1"),
    classifyConnection(error, never, "h:1"),
    ofClickhouse(error, "writing", never, "h:1"),
    sinkError(failureOf(error, "h:1"), "connecting"),
  ];
  for (const { message, hint: told } of found)
    expect({ message, told }).toMatchObject({ told: expect.stringMatching(hint) });
  const source = ofPostgres(failureOf(error, "h:1"), "connecting");
  const away = unconnected(error, { host: "::1", port: 2 });
  expect([...found, source].map(({ message }) => message.includes("h:1"))).toEqual(Array(5).fill(true));
  expect(away.message).toContain("connecting to [::1]:2");
});

test.each([
  ["28P01", "auth_failed", /The password in `source.url` is not the role's/],
  ["3D000", "InitPostgres", /Create the database, or correct its name/],
  ["28000", "ClientAuthentication", /Add a line for this role, database and address to pg_hba.conf/],
  ["28000", "InitializeSessionUserId", /Create the role and let it log in/],
])("a login that Postgres refuses with %s in %s has its own way out", (code, routine, hint) => {
  const refused = failureOf(Object.assign(new Error("no"), { code, routine }), "db:5432");
  const { message, hint: told, reason } = ofPostgres(refused, "connecting");
  expect({ message, told, reason }).toEqual({
    message: expect.stringContaining("connecting to db:5432"),
    told: expect.stringMatching(hint),
    reason: code === "3D000" ? "no-database" : "login",
  });
});

test.each([
  [{ source: ["url"] }, ["${PW}"], "After a change on this side a restart is needed: `${PW}` is read at the start."],
  [{ source: ["url"] }, [], "A change in millrace.yaml needs a restart: the file is read at the start."],
  [{ source: ["passwordFile"] }, [], "No restart is needed: `passwordFile` is asked again at each connection."],
  [{ source: ["prefix"] }, ["${PW}"], null],
])("where a login comes from says whether another needs a restart: %j %j", ({ source }, references, note) => {
  const logins = new Logins();
  logins.add(["source", ...source], "postgres://reader:canary@host/shop", references);
  logins.add(["sinks", "cache", "url"], "redis://host", ["${OTHER}"]);
  expect(logins.of(["source"])).toEqual({ user: source[0] === "url" ? "reader" : "", note });
});

test.each([
  ["a url", ["url"], "http://wri%40ter:canary@host:8123", "wri@ter"],
  ["a stray %", ["url"], "http://%zz:canary@host:8123", "%zz"],
  ["one of several urls", ["url", "1"], "http://writer:canary@host:9200", "writer"],
  ["a catalogue", ["catalog"], "postgres://keeper:canary@host/lake", "keeper"],
  ["SASL", ["sasl", "username"], "writer", "writer"],
  ["a server beside it", ["registry", "url"], "http://other:canary@host", ""],
  ["no login", ["url"], "redis://host:6379", ""],
])("the user that a configuration names: %s", (_, path, text, user) => {
  const logins = new Logins();
  logins.add(["sinks", "one", ...path], text, []);
  expect(logins.of(["sinks", "one"]).user).toBe(user);
});

test("a login, a grant or a limit that refuses names its user once, and never another server's", () => {
  const told = (message: string, parts: Partial<ConstructorParameters<typeof MillraceError>[0]> = {}) =>
    withLogin(new MillraceError({ code: "MR2002", kind: "blocked", message, reason: "login", ...parts }), {
      user: "writer",
      note: null,
    }).message;
  expect(told("the server refuses the login (host:1)")).toBe('the server refuses the login (host:1), user "writer"');
  expect(told("a grant lacks", { code: "MR2008", reason: "privilege" })).toBe('a grant lacks, user "writer"');
  expect(told("a quota is used up", { code: "MR2006", reason: "user-limit" })).toBe(
    'a quota is used up, user "writer"',
  );
  expect(told("refused: user 'writer'@'host'")).toBe("refused: user 'writer'@'host'");
  expect(told("no answer", { code: "MR2001", reason: "lost" })).toBe("no answer");
  const connector = { side: "sink", kind: "ducklake", part: "bucket" } as const;
  expect(told("S3 refuses the keys", { connector })).toBe("S3 refuses the keys");
});

test("a daemon that ends is started again, but where a gap can't be ruled out", () => {
  const ended = (code: `MR${number}`, kind: MillraceError["kind"]) =>
    daemonExitCodeOf(new MillraceError({ code, kind, message: "" }));
  expect([ended("MR2010", "fatal"), ended("MR2013", "fatal"), ended("MR1204", "fatal")]).toEqual([1, 1, 1]);
  expect([ended("MR1005", "fatal"), ended("MR1213", "fatal")]).toEqual([2, 4]);
  expect([ended("MR2001", "retryable"), ended("MR2002", "blocked"), ended("MR1209", "retryable")]).toEqual([
    75, 75, 75,
  ]);
  expect([ended("MR1215", "fatal"), daemonExitCodeOf(new TypeError("a defect"))]).toEqual([75, 75]);
});

/** What the operating system says of a connection is the same to every connector: it may pass. */
import { expect, test } from "vitest";
import { classifyConnection } from "../../connectors/elasticsearch/errors.ts";
import { classify as ofMysql } from "../../connectors/mysql/source/errors.ts";
import { classify as ofPostgres } from "../../connectors/postgres/source/errors.ts";
import { sinkError } from "../../connectors/postgres/sink/errors.ts";
import { classify as ofRedis } from "../../connectors/redis/errors.ts";
import { daemonExitCodeOf } from "../../src/cli/exit-codes.ts";
import { MillraceError } from "../../src/core/errors.ts";
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

test("a daemon that ends is started again, but where a gap can't be ruled out", () => {
  const ended = (code: `MR${number}`, kind: MillraceError["kind"]) =>
    daemonExitCodeOf(new MillraceError({ code, kind, message: "" }));
  expect([ended("MR2015", "fatal"), ended("MR2116", "fatal"), ended("MR1204", "fatal")]).toEqual([1, 1, 1]);
  expect([ended("MR1005", "fatal"), ended("MR1213", "fatal")]).toEqual([2, 4]);
  expect([ended("MR2001", "retryable"), ended("MR2002", "blocked"), ended("MR1209", "retryable")]).toEqual([
    75, 75, 75,
  ]);
  expect([ended("MR1215", "fatal"), daemonExitCodeOf(new TypeError("a defect"))]).toEqual([75, 75]);
});

import { afterEach, expect, test, vi } from "vitest";
import { servicesNeededBy, servicesStartedFor } from "../support/run/service-suffixes.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

test("a file's name tells which servers it needs", () => {
  vi.stubEnv("MILLRACE_TEST_LONG", "");
  expect(servicesNeededBy("/x/test/parse.test.ts")).toEqual([]);
  expect(servicesNeededBy("/x/test/slots.pg.test.ts")).toEqual(["postgres"]);
  expect(servicesNeededBy("/x/test/all.pg.redis.es.test.ts")).toEqual(["postgres", "redis", "elasticsearch"]);
  expect(servicesNeededBy("/x/test/rows.mysql.mariadb.test.ts")).toEqual(["mysql", "mariadb"]);
  expect(servicesNeededBy("/x/test/crash.alone.pg.test.ts")).toEqual(["postgres"]);
  expect(servicesStartedFor("/x/test/sink.redis.test.ts")).toEqual(["redis"]);
});

test("the long form starts the variants too, without which the file still runs", () => {
  vi.stubEnv("MILLRACE_TEST_LONG", "1");
  expect(servicesStartedFor("/x/test/sink.redis.test.ts")).toEqual(["redis", "redis60", "redis8", "valkey"]);
  expect(servicesNeededBy("/x/test/sink.redis.test.ts")).toEqual(["redis"]);
});

test("a suffix that nobody knows is an error and not a silent skip", () => {
  expect(() => servicesNeededBy("/x/test/sink.postgres.test.ts")).toThrow(
    'sink.postgres.test.ts: ".postgres" names no service that tests can ask for',
  );
});

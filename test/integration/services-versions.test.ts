import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { afterEach, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { serviceNames } from "../../scripts/services/definitions.ts";
import { readJarList } from "../../scripts/services/packages/maven.ts";
import { mariadbLine, mariadbLines } from "../../scripts/services/servers/mysql/mariadb-version.ts";
import { mysql } from "../../scripts/services/servers/mysql/mysql.ts";
import { mysqlLine, mysqlLines } from "../../scripts/services/servers/mysql/mysql-version.ts";
import { postgresLine, postgresLines } from "../../scripts/services/servers/postgres/postgres-version.ts";
import { isFrom } from "../../scripts/services/server-line.ts";
import { versions } from "../../scripts/services/versions.ts";

const Compose = z.object({
  services: z.record(z.string(), z.object({ image: z.string(), ports: z.array(z.string()) })),
});
const compose = Compose.parse(parse(readFileSync("docker-compose.yml", "utf8")));

afterEach(() => {
  vi.unstubAllEnvs();
});

test("docker-compose.yml has every server in the version of versions.ts, and no other; the browser is none", () => {
  const images = Object.fromEntries(Object.entries(compose.services).map(([name, { image }]) => [name, image]));
  const servers = serviceNames.filter((name) => name !== "chromium" && name !== "prometheus");
  expect(images).toEqual(Object.fromEntries(servers.map((name) => [name, versions[name].image])));
});

test("docker-compose.yml binds every port to 127.0.0.1, each once", () => {
  const ports = Object.values(compose.services).flatMap((service) => service.ports);
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  expect(new Set(ports).size).toBe(ports.length);
});

test.for([
  `elasticsearch-${versions.elasticsearch.version}`,
  `elasticsearch-${versions.elasticsearch9.version}`,
  `opensearch-${versions.opensearch.version}`,
  `opensearch-${versions.opensearch3.version}`,
  `kafka-${versions.kafka.version}`,
  `kafka-${versions.kafka31.version}`,
  `debezium-${versions.debezium}`,
  `ecj-${versions.ecj}`,
])("the list of jars of %s is there, each with its sum and size", async (name) => {
  const jars = await readJarList(name);
  const last = name.slice(name.indexOf("-") + 1);
  expect(jars.some(({ path }) => path.includes(`/${last}/`))).toBe(true);
  for (const { sha256, byteCount, path } of jars) {
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(byteCount).toBeGreaterThan(0);
    expect(path).toMatch(/^[\w.-]+(\/[\w.-]+){3,}\.jar$/);
  }
});

test("no jar of one engine would overwrite another in its folder", async () => {
  for (const { version } of [versions.elasticsearch, versions.elasticsearch9]) {
    const names = (await readJarList(`elasticsearch-${version}`)).map(({ path }) => path.split("/").at(-1));
    expect(new Set(names).size).toBe(names.length);
  }
  const peer = (await readJarList(`debezium-${versions.debezium}`)).map(({ path }) => path.split("/").at(-1));
  expect(new Set(peer).size).toBe(peer.length);
  for (const { version } of [versions.opensearch, versions.opensearch3]) {
    const names = (await readJarList(`opensearch-${version}`)).map(({ path }) => path.split("/").at(-1));
    expect(new Set(names).size).toBe(names.length);
  }
});

test.for([...postgresLines])("the embedded Postgres $major is the release of the image", ({ image, embedded }) => {
  const [release] = embedded.split("-");
  expect(image).toBe(`postgres:${release?.split(".").slice(0, 2).join(".")}-bookworm`);
});

test("the lines of Postgres are 18 to 14, of which a run has the newest unless it is told another", async () => {
  expect(postgresLines.map((line) => line.major)).toEqual([18, 17, 16, 15, 14]);
  vi.stubEnv("MILLRACE_TEST_POSTGRES_VERSION", "");
  expect(postgresLine()).toMatchObject({ major: 18, image: versions.postgres.image });
  vi.stubEnv("MILLRACE_TEST_POSTGRES_VERSION", "15");
  expect(postgresLine()).toMatchObject({ major: 15 });
  expect(postgresLine("14")).toMatchObject({ major: 14 });
  expect(() => postgresLine("13")).toThrow("known are 18, 17, 16, 15, 14");
  expect(await readFile("docker-compose.yml", "utf8")).toContain(versions.postgres.image);
});

test("the lines of MySQL and of MariaDB, of which a run has the first unless it is told another", async () => {
  expect(mysqlLines.map(({ version }) => version)).toEqual(["9.7", "8.4", "8.0"]);
  expect(mariadbLines.map(({ version }) => version)).toEqual(["10.11", "11.8", "10.5"]);
  for (const version of ["MYSQL", "MARIADB"]) vi.stubEnv(`MILLRACE_TEST_${version}_VERSION`, "");
  expect([mysqlLine().version, mariadbLine().version]).toEqual(["9.7", "10.11"]);
  vi.stubEnv("MILLRACE_TEST_MARIADB_VERSION", "10.5");
  expect([isFrom(mariadbLine(), "10.5"), isFrom(mariadbLine(), "10.11"), isFrom(mariadbLine(), "9.9")]).toEqual([
    true,
    false,
    true,
  ]);
  vi.stubEnv("MILLRACE_TEST_MYSQL_VERSION", "8.4");
  vi.stubEnv("MILLRACE_CONTAINERS", "off");
  expect(await mysql.locate({ own: true })).toEqual({
    kind: "unavailable",
    reason: expect.stringContaining("Debian has no MySQL 8.4: it is had as a container alone"),
  });
  vi.stubEnv("MILLRACE_TEST_MYSQL_VERSION", "8.1");
  expect(() => mysqlLine()).toThrow("there is no such MySQL here; known are 9.7, 8.4, 8.0");
});

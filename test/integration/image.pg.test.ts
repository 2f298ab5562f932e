/**
 * The Dockerfile, built by Buildah on a base of the same parts, and the image run against a real Postgres.
 * @module-tag long
 */
import { chownSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { makeBase, registryOptions } from "../support/image/base.ts";
import { ImageStore, whyNoBuildah } from "../support/image/buildah.ts";
import { Container, type UnpackedImage, unpackImage } from "../support/image/container.ts";
import { freshDatabase } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const IMAGE = "localhost/millrace:test";
const place = temporaryFolder();
const missing = await whyNoBuildah();
let image: UnpackedImage;

beforeAll(async () => {
  if (missing !== undefined) return;
  const store = await ImageStore.in(place.path);
  await makeBase(store, place.path);
  const how = ["--isolation=chroot", "--network=host", "--format=docker", "--layers=false", "--pull-never"];
  await store.buildah("build", ...how, store.trusting, ...(await registryOptions(place.path)), `--tag=${IMAGE}`, ".");
  image = await unpackImage(store, IMAGE);
}, 600_000);
beforeEach(({ skip }) => skip(missing !== undefined, missing));
afterAll(() => place[Symbol.dispose]());

test("it holds the packed program, its packages and their list, and nothing of the checkout", () => {
  const { root, config } = image;
  const own = (path: string): string => join(root, "opt/millrace", path);
  expect(JSON.parse(readFileSync(own("sbom.cdx.json"), "utf8"))).toMatchObject({ bomFormat: "CycloneDX" });
  for (const left of ["src", "test", "package-lock.json", "node_modules/typescript", "node_modules/vitest"])
    expect(existsSync(own(left)), left).toBe(false);
  expect(existsSync(join(root, "build"))).toBe(false);
  // What OpenSSL and DuckDB read; the slim base has none.
  const authorities = readFileSync(join(root, "etc/ssl/certs/ca-certificates.crt"), "utf8");
  expect(authorities.split("-----BEGIN CERTIFICATE-----").length).toBeGreaterThan(100);
  expect(config).toMatchObject({ User: "node", WorkingDir: "/var/lib/millrace", Cmd: ["run"] });
  const volume = statSync(join(root, "var/lib/millrace"));
  expect([Object.keys(config.Volumes), volume.uid, volume.gid]).toEqual([["/var/lib/millrace"], 1000, 1000]);
});

test("it runs without privileges on a read-only root, tells its health, and loses nothing by SIGTERM and SIGKILL", async () => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key); insert into orders select generate_series(1, 30)");
  using folder = temporaryFolder();
  const [state, config] = [folder.file("state"), folder.file("config")];
  for (const path of [state, config]) mkdirSync(path);
  chownSync(state, 1000, 1000);
  writeFileSync(
    join(config, "millrace.yaml"),
    `name: ${source.name}
source: { kind: postgres, url: "\${SHOP_DATABASE_URL}", tables: ["public.*"] }
state: sqlite:/var/lib/millrace/state.db
sinks: { warehouse: { kind: duckdb, path: /var/lib/millrace/warehouse.duckdb } }
`,
  );
  const container = new Container(image, {
    mounts: {
      "/etc/millrace": { from: config, isReadOnly: true },
      "/var/lib/millrace": { from: state, isReadOnly: false },
    },
    environment: { SHOP_DATABASE_URL: source.url },
  });
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  expect(await container.run("--version")).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: "" });
  const checked = await container.run("check");
  expect(checked).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("ready to run") });

  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    await using daemon = container.start();
    await eventually(async () => expect(await daemon.isHealthy()).toBe(true), { withinMs: 60_000 });
    expect(await daemon.status()).toMatchObject({
      Uid: "1000\t1000\t1000\t1000",
      NSpid: expect.stringMatching(/\t1$/),
      CapEff: "0000000000000000",
      CapBnd: "0000000000000000",
      NoNewPrivs: "1",
    });
    expect((await daemon.exec("touch", "/opt/millrace/x")).stderr).toMatch(/Read-only file system/);
    await source.query("insert into orders select max(id) + 1 from orders");
    expect(await daemon.exec("millrace", "wait", "--timeout", "60s")).toMatchObject({ exitCode: 0, stderr: "" });
    expect(await daemon.exec("millrace", "status", "--exit-code")).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await daemon.end(signal)).exitCode === 0, signal).toBe(signal === "SIGTERM");
  }
  const { stdout } = await container.run("query", "select count(*)::int as n from public.orders", "--json");
  expect(stdout).toContain("32");
  // The lease of the killed process: in another process namespace nobody can tell that it is dead.
  const removed = async () => expect((await container.run("teardown", "--yes")).exitCode).toBe(0);
  await eventually(removed, { withinMs: 60_000, everyMs: 1_000 });
}, 300_000);

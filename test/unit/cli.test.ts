import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { CAPTURED, mustFit, Options } from "../../src/cli/options.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const VERSION: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;

describe("results and failures", () => {
  test("the version is the package's", async () => {
    using folder = temporaryFolder();
    const plain = await runCli(["--version"], { folder: folder.path });
    expect(plain).toEqual({ exitCode: 0, stdout: `${String(VERSION)}\n`, stderr: "" });
    const json = await runCli(["version", "--json"], { folder: folder.path });
    expect(JSON.parse(json.stdout)).toMatchObject({ version: VERSION });
  });

  test.each([
    ["no command", [], /^Usage: millrace /],
    ["an unknown command", ["chek"], /MR1110: unknown command 'chek'\s+\(Did you mean check\?\)/],
    ["an unknown option", ["check", "--jsn"], /MR1110: unknown option '--jsn'\s+\(Did you mean --json\?\)/],
    ["an option without its value", ["check", "-c"], /MR1110: option '-c, --config <file>' argument missing/],
    ["an unknown level", ["check", "--log-level", "loud"], /MR1110: .*Allowed choices are debug, info/],
    ["what commands a terminal", ["\u001b[31mred\u0007\u009b"], /unknown command '\\x1b\[31mred\\x07\\x9b'/],
    ["an argument too many", ["version", "now"], /MR1110: too many arguments/],
  ])("%s is wrong usage: exit 2, nothing on stdout", async (_what, args, message) => {
    using folder = temporaryFolder();
    const { exitCode, stdout, stderr } = await runCli(args, { folder: folder.path });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toMatch(message);
  });

  test.each([
    [["wait", "--timeout", "5 minutes"], /--timeout: expected a duration/],
    [["wait", "--timeout", "600h"], /--timeout: expected at most 24 days/],
    [["tail", "--limit", "ten"], /--limit: expected a whole number/],
    [["tail", "--limit", "0"], /--limit: expected a whole number/],
    [["tail", "--from", "yesterday"], /--from: "yesterday" is not a log position like 0\/1A2B3C8/],
    [["tail", "--tables", "orders"], /--tables: "orders" is not schema\.table/],
    [["dlq", "show", "first"], /<id>: expected a whole number/],
  ])("%j is wrong usage before anything is opened", async (args, message) => {
    using folder = temporaryFolder();
    const source = "{ kind: postgres, url: 'postgres://127.0.0.1:1/d' }";
    writeFileSync(folder.file("millrace.yaml"), `name: shop\nsource: ${source}\nsinks: {}\n`);
    const { exitCode, stdout } = await runCli([...args, "--json"], { folder: folder.path });
    expect(exitCode).toBe(2);
    const { error } = JSON.parse(stdout);
    expect(error).toMatchObject({ code: "MR1110", message: expect.stringMatching(message) });
  });

  test.each([
    ["orders,items", "orders items"],
    ["public.orders, public.it*", "public.orders 'public.it*'"],
  ])(
    "a list with commas as --tables is refused, and the hint has it as the option takes it: %s",
    async (list, parts) => {
      const hint = `name several tables with spaces between them, or repeat the option: --tables ${parts}`;
      const refused = (): void => {
        const globs = new Options({ tables: [list] }).tableGlobs();
        mustFit(globs, [{ schema: "public", table: "orders" }], CAPTURED);
      };
      expect(refused).toThrow(expect.objectContaining({ code: "MR1110", hint }));
    },
  );

  test("help goes to stdout when it is asked for", async () => {
    using folder = temporaryFolder();
    const { exitCode, stdout } = await runCli(["help"], { folder: folder.path });
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^Usage: millrace /);
  });

  test("a wrong config is exit 2, with place, hint, number and page", async () => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("millrace.yaml"), "name: shop\nsorce: {}\nsinks: {}\n");
    const { exitCode, stderr, stdout } = await runCli(["check"], { folder: folder.path });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain('millrace.yaml:2:1: sorce: unknown key; did you mean "source"?');
    expect(stderr).toContain("More: millrace explain MR1006");
  });

  test.each(["MR1203", "mr1203", "1203"])("explain %s shows the error's page", async (given) => {
    using folder = temporaryFolder();
    const { exitCode, stdout } = await runCli(["explain", given], { folder: folder.path });
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^MR1203: .+\n\nWhat to do: .+\n\nWhen: .+\n\nHow to see it:\n- .+\n$/);
  });

  test.each(["MR9999", "12", "all"])("explain %s is exit 2: there is none of that number", async (given) => {
    using folder = temporaryFolder();
    const { exitCode, stderr } = await runCli(["explain", given], { folder: folder.path });
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`MR1110: no error has the number "${given}"`);
  });

  test("with --json a failure is the one document on stdout", async () => {
    using folder = temporaryFolder();
    const { exitCode, stdout, stderr } = await runCli(["check", "--json"], {
      folder: folder.path,
      environment: { MILLRACE_CONFIG: "other.yaml" },
    });
    expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: "" });
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: "MR1001",
        message: "other.yaml: there is no such config file",
        hint: expect.any(String),
        problems: [expect.objectContaining({ code: "MR1001" })],
      },
    });
    const usage = await runCli(["chek", "--json"], { folder: folder.path });
    expect(JSON.parse(usage.stdout)).toMatchObject({ error: { code: "MR1110" } });
  });
});

describe("init without a source", () => {
  test("writes a config without passwords, which lie in files for their owner only", async () => {
    using folder = temporaryFolder();
    const made = await runCli(["init", "--sink", "redis://:pw-canary@h/1", "--sink", "redis://h/2"], {
      folder: folder.path,
    });
    expect(made.exitCode).toBe(0);
    expect(made.stdout + made.stderr).not.toContain("pw-canary");
    const config = readFileSync(folder.file("millrace.yaml"), "utf8");
    expect(config).not.toContain("pw-canary");
    expect(config).toMatch(/cache:\n.*\n.*redis:\/\/:\$\{file:\.millrace\/secrets\/millrace\.cache\}@h\/1[^]*cache2:/);
    const secret = folder.file(".millrace/secrets/millrace.cache");
    expect({ text: readFileSync(secret, "utf8"), mode: statSync(secret).mode & 0o777 }).toEqual({
      text: "pw-canary\n",
      mode: 0o600,
    });
    expect(readFileSync(folder.file(".millrace/secrets/.gitignore"), "utf8")).toBe("*\n");
    const checked = await runCli(["check"], { folder: folder.path });
    expect(checked.exitCode).toBe(2);
    expect(checked.stderr).toContain("source.url: the environment variable DATABASE_URL is not set");
  });

  test("names the variable that holds a URL", async () => {
    using folder = temporaryFolder();
    const url = "redis://:pw-canary@h/1";
    const made = await runCli(["init", "--sink", url], { folder: folder.path, environment: { CACHE_URL: url } });
    expect(made.stdout).toContain("${CACHE_URL}");
    expect(readFileSync(folder.file("millrace.yaml"), "utf8")).toContain("url: ${CACHE_URL}\n");
    expect(existsSync(folder.file(".millrace"))).toBe(false);
  });

  test("never overwrites a file", async () => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("mine.yaml"), "precious");
    const { exitCode, stderr } = await runCli(["init", "-c", "mine.yaml"], { folder: folder.path });
    expect(exitCode).toBe(4);
    expect(stderr).toContain("MR1112");
    expect(readFileSync(folder.file("mine.yaml"), "utf8")).toBe("precious");
  });

  test.each([
    ["of the project beside it", ".", "node_modules/millrace", "./node_modules/millrace/millrace.schema.json"],
    [
      "of the project around it",
      "conf/shop",
      "node_modules/millrace",
      "../../node_modules/millrace/millrace.schema.json",
    ],
    ["of this program", ".", null, join(import.meta.dirname, "../../millrace.schema.json")],
  ])("names a schema that is there: %s", async (_what, place, installation, path) => {
    using folder = temporaryFolder();
    const at = folder.file(place);
    mkdirSync(at, { recursive: true });
    if (installation !== null) {
      mkdirSync(folder.file(installation), { recursive: true });
      writeFileSync(folder.file(`${installation}/millrace.schema.json`), "{}");
    }
    await runCli(["init"], { folder: at });
    const schema = /\$schema=(\S+)\n/.exec(readFileSync(join(at, "millrace.yaml"), "utf8"))?.[1] ?? "";
    expect(schema).toBe(path);
    expect(existsSync(resolve(at, schema))).toBe(true);
  });

  test.each([
    [
      "a source of no known kind",
      ["--source", "oracle://u:pw-canary@h/d"],
      "MR1110: --source: no kind is known for oracle://",
    ],
    [
      "a sink of no known kind",
      ["--sink", "mongodb://u:pw-canary@h"],
      "MR1110: --sink: no kind is known for mongodb://",
    ],
    ["a sink that is no URL", ["--sink", "warehouse"], "MR1110: --sink: no kind is known"],
    ["a bad name", ["--name", "Not A Name"], "MR1110"],
  ])("refuses %s and writes nothing", async (_what, args, message) => {
    using folder = temporaryFolder();
    const { exitCode, stderr, stdout } = await runCli(["init", ...args], { folder: folder.path });
    expect(exitCode).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr + stdout).not.toContain("pw-canary");
    expect(() => readFileSync(folder.file("millrace.yaml"))).toThrow("ENOENT");
  });
});

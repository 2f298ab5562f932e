/** The code of docs/freshness.md runs, in each of its languages. */
import { execFile, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const page = readFileSync(new URL("../../../docs/freshness.md", import.meta.url), "utf8");

/** What a program of one language needs around the page's function, and how it runs. */
const LANGUAGES = {
  ts: {
    file: "fresh.ts",
    whole: (code: string) =>
      `${code}\nconst [millrace = "", at = "", sink = ""] = process.argv.slice(2);\nconsole.log(await isFresh(millrace, at, sink));\n`,
    command: (path: string) => [process.execPath, path],
  },
  py: {
    file: "fresh.py",
    whole: (code: string) => `import sys\n${code}\nprint(str(is_fresh(*sys.argv[1:])).lower())\n`,
    command: (path: string) => ["python3", path],
  },
  go: {
    file: "fresh.go",
    whole: (code: string) =>
      `package main\n\nimport (\n\t"fmt"\n\t"net/http"\n\t"net/url"\n\t"os"\n\t"time"\n)\n\n${code}\nfunc main() { fmt.Println(isFresh(os.Args[1], os.Args[2], os.Args[3])) }\n`,
    command: (path: string) => ["go", "run", path],
  },
} as const;

let port: number;
let pipeline: RunningPipeline;
beforeAll(async () => {
  port = await freePort();
  pipeline = await RunningPipeline.start("create table notes (id serial primary key)", {
    kinds: ["redis"],
    configure: (config) => ({ ...config, admin: { listen: `127.0.0.1:${port}` } }),
  });
});
afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

test.for(["ts", "py", "go"] as const)("%s", async (language, { skip }) => {
  const { file, whole, command } = LANGUAGES[language];
  const [, code] = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(page)!;
  using folder = temporaryFolder();
  const path = folder.file(file);
  writeFileSync(path, whole(code!));
  const [program = "", ...before] = command(path);
  const isMissing = process.env["CI"] !== "true" && spawnSync(program, ["version"]).error !== undefined;
  skip(isMissing, `${program} is not on this machine`);
  const ask = async (at: string, millrace = `http://127.0.0.1:${port}`): Promise<string> => {
    const { stdout } = await promisify(execFile)(program, [...before, millrace, at, "redis"]);
    return stdout.trim();
  };
  await pipeline.run("insert into notes default values");
  const { rows } = await pipeline.source.query<{ token: string }>("select pg_current_wal_insert_lsn() as token");
  await pipeline.settled();
  expect(await ask(rows[0]!.token)).toBe("true");
  // Beyond the end, no token, and nobody there.
  expect(await ask("FFFFFF/0")).toBe("false");
  expect(await ask("x")).toBe("false");
  expect(await ask(rows[0]!.token, "http://127.0.0.1:1")).toBe("false");
});
